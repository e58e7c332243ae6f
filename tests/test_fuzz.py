"""Arrays that no library would make: every fit, prediction and step on them ends in a result or in a clean error.

500 fits here, 10,000 with FASTOPT_FUZZ=10000 (`make fuzz`), and a fifth as many runs of steps and of `minimize`; the
same under the sanitizers and with checked indices.
A crash ends the test process: `test_no_input_kills_the_process` in test_design.py does a few in a process of its own.
"""

import contextlib
import os
import warnings

import numpy as np
import pytest
import scipy.sparse
from cases import csr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor, minimize
from fastopt.linear_model.sgd import CLASSIFIER_LOSSES, REGRESSOR_LOSSES
from fastopt.optimizers import OPTIMIZERS
from fastopt.solvers.table import SOLVERS

CASES = int(os.environ.get("FASTOPT_FUZZ", "500"))
#: The suite runs the same cases each time, `make fuzz` others: a failing one is printed as arrays.
SETTINGS = {"suppress_health_check": list(HealthCheck), "derandomize": "FASTOPT_FUZZ" not in os.environ}
FORMS = ["csr", "csc", "coo", "bsr", "dense"]
ODD = [-(2**62), -(2**31) - 1, -(10**8), -1, 0, 1, 5, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 10**8, 2**62]
DTYPES = ["i1", "u2", "i4", "u4", "i8", "u8", ">i4", ">i8", "f2", "f4", "f8", ">f4", "g", "c16", "O", "?", "U3", "M8"]
#: What a refusal may be. Anything else is a defect: an IndexError from far inside says nothing to a user.
CLEAN = (ValueError, TypeError)


def arrays_of(X):
    """Names and arrays that make up X."""
    if isinstance(X, np.ndarray):
        return {"": X}
    if X.format == "coo":
        return {"row": X.row, "col": X.col, "data": X.data}
    return {name: getattr(X, name) for name in ("data", "indices", "indptr")}


def put(X, name, array):
    if isinstance(X, np.ndarray):
        return array
    if name in ("row", "col") and hasattr(X, "coords"):
        X.coords = (array, X.coords[1]) if name == "row" else (X.coords[0], array)
    else:
        setattr(X, name, array)
    return X


@st.composite
def corrupted(draw):
    """An array or a sparse matrix, one to three of whose parts are not what they should be; and what was done."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    form = draw(st.sampled_from(FORMS))
    values = np.round(rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.5), 2)
    values = values.astype(draw(st.sampled_from([np.float32, np.float64])))
    X = values if form == "dense" else scipy.sparse.csr_array(values).asformat(form)
    if form != "dense" and draw(st.booleans()):
        for name, a in arrays_of(X).items():
            if a.dtype.kind == "i":
                X = put(X, name, a.astype(np.int64))
    done = [form]
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(arrays_of(X))))
        a = arrays_of(X)[name]
        how = draw(st.sampled_from([
            "entry", "entry", "order", "duplicates", "shorter", "longer", "empty", "dtype", "strides", "reversed",
            "byte order", "read only", "shape", "dimensions", "unaligned", "declared shape", "flags",
        ]))  # fmt: skip
        done.append(f"{name} {how}")
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                X = corrupt(draw, rng, X, name, a, how)
            except (ValueError, TypeError, OverflowError):  # NumPy or scipy themselves did not let it happen
                done[-1] += " (refused)"
    return X, n, done


def corrupt(draw, rng, X, name, a, how):
    if not np.ndim(a):
        return X
    if how == "entry" and a.size:
        a = a.copy()
        value = draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e300, 5e-324] if a.dtype.kind == "f" else ODD))
        a.reshape(-1)[draw(st.integers(0, a.size - 1))] = value
    elif how == "order":
        a = rng.permuted(a, axis=0)
    elif how == "duplicates" and a.size:
        a = np.repeat(a[:1], len(a), axis=0)
    elif how == "shorter":
        a = a[: draw(st.integers(0, len(a)))]
    elif how == "longer":
        a = np.concatenate([a, a[: draw(st.integers(1, 4))]])
    elif how == "empty":
        a = a[:0]
    elif how == "dtype":
        a = a.astype(draw(st.sampled_from(DTYPES)))
    elif how == "strides":
        a = np.repeat(a, 2, axis=0)[::2]
    elif how == "reversed":
        a = a[::-1]
    elif how == "byte order":
        a = a.astype(a.dtype.newbyteorder())
    elif how == "read only":
        a = a.copy()
        a.flags.writeable = False
    elif how == "shape":
        a = np.broadcast_to(a[:1], a.shape) if a.size else a.reshape(0)
    elif how == "dimensions":
        a = draw(st.sampled_from([a.reshape(-1, 1), a[None], a.reshape(-1)[:1].reshape(())])) if a.size else a[None]
    elif how == "unaligned":
        raw = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        raw[...] = a
        a = raw
    elif how == "declared shape" and not isinstance(X, np.ndarray):
        X._shape = tuple(draw(st.sampled_from([0, 1, 2, 7, 13, 10**6, -1])) for _ in range(2))
        return X
    elif how == "flags" and not isinstance(X, np.ndarray) and X.format in ("csr", "csc"):
        X.has_sorted_indices = X.has_canonical_format = True
        return X
    return put(X, name, a)


def bits(a):
    """An array's bytes, dtype, shape, strides and flags."""
    a = np.asarray(a)
    data = repr(a.tolist()) if a.dtype.hasobject else a.tobytes()
    return data, a.dtype, a.shape, a.strides, a.flags.writeable


