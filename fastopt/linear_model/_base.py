"""What the estimators share: reading X and weights, random states, callbacks, raw predictions."""

from __future__ import annotations

import numbers
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model._base import SparseCoefMixin
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_is_fitted, validate_data

from fastopt._chunks import Chunks
from fastopt._design import Design, checked_csr
from fastopt._validation import check_real, fail
from fastopt.objective import raw_prediction
from fastopt.solvers import resume
from fastopt.solvers.monitor import Reporter

#: Frames between a public `fit` and its caller, for warnings that name the caller's line.
FRAMES = 3
if TYPE_CHECKING:  # scikit-learn ships no types
    Method = TypeVar("Method")

    class CallbackSupportMixin:
        """`set_callbacks`."""

    def with_callbacks(method: Method) -> Method:
        """The method, with callbacks set up and torn down around it."""
        return method
else:
    try:
        from sklearn.callback import CallbackSupportMixin, with_callbacks
    except ImportError:  # scikit-learn before 1.9 has no callbacks
        FRAMES = 2

        class CallbackSupportMixin:
            """Stands for scikit-learn's, without its `set_callbacks`."""

        def with_callbacks(method: Any) -> Any:
            """The method as it is."""
            return method


__all__ = [
    "FRAMES", "PENALTY_NAMES", "LinearModel", "Progress", "check_labels", "check_length", "check_random_state",
    "class_numbers", "class_weights", "dense", "generator", "generator_of", "log_probabilities", "numbers_among",
    "read", "read_targets", "refuse_one_class", "refuse_weightless", "unchanged_on_error", "weights_of",
    "with_callbacks",
]  # fmt: skip

Array = NDArray[Any]

#: What scikit-learn's `penalty` may be; the table of `fastopt.penalties` may have more.
PENALTY_NAMES = ("l2", "l1", "elasticnet")


def read(estimator: BaseEstimator, X: Any, *, reset: bool, later: bool = False) -> Design:
    """X validated: its structure first if it is sparse, since nothing may be read through an unsound one.

    With `later` the entries of a CSR matrix are left to their first reader (`Design.from_array`).
    """
    if isinstance(X, Chunks):
        remedy = "LogisticRegression.fit alone takes them: hand the chunks to partial_fit or predict one by one."
        raise TypeError(f"X must be an array, a frame or a sparse matrix here; got Chunks. {remedy}")
    sparse = hasattr(X, "indptr") or hasattr(X, "tocsr")
    if getattr(getattr(X, "dtype", None), "kind", "") == "c":  # before anybody converts it
        _refuse_complex("X", X.dtype)
    if isinstance(X, np.ndarray) and X.ndim == 1:
        _refuse_flat()
    design = None
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "biuf":
        design = Design.from_array(X)
        X = design.values
        design = design if design.finite else None
    elif sparse and np.ndim(X) == 2:
        X = checked_csr(X)
        design = Design.from_array(X, later=later) if X.dtype.kind in "biuf" else None
    if design is not None and (sparse or type(X) is np.ndarray) and min(X.shape) > 0:
        # What is left of scikit-learn's checks; all of them would take a fifth of a small fit's time.
        if reset:
            vars(estimator).pop("feature_names_in_", None)
            estimator.n_features_in_ = X.shape[1]
        elif X.shape[1] != estimator.n_features_in_ or hasattr(estimator, "feature_names_in_"):
            validate_data(estimator, X, reset=False, skip_check_array=True)
        return design
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # it adds up infinities to find them
            checked = validate_data(
                estimator, X, accept_sparse="csr", accept_large_sparse=True, dtype=[np.float64, np.float32],
                reset=reset, order="C", ensure_all_finite=design is None,
            )  # fmt: skip
    except ValueError as error:
        if str(error).startswith("Complex data not supported"):  # and then all of X, line after line
            _refuse_complex("X", "complex ones")
        if str(error).startswith("Expected 2D array, got 1D array"):  # too
            _refuse_flat()
        raise
    if design is not None and checked.dtype == design.dtype:
        return design
    return Design.from_array(checked)


def _refuse_flat() -> NoReturn:
    remedy = "Reshape your data: X.reshape(-1, 1) if it is one feature, X.reshape(1, -1) if it is one sample."
    raise ValueError(f"X must be two-dimensional; got 1 dimension. {remedy}") from None


