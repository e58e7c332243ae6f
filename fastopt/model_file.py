"""Fitted estimators in files that hold no code: an .npz with JSON inside, read as untrusted.

A file is a zip archive, not compressed, of ``model.json`` and ``0.npy, 1.npy, ...``; `numpy.load` opens it too. The
JSON names the class, the constructor's parameters and the fitted attributes; an array in them is its number. Each
member has a CRC-32, and the archive's comment ends with the SHA-256 of all bytes before it: no damage is overlooked.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
import struct
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning

from fastopt import linear_model, optimizers
from fastopt._chunks import Chunks
from fastopt._design import check_csr
from fastopt._validation import check_integer, check_positive, fail
from fastopt.linear_model._base import Progress, unchanged_on_error
from fastopt.losses import LOSSES
from fastopt.penalties import PENALTIES
from fastopt.schedules import SCHEDULES
from fastopt.solvers import resume

__all__ = ["fit", "load", "save"]

FORMAT = "fastopt model"
#: Of what is written; this and all older versions are read.
VERSION = 1

MARK = b"fastopt sha256:"
#: Bytes of JSON at most: Python's objects take some 30 times that.
MOST_JSON = 4 << 20
#: Lists in lists, at most: how deep the interpreter could go depends on its version and on who calls.
DEEPEST = 50
CHUNK = 1 << 20

#: What a file may hold instances of, by the class's name.
ESTIMATORS: dict[str, type[BaseEstimator]] = {
    name: cls
    for name in linear_model.__all__
    if isinstance(cls := getattr(linear_model, name), type) and issubclass(cls, BaseEstimator)
}
RECORDS: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        *(getattr(optimizers, name) for name in optimizers.__all__), *SCHEDULES.values(), *LOSSES.values(),
        *PENALTIES.values(),
    )
    if isinstance(cls, type) and cls is not optimizers.Optimizer
}  # fmt: skip
SPARSE: dict[str, Any] = {
    "csr_array": scipy.sparse.csr_array, "csr_matrix": scipy.sparse.csr_matrix, "csc_array": scipy.sparse.csc_array,
    "csc_matrix": scipy.sparse.csc_matrix,
}  # fmt: skip

#: scikit-learn's own, which are set by its methods and mean nothing without the program around them.
LEFT_OUT = {"_metadata_request", "_sklearn_output_config", "_skl_callbacks", "_parent_callback_ctx"}
#: Parameters that may be others when a checkpointed fit is taken up again.
FREE = {
    "LogisticRegression": ("max_iter", "tol", "verbose", "n_jobs", "warm_start"),
    "LogisticRegressionCV": ("verbose", "n_jobs"),
    "SGDClassifier": ("max_iter", "verbose", "n_jobs", "warm_start"),
    "SGDRegressor": ("max_iter", "verbose", "warm_start"),
}
#: Where a checkpoint keeps what a fit goes on from, and what a fit leaves for its warnings.
RUN, REMARKS = "_run", ("_cuts", "_missed")


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Writes a fitted or unfitted estimator to a file, whole or not at all.

    Parameters
    ----------
    model : estimator of fastopt
        Its parameters, with optimizers and schedules of fastopt, and its fitted attributes, among them `history_`,
        `feature_names_in_` and the `optimizer_state_` that a warm start goes on from. Not saved is what scikit-learn's
        `set_output`, `set_callbacks` and `set_fit_request` have set.
    path : str or path-like
        Replaced in one step when all is on the disk: a process killed at any moment leaves the old file or the new one.

    Raises
    ------
    TypeError
        If the model is not one of fastopt's, or holds what is not data: a callable as schedule, an object of another
        library. No file is written then.

    Examples
    --------
    >>> import tempfile, os
    >>> from fastopt import LogisticRegression
    >>> model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, os.path.join(folder, "model.npz"))
    ...     again = load(os.path.join(folder, "model.npz"))
    >>> again.predict([[0.5], [2.5]]).tolist()
    ['no', 'yes']
    """
    _write(model, path, {})


