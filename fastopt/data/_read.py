"""Sources read block by block at bounded memory: LIBSVM's text, CSV, Parquet, arrays."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from numbers import Number
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.datasets import load_svmlight_file
from sklearn.utils import murmurhash3_32

from fastopt._design import Design
from fastopt._validation import check_choice, check_integer, fail

__all__ = ["Block", "Source", "find"]

#: Bytes of text that are parsed at once, and of one line at most.
BLOCK, MOST_LINE = 1 << 20, 1 << 28
#: Rows of Parquet or of an array at once.
ROWS = 1 << 16
#: Different strings in a target at most.
MOST_LABELS = 10_000

ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet", ".svm": "svmlight", ".libsvm": "svmlight",
    ".svmlight": "svmlight", ".txt": "svmlight",
}  # fmt: skip
#: What stands before the first column of a line in LIBSVM's format.
_LABEL = re.compile(rb"^[^\S\n]*[^\s#:]+(?=[\s#]|\Z)", re.MULTILINE)
PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

Array = NDArray[Any]


@dataclass
class Block:
    """Some rows.

    Attributes
    ----------
    X : csr_array or ndarray
    y : ndarray, or None where the source has no target
    position : what tells `Source.blocks` to go on behind this block
    done : bytes read so far
    """

    X: Any
    y: Array | None
    position: Any
    done: int


@dataclass
class Source:
    """Something that gives rows.

    Attributes
    ----------
    name : str
    format : str
    options : dict
        How to read it; fixed by the first block where that tells (`encoding` of a convert's meta.json).
    total : int
        Bytes, 0 if nobody knows.
    fingerprint : list or None
        The same for the same file; None for what cannot be read twice.
    """

    name: str
    format: str
    options: dict[str, Any]
    total: int = 0
    fingerprint: list[Any] | None = None
    input: Any = None
    #: Strings of the target in the order in which they came.
    labels: list[str] = field(default_factory=list)

    def blocks(self, position: Any = None) -> Iterator[Block]:
        """The rows, from a position on."""
        if self.format == "arrays":
            return self._arrays()
        if self.format == "parquet":
            return self._parquet(position)
        return self._text(position or 0)

    # ------------------------------------------------------------------------------------------------------- arrays

    def _arrays(self) -> Iterator[Block]:
        X, y = self.input
        if np.iscomplexobj(X):
            raise ValueError("X must be of real numbers; got complex ones.")
        design, dtype = Design.from_array(X), np.dtype(self.options["dtype"])
        y = np.asarray(y)
        if y.shape != (design.shape[0],):
            raise ValueError(f"y must have one element for each row of X ({design.shape[0]}); got shape {y.shape}.")
        if y.dtype.kind not in "biufOUS":
            fail("y", "of real numbers or strings", y.dtype)
        for start in range(0, design.shape[0], ROWS):
            rows = design.rows(np.arange(start, min(start + ROWS, design.shape[0])))
            part: Any = rows.values
            if rows.sparse:
                m = rows.n_stored
                part = csr_array((rows.values[:m], rows.indices[:m], rows.indptr), rows.shape)  # type: ignore[index]
                part.sum_duplicates()
                kept, k = _finite(part.data, dtype)
                if k is not None:
                    row, column = int(np.searchsorted(part.indptr, k, "right")) - 1, int(part.indices[k])
                    value = part.data[k]
                part = csr_array((kept, part.indices, part.indptr), part.shape)
            else:
                kept, k = _finite(part, dtype)
                if k is not None:
                    (row, column), value = divmod(k, part.shape[1]), part.reshape(-1)[k]
                part = kept
            if k is not None:
                text = f"X must be finite; got {value} in row {start + row}, column {column}."
                raise ValueError(f"{text} {_remedy(value, dtype, 'Impute or drop such entries first.')}")
            yield Block(part, _array_targets(y[start : start + ROWS], start), None, 0)

    # --------------------------------------------------------------------------------------------------------- text

    def _text(self, position: int) -> Iterator[Block]:
        parse = _svmlight if self.format == "svmlight" else self._csv
        if self.input is not None:
            yield from self._lines(self.input, 0, parse)
            return
        opener = PACKED.get(os.path.splitext(self.name)[1].lower(), open)
        with opener(self.name, "rb") as file:
            if position:
                file.seek(position)
            yield from self._lines(file, position, parse)

    def _lines(self, file: BinaryIO, position: int, parse: Callable[..., Any]) -> Iterator[Block]:
        """Blocks of whole lines, parsed."""
        rest, ended = b"", False
        quoted = self.format == "csv"
        while not ended:
            try:
                read = file.read(max(BLOCK, len(rest)))
            except (EOFError, lzma.LZMAError, OSError) as error:
                raise ValueError(f"{self.name} is damaged: {error}") from None
            ended = not read
            rest += read
            cut = len(rest) if ended else _last_line_end(rest, quoted)
            if not cut:
                if len(rest) > MOST_LINE:
                    raise ValueError(f"{self.name} must have lines of at most {MOST_LINE} bytes; got a longer one.")
                continue
            text, rest = rest[:cut], rest[cut:]
            start, position = position, position + cut
            if text.strip():
                try:
                    X, y = parse(text, self.options)
                except (ValueError, OverflowError) as error:
                    raise ValueError(_explained(self.name, text, start, parse, self.options, error)) from None
                if X.shape[0]:  # not of a line of names or comments alone
                    yield Block(X, y, position, position)

    def _csv(self, text: bytes, options: dict[str, Any]) -> tuple[Any, Array | None]:
        pa, csv = _pyarrow("csv")
        header = options.get("names") is None
        if header:
            options["delimiter"] = options.get("delimiter") or ("\t" if b"\t" in text.split(b"\n", 1)[0] else ",")
        parsing = csv.ParseOptions(delimiter=options["delimiter"], newlines_in_values=True)
        size = max(len(text) + 1, 1 << 16)
        try:
            if header:  # its types say which columns hold numbers; then it is read again as all the others
                reading = csv.ReadOptions(block_size=size, use_threads=False)
                schema = csv.read_csv(io.BytesIO(text), reading, parsing).schema
                self._learn(schema, options)
                options["booleans"] = [f.name for f in schema if pa.types.is_boolean(f.type)]
            types = {"number": pa.float64(), "string": pa.string()}
            columns = {name: types[kind] for name, kind in zip(options["names"], options["kinds"], strict=True)}
            for name in options.get("booleans", ()):  # True and False are no numbers to pyarrow's parser
                if columns[name] == types["number"]:
                    columns[name] = pa.bool_()
            wanted = {*options["numeric"], *options["hashed"], options["target"]}
            reading = csv.ReadOptions(
                column_names=None if header else options["names"], block_size=size, use_threads=False
            )
            converting = csv.ConvertOptions(
                column_types=columns, strings_can_be_null=True,
                include_columns=[name for name in options["names"] if name in wanted],
            )  # fmt: skip
            return self._encoded(csv.read_csv(io.BytesIO(text), reading, parsing, converting), options)
        except pa.ArrowException as error:
            raise ValueError(str(error)) from None

    # ------------------------------------------------------------------------------------------------------ Parquet

    def _parquet(self, position: Any) -> Iterator[Block]:
        pa, parquet = _pyarrow("parquet")
        group, batch = position or (0, 0)
        try:
            file = parquet.ParquetFile(self.name, buffer_size=1 << 20)
            if self.options.get("names") is None:
                self._learn(file.schema_arrow, self.options)
            size = self.total / max(1, file.metadata.num_rows)
            done = sum(file.metadata.row_group(g).num_rows for g in range(group)) + batch * ROWS
            for g in range(group, file.metadata.num_row_groups):
                for b, rows in enumerate(file.iter_batches(ROWS, row_groups=[g], use_threads=False)):
                    if g == group and b < batch:
                        continue
                    try:
                        X, y = self._encoded(pa.Table.from_batches([rows]), self.options)
                    except ValueError as error:
                        where = f", in the block that begins at row {done:,}" if done else ""
                        raise ValueError(f"{self.name}{where}: {error}") from None
                    done += rows.num_rows
                    if rows.num_rows:
                        yield Block(X, y, [g, b + 1], int(done * size))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.name} must be a Parquet file; {error}") from None

    # ------------------------------------------------------------------------------------------------------- tables

    def _learn(self, schema: Any, options: dict[str, Any]) -> None:
        """Which columns there are, and which hold numbers, from the first block."""
        pa, _ = _pyarrow("csv")
        names = list(schema.names)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the columns must have names of their own; got {twice!r} twice.")
        if "known" in options:  # a model's: its columns are what they were when it was trained
            numbers = {name for name, kind in options["known"].items() if kind == "number"}
        else:
            is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
            numbers = {f.name for f in schema if any(is_(f.type) for is_ in is_number)} - {*options["categorical"]}
        for f in schema:
            if pa.types.is_nested(f.type) and f.name not in options["ignore"]:
                raise ValueError(f"column {f.name!r} must hold numbers or strings; got {f.type}. Name it in ignore.")
        listed = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
        target = options["target"]
        if "known" not in options:
            if target is None:
                raise ValueError(f"target must name a column; got None. There are {listed}.")
            for what in (target, *options["categorical"], *options["ignore"]):
                if what not in names:
                    raise ValueError(f"there is no column {what!r}. There are {listed}.")
        options["names"] = names
        options["kinds"] = ["number" if n in numbers else "string" for n in names]
        if "known" in options:
            return
        left_out = (target, *options["ignore"])
        features = [(n, k) for n, k in zip(names, options["kinds"], strict=True) if n not in left_out]
        if not features:
            raise ValueError(f"there must be a column beside the target; got {listed}.")
        options["numeric"] = [n for n, k in features if k == "number"]
        options["hashed"] = [n for n, k in features if k == "string"]

    def _encoded(self, table: Any, options: dict[str, Any]) -> tuple[Any, Array | None]:
        """X and y of a table: dense if all columns are numbers, else CSR, strings hashed behind the numbers."""
        n, dtype = table.num_rows, np.dtype(options["dtype"])
        numeric, hashed = options["numeric"], options["hashed"]
        missing = next((c for c in (*numeric, *hashed) if c not in table.column_names), None)
        if missing is not None:
            raise ValueError(f"there is no column {missing!r}, which the model was trained with")
        dense = np.empty((n, len(numeric)), dtype)
        for j, name in enumerate(numeric):
            dense[:, j] = self._numbers(table, name, dtype)
        X: Any = dense
        if hashed:
            width, count = len(numeric), len(numeric) + len(hashed)
            values = np.ones((n, count), dtype)
            values[:, :width] = dense
            indices = np.empty((n, count), np.int32)
            indices[:, :width] = np.arange(width)
            for j, name in enumerate(hashed):
                codes, found = _strings(table.column(name))
                texts = [f"{name}={word}".encode() for word in (*found, "")]  # the last: none given
                places = np.array([murmurhash3_32(text, positive=True) % options["n_hash"] for text in texts])
                chosen = codes.fill_null(len(found)).to_numpy(zero_copy_only=False)
                indices[:, width + j] = width + places[chosen]
            indptr = np.arange(0, n * count + 1, count, dtype=np.int64)
            X = csr_array((values.reshape(-1), indices.reshape(-1), indptr), shape=(n, width + options["n_hash"]))
            X.sum_duplicates()
        target = options["target"]
        if target is None or target not in table.column_names:
            return X, None
        column = table.column(target)
        if column.null_count:
            raise ValueError(f"the target {target!r} must have a value in each row; got none in {column.null_count}")
        if options["kinds"][options["names"].index(target)] == "number":
            return X, self._numbers(table, target, np.dtype(np.float64))
        codes, words = _strings(column)
        known = set(self.labels)
        self.labels += [word for word in words if word not in known]
        if len(self.labels) > MOST_LABELS:
            raise ValueError(f"the target {target!r} must have at most {MOST_LABELS:,} different strings; got more")
        place = {word: i for i, word in enumerate(self.labels)}
        return X, np.array([place[word] for word in words], np.int32)[codes.to_numpy(zero_copy_only=False)]

    def _numbers(self, table: Any, name: str, dtype: np.dtype[Any]) -> Array:
        pa, _ = _pyarrow("csv")
        column = table.column(name)
        boolean = pa.types.is_boolean(column.type)
        try:  # unsafe: integers beyond 2^53 are rounded, as those of texts are
            found = column.cast(pa.int8()) if boolean else column.cast(pa.float64(), safe=False)
        except pa.ArrowException as error:
            raise ValueError(f"column {name!r} must hold numbers, as it does at the start; {error}") from None
        if found.null_count and self.options["missing"] == "zero":
            found = found.fill_null(0)
        a = np.asarray(found.to_numpy(), dtype=np.float64)
        kept, row = _finite(a, dtype)
        if row is not None:
            text = f"column {name!r} must hold a finite number in each row; got {a[row]} in row {row} of its block."
            remedy = "Impute or drop such rows first."
            if found.null_count:
                remedy = "Give missing='zero', which takes those that are missing for 0, or impute them first."
            raise ValueError(f"{text} {_remedy(a[row], dtype, remedy)}")
        return kept


def _finite(a: Array, dtype: np.dtype[Any]) -> tuple[Array, int | None]:
    """Numbers in another type, and the place of the first that is not finite there."""
    with np.errstate(over="ignore"):
        kept = a.astype(dtype, copy=False)
    sound = np.isfinite(kept)
    return kept, None if sound.all() else int(np.argmin(sound))


def _remedy(value: Any, dtype: np.dtype[Any], otherwise: str) -> str:
    """What helps against a number that is not finite, perhaps for its type alone."""
    return f"{dtype} ends at {np.finfo(dtype).max:.4g}: give dtype='float64'." if np.isfinite(value) else otherwise


def _array_targets(y: Array, start: int) -> Array:
    """Some rows' targets as float64 or as strings; `start` is the number of the first row."""
    if y.dtype.kind == "U":
        return y
    if y.dtype.kind not in "OS":
        kept, row = _finite(y, np.dtype(np.float64))
        if row is not None:
            raise ValueError(f"y must be finite; got {y[row]} in row {start + row}. Impute or drop such rows first.")
        return kept
    words = y.tolist()
    for row, word in enumerate(words):
        if isinstance(word, bytes):
            try:
                words[row] = word.decode()
            except UnicodeDecodeError:
                text = f"y must be UTF-8 where it holds bytes; got {word!r} in row {start + row}."
                raise ValueError(text) from None
        elif not isinstance(word, str | Number | np.generic) or word != word:
            text = f"y must hold a number or a string in each row; got {word!r} in row {start + row}."
            raise ValueError(f"{text} Impute or drop such rows first.")
    return np.array(list(map(str, words)), dtype=str)


def _strings(column: Any) -> tuple[Any, list[str]]:
    """A column as strings: the number of each row's, null where there is none, and which there are."""
    pa, _ = _pyarrow("csv")
    boolean = pa.types.is_boolean(column.type)
    codes = column.cast(pa.string()).combine_chunks().dictionary_encode()
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    words = codes.dictionary.to_pylist()
    return codes.indices, [word.capitalize() for word in words] if boolean else words  # True, as it stands in a CSV


def _last_line_end(text: bytes, quoted: bool) -> int:
    """Where the last whole line ends; line ends inside of quotes are none."""
    cut = text.rfind(b"\n") + 1
    while quoted and cut and text.count(b'"', 0, cut) % 2:
        cut = text.rfind(b"\n", 0, max(0, text.rfind(b'"', 0, cut))) + 1
    return cut


def _svmlight(text: bytes, options: dict[str, Any]) -> tuple[Any, Array]:
    """Rows of LIBSVM's text; columns as they are numbered."""
    dtype = np.dtype(options["dtype"])
    if not options.get("labels", True):  # they are not looked at, whatever they are
        text = _LABEL.sub(b"0", text)
    found = _plain_svmlight(text, dtype)
    if found is None:  # comments, query numbers, or something to complain about
        found = load_svmlight_file(io.BytesIO(text), dtype=dtype, zero_based=True)
    X, y = found
    if X.shape[1] > 2**31 - 1:
        raise ValueError(f"a feature's number must be below 2**31 - 1; got {X.shape[1] - 1}")
    if not (np.isfinite(X.data).all() and np.isfinite(y).all()):
        raise ValueError("labels and values must be finite")
    return X, y


def _explained(
    name: str, text: bytes, start: int, parse: Callable[..., Any], options: dict[str, Any], error: BaseException
) -> str:
    """The parser's complaint, with the line it is about."""
    if parse is not _svmlight:
        return f"{name}, in the block that begins at byte {start:,}: {error}" if start else f"{name}: {error}"
    lines = text.splitlines(keepends=True)
    low, high = 0, len(lines)  # lines below low are sound; those below high are not
    while high - low > 1:
        middle = (low + high) // 2
        try:
            parse(b"".join(lines[low:middle]), options)
            low = middle
        except (ValueError, OverflowError) as found:
            high, error = middle, found
    where = f"line {low + 1}" if not start else f"line {low + 1} behind byte {start:,}"
    return f"{name}, {where}: {lines[low].strip()[:60].decode(errors='replace')!r}: {error}"


def _pyarrow(module: str) -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module(f"pyarrow.{module}")
    except ImportError:
        text = "CSV and Parquet are read by pyarrow, which is not installed: pip install 'fastopt[data]'."
        raise ImportError(text) from None


def find(source: Any, format: str, options: dict[str, Any]) -> Source:
    """What to read from: a path, "-" for standard input, a binary file, or ``(X, y)``."""
    check_choice("format", format, ("auto", "svmlight", "csv", "parquet"))
    check_choice("missing", options["missing"], ("error", "zero"))
    check_choice("dtype", str(options["dtype"]), ("float32", "float64"))
    check_integer("n_hash", options["n_hash"], low=1, high=2**30)
    delimiter = options["delimiter"]
    if not (delimiter is None or (isinstance(delimiter, str) and re.fullmatch(r'(?![\n\r"])[\x01-\x7f]', delimiter))):
        fail("delimiter", "one ASCII character other than a quote or a line's end", delimiter)
    if isinstance(source, tuple):
        if len(source) != 2:
            fail("source", "a path, a binary file or (X, y)", source)
        return Source("(X, y)", "arrays", options, input=source)
    if hasattr(source, "read") or source == "-":
        stream = sys.stdin.buffer if source == "-" else source
        name = "standard input" if source == "-" else getattr(stream, "name", "the file")
        if format == "parquet":
            fail("format", "'svmlight' or 'csv' for what is read as a stream", format)
        return _without_names(Source(str(name), "svmlight" if format == "auto" else format, options, input=stream))
    name = os.fspath(source)
    if os.path.isdir(name):
        fail("source", "a file", name)
    status = os.stat(name)  # raises what there is to say if there is none
    if format == "auto":
        stem = re.sub(r"\.(gz|bz2|xz)$", "", name.lower())
        format = ENDINGS.get(os.path.splitext(stem)[1], "svmlight")
    packed = os.path.splitext(name)[1].lower() in PACKED
    fingerprint = [os.path.abspath(name), status.st_size, status.st_mtime_ns]
    return _without_names(Source(name, format, options, 0 if packed else status.st_size, fingerprint))


def _without_names(source: Source) -> Source:
    """Refuses names of columns where they have none."""
    for what in ("target", "categorical", "ignore") if source.format == "svmlight" else ():
        if source.options[what] and "known" not in source.options:
            remedy = "Its columns have numbers alone, and the target comes first."
            fail(what, "left out for LIBSVM's format", source.options[what], remedy)
    return source


def _plain_svmlight(text: bytes, dtype: np.dtype[Any]) -> tuple[Any, Array] | None:
    """What scikit-learn's parser gives, many times faster, of text that holds sound and plain rows alone; else None.

    All numbers are decoded together, digit by digit. Plain: a label, then columns that rise, all in decimal notation.
    """
    if text.translate(None, b"0123456789+-.eE: \n\r"):
        return None
    a = np.frombuffer(text, np.uint8)
    filled = np.concatenate([[False], a > 32, [False]])
    edges = np.flatnonzero(filled[1:] != filled[:-1])
    starts, stops = edges[::2], edges[1::2]
    colons, lines = np.flatnonzero(a == 58), np.flatnonzero(a == 10)
    first = np.zeros(len(starts) + 1, bool)  # the label of a line
    first[np.searchsorted(starts, np.append(-1, lines))] = True
    first = first[:-1]
    features = ~first
    begins, ends = starts[features], stops[features]
    if len(begins) != len(colons) or not ((begins < colons) & (colons < ends - 1)).all():
        return None
    columns = _whole_numbers(a, begins, colons)
    values, y = _decimals(text, a, colons + 1, ends), _decimals(text, a, starts[first], stops[first])
    if columns is None or values is None or y is None:
        return None
    places = np.flatnonzero(first)
    indptr = np.append(places - np.arange(len(places)), len(columns))
    rising = np.diff(columns, prepend=-1) > 0
    rising[indptr[:-1][np.diff(indptr) > 0]] = True  # a row's first entry
    if not rising.all():
        return None
    with np.errstate(over="ignore"):
        values = values.astype(dtype)
    return csr_array((values, columns, indptr), shape=(len(y), int(columns.max(initial=0)) + 1)), y


def _whole_numbers(a: Array, begins: Array, ends: Array) -> Array | None:
    """Numbers of up to 10 digits and nothing else, between these places; None if there are others."""
    lengths = ends - begins
    longest = int(lengths.max(initial=0))
    if longest > 10 or int(lengths.min(initial=1)) < 1:
        return None
    numbers = np.zeros(len(begins), np.int64)
    for k in range(longest):  # the digits from the left
        live = k < lengths
        digits = a[np.where(live, begins + k, 0)].astype(np.int64) - 48
        if (live & ((digits < 0) | (digits > 9))).any():
            return None
        numbers = np.where(live, 10 * numbers + digits, numbers)
    return numbers


def _decimals(text: bytes, a: Array, begins: Array, ends: Array) -> Array | None:
    """Decimal numbers between these places, each the float64 next to it; None if something is no number.

    Up to 15 digits are an integer that float64 holds, to be divided by a power of ten that it holds: the one rounding
    is that of the division (Clinger, "How to read floating point numbers accurately", 1990). Longer ones and exponents
    are Python's.
    """
    signed = np.isin(a[begins], (43, 45)) if len(begins) else np.zeros(0, bool)
    lengths = ends - begins
    digits, fraction = np.zeros(len(begins), np.int64), np.zeros(len(begins), np.int64)
    points, odd = np.zeros(len(begins), np.int64), lengths > 17
    if odd.sum() > 0.3 * len(odd):  # scikit-learn's is then as fast
        return None
    mantissas = np.zeros(len(begins), np.int64)
    for k in range(min(17, int(lengths.max(initial=0)))):
        live = k < lengths
        letters = a[np.where(live, begins + k, 0)]
        is_digit = live & (letters >= 48) & (letters <= 57)
        mantissas = np.where(is_digit & (digits < 15), 10 * mantissas + letters - 48, mantissas)
        digits += is_digit
        fraction += is_digit & (points > 0)
        points += live & (letters == 46)
        odd |= live & ~is_digit & (letters != 46) & ~(signed & (k == 0))
    odd |= (points > 1) | (digits > 15) | (digits == 0)
    numbers = mantissas / 10.0**fraction
    numbers[signed & (a[begins] == 45)] *= -1
    try:
        numbers[odd] = [float(text[b:e]) for b, e in zip(begins[odd].tolist(), ends[odd].tolist(), strict=True)]
    except ValueError:
        return None
    return numbers
