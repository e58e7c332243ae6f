"""Files of models: round trips, damage, hostility, kills while writing, checkpoints, files of older versions."""

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from golden import make
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression as Peer

import fastopt
from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor, load, model_file, save
from fastopt.optimizers import OPTIMIZERS, SGD, Adam
from fastopt.schedules import SCHEDULES, Cosine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
GOLDEN = Path(__file__).parent / "golden"


def same(a, b, where="model"):
    """Equal down to types, dtypes, shapes, bits and orders."""
    assert type(a) is type(b), where
    if isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        if a.dtype.hasobject:
            same(a.ravel().tolist(), b.ravel().tolist(), where)
        else:
            assert a.tobytes() == b.tobytes(), where
    elif isinstance(a, dict):
        assert [*a] == [*b], where
        for key in a:
            same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}[{i}]")
    elif scipy.sparse.issparse(a):
        same([a.data, a.indices, a.indptr, a.shape], [b.data, b.indices, b.indptr, b.shape], where)
    elif isinstance(a, np.random.RandomState | np.random.Generator):
        same(a.random(5).tolist(), b.random(5).tolist(), where)
    elif isinstance(a, np.random.SeedSequence):
        same(a.state, b.state, where)
        assert a.spawn(1)[0].state == b.spawn(1)[0].state
    elif isinstance(a, float | np.floating):
        assert repr(a) == repr(b), where
    elif hasattr(a, "get_params"):
        same(vars(a), vars(b), where)
    else:
        assert a == b, where