def state_of(X):
    return [getattr(X, "shape", None), *(bits(a) for a in arrays_of(X).values())]


def clean(call):
    """What it gives, or the clean error that it ends in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", scipy.sparse.SparseEfficiencyWarning)
        warnings.simplefilter("ignore", DataConversionWarning)  # scikit-learn's, of a y that is a column
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # scikit-learn's folds
        try:
            return call()
        except CLEAN as error:
            return error


@st.composite
def estimators(draw):
    """An estimator that fits something in next to no time, by any solver, rule or loss."""
    rules, options = st.sampled_from([*OPTIMIZERS]), {"max_iter": 2, "random_state": 0}
    kind = draw(st.sampled_from(["logistic", "logistic", "classifier", "regressor", "cv"]))
    if kind == "cv":
        options |= {"l1_ratios": (0,), "scoring": "accuracy", "use_legacy_attributes": draw(st.booleans())}
        return LogisticRegressionCV(Cs=[0.1, 1.0], cv=2, **options)
    if kind == "logistic":
        solver = draw(st.one_of(st.sampled_from(["auto", *SOLVERS]), rules))
        return LogisticRegression(solver=solver, batch_size=draw(st.integers(1, 4)), **options)
    options |= {
        "optimizer": draw(st.one_of(st.just("sgd"), rules)), "batch_size": draw(st.integers(1, 4)),
        "penalty": draw(st.sampled_from([None, "l2", "l1", "elasticnet"])),
    }  # fmt: skip
    if options["optimizer"] == "sgd":
        options["average"] = draw(st.booleans())
    else:
        options["learning_rate"] = 0.01
    if kind == "classifier":
        return SGDClassifier(loss=draw(st.sampled_from(CLASSIFIER_LOSSES)), **options)
    return SGDRegressor(loss=draw(st.sampled_from(REGRESSOR_LOSSES)), **options)


def targets(draw, n, n_classes):
    """y and sample_weight, sound in most cases; and what was done to them."""
    rng, done = np.random.default_rng(n), []
    arrays = {"y": np.arange(n) % n_classes, "weights": draw(st.sampled_from([None, np.arange(n) + 0.5]))}
    for name in draw(st.sets(st.sampled_from(["y", "weights"]), max_size=1)) if draw(st.booleans()) else ():
        how = draw(st.sampled_from([
            "entry", "shorter", "longer", "empty", "dtype", "strides", "reversed", "byte order", "read only", "shape",
            "dimensions", "unaligned",
        ]))  # fmt: skip
        if arrays[name] is None:
            continue
        done.append(f"{name} {how}")
        with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.suppress(ValueError, TypeError):
            warnings.simplefilter("ignore")
            arrays[name] = corrupt(draw, rng, arrays[name], "", arrays[name], how)
    return arrays["y"], arrays["weights"], done


def attributes_of(model):
    """The fitted attributes that predictions come from, as bits."""
    return [bits(value) for name in ("coef_", "intercept_") if (value := getattr(model, name, None)) is not None]


@settings(max_examples=CASES, **SETTINGS)
@given(st.data(), corrupted(), estimators(), st.integers(2, 3))
def test_fit_and_predict(data, case, model, n_classes):
    X, n, done = case
    y, weights, more = targets(data.draw, n, n_classes)
    done = [*done, *more]
    before, others = state_of(X), [bits(a) for a in (y, weights)]
    partial = hasattr(model, "partial_fit") and data.draw(st.booleans())
    extra = {"classes": np.arange(n_classes)} if partial and isinstance(model, SGDClassifier) else {}
    fit = model.partial_fit if partial else model.fit
    result = clean(lambda: fit(X, y, sample_weight=weights, **extra))
    assert state_of(X) == before, done
    assert [bits(a) for a in (y, weights)] == others, done
    if isinstance(result, Exception):
        assert not hasattr(model, "coef_"), done
    else:
        assert np.isfinite(model.coef_).all(), done
    columns = int(np.shape(X)[1]) if np.ndim(X) == 2 and 0 < np.shape(X)[1] < 100 else 4
    sound = np.eye(6, columns), np.arange(6) % n_classes + 1.0
    if isinstance(clean(lambda: model.fit(*sound)), Exception):  # two classes at most, by this solver
        return
    fitted = attributes_of(model)
    if partial and isinstance(clean(lambda: model.partial_fit(X, y, sample_weight=weights)), Exception):
        assert attributes_of(model) == fitted, done
    for name in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        try:
            method = getattr(model, name)
        except AttributeError:
            continue
        found = clean(lambda method=method: method(X))
        assert state_of(X) == before, done
        if not isinstance(found, Exception):
            assert len(found) == X.shape[0]
            assert found.dtype.kind != "f" or not np.isnan(found).any(), done


@settings(max_examples=max(100, CASES // 5), **SETTINGS)
@given(st.data(), st.sampled_from(sorted(OPTIMIZERS)), st.integers(0, 2**32))
def test_steps(data, rule, seed):
    """Gradients, or their indices and values, parameters and the state, that do not fit together."""
    rng = np.random.default_rng(seed)
    rule = OPTIMIZERS[rule](learning_rate=0.1)
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    w = rng.standard_normal(data.draw(st.sampled_from([(6,), (3, 2), (0,), (1,)]))).astype(dtype)
    state = rule.init(w)
    if sparse := data.draw(st.booleans()):
        k = data.draw(st.integers(0, 5))
        values = rng.standard_normal((k, *w.shape[1:])).astype(dtype)
        parts = {"indices": rng.integers(0, max(1, len(w)), k), "values": values}
    else:
        parts = {"g": rng.standard_normal(w.shape).astype(dtype)}
    parts |= {"w": w} | {f"state {slot}": state[slot] for slot in rule.slots}
    for _ in range(data.draw(st.integers(0, 2))):
        name = data.draw(st.sampled_from(sorted(parts)))
        how = data.draw(st.sampled_from(
            ["entry", "shorter", "longer", "empty", "dtype", "strides", "reversed", "byte order", "dimensions",
             "read only", "unaligned"]
        ))  # fmt: skip
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                parts[name] = corrupt(data.draw, rng, parts[name], "", parts[name], how)
            except (ValueError, TypeError, OverflowError):
                continue
    state |= {name[6:]: a for name, a in parts.items() if name.startswith("state ")}
    w, g = parts["w"], (parts["indices"], parts["values"]) if sparse else parts["g"]
    given_ = [bits(a) for a in (g if sparse else [g])]
    before = [state["t"], *(bits(a) for a in (w, *(state[slot] for slot in rule.slots)))]
    calls = [lambda: rule.step(w, g, state), lambda: rule.catch_up(w, state)]
    if sparse:
        calls.insert(1, lambda: rule.catch_up(w, state, g[0]))
    for call in calls:
        with np.errstate(all="ignore"):
            found = clean(call)
        assert [bits(a) for a in (g if sparse else [g])] == given_
        if isinstance(found, Exception) and "last" not in state:
            assert [state["t"], *(bits(a) for a in (w, *(state[slot] for slot in rule.slots)))] == before


@settings(max_examples=max(100, CASES // 5), **SETTINGS)
@given(st.data(), st.sampled_from(sorted(OPTIMIZERS)), st.integers(0, 2**32))
def test_minimize(data, rule, seed):
    """A start, values and gradients that do not fit together; functions that write in what they are given."""
    rng = np.random.default_rng(seed)
    x0 = rng.standard_normal(data.draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)])))
    hows = st.sampled_from([
        "entry", "shorter", "longer", "empty", "dtype", "strides", "reversed", "byte order", "read only", "shape",
        "dimensions", "unaligned",
    ])  # fmt: skip

    def changed(a):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                return corrupt(data.draw, rng, a, "", a, data.draw(hows))
            except (ValueError, TypeError, OverflowError):
                return a

    x0 = changed(x0) if data.draw(st.booleans()) else x0
    bad = data.draw(st.sampled_from(["", "fun", "jac"]))
    writes, rows = data.draw(st.booleans()), data.draw(st.booleans())

    def fun(x, *rows):
        value = (np.asarray(x) ** 2).sum()
        if writes:
            x[...] = np.nan
        return changed(np.asarray(value)) if bad == "fun" else value

    def jac(x, *rows):
        g = 2 * x
        if writes:
            x[...] = np.nan
        return changed(g) if bad == "jac" else g

    before = bits(x0)
    options = {"optimizer": OPTIMIZERS[rule](learning_rate=0.1), "max_iter": 3}
    options |= {"n_samples": 5, "batch_size": 2, "rng": 0} if rows else {}
    with np.errstate(all="ignore"):
        found = clean(lambda: minimize(fun, x0, jac, **options))
    assert bits(x0) == before
    if not isinstance(found, Exception):
        assert np.shape(found.x) == np.shape(x0)
        assert bad or not np.isfinite(x0).all() or np.isfinite(found.x).all()


# --- defects that it found --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["lbfgs", "gd", "sgd", "adam"])
@pytest.mark.parametrize("sparse", [False, True])
def test_squares_that_overflow_warn_of_nothing(solver, sparse):
    X = np.array([[1e300], [-0.13], [2.0]])
    X = csr(X.ravel(), np.zeros(3, np.int32), np.arange(4, dtype=np.int32), (3, 1)) if sparse else X
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(solver=solver, max_iter=2, random_state=0).fit(X, [0, 1, 0])
    assert np.isfinite(model.coef_).all()


def test_infinities_of_both_signs_are_refused_without_a_warning():
    with pytest.raises(ValueError, match="infinity"):
        LogisticRegression().fit(np.array([[np.inf, -np.inf], [0, 1]], np.float32), [0, 1])


@pytest.mark.parametrize("sparse", [False, True])
def test_steps_on_arrays_at_odd_addresses(sparse):
    """w and the state are refused, since they are written in place; gradients are moved."""
    rule, rng = OPTIMIZERS["adam"](), np.random.default_rng(0)

    def odd(a):
        out = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype)
        out[...] = a
        return out

    w, g = np.ones(3), np.array([1.0, 2.0, 3.0])
    expected = w.copy()
    rule.step(expected, g, rule.init(w))
    state = rule.init(w)
    rule.step(w, (odd(np.arange(3)), odd(g)) if sparse else odd(g), state)
    rule.catch_up(w, state)
    np.testing.assert_allclose(w, expected, rtol=1e-12)
    for bad_w, bad_state in ((odd(w), rule.init(w)), (w, rule.init(w) | {"m": odd(np.zeros(3))})):
        with pytest.raises(ValueError, match="aligned"):
            rule.step(bad_w, (np.arange(3), rng.random(3)) if sparse else rng.random(3), bad_state)


def test_an_empty_y_is_refused_by_its_length():
    for model in (SGDClassifier(), SGDRegressor(), LogisticRegression()):
        with pytest.raises(ValueError, match=r"y must have as many|y must hold|minimum of 1|inconsistent numbers"):
            model.fit(np.ones((4, 1)), np.zeros(0, int))


@pytest.mark.parametrize("form", ["csr", "csc", "bsr"])
def test_complex_values_hide_no_unsound_structure(form):
    """scikit-learn would convert what it is about to refuse, reading through indices that nobody checked."""
    X = scipy.sparse.csr_array(np.eye(3, dtype=complex)).asformat(form)
    for indices in (X.indices, np.array([0, 10**8, -(10**8)], np.int32), X.indices.astype(complex)):
        X.indices = indices
        for model in (LogisticRegression(), SGDClassifier()):
            with pytest.raises(ValueError, match="Complex data not supported"):
                model.fit(X, [0, 1, 0])


@pytest.mark.parametrize("part", ["row", "col"])
def test_coo_places_that_are_no_integers(part):
    """NaN is below no bound and above none; cast to an integer it is far outside of the matrix."""
    X = scipy.sparse.coo_array(np.eye(3))
    X = put(X, part, np.array([0.0, np.nan, 2.0]))
    with pytest.raises(ValueError, match=rf"X\.{part} must be integers; got float64"):
        LogisticRegression().fit(X, [0, 1, 0])