def load(path: str | os.PathLike[str]) -> Any:
    """The estimator that `save` has written.

    The file may come from anywhere: nothing in it is run, its sizes are checked against its length before memory is
    taken, and memory and time stay proportional to that length.

    Parameters
    ----------
    path : str or path-like
        A regular file.

    Returns
    -------
    estimator

    Raises
    ------
    ValueError
        If the file is damaged, is not a model's, or is of a newer format.
    OSError
        If it cannot be read.
    MemoryError
        If memory does not suffice for the model: the file may be sound.
    """
    model = _read(path)[0]
    vars(model).pop(RUN, None)  # only `fit` goes on from it
    return model


def fit(
    model: Any, X: Any, y: Any = None, sample_weight: Any = None, *, checkpoint: str | os.PathLike[str],
    seconds: float = 60.0, epochs: int | None = None,
) -> Any:  # fmt: skip
    """``model.fit(X, y, sample_weight)`` that survives: it keeps a file up to date, and goes on from one that is there.

    However often the process is killed and started again, the model ends with the bits of a fit that ran through. The
    file is a model's, which `load` reads at any time: the model so far. When the fit has ended it stays, and another
    call returns what it holds, or goes on if `max_iter` has been raised.

    Parameters
    ----------
    model : estimator of fastopt
        LogisticRegression, SGDClassifier, SGDRegressor: an epoch or iteration is the least that is lost, and `max_iter`
        is the number of them in all. LogisticRegressionCV: what is lost is the fit of one fold, C and l1_ratio, or that
        on all rows. The fit starts anew, whatever `warm_start` says.
    X, y, sample_weight
        As in the estimator's `fit`; `fastopt.data.Chunks` are read once more, to know them again.
    checkpoint : str or path-like
        Written as `save` does it. Ctrl-C writes it, too.
    seconds : float > 0, default 60.0
        Between two writings, about; at least one epoch.
    epochs : int >= 1 or None
        Between two writings, instead of `seconds`; of LogisticRegressionCV, fits.

    Returns
    -------
    model
        `history_` and `n_iter_` count all epochs since the first start.

    Raises
    ------
    ValueError
        If the file belongs to other data or other parameters. What may change are `verbose` and `n_jobs`, but for
        LogisticRegressionCV `max_iter`, and LogisticRegression's `tol`.
    OSError, MemoryError
        If the file cannot be written, for one. By any error but Ctrl-C the model is left unchanged; what was written
        last goes on.

    Notes
    -----
    LogisticRegression with an update rule is fitted in slices of epochs with ``warm_start=True``, each from where the
    one before ended. A slice reads X once more than its epochs do, to check and to measure it: next to nothing where it
    lasts a minute. The others tell of their course as they go. It is copied after each epoch: two or three times the
    memory of the parameters, and of "sdca" and "saga" two numbers (more than two classes: one for each) and one for
    each row. "lbfgs" keeps the gradients of all its iterations, up to 256 MB, and makes those beyond that again when it
    is taken up.
    """
    check_positive("seconds", seconds)
    if epochs is not None:
        check_integer("epochs", epochs, low=1)
    _known(model)
    _Encoder().encode(model.get_params(deep=False))
    _goal(checkpoint, "checkpoint")
    fingerprint = _fingerprint(X, y, sample_weight)
    part, extra = clone(model), dict[str, Any]()
    if os.path.exists(checkpoint):
        part, extra = _read(checkpoint)
        _same_run(model, part, extra, fingerprint, checkpoint)
    logistic = type(model) is linear_model.LogisticRegression
    ended = bool(extra.get("ended"))
    with unchanged_on_error(model):
        if logistic and (isinstance(model.solver, optimizers.Optimizer) or str(model.solver) in optimizers.OPTIMIZERS):
            _in_slices(model, part, X, y, sample_weight, checkpoint, fingerprint, seconds, epochs)
        else:
            _in_one_go(model, part, X, y, sample_weight, checkpoint, fingerprint, seconds, epochs, ended)
        _adopt(model, part)
    if not logistic:
        model._warn(3)
    elif not model.converged_:
        text = f"stopped with |gradient| {part.grad_norm_:.3g} > tol {model.tol:.3g} after {part.n_iter_[0]} epochs"
        warnings.warn(f"{type(model).__name__} {text} ({part.stop_reason_}).", ConvergenceWarning, stacklevel=2)
    return model