@functools.cache
def iris():
    X, y = load_iris(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def fitted(labels=None, **options):
    X, y = iris()
    options = {"solver": "adam", "max_iter": 3, "random_state": 0} | options
    return LogisticRegression(**options).fit(X, y if labels is None else np.asarray(labels)[y])


def there_and_back(model, path):
    save(model, path / "model.npz")
    again = load(path / "model.npz")
    same(model, again)
    return again


# --- round trips ------------------------------------------------------------------------------------------------------

PARAMETERS = {
    "none": {},
    "numbers of NumPy's": {"C": np.float32(0.1), "max_iter": np.int64(7), "tol": np.float64(1e-3)},
    "not finite": {"C": np.inf},
    "not even valid": {"C": float("nan"), "solver": [1, (2, None, {"a": -0.0})], "max_iter": 2**70},
    "weights": {"class_weight": {0: 1.0, 1: 2, "two": np.float64(3), np.int64(5): 5e-324, None: 0.1}},
    "RandomState": {"random_state": np.random.RandomState(3)},
    "Generator": {"random_state": np.random.default_rng(3)},
    "Philox": {"random_state": np.random.Generator(np.random.Philox(3))},
    "seeds": {"random_state": np.random.SeedSequence([1, 2**40], spawn_key=(3,))},
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters(case, tmp_path):
    there_and_back(LogisticRegression(**PARAMETERS[case]), tmp_path)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_optimizers_and_schedules(rule, schedule, tmp_path):
    options = {"decay": 0.01, "clipnorm": 3.0, "ema_momentum": 0.9}
    rule = OPTIMIZERS[rule](learning_rate=SCHEDULES[schedule](), **options)
    again = there_and_back(LogisticRegression(solver=rule), tmp_path)
    assert again.solver == rule


@pytest.mark.parametrize("solver", ["lbfgs", *OPTIMIZERS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fitted(solver, dtype, tmp_path):
    X, y = iris()
    model = LogisticRegression(solver=solver, max_iter=2, random_state=0).fit(X.astype(dtype), y)
    again = there_and_back(model, tmp_path)
    same(model.predict_proba(X), again.predict_proba(X))
    assert clone(again).get_params() == model.get_params()


NEW = {"l1_ratios": (0,), "scoring": "accuracy", "use_legacy_attributes": False}  # the coming defaults of the path
OTHERS = {
    "SGDClassifier": SGDClassifier(random_state=0),
    "averaged": SGDClassifier("log_loss", average=True, early_stopping=True, random_state=0),
    "softmax": SGDClassifier("multinomial", optimizer="adam", batch_size=8, random_state=0),
    "SGDRegressor": SGDRegressor(random_state=0),
    "automatic": SGDRegressor("huber", optimizer="nesterov", learning_rate="auto", penalty="l1", random_state=0),
    "LogisticRegressionCV": LogisticRegressionCV(Cs=2, cv=3, max_iter=300, **NEW),
    "legacy": LogisticRegressionCV(Cs=2, cv=3, max_iter=300, **NEW | {"use_legacy_attributes": True}),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_estimators(case, dtype, tmp_path):
    X, y = iris()
    model = clone(OTHERS[case]).fit(X.astype(dtype), y)
    again = there_and_back(model, tmp_path)
    same(model.predict(X), again.predict(X))
    if hasattr(model, "partial_fit") and not model.early_stopping:
        same(model.partial_fit(X, y).coef_, again.partial_fit(X, y).coef_)


@pytest.mark.parametrize("case", ["SGDClassifier", "softmax", "SGDRegressor"])
@pytest.mark.parametrize("options", [{}, {"average": 40}, {"penalty": "l1"}, {"optimizer": "adam"}])
@pytest.mark.parametrize("sparse", [False, True])
def test_epochs_of_partial_fit_with_files_in_between(case, options, sparse, tmp_path):
    """The bits of as many without."""
    if case == "softmax" and "average" in options:
        options = {"optimizer": "sgd", "average": 3}
    X, y = iris()
    X = scipy.sparse.csr_array(X) if sparse else X
    model = clone(OTHERS[case]).set_params(learning_rate="constant", **options)
    classes = {} if case == "SGDRegressor" else {"classes": np.unique(y)}
    whole = clone(model)
    for _ in range(4):
        whole.partial_fit(X, y, **classes)
        save(model.partial_fit(X, y, **classes), tmp_path / "model.npz")
        model = load(tmp_path / "model.npz")
    same(model.coef_, whole.coef_)
    same(model.intercept_, whole.intercept_)
    same(model.optimizer_state_, whole.optimizer_state_)


LABELS = {
    "str": ["a", "b", "c"],
    "characters": ["é\u0301", "\U0010ffff", ""],
    "object": np.array(["spam", "", "eggs\0"], dtype=object),
    "surrogates": np.array(["\ud800", "b", "c"], dtype=object),
    "bool": [True, False, True],
    "negative": [-5, 7, 2**40],
    "float": [0.0, -1.0, 2.0],
}


@pytest.mark.parametrize("labels", LABELS)
def test_labels(labels, tmp_path):
    model = fitted(LABELS[labels])
    again = there_and_back(model, tmp_path)
    same(model.predict(iris()[0]), again.predict(iris()[0]))


def test_names_of_features_and_sparse_coefficients(tmp_path):
    X, y = iris()
    model = LogisticRegression(max_iter=2, solver="sgd").fit(pd.DataFrame(X, columns=["a", "longer", "ß", "d"]), y)
    model.coef_[np.abs(model.coef_) < 0.3] = 0
    again = there_and_back(model.sparsify(), tmp_path)
    assert again.feature_names_in_.tolist() == ["a", "longer", "ß", "d"]
    frame = pd.DataFrame(X, columns=model.feature_names_in_)
    same(model.predict(frame), again.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        again.predict(pd.DataFrame(X, columns=["d", "a", "longer", "ß"]))


def test_every_public_estimator_can_be_saved(tmp_path):
    assert {name for name in fastopt.__all__ if hasattr(getattr(fastopt, name), "get_params")} <= {
        *model_file.ESTIMATORS
    }
    for cls in model_file.ESTIMATORS.values():
        there_and_back(cls(), tmp_path)


def test_the_same_model_gives_the_same_bytes_and_numpy_reads_them(tmp_path):
    model = fitted()
    save(model, tmp_path / "a")
    save(load(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a", allow_pickle=False) as file:
        found = json.loads(file["model.json"])
        (number,) = (v["array"] for k, v in found["attributes"] if k == "coef_")
        same(file[str(number)], model.coef_)
    assert not [path for path in tmp_path.iterdir() if path.name not in "ab"]


def test_what_scikit_learn_keeps_on_a_model_is_left_out(tmp_path):
    model = fitted().set_output(transform="pandas") if hasattr(LogisticRegression, "set_output") else fitted()
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=True)
    save(model, tmp_path / "model.npz")
    same(load(tmp_path / "model.npz"), fitted_like(model))


def fitted_like(model):
    again = clone(model)
    vars(again).clear()
    vars(again).update({k: v for k, v in vars(model).items() if k not in model_file.LEFT_OUT})
    return again


def nested(depth):
    """A number in so many lists."""
    return functools.reduce(lambda value, _: [value], range(depth), 1.0)


REFUSED = {
    "another library's": (Peer(), "model must be one of fastopt's"),
    "no estimator": ({"a": 1}, "model must be one of fastopt's"),
    "a function": (
        LogisticRegression(solver=SGD(lambda k: 0.1)),
        r"solver\.learning_rate must be a schedule of fastopt",
    ),
    "a callable": (LogisticRegression(learning_rate=abs), "learning_rate must be a schedule of fastopt"),
    "an object": (LogisticRegression(solver=object()), "solver must be data"),
    "objects": (LogisticRegression(solver=np.array([object()])), "solver must be data"),
    "complex": (LogisticRegression(C=1j), "C must be data"),
    "long": (LogisticRegression(C=np.longdouble(1)), "C must be an array of numbers or strings"),
    "times": (LogisticRegression(C=np.array(["2020"], "M8[s]")), "C must be an array of numbers or strings"),
    "one list too deep": (LogisticRegression(C=nested(model_file.DEEPEST)), r"C\[0\].* must be nested at most 50 deep"),
    "too much JSON": (LogisticRegression(solver="x" * 5_000_000), "bytes beside its arrays"),
}


class Subclass(LogisticRegression):
    """Not one of fastopt's."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_data_is_refused_and_nothing_written(case, tmp_path):
    model, text = REFUSED[case]
    path = tmp_path / "model.npz"
    for before in ([], ["model.npz"]):
        with pytest.raises(TypeError, match=text):
            save(model, path)
        assert [p.name for p in tmp_path.iterdir()] == before
        path.write_bytes(b"old")
    assert path.read_bytes() == b"old"
    with pytest.raises(TypeError, match="model must be one of"):
        save(Subclass(), path)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_links_and_modes(tmp_path):
    (tmp_path / "folder").mkdir()
    goal, link = tmp_path / "folder" / "goal", tmp_path / "link"
    link.symlink_to(goal)
    save(LogisticRegression(), link)
    goal.chmod(0o640)
    save(LogisticRegression(C=2.0), str(link))
    assert link.is_symlink()
    assert goal.stat().st_mode & 0o777 == 0o640
    assert load(goal).C == 2.0
    with pytest.raises(OSError, match="No such file"):
        save(LogisticRegression(), tmp_path / "nowhere" / "model")
    with pytest.raises(OSError, match="directory"):
        save(LogisticRegression(), tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["folder", "goal", "link"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_pipes_are_neither_replaced_nor_waited_for(tmp_path):
    X, y = iris()
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(ValueError, match=f"path must be a regular file, there or to be made; got '{path}'"):
            save(LogisticRegression(), path)
        with pytest.raises(ValueError, match=f"checkpoint must be a regular file, there or to be made; got '{path}'"):
            fastopt.fit(LogisticRegression(), X, y, checkpoint=path)
        with pytest.raises(ValueError, match="not a regular file"):
            load(path)
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_errors_name_what_the_caller_named(tmp_path, monkeypatch):
    X, y = iris()
    model = LogisticRegression(max_iter=1)
    for write in (lambda path: save(model, path), lambda path: fastopt.fit(model, X, y, checkpoint=path)):
        for path, kind in (
            (tmp_path, IsADirectoryError), (tmp_path / "no" / "model", FileNotFoundError),
            ("model/", FileNotFoundError), ("", FileNotFoundError),
        ):  # fmt: skip
            with pytest.raises(kind) as found:
                write(path)
            assert found.value.filename == os.fspath(path)
        assert not hasattr(model, "coef_")  # it is known before the fit

    def refused(old, new):
        raise PermissionError(errno.EACCES, "Permission denied", old, None, new)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError) as found:
        save(model, tmp_path / "model")
    assert (found.value.filename, found.value.filename2) == (str(tmp_path / "model"), None)


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_an_error_while_writing_leaves_the_old_file(call, tmp_path, monkeypatch):
    save(LogisticRegression(C=2.0), tmp_path / "model")

    def fails(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="No space"):
        save(LogisticRegression(), tmp_path / "model")
    assert load(tmp_path / "model").C == 2.0
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_while_writing_leaves_a_whole_file(tmp_path):
    path, rng, models, seen = tmp_path / "model", random.Random(0), [], set()
    for C in (1.0, 2.0):
        models.append(LogisticRegression(C=C))
        models[-1].coef_ = np.full((1, 300_000), C)
    save(models[0], path)
    for _ in range(30):
        child = os.fork()
        if not child:
            try:
                while True:
                    save(models[1], path)
                    save(models[0], path)
            finally:
                os._exit(1)
        time.sleep(rng.random() * 0.1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        model = load(path)
        assert (model.coef_ == model.C).all()
        seen.add(model.C)
    assert seen == {1.0, 2.0}


def environment():
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONWARNINGS": "ignore"}


# --- damage -----------------------------------------------------------------------------------------------------------


@functools.cache
def sound():
    """Bytes of a file, as small as they come."""
    X, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.array(["a", "b", "a"], dtype=object)
    model = LogisticRegression(solver="sgd", max_iter=1, random_state=np.random.default_rng(0)).fit(X, y)
    return written(model)


def written(model):
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"fastopt-{os.getpid()}.npz"
    try:
        save(model, path)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


@pytest.fixture
def read(tmp_path):
    def read(data):
        (tmp_path / "file").write_bytes(data)
        return load(tmp_path / "file")

    return read


def refused(path):
    try:
        load(path)
    except ValueError as error:
        return "path must be a file that fastopt.save wrote" in str(error)
    return False


def test_cut_off_anywhere(tmp_path):
    path, data = tmp_path / "file", sound()
    for more in (b"\0", data[-1:], data):
        path.write_bytes(data + more)
        assert refused(path)
    path.write_bytes(data)
    assert load(path).C == 1.0
    for length in reversed(range(len(data))):
        os.truncate(path, length)
        assert refused(path), length


def test_every_byte_and_bit_flipped(tmp_path):
    path, data = tmp_path / "file", sound()
    path.write_bytes(data)
    with open(path, "r+b", buffering=0) as file:
        for i, byte in enumerate(data):
            for changed in {byte ^ (1 << (i % 8)), byte ^ 0xFF}:
                file.seek(i)
                file.write(bytes([changed]))
                assert refused(path), (i, changed)
            file.seek(i)
            file.write(bytes([byte]))
    assert load(path).C == 1.0


def signed(data):
    """With the checksum put right: what a hostile writer can do."""
    data = data[:-64]
    return data + hashlib.sha256(data).hexdigest().encode()


@settings(max_examples=300)
@given(st.data())
def test_mutations_behind_a_right_checksum(tmp_path_factory, data):
    """The CRC-32 of members, and what zip says of them, is then all that stands before the contents."""
    blob = bytearray(sound())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(blob) - 1 - 64 - len(model_file.MARK)))
        how = data.draw(st.sampled_from(["set", "cut", "copy", "number"]))
        if how == "set":
            blob[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del blob[at : at + data.draw(st.integers(1, 50))]
        elif how == "copy":
            start = data.draw(st.integers(0, len(blob) - 1))
            blob[at:at] = blob[start : start + data.draw(st.integers(1, 100))]
        else:
            blob[at : at + 4] = struct.pack("<I", data.draw(st.sampled_from([0, 1, 2**31, 2**32 - 1, len(blob)])))
        if len(blob) < 200:
            break
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(signed(bytes(blob)))
    with contextlib.suppress(ValueError):
        assert isinstance(load(path), LogisticRegression)


# --- hostile files ----------------------------------------------------------------------------------------------------

PLAIN = {
    "format": "fastopt model", "version": 1, "class": "LogisticRegression", "parameters": [], "attributes": [],
}  # fmt: skip


def npy(a=None, header=None, body=None):
    """A member's bytes: of an array, with another header or other data."""
    file = io.BytesIO()
    a = np.arange(3.0) if a is None else a
    if header is None:
        np.lib.format.write_array_header_1_0(file, {"descr": a.dtype.str, "fortran_order": False, "shape": a.shape})
    else:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    return file.getvalue() + (a.tobytes() if body is None else body)


def archive(found=None, *members, names=None, compression=zipfile.ZIP_STORED, text=None):
    """A file that says what it is told to, with the right checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as z:
        z.writestr("model.json", json.dumps(PLAIN | (found or {})) if text is None else text)
        for i, member in enumerate(members):
            z.writestr(names[i] if names else f"{i}.npy", member)
        z.comment = model_file.MARK + b"0" * 64
    return signed(file.getvalue())


def attribute(value, *arrays, name="coef_"):
    return archive({"attributes": [[name, value]]}, *map(npy, arrays))


def parameter(value, *arrays, name="random_state"):
    return archive({"parameters": [[name, value]]}, *map(npy, arrays))


def random_state(**changes):
    state = np.random.MT19937(0).state
    state["state"]["pos"] = changes.pop("pos", state["state"]["pos"])
    found = {"kind": "Generator", **state} | changes
    found["state"].pop("key")
    encoded = model_file._Encoder().encode(found)
    for key, value in encoded["dict"]:
        if key == "state":
            value["dict"].append(["key", {"array": 0}])
    return parameter({"random": encoded}, np.random.MT19937(0).state["state"]["key"])


def sparse(data=(1.0, 2.0), indices=(0, 1), indptr=(0, 2), shape=(1, 2), kind="csr_array"):
    parts = [{"array": 0}, {"array": 1}, {"array": 2}, {"tuple": list(shape)}]
    arrays = np.array(data, float), np.array(indices, np.int32), np.array(indptr, np.int32)
    return attribute({"sparse": [kind, *parts]}, *arrays)


def strings(shape, text, lengths):
    return attribute(
        {"strings": [shape, 0, 1]}, np.frombuffer(text, np.uint8), np.array(lengths, np.int64), name="classes_"
    )


def overlapping():
    """Two names for the bytes of one large member: sizes that add up to more than the file."""
    data = bytearray(archive(None, npy(np.zeros(1000)), npy(np.zeros(1000))))
    first = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    second = data.index(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    cut = data.index(b"1.npy")
    del data[cut - 30 : cut + len(npy(np.zeros(1000))) + 5]
    end = data.index(b"PK\x05\x06")
    start = data.index(b"PK\x01\x02")
    data[end + 16 : end + 20] = struct.pack("<I", start)
    return signed(bytes(data))


def patched(offset, value, record=b"PK\x01\x02"):
    data = bytearray(archive(None, npy()))
    at = data.index(record) + offset
    data[at : at + len(value)] = value
    return signed(bytes(data))


DESCR = b"{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n"
COLLIDING = [[k * (2**61 - 1), 0] for k in range(50_000)]

HOSTILE = {
    "nothing": lambda: b"",
    "zeros": lambda: bytes(1000),
    "text": lambda: signed(b"x" * 100 + model_file.MARK + b"0" * 64),
    "a zip bomb": lambda: archive(None, npy(np.zeros(4_000_000)), compression=zipfile.ZIP_DEFLATED),
    "JSON compressed": lambda: archive(text=json.dumps(PLAIN) + " " * 10_000_000, compression=zipfile.ZIP_DEFLATED),
    "bzip2": lambda: archive(None, npy(), compression=zipfile.ZIP_BZIP2),
    "two members of one name": lambda: signed(
        archive(None, npy(), npy(), names=["0.npy", "0.npz"]).replace(b"0.npz", b"0.npy")
    ),
    "members that overlap": overlapping,
    "encrypted": lambda: patched(8, b"\x01"),
    "sizes that lie": lambda: patched(20, struct.pack("<II", 2**31, 2**31)),
    "a place before the file": lambda: patched(42, struct.pack("<I", 2**32 - 2)),
    "a directory that is longer": lambda: patched(12, struct.pack("<I", 2**31), b"PK\x05\x06"),
    "a version of zip to come": lambda: patched(6, b"\xff\xff"),
    "a path upwards": lambda: archive(None, npy(), names=["../../0.npy"]),
    "an absolute path": lambda: archive(None, npy(), names=["/tmp/0.npy"]),
    "another member": lambda: archive(None, b"import os", names=["setup.py"]),
    "no JSON": lambda: signed(archive(None, npy()).replace(b"model.json", b"model.jsxn")),
    "empty JSON": lambda: archive(text=""),
    "JSON of something else": lambda: archive(text="[1, 2]"),
    "JSON that is too long": lambda: archive(text=json.dumps(PLAIN | {"x": "y" * 5_000_000})),
    "deep lists": lambda: archive(text='{"format": ' + "[" * 1_000_000 + "]" * 1_000_000 + "}"),
    "deep dicts": lambda: archive(text='{"a":' * 500_000 + "1" + "}" * 500_000),
    "deep values": lambda: attribute(nested(900)),
    "values one too deep": lambda: attribute(nested(model_file.DEEPEST + 1)),
    "NaN": lambda: archive(text=json.dumps(PLAIN)[:-1] + ', "x": NaN}'),
    "not UTF-8": lambda: archive(text=b'{"format": "\xff\xfe\xfd"}'),
    "a number of a million digits": lambda: archive(text='{"format": ' + "9" * 1_000_000 + "}"),
    "another format": lambda: archive({"format": "pickle"}),
    "a newer version": lambda: archive({"version": 2}),
    "version 0": lambda: archive({"version": 0}),
    "version true": lambda: archive({"version": True}),
    "no class": lambda: archive({"class": None}),
    "another class": lambda: archive({"class": "Pipeline"}),
    "a class by path": lambda: archive({"class": "os.system"}),
    "a parameter of another's": lambda: parameter(1.0, name="average"),
    "parameters that are none": lambda: archive({"parameters": {"C": 1.0}}),
    "a parameter twice": lambda: archive({"parameters": [["C", 1.0], ["C", 2.0]]}),
    "a method": lambda: attribute(1.0, name="predict"),
    "a dunder": lambda: attribute(1.0, name="__class__"),
    "a parameter as attribute": lambda: attribute(1.0, name="C"),
    "no name": lambda: attribute(1.0, name="a b"),
    "an unknown kind": lambda: attribute({"pickle": "gASVIAAAAAAA"}),
    "two kinds": lambda: attribute({"float": "nan", "array": 0}),
    "an array that is not there": lambda: attribute({"array": 1}, np.zeros(1)),
    "array -1": lambda: attribute({"array": -1}, np.zeros(1)),
    "one array many times": lambda: attribute([{"array": 0}] * 100_000, np.zeros(100_000)),
    "a float in words": lambda: attribute({"float": "1e5"}),
    "a number that is an array": lambda: attribute({"scalar": 0}, np.zeros(3)),
    "a record of another library": lambda: parameter({"record": ["Popen", [["args", "true"]]]}, name="solver"),
    "a rule's options": lambda: parameter({"record": ["Adam", [["name", "x"]]]}, name="solver"),
    "a rule's values": lambda: parameter({"record": ["Adam", [["beta_1", 2.0]]]}, name="solver"),
    "keys of one hash": lambda: attribute({"dict": COLLIDING}, name="x_"),
    "keys that are lists": lambda: attribute({"dict": [[[1], 2]]}, name="x_"),
    "a key twice": lambda: attribute({"dict": [[1, 2], [1, 3]]}, name="x_"),
    "strings of other bytes": lambda: strings([2], b"abc", [1, 1]),
    "strings below zero": lambda: strings([2], b"abc", [-1, 4]),
    "strings that go back": lambda: strings([3], b"abc", [3, -1, 1]),
    "strings that overflow": lambda: strings([3], b"abc", [2**62, 2**62, 2**62]),
    "strings of another shape": lambda: strings([3], b"ab", [1, 1]),
    "strings of no UTF-8": lambda: strings([1], b"\xff", [1]),
    "a shape below zero": lambda: attribute({"objects": [[-1, -1], [1]]}),
    "columns beyond": lambda: sparse(indices=(0, 10**9)),
    "columns below": lambda: sparse(indices=(-(10**9), 1)),
    "rows beyond": lambda: sparse(indptr=(0, 10**9)),
    "rows of CSC": lambda: sparse(indices=(0, 10**9), indptr=(0, 1, 2), kind="csc_array"),
    "a sparse shape": lambda: sparse(shape=(10**30, 2)),
    "a sparse kind": lambda: sparse(kind="lil_array"),
    "a generator's place": lambda: random_state(pos=10**6),
    "a generator's place below": lambda: random_state(pos=-5),
    "a generator's kind": lambda: random_state(bit_generator="RandomState"),
    "seeds of any size": lambda: parameter({"seeds": [1, {"tuple": ["x"]}, 0]}),
    "objects": lambda: archive(None, npy(header=DESCR % (b"|O", b"3,"), body=bytes(24))),
    "void": lambda: archive(None, npy(header=DESCR % (b"|V8", b"3,"))),
    "fields": lambda: archive(None, npy(header=DESCR.replace(b"'%s'", b"[('a', '<f8')]%s") % (b"", b"3,"))),
    "long doubles": lambda: archive(None, npy(header=DESCR % (b"<f16", b"3,"), body=bytes(48))),
    "no such type": lambda: archive(None, npy(header=DESCR % (b"<f7", b"3,"), body=bytes(21))),
    "times": lambda: archive(None, npy(np.zeros(3, "M8[s]"))),
    "strings of no width": lambda: archive(None, npy(header=DESCR % (b"<U0", b"1000000000,"), body=b"")),
    "a huge shape": lambda: archive(None, npy(header=DESCR % (b"<f8", b"1000000000000,"))),
    "a shape that overflows": lambda: archive(None, npy(header=DESCR % (b"<f8", b"4294967296, 4294967296,"), body=b"")),
    "a shape of many digits": lambda: archive(None, npy(header=DESCR % (b"<f8", b"9" * 60_000))),
    "many dimensions": lambda: archive(None, npy(header=DESCR % (b"<f8", b"1, " * 30 + b"3,"))),
    "a shape below": lambda: archive(None, npy(header=DESCR % (b"<f8", b"-3,"))),
    "less data": lambda: archive(None, npy(body=bytes(23))),
    "more data": lambda: archive(None, npy(body=bytes(25))),
    "code": lambda: archive(None, npy(header=b"__import__('os').system('true')\n")),
    "a deep header": lambda: archive(None, npy(header=b"(" * 60_000)),
    "another magic": lambda: archive(None, npy().replace(b"NUMPY\x01", b"NUMPY\x03")),
    "no header": lambda: archive(None, b""),
    "booleans that are neither": lambda: archive(None, npy(header=DESCR % (b"|b1", b"3,"), body=b"\0\1\7")),
    "characters that there are not": lambda: archive(None, npy(header=DESCR % (b"<U1", b"1,"), body=b"\xff" * 4)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(case, read, tmp_path):
    data = HOSTILE[case]()
    (tmp_path / "file").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="path must be a file that fastopt") as caught:
            load(tmp_path / "file")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
    assert peak < (1 << 20) + 60 * len(data)


def test_the_helper_writes_files_that_load(read):
    """Else the cases above would be refused for what they were not made for."""
    assert read(archive()).C == 1.0
    assert read(attribute({"array": 0}, np.arange(3.0))).coef_.tolist() == [0, 1, 2]
    assert read(attribute(nested(model_file.DEEPEST))).coef_ == nested(model_file.DEEPEST)
    assert read(sparse()).coef_.toarray().tolist() == [[1, 2]]
    assert read(strings([2], b"abc", [1, 2])).classes_.tolist() == ["a", "bc"]
    assert read(random_state()).random_state.random() == np.random.Generator(np.random.MT19937(0)).random()
    assert read(archive(None, npy(header=DESCR % (b">f4", b"2,"), body=struct.pack(">ff", 1, 2)))).C == 1.0
    assert read(attribute({"dict": [[k, 0] for k in range(1000)]}, name="x_")).x_ == dict.fromkeys(range(1000), 0)


def test_big_endian_arrays_become_native(read):
    data = archive({"attributes": [["coef_", {"array": 0}]]}, npy(np.array([1.0, 2.0], ">f4")))
    assert read(data).coef_.dtype == np.float32


def test_what_is_no_regular_file(tmp_path):
    with pytest.raises(OSError, match="directory"):
        load(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        load(tmp_path / "nothing")
    if os.path.exists("/dev/zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            load("/dev/zero")


LIES = {
    "fewer coefficients than features": {"n_features_in_": 1000},
    "more coefficients than features": {"n_features_in_": 1},
    "another dtype": {"coef_": np.array([["a", "b"]])},
    "a vector": {"coef_": np.zeros(2)},
    "more outputs": {"coef_": np.zeros((5, 2))},
    "no intercept": {"intercept_": np.zeros(0)},
    "fewer classes": {"classes_": np.array(["a"], dtype=object)},
    "a state of nothing": {"optimizer_state_": {"run": {}}},
    "steps that never were": {"optimizer_state_": {"t": 2**62, "run": {"w": np.zeros(3)}}},
}


@pytest.mark.parametrize("case", LIES)
def test_a_model_that_contradicts_itself_reads_nothing_beyond_its_arrays(case, read):
    """As the sanitizers would tell; here, that it ends in an error or in an answer."""
    model = read(sound())
    vars(model).update(LIES[case])
    model = read(written(model))
    for n in (1, 2, 1000):
        with contextlib.suppress(ValueError, TypeError, IndexError):
            assert len(model.predict(np.ones((4, n)))) == 4
        with contextlib.suppress(ValueError, TypeError, IndexError):
            clone(model).fit(np.eye(4, n), ["a", "b", "a", "b"])
            model.set_params(warm_start=True).fit(np.eye(4, n), ["a", "b", "a", "b"])
    with pytest.raises(ValueError, match="w must have"):
        fastopt.objective.raw_prediction(fastopt._design.Design.from_array(np.ones((4, 1000))), np.zeros(3), 1, True)


# --- files of older versions ------------------------------------------------------------------------------------------


ENTRIES = {
    name: entry
    for path in sorted(GOLDEN.glob("v*.json"))
    for name, entry in json.loads(path.read_text(encoding="utf-8")).items()
}


@pytest.mark.parametrize("name", ENTRIES)
def test_golden_files(name):
    """Every file that a released version wrote still loads, predicts what it did, and its state goes on as it did."""
    expected, (X, y) = ENTRIES[name], make.data()
    X, y = make.handed(X, expected["X"]), make.targets(y, expected["labels"])
    model = load(GOLDEN / name)
    again = make.found(model, X)
    scores = again.pop("scores")
    assert again.items() <= expected.items()
    np.testing.assert_allclose(scores, expected["scores"], rtol=1e-5, atol=1e-12)
    later = make.gone_on(model, X, y)
    assert make.steps(later) == expected["t"]  # else the state was dropped, and counted from 0
    np.testing.assert_allclose(np.ravel(later.coef_), expected["later"], rtol=1e-4, atol=1e-6)


def test_there_are_golden_files_of_every_version():
    assert {path.name for path in GOLDEN.glob("v*.npz")} == {*ENTRIES}
    assert {int(name[1:].split("-")[0]) for name in ENTRIES} == {*range(1, model_file.VERSION + 1)}


def test_golden_files_hold_every_estimator_and_rule_and_schedule():
    """Of the present format: a class that is added needs a file."""
    held = [entry["class"] for name, entry in ENTRIES.items() if name.startswith(f"v{model_file.VERSION}-")]
    assert {*held} == {*model_file.ESTIMATORS}
    for rule in OPTIMIZERS:
        assert f"v{model_file.VERSION}-rule-{rule}.npz" in ENTRIES
    for schedule in SCHEDULES:
        assert f"v{model_file.VERSION}-schedule-{schedule}.npz" in ENTRIES


# --- checkpoints ------------------------------------------------------------------------------------------------------

LONG = """
import sys
import numpy as np
import scipy.sparse
import fastopt
from fastopt.optimizers import Adam

rng = np.random.default_rng(0)
y = rng.integers(0, 3, 3000)
X = scipy.sparse.random_array((3000, 400), density=0.05, format="csr", rng=rng)
model = fastopt.LogisticRegression(
    solver=Adam("auto"), batch_size=4, max_iter=60, tol=0.0, random_state=np.random.default_rng(5)
)
print("fitting", flush=True)
fastopt.fit(model, X, y, checkpoint=sys.argv[1], epochs=2)
print("fitted", flush=True)
"""


def scope():
    found = {}
    exec(LONG.split("print")[0], found)
    return found["model"], found["X"], found["y"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_at_random_moments_and_started_again(tmp_path):
    model, X, y = scope()
    start = time.perf_counter()
    whole = model.fit(X, y)
    seconds, rng, kills = time.perf_counter() - start, random.Random(1), 0
    path = tmp_path / "checkpoint"
    for _ in range(60):
        with subprocess.Popen(
            [sys.executable, "-u", "-c", LONG, path], stdout=subprocess.PIPE, text=True, env=environment()
        ) as child:
            assert child.stdout.readline() == "fitting\n"
            time.sleep((0.3 + 0.5 * rng.random()) * seconds)
            child.kill()
            ended = child.stdout.read() == "fitted\n"
        if ended:
            break
        kills += 1
    assert ended
    assert kills
    same_fit(load(path), whole)


def same_fit(model, whole):
    for name in ("coef_", "intercept_", "n_iter_", "objective_", "grad_norm_", "stop_reason_", "converged_"):
        same(getattr(model, name), getattr(whole, name), name)
    for name in ("epoch", "objective", "grad_norm", "learning_rate"):
        same(model.history_[name], whole.history_[name], name)
    assert (np.diff(model.history_["seconds"][: int(whole.n_iter_[0]) + 1]) >= 0).all()
    same(model.optimizer_state_["t"], whole.optimizer_state_["t"])


@pytest.mark.parametrize("options", [{"epochs": 1}, {"epochs": 7}, {"seconds": 1e-9}, {"seconds": 60.0}], ids=repr)
@pytest.mark.parametrize("solver", ["sgd", "nesterov", "schedule_free_sgd"])
@pytest.mark.parametrize("weighted", [False, True])
def test_slices_are_one_fit(solver, options, weighted, tmp_path):
    """Whatever the slices, also where learning rates are cut and the best parameters come back."""
    X, y = iris()
    s = np.arange(len(y)) % 3 + 0.5 if weighted else None
    model = LogisticRegression(solver=solver, max_iter=23, tol=1e-9, random_state=0, batch_size=3)
    whole = clone(model).fit(X, y, sample_weight=s)
    with pytest.warns(match="stopped with") if not whole.converged_ else contextlib.nullcontext():
        assert fastopt.fit(model, X, y, s, checkpoint=tmp_path / "file", **options) is model
    same_fit(model, whole)
    assert model.get_params() == whole.get_params()
    same(load(tmp_path / "file"), model)


def test_a_fit_that_has_ended_is_read_and_a_higher_max_iter_goes_on(tmp_path, monkeypatch):
    X, y = iris()
    path = tmp_path / "file"
    model = LogisticRegression(solver="adam", max_iter=4, tol=1e-9, random_state=0)
    first = fastopt.fit(clone(model), X, y, checkpoint=path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(LogisticRegression, "fit", None)
        same(fastopt.fit(clone(model), X, y, checkpoint=path), first)
    assert path.read_bytes() == before
    longer = clone(model).set_params(max_iter=9)
    same_fit(fastopt.fit(clone(longer), X, y, checkpoint=path), clone(longer).fit(X, y))
    loose = clone(longer).set_params(tol=0.5)
    assert fastopt.fit(loose, X, y, checkpoint=path).converged_


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    X, y = iris()
    path = tmp_path / "file"
    model = LogisticRegression(solver="adam", max_iter=2, random_state=0)
    fastopt.fit(model, X, y, checkpoint=path)
    before = path.read_bytes()
    for data in ((X + 1, y), (X[:-1], y[:-1]), (X, 2 - y), (scipy.sparse.csr_array(X), y), (X.astype(np.float32), y)):
        with pytest.raises(ValueError, match="checkpoint must be of the same data"):
            fastopt.fit(clone(model), *data, checkpoint=path)
    with pytest.raises(ValueError, match="checkpoint must be of the same data"):
        fastopt.fit(clone(model), X, y, np.ones(len(y)), checkpoint=path)
    for changes, text in (
        ({"C": 2.0}, "where C differ"), ({"solver": "sgd", "batch_size": 3}, "where batch_size, solver differ"),
        ({"random_state": 1}, "where random_state differ"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            fastopt.fit(clone(model).set_params(**changes), X, y, checkpoint=path)
    assert path.read_bytes() == before
    save(model, path)
    with pytest.raises(ValueError, match="checkpoint must be this model's"):
        fastopt.fit(clone(model), X, y, checkpoint=path)
    path.write_bytes(before[:-1])
    with pytest.raises(ValueError, match=r"fastopt\.save wrote"):
        fastopt.fit(clone(model), X, y, checkpoint=path)


def test_checkpoint_parameters(tmp_path):
    X, y = iris()
    path = tmp_path / "file"
    for options, text in (({"seconds": 0}, "seconds must be"), ({"epochs": 0}, "epochs must be")):
        with pytest.raises(ValueError, match=text):
            fastopt.fit(LogisticRegression(solver="sgd"), X, y, checkpoint=path, **options)
    with pytest.raises(ValueError, match="solver must be one of"):
        fastopt.fit(LogisticRegression(solver="bfgs"), X, y, checkpoint=path)
    with pytest.raises(TypeError, match="must be a schedule of fastopt"):
        fastopt.fit(LogisticRegression(solver=SGD(lambda k: 0.1)), X, y, checkpoint=path)
    with pytest.raises(TypeError, match="model must be one of fastopt's"):
        fastopt.fit(Peer(), X, y, checkpoint=path)
    with pytest.raises(ValueError, match="at least 2 classes"):
        fastopt.fit(LogisticRegression(solver="sgd"), X, 0 * y, checkpoint=path)
    assert not path.exists()


def test_ctrl_c_writes_the_checkpoint(tmp_path, monkeypatch):
    X, y = iris()
    path = tmp_path / "file"
    options = {"solver": Adam(Cosine(0.01)), "tol": 0.0, "random_state": 0}
    model = LogisticRegression(max_iter=10, **options)
    record = fastopt.solvers.monitor.Monitor.record

    def interrupted(self, value, norm, epoch, *rest):
        if epoch == 4:
            raise KeyboardInterrupt
        return record(self, value, norm, epoch, *rest)

    monkeypatch.setattr(fastopt.solvers.monitor.Monitor, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fastopt.fit(model, X, y, checkpoint=path, epochs=5)
    monkeypatch.undo()
    assert model.n_iter_.tolist() == [3]
    same(load(path), model)
    fastopt.fit(model, X, y, checkpoint=path, epochs=5)
    same_fit(model, LogisticRegression(max_iter=10, **options).fit(X, y))


@pytest.mark.parametrize("targets", [1, 2])
def test_regressors_come_back(targets, tmp_path, rng):
    X, y = rng.standard_normal((50, 3)), rng.standard_normal((50, targets))
    model = fastopt.SGDRegressor(random_state=0).fit(X, y[:, 0] if targets == 1 else y)
    fastopt.save(model, tmp_path / "model")
    assert np.array_equal(fastopt.load(tmp_path / "model").predict(X), model.predict(X))
