"""A data set on disk: a folder of .npy arrays that are mapped, not read, and a meta.json with their checksums."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fastopt._design import check_csr
from fastopt._validation import fail

__all__ = ["Data", "Writer", "open_folder"]

FORMAT, VERSION = "fastopt data", 1
#: Bytes of a .npy header: always the same, so that it can be written last.
HEAD = 128
#: Bytes of meta.json at most.
MOST_JSON = 16 << 20
CHUNK = 1 << 24

_HEADER = re.compile(
    rb"\{'descr': '(<[fi][48])', 'fortran_order': False, 'shape': \(([0-9]{1,18}), ?([0-9]{0,18})\), \} *\n"
)
#: Arrays of each layout beside y, and the types that each may have.
ARRAYS = {"csr": ("values", "indices", "indptr", "y"), "dense": ("values", "y")}
TYPES = {"values": ("<f4", "<f8"), "indices": ("<i4", "<i8"), "indptr": ("<i4", "<i8"), "y": ("<f8", "<i4")}
#: What a `Writer` has in ``PATH.part``, beside "lock", which it makes first.
_OWN = re.compile(r"(values|indices|indptr|y)(\.new|\.old)?\.npy|\.?(journal|meta)\.json(\.[0-9a-f]+\.tmp)?")

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set in a folder. ``X, y = data`` takes it apart.

    Attributes
    ----------
    X : csr_array or ndarray of float32 or float64, (n_samples, n_features)
        Its arrays are mapped files, read only: pages are read when they are needed and dropped when memory is.
    y : ndarray of float64 or int32, (n_samples,)
        Mapped, too. Where the source's targets were strings, their places in `labels`.
    labels : ndarray of str, or None
        The classes' names, sorted.
    feature_names : list of str, or None
        Of dense columns that had names.
    path : str
    meta : dict
        What meta.json says: how the source was read, too (`encoding`).
    """

    X: Any
    y: Array
    labels: NDArray[np.str_] | None
    feature_names: list[str] | None
    path: str
    meta: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.X, self.y))

    def __repr__(self) -> str:
        n, d = self.X.shape
        return f"<{self.meta['layout']} data of {n:,} rows x {d:,} columns, {self.X.dtype}, in {self.path!r}>"


def open_folder(path: str | os.PathLike[str], *, verify: bool = True) -> Data:
    """Opens a folder that `convert` wrote: its arrays are mapped into memory, not read.

    The folder may come from anywhere: sizes are checked against the files' own before anything is mapped, and what is
    wrong raises ValueError.

    Parameters
    ----------
    path : str or path-like
    verify : bool, default True
        Reads everything once, to compare the checksums (CRC-32) and check the structure. False leaves that to `fit` and
        `predict`, which check the structure, and to your trust in the disk.

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        If the folder is damaged, not one of `convert`'s, or of a newer format.
    OSError
        If it cannot be read.

    Notes
    -----
    Do not change or cut the files while they are open: a process that reads mapped pages which are no longer there is
    ended by the system. Deleting them is harmless.

    Examples
    --------
    >>> import tempfile, numpy as np, fastopt.data
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = fastopt.data.convert((np.eye(3), [0, 1, 1]), folder + "/three")
    ...     X, y = fastopt.data.open(folder + "/three")
    ...     X.shape, y.tolist()
    ((3, 3), [0.0, 1.0, 1.0])
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"path must be a folder that fastopt.data.convert wrote; there is no {path!r}.")
    try:
        return _open(Path(path), verify)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        text = str(error) if type(error) is ValueError else f"meta.json is not laid out as it should be ({error!r:.80})"
        raise ValueError(f"path must be a folder that fastopt.data.convert wrote; got {path!r}: {text}") from None


def _open(path: Path, verify: bool) -> Data:
    meta = _meta(path)
    layout = meta["layout"]
    if layout not in ARRAYS:
        raise ValueError(f"its layout must be 'csr' or 'dense'; got {layout!r:.20}")
    n, d = meta["shape"]
    if not all(type(size) is int and 0 <= size < 2**47 for size in (n, d)):
        raise ValueError("it has no shape")
    arrays = {name: _map(path / f"{name}.npy", name, meta["arrays"][name], verify) for name in ARRAYS[layout]}
    values, y = arrays["values"], arrays["y"]
    if y.shape != (n,):
        raise ValueError(f"y.npy must have {n} elements; got shape {y.shape}")
    if layout == "dense":
        if values.shape != (n, d):
            raise ValueError(f"values.npy must have shape {(n, d)}; got {values.shape}")
        X: Any = values
    else:
        indices, indptr = arrays["indices"], arrays["indptr"]
        one = values.ndim == indices.ndim == indptr.ndim == 1
        if not one or len(values) != len(indices) or len(indptr) != n + 1 or indices.dtype != indptr.dtype:
            raise ValueError("the arrays of its rows do not fit together")
        if verify:
            check_csr(values, indices, indptr, (n, d))
        if int(indptr[0]) != 0 or int(indptr[-1]) != len(values):
            raise ValueError("indptr.npy does not begin and end where the rows do")
        X = csr_array((1, d), dtype=values.dtype)
        X._shape = (n, d)  # scipy's constructor would copy int64 indices that fit into int32
        X.data, X.indices, X.indptr = values, indices, indptr
    if not isinstance(meta["encoding"]["format"], str) or not isinstance(meta["source"], str):
        raise ValueError("it does not tell what it was converted from")
    labels, names = meta.get("labels"), meta.get("feature_names")
    for what, found in (("labels", labels), ("feature names", names)):
        if found is not None and not (isinstance(found, list) and all(isinstance(name, str) for name in found)):
            raise ValueError(f"its {what} are not strings")
    if names is not None and len(names) != d:
        raise ValueError(f"it must have {d} feature names; got {len(names)}")
    if labels is not None and verify and not ((y >= 0) & (y < len(labels))).all():
        raise ValueError("y.npy holds others than its labels' numbers")
    if verify and layout == "dense" and not all(np.isfinite(values[i : i + 4096]).all() for i in range(0, n, 4096)):
        raise ValueError("values.npy holds values that are not finite")
    return Data(X, y, None if labels is None else np.array(labels, dtype=str), names, os.fspath(path), meta)


def _regular(path: Path) -> int:
    """A regular file's size."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise ValueError(f"it has no {path.name}") from None
    except NotADirectoryError:
        raise ValueError("it is not a folder") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path.name} is not a regular file")
    return status.st_size


