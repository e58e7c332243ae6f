"""Logistic regression."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import LabelEncoder

from fastopt import optimizers
from fastopt._chunks import Chunks
from fastopt._design import WORK, Design
from fastopt._validation import as_float, check_bool, check_choice, check_integer, check_positive, check_real, fail
from fastopt.linear_model._base import (
    FRAMES,
    PENALTY_NAMES,
    LinearModel,
    Progress,
    check_labels,
    check_length,
    check_random_state,
    class_numbers,
    class_weights,
    dense,
    generator,
    generator_of,
    log_probabilities,
    numbers_among,
    read,
    read_targets,
    refuse_one_class,
    refuse_weightless,
    unchanged_on_error,
    weights_of,
    with_callbacks,
)  # fmt: skip
from fastopt.objective import Objective
from fastopt.solvers import resume
from fastopt.solvers.auto import auto
from fastopt.solvers.chunked import ChunkedEpochs, ChunkedObjective
from fastopt.solvers.epochs import Epochs
from fastopt.solvers.monitor import STOP_REASONS, Reporter, Result, history_of
from fastopt.solvers.stochastic import stochastic
from fastopt.solvers.table import SOLVERS

__all__ = ["LogisticRegression"]

Array = NDArray[Any]

#: What runs under scikit-learn's names of solvers that fastopt has not, or that can do more there than here: the first
#: of these that can minimise F.
SCIKIT_LEARNS = {
    "liblinear": ("auto",),
    "newton-cg": ("newton-cg", "newton"),
    "newton-cholesky": ("newton", "lbfgs"),
    "sag": ("saga",),
}
#: What scikit-learn's warning of `max_iter` begins with, by which users filter, where it is not "<solver> failed to
#: converge".
WORDS = {
    "liblinear": "Liblinear failed to converge, increase the number of iterations. ",
    "newton-cholesky": "Newton solver did not converge after {} iterations. ",
    "sag": "The max_iter was reached which means the coef_ did not converge. ",
    "saga": "The max_iter was reached which means the coef_ did not converge. ",
}


def _signs(y: Array, classes: Array) -> Array:
    """Class numbers as the loss takes them."""
    return np.where(y == 1, 1.0, -1.0) if len(classes) == 2 else y.astype(np.float64)


def _in_pieces(function: Callable[[Array], Array], rows: Array) -> Array:
    """The function of an array's rows, piece by piece: between two of them Ctrl-C is seen."""
    if rows.size <= WORK // 16:
        return function(rows)
    size = max(1, WORK // 16 * len(rows) // rows.size)
    return np.concatenate([function(rows[start : start + size]) for start in range(0, len(rows), size)])


def _strength(penalty: Any, C: float, l1_ratio: Any) -> tuple[float, float]:
    """C and l1_ratio, as what was passed for scikit-learn's deprecated `penalty` has it."""
    if penalty in ("l1", "l2"):
        return as_float(C), float(penalty == "l1")
    return (math.inf if penalty is None else as_float(C)), float(l1_ratio or 0.0)


def _old_ways(penalty: Any, l1_ratio: Any, C: float = 1.0) -> Iterator[tuple[str, type[Warning]]]:
    """scikit-learn's warnings of parameters that will go, in its words, and of those that contradict each other."""
    if penalty == "deprecated":
        if l1_ratio is None:
            yield (
                "'l1_ratio=None' was deprecated in version 1.8 and will trigger an error in 1.10. Use 0<=l1_ratio<=1 "
                "instead.", FutureWarning,
            )  # fmt: skip
        return
    yield (
        "'penalty' was deprecated in version 1.8 and will be removed in 1.10. To avoid this warning, leave 'penalty' "
        "set to its default value and use 'l1_ratio' or 'C' instead. Use l1_ratio=0 instead of penalty='l2', "
        "l1_ratio=1 instead of penalty='l1', l1_ratio set to a float between 0 and 1 instead of penalty='elasticnet', "
        "and C=np.inf instead of penalty=None.", FutureWarning,
    )  # fmt: skip
    if penalty != "elasticnet" and l1_ratio is not None and 0 < l1_ratio < 1:
        yield f"l1_ratio parameter is only used when penalty is 'elasticnet'. Got (penalty={penalty})", UserWarning
    if l1_ratio is not None and penalty in ("l1", "l2") and l1_ratio != float(penalty == "l1"):
        yield (
            f"Inconsistent values: penalty={penalty} with l1_ratio={l1_ratio}. penalty is deprecated. Please use "
            "l1_ratio only.", UserWarning,
        )  # fmt: skip
    if penalty is None and C != 1.0:
        yield "Setting penalty=None will ignore the C and l1_ratio parameters", UserWarning


class LogisticRegression(ClassifierMixin, LinearModel):
    """Logistic regression, binary or softmax, on dense and CSR data, by any update rule or a finisher.

    Minimises ``F(w, b) = sum_i s_i loss(y_i, x_i.w + b) / sum_i s_i + alpha ((1 - l1_ratio)/2 ||w||_2^2 + l1_ratio
    ||w||_1)`` with ``alpha = 1 / (C sum_i s_i)``: scikit-learn's objective divided by ``C sum_i s_i``, the same
    minimiser. The loss is ``log(1 + exp(-y z))`` for two classes and ``logsumexp(z) - z_y`` for more; s_i is the
    sample's weight times its class's. The intercept b is not penalised.

    Parameters
    ----------
    penalty : {"l2", "l1", "elasticnet"} or None, default "deprecated"
        For code written before scikit-learn 1.8: "l2" is ``l1_ratio=0``, "l1" is ``l1_ratio=1``, "elasticnet" leaves
        `l1_ratio` as it is, and None is ``C=inf``.
    C : float > 0, default 1.0
        Inverse strength of the penalty, as in scikit-learn; inf is no penalty.
    l1_ratio : float in [0, 1], default 0.0
        Share of L1 in the penalty: 1.0 is the lasso's, 0.0 is L2 alone. With L1 coefficients become exactly zero, by
        every solver. None is 0.0, with scikit-learn's warning.
    dual : bool, default False
        True is accepted with ``solver="liblinear"`` and L2, and changes nothing: the minimum is the same.
    tol : float >= 0, default 1e-4
        Converged means: the Euclidean norm of F's gradient (with L1 of its subgradient of least norm), measured on all
        the data, is at most `tol`.
    fit_intercept : bool, default True
    intercept_scaling : float > 0, default 1
        Accepted, not used: it weakens liblinear's penalty on the intercept, which there is none of here.
    class_weight : dict, "balanced" or None, default None
    random_state : int, RandomState, Generator, SeedSequence or None, default None
        Order of the rows. None draws fresh entropy: NumPy's global state is never touched.
    solver : str or Optimizer, default "auto"
        - "auto": the fastest of the following for the data (`fastopt.solvers.auto.choose`), and the next where that
          gets stuck.
        - "newton": Cholesky factors, for few columns of any scale; 5,000 parameters at most, but with L1 for any number
          of which L1 keeps few.
        - "newton-cg": Newton's steps by conjugate gradients, for any number of columns. With L1 it runs "newton".
        - "lbfgs": scipy's L-BFGS-B on the compiled objective, in variables that centre and scale the columns.
        - "sdca": dual coordinate descent with L2, the fastest on text and other rows with ``||x||^2 C`` up to some
          units.
        - "saga": sparse SAGA, for longer rows, weaker penalties, and L1.
        - An update rule's name, a key of `fastopt.optimizers.OPTIMIZERS`: "gd", "sgd", "momentum", "nesterov",
          "adagrad", "rmsprop", "adam", "adamw", "nadam", "adamax", "adadelta", "ftrl", "lion", "schedule_free_sgd",
          "schedule_free_adamw"; or an instance such as ``Adam(learning_rate=0.01)``.
        - scikit-learn's other names run the nearest: "newton-cholesky" is "newton", or "lbfgs" if there are more
          parameters than that takes; "sag" is "saga"; "liblinear", for two classes alone, is "auto".
    learning_rate : float, Schedule, callable or "auto", default "auto"
        Per step, for update rules given by name. "auto" starts from the data, falls in cycles that grow longer,
        and is cut when a cycle no longer pays; "gd" takes each rate from the last two points (Barzilai and Borwein).
        Columns need not be scaled for it: where they differ in size or are far from zero, the rule's steps are taken
        in variables u of ``(w, b + mean.w) = scale u``, in which they are alike, on the same F. With a number, they are
        taken in w.
    batch_size : int, "full" or "auto", default "auto"
        Rows per step. "auto" is about where larger ones would not make an epoch faster: 32, but 4 for plain SGD on
        more than 1,000 rows of CSR data, up to 128 for other rules there, and less for very long dense rows; twice as
        many for "rmsprop". With automatic rates those of "rmsprop" and "adadelta" are doubled after each cycle that
        does not pay: steps on few rows would come to rest away from the minimum, as they would with a number of rows
        given here. "gd" always takes all rows.
    max_iter : int >= 0, default 100
        Epochs, or iterations of "lbfgs", "newton" and "newton-cg".
    verbose : int, default 0
        1 prints a line per epoch; 2 shows a progress bar, if tqdm is installed.
    warm_start : bool, default False
        Start from where the last fit ended: k epochs, pickle or `fastopt.save`, and k epochs more are 2k epochs, bit
        for bit, by every solver. The order of the rows goes on as well, so that `random_state` counts in the first fit
        only. Where `optimizer_state_` no longer fits, it is dropped, and the fit starts from the coefficients:

        - all of it if the solver, X's dtype or `fit_intercept` changed, or somebody changed the coefficients;
        - all of it if F is another (other data or C), for a solver that is no update rule;
        - of an update rule the course of the learning rate alone if F, the learning rate or the batch size is another
          (all of it if steps are then taken in other variables).

        The coefficients are dropped if the classes or the number of features changed.
    n_jobs : int or None, default None
        Threads of the passes over X (F, its gradient, predictions): None and -1 all that are allowed (processors,
        ``OMP_NUM_THREADS``, `threadpoolctl`). No bit of the result depends on it, with one exception: under any number
        but 1 the epochs of "sdca", on X of half a million entries or more and ``mean_i s_i ||x_i||^2 <= 1 / C`` or so,
        go through two halves of the rows side by side, in about as many epochs to the same minimum; no bit depends on
        how many threads there are. Other epochs use one thread.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
    coef_ : ndarray (1, n_features) or (n_classes, n_features)
        float32 if X is float32, else float64; float64 too where rounding to float32 would cost convergence or overflow.
    intercept_ : ndarray (1,) or (n_classes,)
    n_iter_ : ndarray (1,)
        Epochs or iterations.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    history_ : dict of arrays
        epoch, seconds, objective, grad_norm, learning_rate: one element per measurement, the first before any step (of
        a warm start where the last fit's epochs ended). Where F rose at a solver's end, its last is that of the best
        parameters, which are returned; its epoch is below 0 if they are of a fit before. "sdca" adds duality_gap, an
        upper bound of F's distance to its minimum.
    objective_, grad_norm_ : float
        F and its gradient's norm at the coefficients.
    converged_ : bool
        ``grad_norm_ <= tol``, measured.
    stop_reason_ : str
        "tol", "max_iter", "diverged", "stalled" or "interrupted".
    solver_ : str
        The solver that ran, or those that ran one after the other, joined by "+".
    optimizer_state_ : dict
        What a warm start goes on from: the update rule's state after the last whole epoch and, under "run", the
        parameters there, the learning rate's course, the best parameters so far and the state of the random numbers.
        Plain arrays, numbers and strings. Where an automatic rate has other variables than w, the rule's arrays are of
        these. Of the other solvers, with ``warm_start=True`` only, "run" has what they go on from: the dual variables
        of "sdca", the slopes of all rows of "saga", up to 256 MB of gradients of "lbfgs", the points of "newton" and
        "newton-cg".

    Raises
    ------
    ValueError, TypeError
        From `fit`, before anything is changed: one line that names the parameter, its rule and the value.
    KeyboardInterrupt
        From `fit`, after the coefficients of the last whole epoch were set; before the first one nothing is changed.

    Warns
    -----
    ConvergenceWarning
        If `fit` ends above `tol`; the text says which parameter to change.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = LogisticRegression(solver="lbfgs").fit(scale(X), y)
    >>> model.converged_, round(model.score(scale(X), y), 3)
    (True, 0.988)
    """

    def __init__(
        self, penalty: Any = "deprecated", *, C: float = 1.0, l1_ratio: Any = 0.0, dual: bool = False,
        tol: float = 1e-4, fit_intercept: bool = True, intercept_scaling: float = 1, class_weight: Any = None,
        random_state: Any = None, solver: Any = "auto", learning_rate: Any = "auto", batch_size: Any = "auto",
        max_iter: int = 100, verbose: int = 0, warm_start: bool = False, n_jobs: Any = None,
    ) -> None:  # fmt: skip
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if isinstance(self.solver, str):
            names = SCIKIT_LEARNS.get(self.solver, (self.solver,))
            several = [SOLVERS[name].softmax if name in SOLVERS else True for name in names]
            tags.classifier_tags.multi_class = any(several) and self.solver != "liblinear"
        return tags

    # ------------------------------------------------------------------------------------------------------- fitting

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> LogisticRegression:
        """Fits the model.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
            C-ordered float32 or float64 and CSR with int32 or int64 indices are read as they are, never copied;
            anything else is converted once. Or `fastopt.data.Chunks`, with their own targets and weights, by an update
            rule or "lbfgs", which is what "auto" means then.
        y : array-like (n_samples,)
            Class labels of any kind, at least two different ones.
        sample_weight : array-like (n_samples,) or None
            Weights >= 0.

        Returns
        -------
        self
        """
        with unchanged_on_error(self):
            self._fit(X, y, sample_weight)
        for text, category in _old_ways(self.penalty, self.l1_ratio, self.C):
            warnings.warn(text, category, stacklevel=FRAMES)
        if not self.converged_:
            warnings.warn(self._advice(), ConvergenceWarning, stacklevel=FRAMES)
        return self

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, classes: Array | None = None, *, progress: Progress | None = None,
        keeps: bool = True,
    ) -> None:  # fmt: skip
        """`fit`, but for warnings; y may lack some of `classes`, if they are given.

        `progress` is told of each epoch of a solver that is no update rule; a warm start of one goes on from its
        state, and leaves one, if it `keeps` it.
        """
        optimizer = self._check_parameters()
        check_random_state(self.random_state)
        rng = functools.cache(lambda: generator(self.random_state))  # seeding takes 0.1 ms, and many solvers need none
        data = X, y, sample_weight
        objective: Objective
        if isinstance(X, Chunks):
            objective, classes = self._chunked(X, y, sample_weight)
        else:
            objective, classes = self._objective(X, y, sample_weight, classes)
        finisher = None if optimizer is not None else self._finisher(objective)
        chunked = isinstance(objective, ChunkedObjective)
        if chunked and finisher not in (None, "auto", "lbfgs"):
            fail("solver", "an update rule, 'lbfgs' or 'auto' for data in chunks", self.solver)
        if chunked and finisher == "auto":
            finisher = "lbfgs"
        w, state = (objective.zeros(), None) if progress is not None else self._start(objective, classes)
        batch_size = self._batch_size(objective)
        self.classes_ = classes
        with self._reporter(self.max_iter, data, self._fitted) as reporter:
            if finisher is not None:
                keeps = keeps and self.warm_start
                last = resume.told_of(state) if keeps else {}
                result = self._finish(objective, w, finisher, rng, reporter, last, progress, keeps=keeps)
            else:
                assert optimizer is not None
                result = stochastic(
                    objective, w, optimizer, batch_size=batch_size, tol=self.tol, max_iter=self.max_iter, rng=rng(),
                    verbose=reporter, state=state, epochs_of=ChunkedEpochs if chunked else Epochs,
                )  # fmt: skip
                self.solver_ = self.solver if isinstance(self.solver, str) else optimizer.name
            self._keep(result)

    def _finish(
        self, objective: Objective, w: Array, finisher: str, rng: Callable[[], Any], reporter: Reporter,
        last: dict[str, Any], progress: Progress | None, *, keeps: bool,
    ) -> Result:  # fmt: skip
        """Runs a solver that is no update rule: on from the state `last`, or from what `progress` was told of.

        The result has a state to go on from if it is to `keep` one.
        """
        course, before, value, size = resume.Course(), 0, math.nan, math.nan
        if progress is not None:
            course = resume.Course(resume.told_of(progress.run))
        elif resume.generator(last or None) and (found := resume.same_problem(last, objective, w)) is not None:
            value, size = found
            if size <= self.tol or not self.max_iter:
                reason = "tol" if size <= self.tol else "max_iter"
                return Result(w, 0, value, size, reason, history_of([(0, 0.0, value, size, math.nan)]), last)
            course, before = resume.Course(last), resume.epochs_of(last)
            reporter.before = before
        if course.state:
            found_rng = generator_of(course.state["run"])
            rng = functools.cache(lambda: found_rng)

        def told(result: Callable[[], Result]) -> None:
            assert progress is not None
            course.state["run"]["random"] = resume.random_numbers(rng())
            names = course.state["before"]["names"] if "before" in course.state else []
            self.solver_ = "+".join([*names, course.state["run"]["solver"]])
            progress.tell(course.state, lambda: self._keep(replace(result(), stop_reason="max_iter")))

        course.told = None if progress is None else told
        options: dict[str, Any] = {"tol": self.tol, "max_iter": self.max_iter + before, "verbose": reporter}
        if finisher == "auto":
            self.solver_, result = auto(objective, w, rng=rng, course=course, **options)
        else:
            self.solver_, solver = finisher, SOLVERS[finisher]
            options |= {"course": course} | ({"rng": rng()} if solver.shuffles else {})
            result = solver.run(objective, w, **options)
        state = course.state if keeps else {}
        result.state = resume.left(state, objective, result, resume.random_numbers(rng())) if state else {}
        return resume.since(result, before, value, size) if before else result

    def _objective(self, X: Any, y: Any, sample_weight: Any, classes: Array | None) -> tuple[Objective, Array]:
        """F on these data, and the classes."""
        design = read(self, X, reset=True, later=True)
        y, classes = self._encode(y, design.shape[0], classes)
        weights = weights_of(sample_weight, design.shape[0])
        if self.class_weight is not None:
            counts = np.bincount(y, weights, minlength=len(classes)).astype(np.float64)
            per_class = class_weights(self.class_weight, classes, counts)
            weights = per_class[y] * (1.0 if weights is None else weights)
        total = float(design.shape[0] if weights is None else weights.sum())
        return Objective(design, _signs(y, classes), sample_weight=weights, **self._terms(total, classes)), classes

    def _terms(self, total: float, classes: Array) -> dict[str, Any]:
        """What F is made of beside the data; `total` is the sum of the weights."""
        C, l1_ratio = _strength(self.penalty, self.C, self.l1_ratio)
        alpha = 1 / (C * total) if C * total > 0 else math.inf
        if not alpha < math.inf:
            fail("C", f"so large that alpha = 1 / (C sum_i s_i) is finite; the sum is {total:g}", self.C)
        binary = len(classes) == 2
        return {
            "loss": "log_loss" if binary else "multinomial", "alpha": alpha, "l1_ratio": l1_ratio,
            "fit_intercept": self.fit_intercept, "n_outputs": 1 if binary else len(classes), "n_jobs": self.n_jobs,
        }  # fmt: skip

    def _chunked(self, chunks: Chunks, y: Any, sample_weight: Any) -> tuple[ChunkedObjective, Array]:
        """F on chunks, and the classes; a first pass tells of classes, sizes and weights."""
        if y is not None or sample_weight is not None:
            raise ValueError("y and sample_weight must be None where X is Chunks, which have their own; got others.")
        sizes: list[int] = []
        sums: dict[Any, float] = {}
        for X, labels, weights in chunks:
            design = read(self, X, reset=not sizes)
            labels = self._labels(labels, design.shape[0])[0]
            s = weights_of(weights, design.shape[0], zeros=True)
            for label in np.unique(labels):
                sums[label] = sums.get(label, 0.0) + float(np.sum((labels == label) * (1.0 if s is None else s)))
            sizes.append(design.shape[0])
        if not sizes:
            raise ValueError("source must give at least one chunk; got none.")
        classes = np.unique(np.array(list(sums)))
        if len(classes) < 2:
            refuse_one_class(classes)
        counts = np.array([sums[label] for label in classes])
        if not counts.sum() > 0:
            refuse_weightless()
        per_class = class_weights(self.class_weight, classes, counts)

        def again() -> Iterator[tuple[Design, Array, Array | None]]:
            for X, labels, weights in chunks:
                design = read(self, X, reset=False)
                labels = self._labels(labels, design.shape[0])[0]
                codes = np.searchsorted(classes, labels)
                if not np.array_equal(classes[np.minimum(codes, len(classes) - 1)], labels):
                    raise ValueError("source must give the same targets each time; got another class.")
                s = weights_of(weights, design.shape[0], zeros=True)
                if self.class_weight is not None:
                    s = per_class[codes] * (1.0 if s is None else s)
                yield design, _signs(codes, classes), s

        total = float(counts @ per_class)
        return ChunkedObjective(again, sizes, total, **self._terms(total, classes)), classes

    def _finisher(self, objective: Objective) -> str:
        """ "auto", or the key of `SOLVERS` that `solver` means for this objective."""
        names: tuple[str, ...] = SCIKIT_LEARNS.get(self.solver, (self.solver,))
        obstacles = {name: "" if name == "auto" else self._obstacle(name, objective) for name in names}
        remedy = ""
        if self.solver == "liblinear" and objective.n_outputs > 1:
            obstacles = {"auto": f"{objective.n_outputs} outputs at once"}
            remedy = "The 'liblinear' solver does not support multiclass classification: use OneVsRestClassifier. "
        if all(obstacles.values()):
            others = " or ".join(repr(name) for name in SOLVERS if not self._obstacle(name, objective))
            fail("solver", f"one that can minimise {obstacles[names[-1]]}", self.solver, f"{remedy}Use {others}.")
        return next(name for name in names if not obstacles[name])

    def _obstacle(self, name: str, objective: Objective) -> str:
        """What keeps a solver from minimising this objective; empty if nothing does."""
        return SOLVERS[name].obstacle(objective)

    def _check_parameters(self) -> optimizers.Optimizer | None:
        """Validates the constructor's parameters; the update rule, or None for a finisher."""
        if self.penalty is not None:
            check_choice("penalty", self.penalty, ["deprecated", *PENALTY_NAMES], "Or None, for no penalty.")
        check_positive("C", self.C, finite=False)
        if self.l1_ratio is not None:
            check_real("l1_ratio", self.l1_ratio, low=0, high=1)
        elif self.penalty == "elasticnet":
            fail("l1_ratio", "a number in [0, 1] where penalty is 'elasticnet'", None)
        check_bool("dual", self.dual)
        if self.dual and (self.solver != "liblinear" or _strength(self.penalty, self.C, self.l1_ratio)[1]):
            fail("dual", "False for all but solver='liblinear' with L2", True, "The minimum is the same.")
        check_positive("intercept_scaling", self.intercept_scaling)
        check_real("tol", self.tol, low=0)
        check_bool("fit_intercept", self.fit_intercept)
        check_bool("warm_start", self.warm_start)
        check_integer("max_iter", self.max_iter, low=0)
        check_integer("verbose", int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, low=0)
        optimizers.SGD(self.learning_rate)  # checks it, whether or not the solver has one
        rule = "an integer in [1, n_samples], 'full' or 'auto'"
        if isinstance(self.batch_size, str):
            if self.batch_size not in ("auto", "full"):
                fail("batch_size", rule, self.batch_size)
        else:
            check_integer("batch_size", self.batch_size, low=1, rule=rule)
        if isinstance(self.solver, optimizers.Optimizer):
            return self.solver
        rules = [*optimizers.OPTIMIZERS]
        remedy = "Or give an instance, such as Adam(learning_rate=0.01)."
        check_choice("solver", self.solver, [*dict.fromkeys(["auto", *SOLVERS, *SCIKIT_LEARNS]), *rules], remedy)
        if self.solver not in rules:
            return None
        return optimizers.get(self.solver).with_learning_rate(self.learning_rate)

    def _encode(self, y: Any, n_samples: int, classes: Array | None = None) -> tuple[NDArray[np.intp], Array]:
        """Class numbers of y, and the classes: y's own unless they are given."""
        y, found = self._labels(y, n_samples)
        encoder = None
        if classes is not None and y.dtype == classes.dtype != object:  # not one by one, as strings would be
            codes = numbers_among(y, classes)
            if codes is not None:
                return codes, classes
        if classes is None and y.dtype.kind != "O":
            classes = np.unique(y) if found is None else found  # their own: not looked up among them
        else:
            encoder = LabelEncoder().fit(y if classes is None else classes)
            classes = np.asarray(encoder.classes_)
        if len(classes) < 2:
            refuse_one_class(classes)
        return class_numbers(y, classes) if encoder is None else encoder.transform(y), classes

    def _labels(self, y: Any, n_samples: int) -> tuple[Array, Array | None]:
        """Targets, as many as there are rows, and the classes, sorted, if the checks came upon them."""
        y = read_targets(self, y)
        classes = check_labels(y)
        check_length(y, n_samples)
        return y, classes

    def _batch_size(self, objective: Objective) -> int | str:
        if isinstance(self.batch_size, str):
            return self.batch_size
        if self.batch_size > objective.n_samples:
            rule = f"an integer in [1, n_samples] or 'full'; n_samples is {objective.n_samples}"
            fail("batch_size", rule, self.batch_size)
        return int(self.batch_size)

    def _start(self, objective: Objective, classes: Array) -> tuple[Array, dict[str, Any] | None]:
        """Parameters to start from, and the state to go on with: zeros and none, or the last fit's."""
        w = objective.zeros()
        if not self.warm_start or not hasattr(self, "coef_"):
            return w, None
        if not np.array_equal(self.classes_, classes) or np.shape(self.coef_)[1] != objective.n_features:
            return w, None
        w[: objective.n_features] = resume.within(dense(self.coef_).T, w.dtype)
        if objective.fit_intercept:
            w[-1] = self.intercept_
        return w, getattr(self, "optimizer_state_", None)

    def _fitted(self, w: Array) -> dict[str, Array]:
        """Coefficients and intercepts of a solver's parameters."""
        d = self.n_features_in_
        w = w.reshape(d + self.fit_intercept, -1)
        intercept = w[d].copy() if self.fit_intercept else np.zeros(w.shape[1], w.dtype)
        return {"coef_": np.ascontiguousarray(w[:d].T), "intercept_": intercept}

    def _keep(self, result: Result) -> None:
        """Sets the fitted attributes; passes Ctrl-C on."""
        fitted = self._fitted(result.w)
        self.coef_: Array = fitted["coef_"]
        self.intercept_: Array = fitted["intercept_"]
        self.n_iter_ = np.array([result.n_iter], dtype=np.int32)
        self.history_ = result.history
        self.objective_ = result.objective
        self.grad_norm_ = result.grad_norm
        self.converged_ = result.converged
        self.stop_reason_ = result.stop_reason
        self.optimizer_state_ = result.state
        if result.stop_reason == "interrupted":
            raise KeyboardInterrupt

    def _advice(self) -> str:
        """What did not happen, and which parameter to change."""
        asked = self.solver if self.solver in SCIKIT_LEARNS else self.solver_
        ran = "" if asked == self.solver_ else f"{self.solver_} stopped with "
        text = WORDS.get(asked, "").format(self.n_iter_[0]) if self.stop_reason_ == "max_iter" else ""
        text += f"{asked} failed to converge after {self.n_iter_[0]} iteration(s): {ran}|gradient| "
        text += f"{self.grad_norm_:.3g} > tol {self.tol:.3g}: {STOP_REASONS[self.stop_reason_]}. "
        if self.stop_reason_ == "diverged":
            return text + "Scale the features (StandardScaler), or give a smaller learning_rate."
        if self.stop_reason_ == "stalled":
            return text + "Raise tol, or scale the features (StandardScaler)."
        raised = f"Increase the number of iterations (max_iter={self.max_iter}) or tol"
        other = "" if self.solver in ("auto", "liblinear") else ", or use solver='auto'"
        return text + f"{raised}, scale the features (StandardScaler){other}."

    # ---------------------------------------------------------------------------------------------------- prediction

    def decision_function(self, X: Any) -> Array:
        """Raw predictions Xw + b: (n_samples,) for two classes, where positive means the second.

        With more classes (n_samples, n_classes).
        """
        scores = self._raw_prediction(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> Array:
        """The most probable class of each row, (n_samples,)."""
        scores = self.decision_function(X)
        binary = scores.ndim == 1
        return _in_pieces(lambda z: self.classes_[(z > 0).astype(np.intp) if binary else z.argmax(axis=1)], scores)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (n_samples, n_classes), in the order of `classes_`."""
        return _in_pieces(np.exp, self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, exact where the probabilities themselves would round to 0 or 1."""
        return _in_pieces(log_probabilities, self.decision_function(X))