def _refuse_complex(name: str, got: Any) -> NoReturn:
    """In one line, of which scikit-learn's words come last; its own is followed by the whole array."""
    raise ValueError(f"{name} must be of real numbers; got {got}. Complex data not supported.") from None


def read_targets(estimator: BaseEstimator, y: Any, **how: bool) -> Array:
    """y validated as scikit-learn does it; `validate_data` without X would forget the features' names."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    if type(y) is np.ndarray and y.ndim == 1 and len(y) and y.dtype.kind in "biuf" and np.isfinite(y).all():
        return np.ascontiguousarray(y)  # which is all that scikit-learn would do, in ten times as long
    return np.asarray(_check_y(y, estimator=estimator, **how))


def check_labels(y: Array) -> Array | None:
    """Refuses targets that scikit-learn does not take for classes; the classes, sorted, where they had to be found.

    They are found once for numbers that are plainly classes; whatever else y is, scikit-learn looks at it.
    """
    if y.ndim == 1 and y.dtype.kind in "biuf" and len(y):
        lowest, highest = y.min(), y.max()
        two = lowest < highest and ((y == lowest) | (y == highest)).all()
        classes = np.array([lowest, highest], y.dtype) if two else np.unique(y)  # two need no sort
        whole = y.dtype.kind != "f" or (float(np.abs(classes).max()) < 2**53 and (np.trunc(classes) == classes).all())
        if whole and len(classes) <= len(y) // 2:  # it warns of more
            return classes
    check_classification_targets(y)
    return None


def check_length(y: Any, n_samples: int) -> None:
    """y has an element for each row; scikit-learn's words come last."""
    if len(y) != n_samples:
        rule = f"y must have as many elements as X has rows ({n_samples}); got {len(y)}."
        raise ValueError(f"{rule} Found input variables with inconsistent numbers of samples: [{n_samples}, {len(y)}].")


def weights_of(sample_weight: Any, n_samples: int, *, zeros: bool = False) -> Array | None:
    """Sample weights as float64, or None; finite, >= 0 and, unless `zeros`, not all zero. A number is that of all."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Number):
        sample_weight = np.full(n_samples, sample_weight)
    elif not hasattr(sample_weight, "shape"):
        sample_weight = np.asarray(sample_weight)
    shape = tuple(sample_weight.shape)
    if shape != (n_samples,):
        raise ValueError(f"sample_weight must have shape ({n_samples},), an element for each row of X; got {shape}.")
    if getattr(getattr(sample_weight, "dtype", None), "kind", "") == "c":
        _refuse_complex("sample_weight", sample_weight.dtype)
    weights: Array = check_array(
        sample_weight, dtype=np.float64, order="C", ensure_2d=False, ensure_all_finite=False,
        input_name="sample_weight",
    )  # fmt: skip
    right = np.isfinite(weights) & (weights >= 0)
    if not right.all():
        row = int(np.argmin(right))
        raise ValueError(f"sample_weight must be finite and >= 0; got {float(weights[row])!r} in row {row}.")
    if not zeros and not weights.any():
        refuse_weightless()
    with np.errstate(over="ignore"):
        mean = float(weights.sum()) / len(weights)
    if weights.any() and not 1e-300 <= mean <= 1e300:  # F divides by it, and alpha
        raise ValueError(f"sample_weight must have a mean in [1e-300, 1e300]; got {mean!r}. Scale it.")
    return weights


def refuse_weightless() -> NoReturn:
    """No row weighs anything."""
    raise ValueError("sample_weight must be positive for at least one sample; got only zeros.")


def refuse_one_class(classes: Array) -> NoReturn:
    """There is nothing to tell one class from."""
    label = classes[0].item() if hasattr(classes[0], "item") else classes[0]
    raise ValueError(f"y must hold at least 2 classes; got only one class, {label!r}.")


def class_weights(class_weight: Any, classes: Array, counts: Array, *, zeros: bool = False) -> Array:
    """The weight of each class; `counts` are sums of its rows' weights, which not all may come to zero unless `zeros`.

    As `compute_class_weight` of scikit-learn has it; but a class whose rows weigh nothing is nothing under "balanced".
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        found: Array = np.zeros(len(classes))
        np.divide(counts.sum(), len(classes) * counts, out=found, where=counts > 0)
        return found
    if class_weight is not None and not isinstance(class_weight, dict):
        fail("class_weight", "a dict, 'balanced' or None", class_weight)
    weights = np.ones(len(classes))
    given = class_weight or {}
    keys = [label if label in given else _as_key(label) for label in classes.tolist()]
    known = [key for key in keys if key in given]
    if len(known) < min(len(given), len(classes)):
        wrong = next(key for key in given if key not in known)
        labels = ", ".join(map(repr, classes[:10].tolist())) + (", ..." if len(classes) > 10 else "")
        fail("class_weight", f"a dict whose keys are labels of y ({labels})", wrong, "Labels left out weigh 1.")
    for i, key in enumerate(keys):
        if key in given:
            check_real(f"class_weight[{key!r}]", given[key], low=0)
            weights[i] = given[key]
    if not zeros and not counts @ weights > 0:
        fail("class_weight", "> 0 for at least one class with rows that weigh something", class_weight)
    return weights