def _in_one_go(
    model: Any, part: Any, X: Any, y: Any, sample_weight: Any, checkpoint: Any, fingerprint: str, seconds: float,
    epochs: int | None, ended: bool,
) -> None:  # fmt: skip
    """A fit that tells of its course: `part`, read from the file or new, becomes the fitted model."""
    run = vars(part).pop(RUN, None)
    part.set_params(**model.get_params(deep=False))
    path = isinstance(part, linear_model.LogisticRegressionCV)
    if ended and (path or not _wants_more(part)):
        return
    written, told = time.perf_counter(), 0

    def due() -> bool:
        nonlocal told
        told += 1
        return told >= epochs if epochs is not None else time.perf_counter() - written >= seconds

    def write(**more: Any) -> None:
        nonlocal written, told
        vars(part)[RUN] = progress.run
        try:
            _write(part, checkpoint, {"data": fingerprint, **more})
        finally:
            del vars(part)[RUN]
        written, told = time.perf_counter(), 0

    progress = Progress(run, due, write)
    try:
        if path:
            part._fit_path(X, y, sample_weight, {}, progress)
        else:
            part._fit(X, y, sample_weight, progress=progress)
    except KeyboardInterrupt:
        with progress.lock:
            progress.over = True
        if progress.run is not None:
            write()
        _adopt(model, part)
        raise
    finally:
        with progress.lock:
            progress.over = True
    if path:
        progress.run = None  # there is nothing to go on with
    write(ended=True)


def _wants_more(part: Any) -> bool:
    """Whether a fit that has ended has more to do, by a larger max_iter or a smaller tol."""
    if part.max_iter <= part.n_iter_:
        return False
    logistic = isinstance(part, linear_model.LogisticRegression)
    return part.stop_reason_ == "max_iter" or (logistic and part.stop_reason_ == "tol" and part.grad_norm_ > part.tol)


def _in_slices(
    model: Any, part: Any, X: Any, y: Any, sample_weight: Any, checkpoint: Any, fingerprint: str, seconds: float,
    epochs: int | None,
) -> None:  # fmt: skip
    """Fits of some epochs each, by warm starts: `part`, read from the file or new, becomes the fitted model."""
    total, pace = model.max_iter, math.nan
    check_integer("max_iter", total, low=1)
    done = int(np.max(part.n_iter_)) if hasattr(part, "n_iter_") else 0
    # Of what has diverged no further epoch would come in one go, either.
    while getattr(part, "stop_reason_", "") != "diverged" and (
        not done or (done < total and not (part.stop_reason_ == "tol" and part.grad_norm_ <= model.tol))
    ):
        if epochs is not None:
            size = epochs
        else:  # the first slice, of one epoch, tells how long they take
            size = max(1, int(seconds / max(pace, 1e-9))) if pace == pace else 1
        before = getattr(part, "history_", None)
        part.set_params(**model.get_params(deep=False) | {"warm_start": True, "max_iter": min(size, total - done)})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                part.fit(X, y) if sample_weight is None else part.fit(X, y, sample_weight=sample_weight)
        except KeyboardInterrupt:
            if getattr(part, "history_", None) is not before:  # it holds whole epochs
                _finish(model, part, before, done, checkpoint, fingerprint)
            raise
        ran = int(np.max(part.n_iter_))
        pace = float(part.history_["seconds"][-1]) / max(1, ran)
        done = _finish(model, part, before, done, checkpoint, fingerprint)
        if not ran:
            break
    if part.grad_norm_ <= model.tol and not part.converged_:  # by a tol that was lower then
        part.converged_, part.stop_reason_ = True, "tol"


