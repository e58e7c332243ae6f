"""From text, tables and arrays to a folder that is mapped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import issparse

from fastopt._validation import check_choice, check_integer
from fastopt.data._folder import Data, Writer, open_folder
from fastopt.data._read import Block, Source, find

__all__ = ["convert"]

#: Seconds between two checkpoints, and between two lines of progress.
CHECKPOINT_SECONDS, LINE_SECONDS = 2.0, 5.0
#: Entries that int32 numbers.
MOST_NARROW = 2**31 - 1


def convert(
    source: Any, path: str | os.PathLike[str], *, format: str = "auto", dtype: Any = "float32",
    n_features: int | None = None, zero_based: bool | str = "auto", target: str | None = None,
    categorical: Any = (), ignore: Any = (), n_hash: int = 2**18, missing: str = "error", delimiter: str | None = None,
    overwrite: bool = False, verbose: int = 0, printer: Callable[[str], None] = print,
) -> Data:  # fmt: skip
    """Writes a folder that `open` maps, from a source that is read once, block by block, at bounded memory.

    A conversion that was interrupted, by Ctrl-C, a crash or a full disk, goes on where it was when it is called again
    with the same arguments. The folder appears when it is whole; until then there is ``PATH.part``. What a process
    that is killed while it replaces a folder leaves of that, ``.PATH.*.old``, the next conversion puts back or removes.

    Parameters
    ----------
    source : path, "-", binary file, or (X, y)
        Text in LIBSVM's (svmlight's) format, also packed (.gz, .bz2, .xz), CSV with a line of names, or Parquet; "-"
        is standard input; X dense or CSR. CSV and Parquet need pyarrow: ``pip install fastopt[data]``.
    path : str or path-like
        The folder to be made.
    format : {"auto", "svmlight", "csv", "parquet"}, default "auto"
        "auto" goes by the name's ending: .csv, .tsv, .parquet, .pq; all else is LIBSVM's.
    dtype : "float32" or "float64", default "float32"
        Of the values. y is float64.
    n_features : int or None
        Columns of LIBSVM's format; None: up to the largest number in the file.
    zero_based : bool or "auto", default "auto"
        Whether LIBSVM's columns are numbered from 0. "auto": they are if there is a 0, as in scikit-learn.
    target : str or None
        The column of CSV or Parquet to be predicted. Strings are classes.
    categorical : sequence of str
        Columns to be hashed though they hold numbers. Strings are always hashed: ``name=value`` is the 1 in column
        ``p + murmur3("name=value") mod n_hash``, behind the p columns that hold numbers; a missing value is ``name=``.
    ignore : sequence of str
        Columns to be left out.
    n_hash : int, default 2**18
        Columns for what is hashed.
    missing : {"error", "zero"}, default "error"
        What a missing number is.
    delimiter : str or None
        Of CSV; None: a tab if the line of names has one, else a comma.
    overwrite : bool, default False
        Whether a folder of this kind may be replaced.
    verbose : int, default 0
        1 tells of the progress in lines, 2 shows a bar if tqdm is installed.
    printer : callable
        Takes the lines.

    Returns
    -------
    Data
        The folder, opened.

    Raises
    ------
    ValueError
        If the source is not what it should be: the message names the line, row or column.
    FileExistsError
        If there is something at `path`, another process writes there, or ``PATH.part`` is not convert's own.
    """
    check_choice("zero_based", str(zero_based), ("auto", "True", "False"))
    if n_features is not None:
        check_integer("n_features", n_features, low=1, high=2**31 - 1)
    options: dict[str, Any] = {
        "dtype": np.dtype(dtype).name, "target": target, "categorical": list(categorical), "ignore": list(ignore),
        "n_hash": n_hash, "missing": missing, "delimiter": delimiter,
    }  # fmt: skip
    found = find(source, format, options)
    settings = {"source": found.fingerprint, "options": dict(options), "zero_based": zero_based, "format": found.format}
    writer = Writer(path, settings, overwrite=overwrite)
    try:
        _Conversion(found, writer, zero_based, n_features).run(_Progress(found, verbose, printer))
    finally:
        writer.close()
    return open_folder(path, verify=False)


class _Conversion:
    """What is known of the rows so far, and what remains to be done at the end."""

    def __init__(self, source: Source, writer: Writer, zero_based: bool | str, n_features: int | None) -> None:
        self.source, self.writer, self.zero_based, self.n_features = source, writer, zero_based, n_features
        self.rows = self.entries = self.width = 0
        self.lowest = 2**31
        self.shift: int | None = None
        self.sparse: bool | None = None
        self.y_dtype = "<f8"
        self.position: Any = None
        if writer.resumed and source.fingerprint is not None:
            told = writer.told
            source.options.update(told.pop("options"))
            source.labels[:] = told.pop("labels")
            vars(self).update(told)

    def run(self, progress: _Progress) -> None:
        if self.position is not None:
            progress.resumed(self.rows)
        saved = time.monotonic()
        for block in self.source.blocks(self.position):
            self._take(block)
            progress.at(block.done, self.rows)
            if self.source.fingerprint is not None and time.monotonic() - saved >= CHECKPOINT_SECONDS:
                self.writer.checkpoint(self._told())
                saved = time.monotonic()
        progress.close(self.rows)
        if not self.rows:
            raise ValueError(f"{self.source.name} must hold at least one row; it holds none.")
        self._finish()

    def _told(self) -> dict[str, Any]:
        names = ("rows", "entries", "width", "lowest", "shift", "sparse", "y_dtype", "position")
        known = {name: getattr(self, name) for name in names}
        return known | {"options": self.source.options, "labels": self.source.labels}

    def _take(self, block: Block) -> None:
        X, writer = block.X, self.writer
        assert block.y is not None
        if self.sparse is None:
            self.sparse = issparse(X)
        if self.sparse:
            indices = X.indices
            if self.source.format == "svmlight":
                self.lowest = min(self.lowest, int(indices.min(initial=np.iinfo(indices.dtype).max)))
                if self.shift is None and len(indices):
                    self.shift = int(self.zero_based is False or (self.zero_based == "auto" and self.lowest > 0))
                indices = indices - (self.shift or 0)
            writer.append("values", X.data.astype(self.source.options["dtype"], copy=False))
            writer.append("indices", indices.astype(np.int32))
            writer.append("indptr", self.entries + X.indptr[:-1].astype(np.int64))
            self.entries += len(X.data)
        else:
            writer.append("values", X.astype(self.source.options["dtype"], copy=False))
        self.width = max(self.width, X.shape[1])
        y = block.y
        if y.dtype.kind == "U":
            words = np.unique(y)
            known = {word: i for i, word in enumerate(self.source.labels)}
            for word in map(str, words):
                known.setdefault(word, len(known))
            self.source.labels[:] = list(known)
            y = np.array([known[str(word)] for word in words], np.int32)[np.searchsorted(words, y)]
        self.y_dtype = "<i4" if self.source.labels else "<f8"
        writer.append("y", y.astype(self.y_dtype))
        self.rows += X.shape[0]
        self.position = block.position

    def _finish(self) -> None:
        """What only the end of the source could tell."""
        writer, source, width, index = self.writer, self.source, self.width, "<i4"
        dtypes = {"values": np.dtype(source.options["dtype"]).newbyteorder("<").str, "y": self.y_dtype}
        encoding = {key: value for key, value in source.options.items() if key != "needs_target"}
        if self.sparse:
            writer.append("indptr", np.array([self.entries], np.int64))
            correction = 0
            if source.format == "svmlight":
                shift = self.shift or 0
                if self.zero_based is False and self.lowest == 0:
                    raise ValueError("zero_based must be True or 'auto' for a file with a column 0; got False.")
                correction = shift if self.zero_based == "auto" and self.lowest == 0 else 0
                encoding["zero_based"] = shift == correction
                width = self.width - shift + correction
            if self.n_features is not None:
                if self.n_features < width:
                    raise ValueError(f"n_features must be at least {width}, the columns in use; got {self.n_features}.")
                width = self.n_features
            if self.entries > MOST_NARROW:
                index = "<i8"
            else:
                writer.rewrite("indptr", "<i8", lambda a: a, "<i4")
            if correction or index == "<i8":
                writer.rewrite("indices", "<i4", lambda a: a.astype(np.int64) + correction, index)
            dtypes |= {"indices": index, "indptr": index}
        labels = sorted(source.labels) or None
        if labels is not None and labels != source.labels:
            places = np.array([labels.index(word) for word in source.labels], np.int32)
            writer.rewrite("y", "<i4", lambda a: places[a])
        names = source.options.get("numeric") if not self.sparse else None
        writer.finish(
            "csr" if self.sparse else "dense", (self.rows, width), dtypes, labels=labels, feature_names=names,
            encoding={"format": source.format, **encoding}, source=os.path.basename(source.name),
        )  # fmt: skip


class _Progress:
    """A bar, or lines."""

    def __init__(self, source: Source, verbose: int, printer: Callable[[str], None]) -> None:
        self.total, self.printer, self.bar = source.total, printer, None
        self.verbose, self.start = verbose, time.monotonic()
        self.last = self.start
        if verbose >= 2:
            try:
                from tqdm.auto import tqdm

                self.bar = tqdm(total=source.total or None, unit="B", unit_scale=True)
            except ImportError:
                pass

    def resumed(self, rows: int) -> None:
        """It goes on behind so many rows."""
        if self.verbose:
            self.printer(f"going on behind row {rows:,}")

    def at(self, done: int, rows: int) -> None:
        """So many bytes and rows are done."""
        now = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(f"{rows:,} rows", refresh=False)
            self.bar.update(done - self.bar.n)
        elif self.verbose and now - self.last >= LINE_SECONDS:
            self.last = now
            share = f"{100 * done / self.total:5.1f} %  " if self.total else ""
            self.printer(f"{share}{rows:,} rows  {now - self.start:.0f} s")

    def close(self, rows: int) -> None:
        """The end."""
        if self.bar is not None:
            self.bar.close()
        elif self.verbose:
            self.printer(f"{rows:,} rows in {time.monotonic() - self.start:.1f} s")