def _meta(path: Path) -> dict[str, Any]:
    if _regular(path / "meta.json") > MOST_JSON:
        raise ValueError("meta.json is too long")
    meta = json.loads((path / "meta.json").read_bytes(), parse_constant=_no_constant)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"meta.json is not a {FORMAT}'s")
    if type(meta.get("version")) is not int or not 1 <= meta["version"] <= VERSION:
        raise ValueError(f"its format has version {meta.get('version')!r:.20}; this fastopt reads 1 to {VERSION}")
    if meta.pop("crc32", None) != _crc_of(meta):
        raise ValueError("meta.json is damaged: its checksum is wrong")
    return meta


def _no_constant(name: str) -> None:
    raise ValueError(f"meta.json holds {name}")


def _crc_of(meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def _map(path: Path, name: str, told: dict[str, Any], verify: bool) -> Array:
    """An array of a folder, mapped; its header is compared with the file's size and what meta.json tells."""
    size = _regular(path)
    with open(path, "rb") as file:
        start = file.read(HEAD)
        match = _HEADER.fullmatch(start[10:]) if start[:10] == b"\x93NUMPY\x01\x00" + bytes([HEAD - 10, 0]) else None
        if match is None:
            raise ValueError(f"{path.name} has a header that fastopt does not write")
        dtype = np.dtype(match[1].decode())
        shape = tuple(int(n) for n in match.groups()[1:] if n)
        if dtype.str not in TYPES[name] or dtype.str != told["dtype"] or list(shape) != told["shape"]:
            raise ValueError(f"{path.name} has another type or shape than meta.json says")
        if math.prod(shape) * dtype.itemsize != size - HEAD:
            raise ValueError(f"{path.name} is damaged: it has {size} bytes, its header tells of others")
        if size == HEAD:
            return np.empty(shape, dtype)
        buffer = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    if verify and _crc(memoryview(buffer)[HEAD:]) != told["crc32"]:
        raise ValueError(f"{path.name} is damaged: its checksum is wrong")
    return np.ndarray(shape, dtype, buffer=buffer, offset=HEAD)


def _crc(data: memoryview, crc: int = 0) -> int:
    for start in range(0, len(data), CHUNK):
        crc = zlib.crc32(data[start : start + CHUNK], crc)
    return crc


def write_json(path: Path, found: dict[str, Any]) -> None:
    """Writes JSON whole or not at all."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(new, "x", encoding="utf-8") as file:
            json.dump(found, file, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


def _remove(folder: Path) -> None:
    """Removes a folder that was replaced, its meta.json last."""
    with contextlib.suppress(FileNotFoundError):  # another writer may remove it, too
        for file in folder.iterdir():
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            elif file.name != "meta.json":
                file.unlink()
        shutil.rmtree(folder)


class Writer:
    """Writes a folder piece by piece beside its place, and moves it there when it is whole.

    Until then it is ``PATH.part``, with a journal of what is safely on the disk: another writer of the same
    `settings` goes on from there.

    Attributes
    ----------
    told : dict
        What the reader of the source wants to know when it goes on.
    resumed : bool
    """

    def __init__(self, path: str | os.PathLike[str], settings: dict[str, Any], *, overwrite: bool = False) -> None:
        self.goal = Path(os.path.abspath(os.fspath(path)))
        self._check_goal(path, overwrite)
        self.folder, self.settings = self.goal.with_name(self.goal.name + ".part"), settings
        self.files: dict[str, BinaryIO] = {}
        self.crcs: dict[str, int] = {}
        self.told: dict[str, Any] = {}
        self._check_own(path)
        created = not self.folder.exists()
        self.folder.mkdir(exist_ok=True)
        self._lock()
        self.in_place = False
        try:
            self._put_back()
            self._check_goal(path, overwrite)
            self.resumed = self._resume()
        except BaseException:
            if created:
                self.close()
            self._close_files()
            self.lock.close()
            raise

    def _check_goal(self, path: str | os.PathLike[str], overwrite: bool) -> None:
        """Whether what is there may be replaced."""
        if self.goal.exists() and not overwrite:
            remedy = "Give overwrite=True to replace it."
            fail("path", "a folder that is not there yet", os.fspath(path), remedy, FileExistsError)
        if self.goal.exists() and not (self.goal / "meta.json").exists():
            fail("path", "a folder that convert wrote, if it is to be replaced", os.fspath(path), error=FileExistsError)

    def _left(self) -> list[Path]:
        """The folders that writers which were killed while they moved theirs into place have left, the newest last.

        `_remove` takes meta.json last, so that this tells them from somebody else's.
        """
        name = re.compile(re.escape(f".{self.goal.name}.") + r"[0-9a-f]{16}\.old")
        found = []
        for old in map(self.goal.with_name, filter(name.fullmatch, os.listdir(self.goal.parent))):
            with contextlib.suppress(ValueError, OSError, RecursionError):
                _meta(old)
                found.append((os.stat(old / "meta.json").st_mtime_ns, old))
        return [old for _, old in sorted(found)]

    def _put_back(self) -> None:
        """What was to be replaced, where that writer was killed before its own folder was there."""
        left = [] if self.goal.exists() else self._left()
        if left:
            os.replace(left[-1], self.goal)

    def _check_own(self, path: str | os.PathLike[str]) -> None:
        """Whether ``PATH.part`` is a writer's, or not there: what a user has in it would be lost."""
        try:
            names = set(os.listdir(self.folder))
        except FileNotFoundError:
            return
        except NotADirectoryError:
            names = {""}
        if names and not ("lock" in names and all(map(_OWN.fullmatch, names - {"lock"}))):
            remedy = f"{str(self.folder)!r} is not convert's own: rename it, or give another path."
            fail("path", "a name that is free with .part behind it, too", os.fspath(path), remedy, FileExistsError)

    def _lock(self) -> None:
        """One writer at a time."""
        self.lock = open(self.folder / "lock", "ab")  # noqa: SIM115
        try:
            import fcntl

            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows
            pass
        except OSError:
            self.lock.close()
            text = f"path must be written by one process at a time; another one writes {str(self.folder)!r}."
            raise FileExistsError(text) from None

    def _resume(self) -> bool:
        """Back to what the journal says is on the disk, if it is of the same source."""
        try:
            journal = json.loads((self.folder / "journal.json").read_bytes())
            same = journal["settings"] == json.loads(json.dumps(self.settings))
            arrays, told = journal["arrays"].items(), journal["told"]
            if same:
                for old in self.folder.glob("*.old.npy"):  # a rewriting that was for nothing
                    os.replace(old, self.folder / old.name.replace(".old.", "."))
            if same and all((self.folder / f"{name}.npy").stat().st_size >= HEAD + size for name, (size, _) in arrays):
                for name, (size, crc) in arrays:
                    self._open(name, "rb+").truncate(HEAD + size)
                    self.files[name].seek(0, os.SEEK_END)
                    self.crcs[name] = crc
                self.told = told
                return True
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            self._close_files()
        self._remove_own("lock")  # the journal first: it must not tell of what another source gives
        return False

    def _remove_own(self, *kept: str) -> None:
        """Removes what a writer makes."""
        for name in sorted({*os.listdir(self.folder)} - {*kept}, key=lambda name: name != "journal.json"):
            if name == "lock" or _OWN.fullmatch(name):
                (self.folder / name).unlink()

    def _open(self, name: str, mode: str) -> BinaryIO:
        file: Any = open(self.folder / f"{name}.npy", mode)  # noqa: SIM115
        self.files[name], self.crcs[name] = file, 0
        return self.files[name]

    def append(self, name: str, a: Array) -> None:
        """More of an array, flat."""
        if name not in self.files:
            self._open(name, "wb+").write(bytes(HEAD))
        data = np.ascontiguousarray(a).reshape(-1).view(np.uint8).data
        self.files[name].write(data)
        self.crcs[name] = _crc(data, self.crcs[name])

    def size(self, name: str) -> int:
        """Bytes of an array so far."""
        return self.files[name].tell() - HEAD if name in self.files else 0

    def checkpoint(self, told: dict[str, Any]) -> None:
        """All so far is on the disk: a writer that is killed from here on is one that goes on from here."""
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
        arrays = {name: [self.size(name), self.crcs[name]] for name in self.files}
        write_json(self.folder / "journal.json", {"settings": self.settings, "told": told, "arrays": arrays})

    def rewrite(self, name: str, dtype: str, function: Callable[[Array], Array], new_dtype: str | None = None) -> None:
        """Replaces an array, once, by a function of its elements, piece by piece.

        What the journal tells of stays beside it until the folder is in place: who goes on puts it back.
        """
        old, new = self.files.pop(name), f"{name}.new"
        count = (old.tell() - HEAD) // np.dtype(dtype).itemsize
        try:
            old.seek(HEAD)
            self._open(new, "wb+").write(bytes(HEAD))
            while count:
                piece = np.frombuffer(old.read(min(count, CHUNK // 8) * np.dtype(dtype).itemsize), dtype)
                count -= len(piece)
                self.append(new, function(piece).astype(new_dtype or dtype))
        finally:
            old.close()
        self.files.pop(new).close()
        crc, file = self.crcs.pop(new), self.folder / f"{name}.npy"
        os.replace(file, self.folder / f"{name}.old.npy")
        os.replace(self.folder / f"{new}.npy", file)
        self._open(name, "rb+").seek(0, os.SEEK_END)
        self.crcs[name] = crc

    def finish(self, layout: str, shape: tuple[int, int], dtypes: dict[str, str], **meta: Any) -> None:
        """Headers, meta.json, and into place."""
        arrays = {}
        for name in ARRAYS[layout]:
            self.append(name, np.empty(0, np.uint8))
            dtype = np.dtype(dtypes[name])
            whole = list(shape) if (layout, name) == ("dense", "values") else [self.size(name) // dtype.itemsize]
            dimensions = f"({whole[0]},)" if len(whole) == 1 else f"({whole[0]}, {whole[1]})"
            text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {dimensions}, }}"
            head = b"\x93NUMPY\x01\x00" + bytes([HEAD - 10, 0]) + text.ljust(HEAD - 11).encode() + b"\n"
            arrays[name] = {"dtype": dtype.str, "shape": whole, "crc32": self.crcs[name]}
            self.files[name].flush()
            self.files[name].seek(0)
            self.files[name].write(head)
            self.files[name].flush()
            os.fsync(self.files[name].fileno())
        found = {"format": FORMAT, "version": VERSION, "layout": layout, "shape": list(shape), "arrays": arrays, **meta}
        write_json(self.folder / "meta.json", found | {"crc32": _crc_of(found)})
        self._close_files()
        self._move()
        for file in (*self.goal.glob("*.old.npy"), self.goal / "journal.json", self.goal / "lock"):
            file.unlink(missing_ok=True)

    def _move(self) -> None:
        """Into place, with the journal: where that fails, it can be tried again."""
        if os.name == "nt":  # which moves and removes nothing that is open
            self.lock.close()
        old = self.goal.with_name(f".{self.goal.name}.{secrets.token_hex(8)}.old")
        try:
            if self.goal.exists():
                os.replace(self.goal, old)
            os.replace(self.folder, self.goal)
            self.in_place = True
        except BaseException:
            if old.exists() and not self.goal.exists():
                os.replace(old, self.goal)
            raise
        if old.exists():
            _remove(old)
        for left in self._left():
            if all(name == "lock" or _OWN.fullmatch(name) for name in os.listdir(left)):
                _remove(left)

    def close(self) -> None:
        """Closes the files; what the journal knows stays."""
        self._close_files()
        try:
            if not self.in_place and self.folder.exists() and not (self.folder / "journal.json").exists():
                if os.name == "nt":
                    self.lock.close()
                self._remove_own()  # there is nothing to go on from
                with contextlib.suppress(OSError):  # somebody else's are in it by now
                    self.folder.rmdir()
        finally:
            self.lock.close()

    def _close_files(self) -> None:
        for file in self.files.values():
            with contextlib.suppress(OSError):  # a full disk's, once more: no journal tells of what is lost
                file.close()
        self.files.clear()