def _finish(model: Any, part: Any, before: Any, done: int, checkpoint: Any, fingerprint: str) -> int:
    """A slice's end: history and count of all epochs, the file, the caller's model; returns the epochs done."""
    if before is not None:
        shift = {"epoch": done, "seconds": float(before["seconds"][done])}
        part.history_ = {
            # One row for each epoch; that of the best parameters, where a slice came back to them, is not the whole's.
            key: np.concatenate([before[key][: done + 1], column[1:] + shift.get(key, 0)])
            for key, column in part.history_.items()
        }
        part.n_iter_ = part.n_iter_ + np.asarray(done, part.n_iter_.dtype)
    _adopt(model, part)
    _write(model, checkpoint, {"data": fingerprint})
    return int(np.max(part.n_iter_))


def _adopt(model: Any, part: Any) -> None:
    """The fitted attributes of `part` become the model's."""
    parameters = model.get_params(deep=False)
    vars(model).update({name: value for name, value in vars(part).items() if name not in parameters})


def _same_run(model: Any, part: Any, extra: dict[str, Any], fingerprint: str, path: Any) -> None:
    remedy = "Remove it, or name another."
    if "data" not in extra or type(part) is not type(model):
        raise ValueError(f"checkpoint must be this model's; got {os.fspath(path)!r}, which is another's. {remedy}")
    if extra["data"] != fingerprint:
        raise ValueError(f"checkpoint must be of the same data; got {os.fspath(path)!r} of others. {remedy}")
    theirs, ours = (_Encoder().encode(m.get_params(deep=False)) for m in (part, model))
    free = FREE[type(model).__name__]
    differ = [
        name
        for (name, a), (_, b) in zip(theirs["dict"], ours["dict"], strict=True)
        if a != b and name not in free and not (name == "random_state" and isinstance(a, dict) and isinstance(b, dict))
    ]  # random_state's own numbers have moved on
    if differ:
        text = f"got {os.fspath(path)!r} where {', '.join(differ)} differ"
        raise ValueError(f"checkpoint must be of the same parameters; {text}. {remedy}")


def _fingerprint(*data: Any) -> str:
    """SHA-256 of X, y and weights, as they stand; of chunks that of each, whatever gives them."""
    digest = hashlib.sha256()
    for a in data:
        if isinstance(a, Chunks):
            for chunk in a:
                digest.update(_fingerprint(*chunk).encode())
            continue
        form = getattr(a, "format", "") if hasattr(a, "tocsr") else ""
        if form in ("csr", "csc", "bsr"):
            parts = [a.data, a.indices, a.indptr]
        else:
            parts = [a] if not form else [a.tocoo().data, *a.tocoo().coords]
        for array in map(np.ascontiguousarray, parts):
            digest.update(f"{array.dtype.str}{array.shape}{getattr(a, 'shape', '')}".encode())
            if array.dtype.hasobject:
                digest.update(repr(array.tolist()).encode())
            elif array.size:
                digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


# --- writing ----------------------------------------------------------------------------------------------------------


def _plain(dtype: np.dtype[Any]) -> bool:
    """Numbers of up to 8 bytes, booleans, strings."""
    return (dtype.kind == "U" and dtype.itemsize > 0) or (dtype.kind in "biuf" and dtype.itemsize <= 8)