def _as_key(label: Any) -> Any:
    """What scikit-learn looks a label up by: "1" by 1."""
    try:
        return int(label)
    except (ValueError, TypeError):
        return str(label)


def dense(array: Any) -> Any:
    """A sparse matrix as an array; all else as it is."""
    return array.toarray() if hasattr(array, "toarray") else array


def generator(random_state: Any) -> np.random.RandomState | np.random.Generator:
    """What draws the order of the rows.

    An int seeds a `RandomState`; a `SeedSequence` a `Generator`; instances of both go on where they are; None is fresh
    entropy, never NumPy's global state.
    """
    check_random_state(random_state)
    if isinstance(random_state, np.random.RandomState | np.random.Generator):
        return random_state
    if random_state is None or isinstance(random_state, np.random.SeedSequence):
        return np.random.default_rng(random_state)
    rng = np.random.RandomState(np.random.MT19937(Unseeded()))  # type: ignore[arg-type]  # its stub has no interface
    rng.seed(int(random_state))
    return rng


def generator_of(run: dict[str, Any]) -> np.random.RandomState | np.random.Generator:
    """What goes on drawing where a checkpoint's run left off."""
    rng = resume.generator({"run": run})
    if rng is None:
        raise ValueError("checkpoint must hold random numbers of a kind that is known; got another.")
    return rng


class Unseeded(np.random.bit_generator.ISeedSequence):
    """For a `RandomState` that is seeded afterwards: the words of a SeedSequence would take 0.1 ms for nothing."""

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> NDArray[Any]:
        """Zeros."""
        return np.zeros(n_words, dtype)


def check_random_state(random_state: Any) -> None:
    """Refuses what `generator` cannot make anything of."""
    kinds = np.random.RandomState | np.random.Generator | np.random.SeedSequence | None
    integer = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    if not isinstance(random_state, kinds) and not (integer and 0 <= random_state < 2**32):
        rule = "an integer in [0, 2**32 - 1], a RandomState, a Generator, a SeedSequence or None"
        fail("random_state", rule, random_state)


def log_probabilities(z: Array) -> Array:
    """Logarithms of probabilities: of one raw prediction for two classes, (n,), or of one for each class, (n, K).

    Those of two are -log(1 + exp(z)) and -log(1 + exp(-z)): neither quotient is rounded before its logarithm is taken,
    by functions that NumPy has vectorised, as its logaddexp is not.
    """
    if z.ndim == 1:
        rest = np.log1p(np.exp(-np.abs(z)))
        return np.column_stack([np.minimum(-z, 0) - rest, np.minimum(z, 0) - rest])
    z = z - z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))


def class_numbers(y: Array, classes: Array) -> NDArray[np.intp]:
    """Where the labels y stand in `classes`, which are theirs, sorted."""
    return (y == classes[1]).astype(np.intp) if len(classes) == 2 else np.searchsorted(classes, y)


def numbers_among(y: Array, classes: Array) -> NDArray[np.intp] | None:
    """`class_numbers` of labels of which some may be no class: None then."""
    codes = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return codes if (classes[codes] == y).all() else None


@contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """What was refused changes nothing, nor does Ctrl-C before the first whole epoch; later it keeps the last one."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException as error:
        after = vars(estimator).copy()
        kept = after.get("optimizer_state_") is not before.get("optimizer_state_")  # the last attribute that a fit sets
        if kept and not isinstance(error, Exception):
            raise
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        for key in ("_callback_fit_ctx", "_skl_callbacks_to_teardown"):  # scikit-learn has yet to tear them down
            if key in after:
                setattr(estimator, key, after[key])
        raise


class Progress:
    """How far a fit has come, so that another process can go on with it; `fastopt.fit` writes it to a file.

    Parameters
    ----------
    run : dict or None
        What the last process was told of; the fit goes on there.
    due : callable
        ``due()``: whether it is time to write.
    write : callable
        ``write()``, once the model has the attributes that belong to `run`.
    """

    def __init__(self, run: dict[str, Any] | None, due: Callable[[], bool], write: Callable[[], None]) -> None:
        self.run, self.due, self.write = run, due, write
        self.lock, self.over = threading.Lock(), False

    def tell(self, run: dict[str, Any], keep: Callable[[], None] | None = None) -> None:
        """After a whole epoch, or another part of a fit; `keep` sets the model's attributes to what it has come to."""
        with self.lock:  # folds run on threads, which may go on a little after the fit has ended by an error
            if self.over:
                return
            self.run = run
            if self.due():
                if keep is not None:
                    keep()
                self.write()


class LinearModel(CallbackSupportMixin, SparseCoefMixin, BaseEstimator):
    """Base of all estimators: raw predictions, and what is told while they are fitted."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_")  # a checkpoint of an unfinished path has other attributes already

    def _raw_prediction(self, X: Any) -> Array:
        """Xw + b, (n_samples, n_outputs), of X's dtype."""
        check_is_fitted(self)
        design = read(self, X, reset=False)
        coef = np.reshape(dense(self.coef_), (-1, design.shape[1]))
        few = design.sparse and 16 * (design.n_stored + 2_000) < coef.size
        if few:  # not a copy of all coefficients for some words
            design, columns = design.of_its_columns()
            coef = coef[:, columns]
        w = np.vstack([coef.T, np.reshape(self.intercept_, (1, -1))]).astype(np.float64)
        scores = raw_prediction(design, w.reshape(-1), w.shape[1], True, getattr(self, "n_jobs", None))
        return scores.astype(design.dtype, copy=False)

    @contextmanager
    def _reporter(
        self, max_iter: int, data: tuple[Any, Any, Any] | None, fitted: Callable[[Array], dict[str, Any]]
    ) -> Iterator[Reporter]:
        """Tells of each epoch: lines or a bar by `verbose`, and scikit-learn's callbacks if there are any.

        `data` is what they get to see: X, y and the sample weights; None leaves them out. `fitted` makes of the
        parameters the attributes that an estimator needs to predict.
        """
        told = None
        if data is not None and getattr(self, "_skl_callbacks", None):
            told = _Tasks(self, max_iter, *data, fitted)
        reporter = Reporter(int(self.verbose), total=max_iter, on_epoch=told)
        try:
            yield reporter
        finally:
            reporter.close()
        if told is not None:
            told.end()


class _Tasks:
    """Epochs told to scikit-learn's callbacks: a task each, under the task of the fit."""

    def __init__(self, estimator: Any, max_iter: int, X: Any, y: Any, sample_weight: Any, fitted: Any) -> None:
        self.estimator, self.max_iter, self.fitted = estimator, max_iter, fitted
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.data = {"X": X, "y": y, "metadata": metadata}
        self.context = estimator._init_callback_context(max_subtasks=max_iter)
        self.context.call_on_fit_task_begin(estimator=estimator, **self.data)
        self.last = 0
        self.w: Array | None = None
        self.task: Any = None
        if max_iter > 0:
            self._begin_task()

    def __call__(self, epoch: int, w: Array | None) -> None:
        """After an epoch; 0 is the start. An epoch that is tried again is told once."""
        if epoch > self.last:
            self.last, self.w = epoch, w
            self._end_task()
            if epoch < self.max_iter:
                self._begin_task()

    def _begin_task(self) -> None:
        self.task = self.context.subcontext(task_name="epoch")
        self.task.call_on_fit_task_begin(estimator=self.estimator, **self.data, **self._attributes())

    def _attributes(self) -> dict[str, Any]:
        w = None if self.w is None else self.w.copy()
        return {} if w is None else {"reconstruction_attributes": lambda: self.fitted(w)}

    def _end_task(self) -> None:
        if self.task is not None:
            self.task.call_on_fit_task_end(estimator=self.estimator, **self.data, **self._attributes())
            self.task = None

    def end(self) -> None:
        """After the last epoch: the one that was begun and not run ends empty."""
        if self.task is not None:
            self.task.call_on_fit_task_end(estimator=self.estimator)
        self.context.call_on_fit_task_end(estimator=self.estimator, **self.data, reconstruction_attributes=dict)