class _Encoder:
    """Values as JSON. What JSON has not is a dict of one key, the kind; arrays go to a list of their own."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []
        self.depth = 0

    def encode(self, value: Any, name: str = "the model") -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise TypeError(f"{name} must be nested at most {DEEPEST} deep; got a {type(value).__name__} below that.")
        encoded = self._encode(value, name)
        self.depth -= 1
        return encoded

    def _encode(self, value: Any, name: str) -> Any:
        if value is None or isinstance(value, bool | str):
            return str(value) if isinstance(value, str) else value
        if type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, np.ndarray):
            return self._array(value, name)
        if isinstance(value, np.generic):
            return {"scalar": self._add(np.asarray(value), name)}
        if isinstance(value, dict):
            return {"dict": [[self.encode(k, name), self.encode(v, f"{name}[{k!r}]")] for k, v in value.items()]}
        if isinstance(value, list | tuple):
            items = [self.encode(v, f"{name}[{i}]") for i, v in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        if type(value).__name__ in SPARSE and scipy.sparse.issparse(value):
            parts = (value.data, value.indices, value.indptr, value.shape)
            return {"sparse": [type(value).__name__, *(self.encode(part, name) for part in parts)]}
        if isinstance(value, np.random.RandomState | np.random.Generator):
            state = resume.random_numbers(value)
            if resume.generator({"run": {"random": state}}) is None:
                raise TypeError(f"{name} must be a generator of NumPy's; got {value!r}.")
            return {"random": self.encode(state, name)}
        if isinstance(value, np.random.SeedSequence):
            seeds = (value.entropy, value.spawn_key, value.n_children_spawned)
            return {"seeds": [self.encode(part, name) for part in seeds]}
        if is_dataclass(value) and RECORDS.get(type(value).__name__) is type(value):
            inner = [[f.name, self.encode(getattr(value, f.name), f"{name}.{f.name}")] for f in fields(value)]
            return {"record": [type(value).__name__, inner]}
        what = "a schedule of fastopt.schedules, where it is a callable" if callable(value) else "data"
        remedy = "Code is not saved: set it again after loading, or use pickle." if callable(value) else ""
        raise TypeError(f"{name} must be {what}; got {value!r}." + f" {remedy}".rstrip())

    def _add(self, a: NDArray[Any], name: str) -> int:
        if not _plain(a.dtype):
            raise TypeError(f"{name} must be an array of numbers or strings; got one of {a.dtype}.")
        self.arrays.append(np.ascontiguousarray(a).reshape(a.shape))
        return len(self.arrays) - 1

    def _array(self, a: NDArray[Any], name: str) -> Any:
        if a.dtype.kind != "O":
            return {"array": self._add(a, name)}
        items = a.ravel().tolist()
        if all(type(item) is str for item in items):  # labels and names of features: one string of bytes, and lengths
            encoded = [item.encode("utf-8", "surrogatepass") for item in items]
            text, lengths = np.frombuffer(b"".join(encoded), np.uint8), np.array([len(b) for b in encoded], np.int64)
            return {"strings": [list(a.shape), self._add(text, name), self._add(lengths, name)]}
        return {"objects": [list(a.shape), [self.encode(item, name) for item in items]]}


def _known(model: Any) -> None:
    if ESTIMATORS.get(type(model).__name__) is not type(model):
        fail("model", "one of fastopt's " + ", ".join(ESTIMATORS), model, error=TypeError)


def _write(model: Any, path: str | os.PathLike[str], extra: dict[str, Any]) -> None:
    _known(model)
    encoder, parameters = _Encoder(), model.get_params(deep=False)
    attributes = {k: v for k, v in vars(model).items() if k not in parameters and k not in {*LEFT_OUT, *REMARKS}}
    attributes.pop("_sklearn_version", None)
    found = {
        "format": FORMAT,
        "version": VERSION,
        "class": type(model).__name__,
        "parameters": [[k, encoder.encode(v, k)] for k, v in parameters.items()],
        "attributes": [[k, encoder.encode(v, k)] for k, v in attributes.items()],
        **extra,
    }
    text = json.dumps(found, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > MOST_JSON:
        raise TypeError(f"model must have at most {MOST_JSON} bytes beside its arrays; got {len(text)}.")
    with _replacing(path) as file:
        _write_archive(file, text, encoder.arrays)


def _write_archive(file: BinaryIO, text: bytes, arrays: list[NDArray[Any]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        # The same date in every file: the same model gives the same bytes.
        with archive.open(zipfile.ZipInfo("model.json"), "w") as member:
            member.write(text)
        for i, a in enumerate(arrays):
            with archive.open(zipfile.ZipInfo(f"{i}.npy"), "w", force_zip64=True) as member:
                head = {"descr": a.dtype.str, "fortran_order": False, "shape": a.shape}
                np.lib.format.write_array_header_1_0(member, head)
                if a.size:
                    member.write(a.reshape(-1).view(np.uint8).data)
        archive.comment = MARK + b"0" * 64
    end = file.seek(-64, os.SEEK_END)
    digest = _digest(file, end)
    file.seek(end)
    file.write(digest)


def _goal(path: str | os.PathLike[str], name: str = "path") -> Path:
    """Where a file of that name goes, links followed. What is there and no file, or in no folder, is refused."""
    named = os.fspath(path)
    try:
        mode = os.stat(named).st_mode
    except FileNotFoundError:
        if not os.path.basename(named):  # "" and "folder/" name no file
            raise
    else:
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), named)
        if not stat.S_ISREG(mode):
            fail(name, "a regular file, there or to be made", named, "Devices and pipes are not replaced by files.")
    goal = Path(os.path.realpath(named))
    if not goal.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), named)
    return goal


@contextlib.contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is whole and on the disk."""
    goal = _goal(path)
    new = goal.with_name(f".{goal.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(new, "xb+") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(new, stat.S_IMODE(os.stat(goal).st_mode))
        os.replace(new, goal)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        if isinstance(error, OSError) and str(error.filename) == str(new):  # nobody has heard of that name
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise
    if hasattr(os, "O_DIRECTORY"):  # the folder's entry, too
        folder = os.open(goal.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _digest(file: BinaryIO, length: int) -> bytes:
    """SHA-256 of the first bytes of a file, in hexadecimal digits."""
    file.seek(0)
    digest = hashlib.sha256()
    while length and (chunk := file.read(min(CHUNK, length))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.hexdigest().encode()


# --- reading ----------------------------------------------------------------------------------------------------------

#: What a hostile file can make Python's own zip, JSON and our decoder raise.
REFUSED = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OverflowError, KeyError, TypeError,
    IndexError, AttributeError, UnicodeError, ValueError, struct.error,
)  # fmt: skip

_HEADER = re.compile(rb"\{'descr': '([<>|][biufU][0-9]{1,9})', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n")


def _read(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Any]]:
    """The estimator, and what else the file says of it."""
    with open(path, "rb", opener=_at_once) as file:
        try:
            return _read_archive(file)
        except REFUSED as error:
            # RecursionError is a RuntimeError. An error that is not ours may say little: its kind is told, too.
            text = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            raise ValueError(f"path must be a file that fastopt.save wrote; got {os.fspath(path)!r}: {text}") from None


def _at_once(path: str, flags: int) -> int:
    """Opens a pipe, too, without waiting for who writes to it: it is refused."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_archive(file: BinaryIO) -> tuple[Any, dict[str, Any]]:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    end = status.st_size - 64
    file.seek(max(0, end - len(MARK)))
    if end < len(MARK) or file.read(len(MARK)) != MARK:
        raise ValueError("it is cut off, or of another format")
    if _digest(file, end) != file.read(64):
        raise ValueError("it is damaged: its checksum is wrong")
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise ValueError("two members have one name")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
                raise ValueError("a member is compressed or encrypted")
            if not 0 <= info.header_offset < status.st_size:
                raise ValueError("a member lies outside the file")
        if sum(info.file_size for info in members.values()) > status.st_size:
            raise ValueError("its members say they are longer than the file")
        names = {"model.json", *(f"{i}.npy" for i in range(len(members) - 1))}
        if members.keys() != names:
            raise ValueError("it has other members than model.json and 0.npy, 1.npy, ...")
        if members["model.json"].file_size > MOST_JSON:
            raise ValueError("model.json is too long")
        text = archive.read("model.json")
        arrays = [_read_array(archive, members[f"{i}.npy"]) for i in range(len(members) - 1)]
    found = json.loads(text, parse_constant=_no_constant)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"model.json is not a {FORMAT}'s")
    version = found.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(f"its format has version {version!r:.20}; this fastopt reads 1 to {VERSION}")
    return _Decoder(arrays).estimator(found), found


def _no_constant(name: str) -> None:
    raise ValueError(f"model.json holds {name}")


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """A member's array, its header not evaluated, its size known from the member's before memory is taken."""
    with archive.open(info) as member:
        start = member.read(10)
        length = int.from_bytes(start[8:10], "little")
        match = _HEADER.fullmatch(member.read(length)) if start[:8] == b"\x93NUMPY\x01\x00" else None
        if match is None:
            raise ValueError(f"{info.filename} has a header that fastopt does not write")
        dtype = np.dtype(match[1].decode())
        shape = tuple(int(n) for n in match[2].decode().replace(" ", "").split(",") if n)
        size = math.prod(shape) * dtype.itemsize
        if not _plain(dtype) or len(shape) > 8 or size != info.file_size - 10 - length:
            raise ValueError(f"{info.filename} has another size than its header says")
        a = np.empty(shape, dtype)
        rest = a.reshape(-1).view(np.uint8).data if size else memoryview(b"")
        while len(rest):  # to its end, where zipfile checks the CRC-32
            count = member.readinto(rest[:CHUNK])  # type: ignore[attr-defined]
            if not count:
                raise ValueError(f"{info.filename} is cut off")
            rest = rest[count:]
    if dtype.kind == "b" and np.max(a.view(np.uint8), initial=0) > 1:
        raise ValueError(f"{info.filename} holds booleans that are neither")
    if dtype.kind == "U" and size and a.reshape(-1).view(dtype.byteorder.replace("|", "=") + "u4").max() > 0x10FFFF:
        raise ValueError(f"{info.filename} holds characters that there are not")
    return a if dtype.isnative else a.astype(dtype.newbyteorder("="))


class _Decoder:
    """What `_Encoder` wrote, back again; anything else is refused."""

    def __init__(self, arrays: list[NDArray[Any]]) -> None:
        self.arrays: list[NDArray[Any] | None] = [*arrays]
        self.depth = 0
        self.kinds = {
            "float": self._float, "array": self._array, "scalar": self._scalar, "dict": self._dict,
            "tuple": self._tuple, "strings": self._strings, "objects": self._objects, "sparse": self._sparse,
            "random": self._random, "seeds": self._seeds, "record": self._record,
        }  # fmt: skip

    def estimator(self, found: dict[str, Any]) -> Any:
        name = found["class"]
        if not isinstance(name, str) or name not in ESTIMATORS:
            raise ValueError(f"its class is not one of {', '.join(ESTIMATORS)}")
        cls = ESTIMATORS[name]
        model = cls(**self._pairs(found["parameters"], set(cls._get_param_names())))
        attributes = self._pairs(found["attributes"], None)
        for key in attributes:
            if not key.isidentifier() or key.startswith("__") or hasattr(cls, key) or key in vars(model):
                raise ValueError(f"it sets {key!r:.50}, which is not an attribute of a fitted model")
        vars(model).update(attributes)
        return model

    def _pairs(self, pairs: Any, allowed: set[str] | None) -> dict[str, Any]:
        if not isinstance(pairs, list) or len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("model.json is not laid out as it should be")
        for key, _ in pairs:
            if not isinstance(key, str) or (allowed is not None and key not in allowed):
                raise ValueError(f"it has a parameter {key!r:.50} that this version of fastopt does not know")
        return {key: self.decode(value) for key, value in pairs}

    def decode(self, value: Any) -> Any:
        if not isinstance(value, list | dict):
            return value
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"its values are nested more than {DEEPEST} deep")
        if isinstance(value, list):
            decoded = [self.decode(item) for item in value]
        else:
            ((kind, inner),) = value.items()
            decoded = self.kinds[kind](inner)
        self.depth -= 1
        return decoded

    def _float(self, text: Any) -> float:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[text]

    def _array(self, i: Any) -> NDArray[Any]:
        if type(i) is not int or i < 0 or (a := self.arrays[i]) is None:
            raise ValueError("an array has no number, or is named twice")
        self.arrays[i] = None
        return a

    def _scalar(self, i: Any) -> Any:
        a = self._array(i)
        if a.ndim:
            raise ValueError("a number is an array")
        return a[()]

    def _dict(self, pairs: Any) -> dict[Any, Any]:
        decoded = {self.decode(key): self.decode(value) for key, value in pairs if self._is_key(key)}
        if len(decoded) != len(pairs):
            raise ValueError("a dict has keys that are no keys, or one key twice")
        return decoded

    @staticmethod
    def _is_key(key: Any) -> bool:
        """Labels; of integers none so large that many could be made to have one hash."""
        return key is None or isinstance(key, str | float | dict) or (isinstance(key, int) and abs(key) < 2**60)

    def _tuple(self, items: Any) -> tuple[Any, ...]:
        return tuple(self.decode(item) for item in items)

    def _strings(self, inner: Any) -> NDArray[Any]:
        shape, i, j = inner
        text, lengths = self._array(i), self._array(j)
        if text.dtype != np.uint8 or lengths.dtype != np.int64 or lengths.ndim != 1 or (lengths < 0).any():
            raise ValueError("strings are not laid out as they should be")
        ends = np.cumsum(lengths)
        if (ends < 0).any() or (ends[-1] if len(ends) else 0) != text.size:
            raise ValueError("strings are longer than their bytes")
        blob = text.tobytes()
        cuts = [0, *ends.tolist()]
        return self._object_array(
            shape, [blob[a:b].decode("utf-8", "surrogatepass") for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
        )

    def _objects(self, inner: Any) -> NDArray[Any]:
        shape, items = inner
        return self._object_array(shape, [self.decode(item) for item in items])

    def _object_array(self, shape: Any, items: list[Any]) -> NDArray[Any]:
        if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) != len(items):
            raise ValueError("an array has another size than its shape")
        out = np.empty(len(items), dtype=object)
        out[:] = items
        return out.reshape(shape)

    def _sparse(self, inner: Any) -> Any:
        name, *parts = inner
        data, indices, indptr, shape = (self.decode(part) for part in parts)
        rows, columns = shape
        if type(rows) is not int or type(columns) is not int or not 0 <= rows < 2**62 or not 0 <= columns < 2**62:
            raise ValueError("a sparse array has no shape")
        check_csr(data, indices, indptr, (rows, columns) if name.startswith("csr") else (columns, rows))
        return SPARSE[name]((data, indices, indptr), shape=(rows, columns))

    def _random(self, inner: Any) -> Any:
        rng = resume.generator({"run": {"random": self.decode(inner)}})
        if rng is None:
            raise ValueError("it holds random numbers of a kind that is not known")
        return rng

    def _seeds(self, inner: Any) -> Any:
        entropy, spawn_key, children = (self.decode(part) for part in inner)
        return np.random.SeedSequence(entropy, spawn_key=spawn_key, n_children_spawned=children)

    def _record(self, inner: Any) -> Any:
        name, pairs = inner
        cls = RECORDS[name]
        return cls(**self._pairs(pairs, {f.name for f in fields(cls) if f.init}))
