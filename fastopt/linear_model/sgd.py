"""Linear models fitted by stochastic gradient descent: scikit-learn's constructors, meanings and iterates."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets, type_of_target

from fastopt import losses, optimizers, schedules
from fastopt._design import Design
from fastopt._order import epoch_order
from fastopt._validation import check_between, check_bool, check_choice, check_integer, check_positive, check_real, fail
from fastopt.linear_model._base import (
    FRAMES,
    PENALTY_NAMES,
    LinearModel,
    Progress,
    check_labels,
    check_length,
    class_numbers,
    class_weights,
    dense,
    generator,
    generator_of,
    log_probabilities,
    numbers_among,
    read,
    read_targets,
    unchanged_on_error,
    weights_of,
    with_callbacks,
)
from fastopt.objective import Objective, raw_prediction
from fastopt.solvers import resume
from fastopt.solvers.epochs import Around, is_plain
from fastopt.solvers.monitor import history_of
from fastopt.solvers.rates import auto_learning_rate
from fastopt.solvers.scaled import Scaled, other_variables
from fastopt.solvers.sgd import Descent, Settings, sgd

__all__ = ["SGDClassifier", "SGDRegressor"]

Array = NDArray[Any]

SCHEDULES = ("constant", "optimal", "invscaling", "adaptive", "pa1", "pa2")
CLASSIFIER_LOSSES = (
    "hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron", "squared_error", "huber",
    "epsilon_insensitive", "squared_epsilon_insensitive", "multinomial",
)  # fmt: skip
REGRESSOR_LOSSES = (
    "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive", "poisson", "gamma", "quantile",
)  # fmt: skip
#: Losses with a log link: the prediction is exp of the raw one.
LOG_LINK = ("poisson", "gamma")
#: Iterates ran away if F is so many times that of zeros (regression), the first epoch's mean (classifiers), or that of
#: zeros (classifiers whose loss grows with the square).
USELESS, GROWN, ABSURD = 2.0, 10.0, 1e6
#: How often a fit is tried again, each time with learning rates ten times smaller.
CUTS = 10


class _SGD(LinearModel):
    """What both estimators share: parameters, the course of a fit, and what is kept of it."""

    # The parameters that both constructors set.
    loss: str
    penalty: Any
    alpha: float
    l1_ratio: Any
    fit_intercept: bool
    max_iter: int
    tol: Any
    shuffle: bool
    verbose: int
    epsilon: float
    random_state: Any
    learning_rate: Any
    eta0: float
    power_t: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    average: Any
    optimizer: Any
    batch_size: Any

    loss_functions: tuple[str, ...]
    _flat_coef: bool  # one target, given with one dimension

    # -------------------------------------------------------------------------------------------------- parameters

    def _check_parameters(self, *, for_partial_fit: bool = False) -> None:
        """Validates the constructor's parameters."""
        check_choice("loss", self.loss, self.loss_functions)
        if self.penalty is not None:
            check_choice("penalty", self.penalty, PENALTY_NAMES, "Or None, for no penalty.")
        check_real("alpha", self.alpha, low=0)
        if self.l1_ratio is not None:
            check_real("l1_ratio", self.l1_ratio, low=0, high=1)
        elif self.penalty == "elasticnet":
            raise ValueError("l1_ratio must be set when penalty is 'elasticnet'; got None.")
        for name in ("fit_intercept", "shuffle", "early_stopping", "warm_start"):
            check_bool(name, getattr(self, name))
        check_integer("max_iter", self.max_iter, low=1)
        check_integer("n_iter_no_change", self.n_iter_no_change, low=1)
        if self.tol is not None:
            check_real("tol", self.tol, low=0, remedy="Or None, to run all of max_iter.")
        check_real("epsilon", self.epsilon, low=0)
        check_positive("eta0", self.eta0)
        check_real("power_t", self.power_t)
        check_integer("verbose", int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, low=0)
        if not isinstance(self.average, bool | np.bool_):
            check_integer("average", self.average, low=1, rule="True, False or an integer >= 1")
        check_between("validation_fraction", self.validation_fraction, low=0, high=1)
        if not isinstance(self.batch_size, str):
            check_integer("batch_size", self.batch_size, low=1, rule="an integer in [1, n_samples] or 'full'")
        elif self.batch_size != "full":
            fail("batch_size", "an integer in [1, n_samples] or 'full'", self.batch_size)
        if not isinstance(self.optimizer, optimizers.Optimizer):
            remedy = "Or give an instance, such as Adam(learning_rate=0.01)."
            check_choice("optimizer", self.optimizer, optimizers.OPTIMIZERS, remedy)
        self._check_learning_rate()
        if self.average and self._around() is None:
            fail("average", "False for rules other than plain SGD", self.average, "Rules have ema_momentum.")
        if self.early_stopping and for_partial_fit:
            raise ValueError("early_stopping should be False with partial_fit; got True.")

    def _check_learning_rate(self) -> None:
        rate = self.learning_rate
        if isinstance(rate, str):
            remedy = "Or a number, a schedule or any function of the step."
            check_choice("learning_rate", rate, [*SCHEDULES, "auto"], remedy)
        elif not callable(rate):
            check_real("learning_rate", rate, low=0)
        if isinstance(self.optimizer, optimizers.Optimizer):
            return
        if rate == "optimal" and self.optimizer == "sgd" and self.alpha == 0:
            raise ValueError(
                "alpha must be > 0 since learning_rate is 'optimal'. alpha is used to compute the optimal learning "
                "rate."
            )
        if rate in ("pa1", "pa2"):
            only = "hinge" if "hinge" in self.loss_functions else "epsilon_insensitive"
            if self.loss != only:
                raise ValueError(f"Learning rate '{rate}' only works with loss '{only}'; got {self.loss!r}.")
            if self.optimizer != "sgd" or self.batch_size != 1:
                fail("learning_rate", "a schedule, for steps other than those of optimizer='sgd', batch_size=1", rate)

    def _loss(self, n_outputs: int) -> losses.Loss:
        if self.loss == "multinomial" and n_outputs == 1:  # of two classes one output tells
            return losses.Logistic()
        cls = losses.LOSSES[self.loss]
        if self.loss in ("huber", "epsilon_insensitive", "squared_epsilon_insensitive"):
            return cls(self.epsilon)  # type: ignore[call-arg]
        if self.loss == "quantile":
            return cls(self.quantile)  # type: ignore[call-arg]
        return cls()

    def _rule(self, problem: _Problem, *, measured: bool) -> tuple[optimizers.Optimizer, bool, bool, Scaled | None]:
        """The update rule with its learning rate, whether that adapts, whether it is automatic, and of which variables
        if not of w."""
        rate: Any = self.learning_rate
        if isinstance(self.optimizer, optimizers.Optimizer):
            rule = self.optimizer
            rate = rule.learning_rate
        else:
            rule = optimizers.get(self.optimizer)
        adapts = rate == "adaptive"
        if rate == "invscaling":
            rate = schedules.InverseScaling(self.eta0, self.power_t)
        elif rate in ("constant", "adaptive", "pa1", "pa2"):
            rate = self.eta0
        elif rate == "optimal" and self.optimizer == "sgd":
            rate = bottou(self.alpha)
        auto, variables = isinstance(rate, str), None
        if auto:
            objective = problem.objective(problem.groups[0])
            variables = other_variables(objective, rule) if measured and problem.around is None else None
            rate = auto_learning_rate(objective, rule, self._rows_per_step(objective.n_samples), variables)
        return rule.with_learning_rate(rate), adapts, auto, variables

    def _around(self) -> Around | None:
        """What makes plain SGD steps scikit-learn's; None for the other rules.

        Rates that F chooses need nothing of it but the average: weights count as in F, and F itself is watched.
        """
        own = isinstance(self.optimizer, optimizers.Optimizer)
        rule = self.optimizer if own else optimizers.get(self.optimizer)
        auto = (rule if own else self).learning_rate == "auto"
        if auto and not self.average:
            return None
        if not (isinstance(rule, optimizers.SGD) and is_plain(rule) and rule.weight_decay is None):
            return None
        passive = self.learning_rate if self.learning_rate in ("pa1", "pa2") else None
        return Around(
            average=min(int(self.average), sys.maxsize), l1="truncated", passive=passive, bound=float(self.eta0),
            guarded=True, raw_weights=not auto, measures=not auto, calm=not own and not auto,
        )  # fmt: skip

    def _rows_per_step(self, n_samples: int) -> int:
        gd = self.optimizer == "gd" or isinstance(self.optimizer, optimizers.GradientDescent)
        return n_samples if gd or self.batch_size == "full" else min(int(self.batch_size), n_samples)

    # --------------------------------------------------------------------------------------------------- the course

    def _read(self, X: Any, *, reset: bool, progress: Progress | None = None) -> Design:
        """X, whose first epoch may check its entries unless somebody is told of the fit before or rows are held out."""
        told = self.verbose or getattr(self, "_skl_callbacks", None) or progress is not None
        return read(self, X, reset=reset, later=not (told or self.early_stopping))

    def _fit_outputs(
        self, design: Design, y: Array, weights: Array | None, sample_weight: Array | None, start: tuple[Any, Any],
        data: Any, progress: Progress | None,
    ) -> None:  # fmt: skip
        """`fit`, once the targets are read: a column of y for each output.

        `weights` are the sample weights times the class weights, with columns where those differ by output.
        """
        run = None if progress is None else progress.run
        if run is not None and run["cut_at"] not in (None, self.max_iter):
            run = None  # its rates were cut for what came of another number of epochs
        rng = generator_of(run) if run is not None else generator(self.random_state)
        if run is None:
            w, held_out = self._start(design, y.shape[1], *start), self._held_out(y, sample_weight, rng)
        else:
            w, held_out = run["start"], run["held_out"]
        problem = _Problem(self, design, y, weights, held_out, sample_weight)
        self._descend(problem, w, None, rng, self.max_iter, data, progress=progress, run=run)

    def _partial_fit_outputs(self, design: Design, y: Array, weights: Array | None) -> bool:
        """One epoch more; whether its steps ran away.

        These rows may be few, or all their targets next to nothing: F of zeros is the largest that was met so far.
        """
        rng = getattr(self, "_random", None) or generator(self.random_state)
        if not hasattr(self, "optimizer_state_"):
            w, state = self._start(design, y.shape[1], None, None), None
        else:
            averaged = hasattr(self, "_standard_coef")
            coef, intercept = (
                (self._standard_coef, self._standard_intercept) if averaged else (self.coef_, self.intercept_)
            )
            w = self._parameters(coef, intercept, design.dtype)
            # What is of other variables than w, the rule begins anew.
            state = None if "variables" in self.optimizer_state_ else self.optimizer_state_ | {"t": int(self.t_) - 1}
        problem = _Problem(self, design, y, weights)
        self._descend(problem, w, state, rng, 1, None, measured=False)
        if problem.explodes(self.objective_, vars(self).get("_at_zero", 0.0)):
            self._at_zero = max(vars(self).get("_at_zero", 0.0), problem.trifle, problem.at_zero)
            if weights is not None:  # the means over steps are without them
                self._at_zero = max(self._at_zero, _Problem(self, design, y, None).at_zero)
            return problem.explodes(self.objective_, self._at_zero)
        return False

    def _start(self, design: Design, n_outputs: int, coef_init: Any, intercept_init: Any) -> Array:
        """Parameters to start from: those given, else the last fit's under warm_start, else zeros."""
        if self.warm_start and getattr(self, "coef_", None) is not None:
            coef_init = self.coef_ if coef_init is None else coef_init
            intercept_init = self.intercept_ if intercept_init is None else intercept_init
        d = design.shape[1]
        coef, intercept = np.zeros((n_outputs, d)), np.zeros(n_outputs)
        if coef_init is not None:
            given = np.asarray(dense(coef_init), dtype=np.float64)
            if given.size != coef.size or (n_outputs > 1 and given.shape != coef.shape):
                rule = f"it must have shape {coef.shape}; got {given.shape}."
                raise ValueError(f"Provided coef_init does not match dataset: {rule}")
            coef = given.reshape(coef.shape)
        if intercept_init is not None:
            given = np.asarray(intercept_init, dtype=np.float64)
            if given.size != n_outputs:
                rule = f"it must have shape {intercept.shape}; got {given.shape}."
                raise ValueError(f"Provided intercept_init does not match dataset: {rule}")
            intercept = given.reshape(n_outputs)
        return self._parameters(coef, intercept, design.dtype)

    def _parameters(self, coef: Any, intercept: Any, dtype: Any) -> Array:
        """Coefficients and intercepts as the solvers take them, (n_features + fit_intercept, n_outputs)."""
        coef = np.atleast_2d(dense(coef))
        w = np.zeros((coef.shape[1] + self.fit_intercept, len(coef)), dtype=dtype)
        w[: coef.shape[1]] = coef.T
        if self.fit_intercept:
            w[-1] = intercept
        return w

    def _held_out(self, y: Array, sample_weight: Array | None, rng: Any) -> Array | None:
        """Which rows are for validation, by scikit-learn's splitters and draws; None without early stopping."""
        if not self.early_stopping:
            return None
        if isinstance(self, RegressorMixin) and self.validation_fraction * len(y) <= 1:
            raise ValueError(
                f"validation_fraction must hold out two rows at least, since R^2 of one says nothing; got "
                f"{self.validation_fraction!r} of {len(y)}. Give more, or early_stopping=False."
            )
        if isinstance(rng, np.random.Generator):
            rng = np.random.RandomState(rng.integers(2**32, dtype=np.uint32))
        by_class = isinstance(self, ClassifierMixin) and not self._multilabel
        splitter = StratifiedShuffleSplit if by_class else ShuffleSplit
        cv = splitter(test_size=self.validation_fraction, random_state=rng)
        labels = (y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)) if by_class else None
        _, rows = next(cv.split(np.zeros((len(y), 1)), labels))
        if sample_weight is not None and not sample_weight[rows].any():
            raise ValueError(
                "The sample weights for validation set are all zero, consider using a different random state."
            )
        held_out = np.zeros(len(y), dtype=bool)
        held_out[rows] = True
        return held_out

    def _descend(
        self, problem: _Problem, w: Array, state: dict[str, Any] | None, rng: Any, max_iter: int, data: Any, *,
        measured: bool = True, progress: Progress | None = None, run: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Runs the epochs, at smaller learning rates if the iterates run away, and keeps what came of it.

        `progress` is told of each epoch; `run` is what it was told where the epochs go on.
        """
        outlives = rng is self.random_state or rng is vars(self).get("_random")
        drawn = resume.random_numbers(rng) if outlives else None
        try:
            self._go_down(problem, w, state, rng, max_iter, data, measured=measured, progress=progress, run=run)
        except Exception:
            if drawn is not None:
                resume.put_back(rng, drawn)
            raise

    def _go_down(
        self, problem: _Problem, w: Array, state: dict[str, Any] | None, rng: Any, max_iter: int, data: Any, *,
        measured: bool, progress: Progress | None, run: dict[str, Any] | None,
    ) -> None:  # fmt: skip
        """`_descend`, whatever becomes of the random numbers."""
        rule, adapts, auto, variables = self._rule(problem, measured=measured)
        settings = Settings(
            batch_size="full" if self.batch_size == "full" else int(self.batch_size), max_iter=max_iter,
            tol=self.tol if measured else None, n_iter_no_change=self.n_iter_no_change, adapts=adapts,
            auto=auto and measured, around=problem.around, variables=variables,
            score=None if problem.held_out is None else problem.score,
        )  # fmt: skip

        def outputs(columns: Array) -> tuple[Objective, optimizers.Optimizer]:
            return problem.objective(columns), rule

        def order() -> NDArray[np.intp]:
            return epoch_order(rng, problem.design, problem.rows) if self.shuffle else problem.rows

        def told(descent: Descent, course: dict[str, Any]) -> None:
            assert progress is not None
            random = resume.random_numbers(rng)
            run = {"random": random, "start": w, "held_out": problem.held_out, "cuts": cuts, "cut_at": cut_at}
            progress.tell(run | {"course": course}, lambda: self._keep(descent, math.nan, math.nan, problem))

        cuts, value, grad_norm = 0, math.nan, math.nan
        cut_at: int | None = None  # the number of epochs whose outcome asked for smaller rates
        course = None
        if run is not None:
            cuts, cut_at, course = run["cuts"], run["cut_at"], run["course"]
        with self._reporter(max_iter, data, self._fitted) as reporter:
            while True:
                start = Descent(w, state, scale=10.0**-cuts)
                if problem.around is not None:  # passive-aggressive steps have no other rate
                    around = replace(problem.around, bound=problem.around.bound * start.scale)
                    settings = replace(settings, around=around)
                descent = sgd(
                    outputs, problem.groups, start, settings, order, reporter, n_samples=len(problem.rows), rng=rng,
                    course=course, told=None if progress is None else told,
                )  # fmt: skip
                course = None
                away = descent.stop_reason == "diverged"
                if measured and not away:
                    value, grad_norm = problem.measure(descent.solution)
                if descent.stop_reason == "interrupted":
                    break
                if measured and not away:
                    away = problem.ran_away(value, descent.rows[0][2]) and not value <= problem.measure(w)[0]
                    cut_at = max_iter if away else cut_at
                if not away or cuts == CUTS:
                    break
                cuts += 1
            finite = descent.stop_reason != "diverged" and math.isfinite(value)
            if away and not (finite and problem.loss.bounded_slope):
                raise ValueError(
                    f"Floating-point under-/overflow occurred at epoch #{descent.n_iter}. Scaling input data with "
                    "StandardScaler or MinMaxScaler might help."
                )
            self._random = rng
            if measured:
                self._at_zero = problem.at_zero
            self._keep(descent, value, grad_norm, problem, first_step=1.0 if measured else getattr(self, "t_", 1.0))
            if descent.stop_reason == "interrupted":
                raise KeyboardInterrupt
        self._cuts = cuts

    def _smaller_rate(self, cuts: int | None) -> str:
        """What to set, and to what, for rates 10^cuts times smaller; None: less than it is."""
        own = isinstance(self.optimizer, optimizers.Optimizer)
        rate: Any = (self.optimizer if own else self).learning_rate

        def less(number: float) -> str:
            return f" below {number:.3g}" if cuts is None else f"={number / 10**cuts:.3g}"

        if isinstance(rate, str) and rate in ("constant", "invscaling", "adaptive", "pa1", "pa2"):
            return f"eta0{less(self.eta0)}"
        if isinstance(rate, str) or callable(rate):
            return "another learning_rate"
        return ("the optimizer " if own else "") + f"learning_rate{less(rate)}"

    def _warn(self, level: int = FRAMES + 1, *, of_partial_fit: bool = False, away: bool = False) -> None:
        """What the caller should know of the last fit; scikit-learn's words where it has some."""
        cuts = self.__dict__.pop("_cuts", 0)
        if cuts:
            warnings.warn(
                f"The iterates ran away; these are of learning rates 1e{cuts} times smaller. Scale the features "
                f"(StandardScaler), or give {self._smaller_rate(cuts)}.", ConvergenceWarning, stacklevel=level,
            )  # fmt: skip
        elif away:
            warnings.warn(
                f"The iterates ran away: F is {self.objective_:.3g} on these rows, and at most {self._at_zero:.3g} on "
                "any with all coefficients zero. Scale the features (StandardScaler), or give "
                f"{self._smaller_rate(None)}.", ConvergenceWarning, stacklevel=level,
            )  # fmt: skip
        if of_partial_fit:
            return
        if self.stop_reason_ == "max_iter" and self.tol is not None:
            warnings.warn(
                "Maximum number of iteration reached before convergence. Consider increasing max_iter to improve the "
                "fit.", ConvergenceWarning, stacklevel=level,
            )  # fmt: skip
        if self.power_t < 0:
            warnings.warn(
                "Negative values for `power_t` are deprecated in version 1.8 and will raise an error in 1.10. Use "
                "values in the range [0.0, inf) instead.", FutureWarning, stacklevel=level,
            )  # fmt: skip

    def _fitted(self, w: Array) -> dict[str, Array]:
        """Coefficients and intercepts of a solver's parameters."""
        d = self.n_features_in_
        intercept = w[d].copy() if self.fit_intercept else np.zeros(w.shape[1], w.dtype)
        coef = np.ascontiguousarray(w[:d].T)
        return {"coef_": coef[0] if self._flat_coef else coef, "intercept_": intercept}

    def _keep(
        self, descent: Descent, value: float, grad_norm: float, problem: _Problem, *, first_step: float = 1.0
    ) -> None:
        """Sets the fitted attributes."""
        for name, fitted in self._fitted(descent.solution).items():
            setattr(self, name, fitted)
        assert descent.state is not None
        # What the steps go on from, where it is not the solution: under averaging, and of rules that average.
        averages = descent.solution is not descent.w
        for kind, w, kept in (
            ("standard", descent.w, bool(self.average) or averages),
            ("average", descent.state.get("average", descent.w), bool(self.average)),
        ):
            for name, fitted in self._fitted(w).items():
                self.__dict__.pop(f"_{kind}_{name[:-1]}", None)
                if kept:
                    setattr(self, f"_{kind}_{name[:-1]}", fitted)
        steps = descent.n_iter * -(-problem.n_samples // self._rows_per_step(problem.n_samples))
        self.t_: float = first_step + steps
        self.n_iter_ = descent.n_iter
        self.loss_ = problem.loss
        self.history_ = history_of([(*row[:3], math.nan, row[3]) for row in descent.rows])
        self.history_["grad_norm"][-1:] = grad_norm
        self.objective_ = value if not math.isnan(value) or not descent.rows else descent.rows[-1][2]
        self.grad_norm_ = grad_norm
        self.converged_ = bool(self.tol is not None and grad_norm <= self.tol)
        self.stop_reason_ = descent.stop_reason
        self.optimizer_state_ = descent.state


class _Problem:
    """The data of a fit, and the objective of any of its outputs.

    In scikit-learn's steps alpha weighs against the mean of ``s_i loss_i``, in F against ``sum_i s_i loss_i / sum_i
    s_i``: what they minimise is F with alpha divided by the mean weight. The steps themselves take the weights as they
    are, and need no division.
    """

    def __init__(
        self, model: _SGD, design: Design, y: Array, weights: Array | None, held_out: Array | None = None,
        sample_weight: Array | None = None,
    ) -> None:  # fmt: skip
        self.design, self.y, self.weights, self.held_out = design, y, weights, held_out
        self.n_samples = design.shape[0]
        self.rows = np.arange(self.n_samples) if held_out is None else np.flatnonzero(~held_out)
        self.loss, self.around = model._loss(y.shape[1]), model._around()
        self._raw = self.around is not None and self.around.raw_weights
        #: Whether steps take all rows at once, whatever their order: weights leave out those that are held out.
        self._full = self.around is None and model._rows_per_step(self.n_samples) == self.n_samples
        self.softmax = self.loss.targets == "multiclass"
        self.regression = isinstance(model, RegressorMixin)
        self.alpha = 0.0 if model.penalty is None else float(model.alpha)
        self.l1_ratio = {"l1": 1.0, "elasticnet": model.l1_ratio}.get(model.penalty or "", 0.0)
        #: Whether steps grow with F, without a bound.
        rule = optimizers.get(model.optimizer)
        grow = rule._kernel in ("sgd", "momentum", "nesterov") and not rule._clips
        self.unbounded = grow and not self.loss.bounded_slope and model.learning_rate not in ("pa1", "pa2")
        self.fit_intercept = model.fit_intercept
        self.n_jobs = getattr(model, "n_jobs", None)  # SGDRegressor has none
        every = np.arange(y.shape[1])
        #: Outputs that share their weights, and with them F's alpha.
        self.alike = [every] if weights is None or weights.ndim == 1 else list(every[:, None])
        #: Outputs that may take their steps together.
        self.groups = [every] if self._raw else self.alike
        if held_out is not None:
            self._validation = design.rows(np.flatnonzero(held_out))
            self._validation_weights = None if sample_weight is None else sample_weight[held_out]
            self._score = model._validation_scores

    def objective(self, columns: Array) -> Objective:
        """What the steps on these outputs minimise."""
        s = self._trained(columns) if self._full else self._weights_of(columns)
        return self._objective(columns, s, 1.0)

    def _trained(self, columns: Array) -> Array | None:
        """Weights of these outputs, zero for the rows that are held out."""
        s = self._weights_of(columns)
        if self.held_out is None:
            return s
        kept = ~self.held_out if s is None or s.ndim == 1 else ~self.held_out[:, None]
        return np.where(kept, 1.0 if s is None else s, 0.0)

    def _weights_of(self, columns: Array) -> Array | None:
        """Weights of these outputs: (n_samples,) where they are the same for all."""
        if self.weights is None or self.weights.ndim == 1:
            return self.weights
        return self.weights[:, columns[0]] if len(columns) == 1 else self.weights[:, columns]

    def _objective(
        self, columns: Array, s: Array | None, mean_weight: float, design: Design | None = None
    ) -> Objective:
        y = self.y[:, columns[0]] if len(columns) == 1 else self.y
        if self.softmax:
            y = y.argmax(axis=1).astype(np.float64)
        elif 1 < len(columns) < self.y.shape[1]:
            y = self.y[:, columns]
        return Objective(
            design or self.design, y, loss=self.loss, alpha=self.alpha / mean_weight, sample_weight=s,
            fit_intercept=self.fit_intercept, n_outputs=len(columns), l1_ratio=self.l1_ratio,
            n_jobs=self.n_jobs,
        )  # fmt: skip

    def measure(self, w: Array) -> tuple[float, float]:
        """F and its gradient's norm over the rows that are trained on."""
        value, squares = 0.0, 0.0
        for columns in self.alike:
            s = self._trained(columns)
            with np.errstate(over="ignore", invalid="ignore"):
                mean_weight = float(s[self.rows].mean()) if self._raw and s is not None else 1.0
                one, gradient = self._objective(columns, s, mean_weight).value_and_gradient(w[:, columns])
                value, squares = value + one, squares + float(np.sum(np.square(gradient)))
        return value, math.sqrt(squares)

    def ran_away(self, value: float, first: float) -> bool:
        """Whether F at the end, `value`, tells of steps that grew; `first` is the first epoch's mean.

        A regression that is worse than zeros is useless. A classifier may still tell the classes apart when its scores
        are far too large, as they are at first with "optimal" rates: only growth counts. Where F of zeros is zero, or
        next to nothing, it is no measure: what `epsilon` makes free of charge is no loss to speak of, and the
        perceptron's plain steps, each towards rows that w points away from, cannot grow.
        """
        if self.loss.name == "perceptron":
            return not (math.isfinite(value) if self.around is not None else value <= ABSURD * max(1.0, first))
        zero, trifle = self.at_zero, self.trifle
        if self.regression:
            return not value <= max(zero + (USELESS - 1) * abs(zero), trifle)
        curved = self.loss.name.startswith("squared")
        return not value <= max(zero, GROWN * first, trifle) or (curved and not value <= ABSURD * max(zero, trifle))

    def explodes(self, value: float, zero: float) -> bool:
        """Whether F after some steps, `value`, is absurd beside `zero`, that of zeros.

        Only steps that grow with F can do that. Where they are bounded F may be as many times that of zeros if targets
        are small and rates are not, and falls again as these do.
        """
        return self.unbounded and not value <= ABSURD * zero

    @cached_property
    def trifle(self) -> float:
        """What the loss's `epsilon` makes free of charge."""
        width = self.loss.parameter
        free = {"epsilon_insensitive": width, "squared_epsilon_insensitive": width**2}.get(self.loss.name, 0.0)
        return float(free * self.y.shape[1])

    @cached_property
    def at_zero(self) -> float:
        """F of zeros, which no entry of X tells."""
        empty, zero = Design.from_array(np.zeros((self.n_samples, 1))), 0.0
        for columns in self.alike:
            objective = self._objective(columns, self._weights_of(columns), 1.0, empty)
            zero += objective.value(np.zeros(objective.shape))
        return zero

    def score(self, w: Array, columns: NDArray[np.intp]) -> Array:
        """Scores of these outputs on the rows held out."""
        flat = np.ascontiguousarray(w, dtype=np.float64).reshape(-1)
        z = raw_prediction(self._validation, flat, len(columns), self.fit_intercept, self.n_jobs)
        return np.asarray(self._score(self.y[self.held_out][:, columns], z, self._validation_weights))


def bottou(alpha: float) -> schedules.InverseTime:
    """scikit-learn's learning_rate="optimal": ``1 / (alpha (t0 + k))`` after k steps, t0 such that it starts at typw.

    With ``typw = alpha^-1/4``, the typical size of a weight, ``t0 = 1 / (alpha typw)``.

    References
    ----------
    Bottou, "Stochastic gradient descent tricks", 2012, section 5.2; the choice of t0 is that of his code.
    """
    typw = math.sqrt(1 / math.sqrt(alpha))
    return schedules.InverseTime(typw, decay=alpha * typw)


class SGDClassifier(ClassifierMixin, _SGD):
    """Linear classifiers fitted by stochastic gradient descent: scikit-learn's, compiled anew, by any update rule.

    Minimises ``F(w, b) = sum_i s_i loss(y_i, x_i.w + b) / sum_i s_i + alpha' ((1 - l1_ratio)/2 ||w||_2^2 +
    l1_ratio ||w||_1)``, summed over the outputs: one for two classes, one for each class against all others (y_i is +1
    or -1) otherwise, and one for each label of a multilabel target. s_i is the sample's weight times its class's. The
    intercept b is not penalised.

    - With the default optimizer ``alpha' = alpha n / sum_i s_i``: scikit-learn's objective, divided by the mean weight.
      By one row per step the iterates are scikit-learn's too, but for the order of the rows and, on CSR data, the
      intercept: its rate is ``max(lr / 100, min(lr, 4 / h))`` in place of lr / 100, with h the curvature of the losses
      so far (`fastopt.solvers.epochs.Around`).
    - With other optimizers, and ``learning_rate="auto"``, alpha' is alpha: a weight of 2 is that row twice.

    "Coming from scikit-learn" in the documentation lists what differs.

    Parameters
    ----------
    loss : str, default "hinge"
        "hinge" (linear SVM), "log_loss" (logistic regression), "modified_huber", "squared_hinge", "perceptron", and the
        regression losses "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"; formulas in
        `fastopt.losses`. Beyond scikit-learn's: "multinomial", softmax over all classes at once instead of one against
        all others.
    penalty : {"l2", "l1", "elasticnet"} or None, default "l2"
        With L1 coefficients become exactly zero: by Tsuruoka's truncated gradient in plain SGD, by proximal steps in
        the other rules.
    alpha : float >= 0, default 1e-4
        Strength of the penalty; the learning rates "optimal" come from it too.
    l1_ratio : float in [0, 1] or None, default 0.15
        Share of L1, with "elasticnet" only.
    fit_intercept : bool, default True
    max_iter : int >= 1, default 1000
        Epochs at most.
    tol : float >= 0 or None, default 1e-3
        An epoch counts as an improvement if the mean over its steps of loss plus penalty is at most the best so far
        less `tol`. None: all of `max_iter`.
    shuffle : bool, default True
        A new random order of the rows in each epoch.
    verbose : int, default 0
        1 prints a line per epoch; 2 shows a progress bar, if tqdm is installed.
    epsilon : float >= 0, default 0.1
        Of the Huber and epsilon-insensitive losses; > 0 for Huber's.
    n_jobs : int or None, default None
        Threads of the passes that measure F and predict, as in `LogisticRegression`; epochs use one, all classes side
        by side. No bit depends on it.
    random_state : int, RandomState, Generator, SeedSequence or None, default None
        Order of the rows, and the rows held out. None draws fresh entropy: NumPy's global state is never touched.
    learning_rate : str, float, Schedule or callable, default "optimal"
        An optimizer instance has its own; else:

        - a number, or a function of the number of steps taken;
        - "constant": eta0;
        - "invscaling": eta0 / t^power_t;
        - "optimal": 1 / (alpha (t0 + t - 1)), t0 by Bottou's heuristic; "auto" for an `optimizer` other than "sgd";
        - "adaptive": eta0, divided by 5 each time that `n_iter_no_change` epochs brought no improvement, until it is
          1e-6;
        - "pa1", "pa2": passive-aggressive steps, with the loss "hinge";
        - "auto": from the data, see Notes.
    eta0 : float > 0, default 0.01
        See `learning_rate`; the aggressiveness C of "pa1" and "pa2".
    power_t : float, default 0.5
        See `learning_rate`.
    early_stopping : bool, default False
        Holds out `validation_fraction` of the rows, stratified, and watches the accuracy on them instead of F.
    validation_fraction : float in (0, 1), default 0.1
    n_iter_no_change : int >= 1, default 5
        Epochs without improvement in a row after which an output's training stops.
    class_weight : dict, "balanced" or None, default None
        With more than two classes a class's weight is that of its own rows against all others, as in scikit-learn.
    warm_start : bool, default False
        `fit` starts from the last coefficients; the step count starts anew.
    average : bool or int, default False
        True: the coefficients are the mean of all iterates; an integer: of those from that step on.
    optimizer : str or Optimizer, default "sgd"
        The update rule: a key of `fastopt.optimizers.OPTIMIZERS`, or an instance with its learning rate.
    batch_size : int or "full", default 1
        Rows per step.

    Attributes
    ----------
    coef_ : ndarray (1, n_features) or (n_outputs, n_features)
        float32 if X is float32, else float64.
    intercept_ : ndarray (1,) or (n_outputs,)
    classes_ : ndarray (n_classes,)
        For a multilabel target the numbers of the labels.
    n_iter_ : int
        Epochs; of the class that took the most.
    t_ : float
        One more than the steps taken since `fit` began, or since the first `partial_fit`.
    loss_ : Loss
        The loss with its parameter.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    history_ : dict of arrays
        epoch, seconds, objective (the mean over the epoch's steps, which costs no pass over the data, and without
        weights; F itself for rules other than plain SGD, and automatic rates), grad_norm (NaN but for the last epoch)
        and learning_rate (the epoch's largest).
    objective_, grad_norm_ : float
        F and the norm of its (least) subgradient at the coefficients, over all rows trained on; after `partial_fit` the
        mean over the steps, and NaN.
    converged_ : bool
        ``grad_norm_ <= tol``, measured. `tol` stops by another rule, so that this may well be False.
    stop_reason_ : str
        "no_change", "max_iter" or "interrupted".
    optimizer_state_ : dict
        State of the update rule after the last step.

    Raises
    ------
    ValueError, TypeError
        Before anything is changed: one line that names the parameter, its rule and the value. Also, from `fit` and
        `partial_fit`, if the parameters overflow even at learning rates 1e10 times smaller.
    KeyboardInterrupt
        From `fit`, after the coefficients of the last whole epoch were set; before the first one nothing is changed.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` was reached, if the iterates ran away and smaller learning rates were taken, or, in `partial_fit`,
        if F has grown to a million times that of zeros.

    Notes
    -----
    An automatic learning rate falls to zero in cycles of more and more epochs; `tol` is looked at at the end of each,
    and the best parameters are kept. Two kinds of rules have no cycles:

    - Of Ftrl, the schedule-free rules and under `average` the rate is halved after 3, then 4, 5, 7, ... epochs without
      a new lowest F, whose parameters go on.
    - Gradient descent ("gd", or "sgd" with ``batch_size="full"``) on a loss without kinks takes each step's rate from
      the last two points (Barzilai and Borwein), each output by itself.

    Where columns differ in size or are far from zero, `fit` takes steps with an automatic rate (but for those under
    `average`) in variables that centre and scale the columns, on the same F. The rule's state begins anew in a
    `partial_fit` after that.

    References
    ----------
    Bottou, "Stochastic gradient descent tricks", 2012. Tsuruoka, Tsujii, Ananiadou, "Stochastic gradient descent
    training for L1-regularized log-linear models with cumulative penalty", ACL 2009, section 3.2. Crammer, Dekel,
    Keshet, Shalev-Shwartz, Singer, "Online passive-aggressive algorithms", JMLR 7, 2006, eq. (15).

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = SGDClassifier(random_state=0).fit(scale(X), y)
    >>> model.stop_reason_, model.score(scale(X), y) > 0.96
    ('no_change', True)
    """

    loss_functions = CLASSIFIER_LOSSES
    _flat_coef = False

    def __init__(
        self, loss: str = "hinge", *, penalty: Any = "l2", alpha: float = 0.0001, l1_ratio: Any = 0.15,
        fit_intercept: bool = True, max_iter: int = 1000, tol: Any = 1e-3, shuffle: bool = True, verbose: int = 0,
        epsilon: float = 0.1, n_jobs: Any = None, random_state: Any = None, learning_rate: Any = "optimal",
        eta0: float = 0.01, power_t: float = 0.5, early_stopping: bool = False, validation_fraction: float = 0.1,
        n_iter_no_change: int = 5, class_weight: Any = None, warm_start: bool = False, average: Any = False,
        optimizer: Any = "sgd", batch_size: Any = 1,
    ) -> None:  # fmt: skip
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.average = average
        self.optimizer = optimizer
        self.batch_size = batch_size

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @with_callbacks
    def fit(
        self, X: Any, y: Any, coef_init: Any = None, intercept_init: Any = None, sample_weight: Any = None
    ) -> SGDClassifier:
        """Fits the model.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
            C-ordered float32 or float64 and CSR with int32 or int64 indices are read as they are, never copied;
            anything else is converted once.
        y : array-like (n_samples,), or (n_samples, n_labels) of 0 and 1
            Class labels of any kind, at least two different ones; or a column for each of several labels.
        coef_init, intercept_init : array-like or None
            Where to start, shaped like `coef_` and `intercept_`.
        sample_weight : array-like (n_samples,) or None
            Weights >= 0.

        Returns
        -------
        self
        """
        with unchanged_on_error(self):
            self._fit(X, y, sample_weight, (coef_init, intercept_init), (X, y, sample_weight))
        self._warn()
        return self

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, start: tuple[Any, Any] = (None, None), data: Any = None,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """`fit`, but for warnings; `data` is what callbacks get to see."""
        self._check_parameters()
        design = self._read(X, reset=True, progress=progress)
        targets, classes = self._encode(y, design.shape[0])
        self.classes_ = classes
        s = weights_of(sample_weight, design.shape[0], zeros=self.early_stopping)
        weights = self._with_class_weights(targets, s)
        self._fit_outputs(design, targets, weights, s, start, data, progress)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> SGDClassifier:
        """One epoch over these rows, from where the last call left off: step count, averages, the rule's state go on.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; y need not hold all classes.
        classes : array-like (n_classes,)
            All labels that y will ever hold; needed in the first call, and the same in later ones. Not with a
            multilabel target.

        Returns
        -------
        self
        """
        with unchanged_on_error(self):
            first = not hasattr(self, "classes_")
            self._check_parameters(for_partial_fit=first)
            if isinstance(self.class_weight, str):
                raise ValueError(
                    f"class_weight '{self.class_weight}' is not supported for partial_fit. In order to use 'balanced' "
                    "weights, use compute_class_weight('balanced', classes=classes, y=y). In place of y you can use a "
                    "large enough sample of the full training set target to properly estimate the class frequency "
                    "distributions. Pass the resulting weights as the class_weight parameter."
                )
            design, y = self._read(X, reset=first), self._as_array(y)
            labels = np.shape(y)[1] if _is_multilabel(y) else None
            if labels is None or classes is not None:
                _check_partial_fit_first_call(self, classes)
            elif first:
                self.classes_ = np.arange(labels)
            targets, _ = self._encode(y, design.shape[0], self.classes_)
            weights = self._with_class_weights(targets, weights_of(sample_weight, design.shape[0]))
            away = self._partial_fit_outputs(design, targets, weights)
        self._warn(3, of_partial_fit=True, away=away)
        return self

    def _encode(self, y: Any, n_samples: int, classes: Array | None = None) -> tuple[Array, Array]:
        """Targets +1 and -1 with a column for each output, and the classes."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        y = self._as_array(y)
        if getattr(y, "dtype", np.dtype(object)).kind == "f":
            assert_all_finite(y, input_name="y")
        found = None
        if classes is None or not _is_flat(y) or y.dtype.kind not in "biu":
            found = check_labels(y) if isinstance(y, np.ndarray) else check_classification_targets(y)
        self._multilabel = found is None and _is_multilabel(y)
        if self._multilabel:
            return self._encode_multilabel(y, n_samples, classes)
        return self._encode_classes(y, n_samples, found, classes)

    def _as_array(self, y: Any) -> Any:
        """A Series of other types than NumPy's as an array, since some of what looks at y cannot read it."""
        dtype = getattr(y, "dtype", np.dtype(object))
        if isinstance(dtype, np.dtype):
            return y
        return read_targets(self, y) if hasattr(dtype, "kind") else np.asarray(y)  # of pandas, or of polars

    def _encode_multilabel(self, y: Any, n_samples: int, classes: Array | None) -> tuple[Array, Array]:
        """Of a column of 0 and 1 for each label: its number is the class."""
        if self.loss == "multinomial":
            fail("loss", "one of single outputs for a multilabel target", self.loss)
        y = np.asarray(dense(y))
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"y must hold 0 and 1 where it has a column for each label; got {np.unique(y)}.")
        labels = np.arange(y.shape[1])
        if classes is not None and len(classes) != len(labels):
            raise ValueError(f"y must have a column for each of {len(classes)} labels; got {len(labels)}.")
        check_length(y, n_samples)
        return np.where(y > 0, 1.0, -1.0), labels

    def _encode_classes(
        self, y: Any, n_samples: int, found: Array | None, classes: Array | None
    ) -> tuple[Array, Array]:  # fmt: skip
        """Of a class for each row: one of `classes`, or of y's own, which its check may have found."""
        y = y if _is_flat(y) else column_or_1d(y, warn=True)
        known = np.asarray(classes) if classes is not None else np.unique(y) if found is None else found
        if len(known) < 2 and len(y) == n_samples:
            label = known[0].item() if hasattr(known[0], "item") else known[0]
            raise ValueError(
                "The number of classes has to be greater than one: y must hold at least 2 classes; "
                f"got 1 class, {label!r}."
            )
        codes = class_numbers(y, known) if classes is None else _codes(y, known)
        check_length(y, n_samples)
        if len(known) == 2:
            return np.where(codes == 1, 1.0, -1.0)[:, None], known
        targets = np.full((n_samples, len(known)), -1.0)
        targets[np.arange(n_samples), codes] = 1.0
        return targets, known

    def _with_class_weights(self, targets: Array, weights: Array | None) -> Array | None:
        """Sample weights times class weights; a column for each output where outputs differ in them."""
        if self.class_weight is None:
            return weights
        if self._multilabel:
            fail("class_weight", "None with a multilabel target", self.class_weight)
        positive = targets > 0
        codes = positive[:, 0].astype(np.intp) if targets.shape[1] == 1 else positive.argmax(axis=1)
        counts = np.bincount(codes, minlength=len(self.classes_)).astype(np.float64)
        one_sum = targets.shape[1] == 1 or self.loss == "multinomial"  # else each class has the others' rows as well
        per_class = class_weights(self.class_weight, self.classes_, counts, zeros=not one_sum)
        s = np.ones(len(targets)) if weights is None else weights
        if one_sum:
            return np.asarray(s * per_class[codes])
        return np.asarray(s[:, None] * np.where(positive, per_class, 1.0))

    def _validation_scores(self, y: Array, z: Array, s: Array | None) -> Array:
        """Accuracy of each output; of softmax's outputs together."""
        if self.loss == "multinomial" and y.shape[1] > 1:
            return np.full(y.shape[1], np.average(z.argmax(axis=1) == y.argmax(axis=1), weights=s))
        return np.asarray(np.average((z > 0) == (y > 0), axis=0, weights=s))

    # -------------------------------------------------------------------------------------------------- prediction

    def decision_function(self, X: Any) -> Array:
        """Raw predictions Xw + b: (n_samples,) for two classes, where positive means the second.

        With more classes or several labels (n_samples, n_outputs).
        """
        scores = self._raw_prediction(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> Array:
        """The class of each row, (n_samples,); of a multilabel target 0 or 1 for each label, (n_samples, n_labels)."""
        scores = self.decision_function(X)
        if self._multilabel:
            return (scores > 0).astype(np.intp)
        chosen = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[chosen])

    def _has_probabilities(self) -> bool:
        if self.loss not in ("log_loss", "modified_huber", "multinomial"):
            raise AttributeError(f"probability estimates are not available for loss={self.loss!r}")
        return True

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (n_samples, n_classes).

        Only with the losses "log_loss", "modified_huber" and "multinomial". Of the raw predictions z they are
        1 / (1 + exp(-z)) or (clip(z, -1, 1) + 1) / 2, divided by their sum over the classes where there are more than
        two; "multinomial" has exp(z) / sum exp(z). Of a multilabel target each label has its own.

        References
        ----------
        Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
        Zhang, "Statistical behavior and consistency of classification methods based on convex risk minimization",
        Annals of Statistics 32(1), 2004, appendix B.
        """
        if self.loss != "modified_huber":
            return np.asarray(np.exp(self.predict_log_proba(X)))  # shares of what would all round to 0, too
        p = (np.clip(self.decision_function(X), -1, 1) + 1) / 2
        if p.ndim == 1:
            return np.column_stack([1 - p, p])
        if self._multilabel:
            return np.asarray(p)
        total = p.sum(axis=1, keepdims=True)
        p[(total == 0)[:, 0]] = 1.0  # no class claims the row: all alike
        return np.asarray(p / p.sum(axis=1, keepdims=True))

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, exact where these round to 0; with "modified_huber" they may be -inf."""
        if self.loss == "modified_huber":
            with np.errstate(divide="ignore"):
                return np.asarray(np.log(self.predict_proba(X)))
        z = self.decision_function(X)
        log_p = z if self.loss == "multinomial" or z.ndim == 1 else log_expit(z)
        return np.asarray(log_p) if self._multilabel else log_probabilities(log_p)


def _is_flat(y: Any) -> bool:
    """Whether there is nothing to convert or to flatten; scikit-learn's look at y takes as long as a small batch."""
    return type(y) is np.ndarray and y.ndim == 1 and len(y) > 0


def _is_multilabel(y: Any) -> bool:
    return y is not None and not _is_flat(y) and type_of_target(y, input_name="y") == "multilabel-indicator"


def _codes(y: Array, classes: Array) -> NDArray[np.intp]:
    """Class numbers of y, all of which must be in `classes`."""
    codes = numbers_among(y, classes)
    if codes is None:
        unknown = np.setdiff1d(y, classes)
        raise ValueError(f"The target label(s) {unknown} in y do not exist in the initial classes {classes}.")
    return codes


class SGDRegressor(RegressorMixin, _SGD):
    """Linear regression by stochastic gradient descent: scikit-learn's, compiled anew, by any update rule.

    Minimises ``F(w, b) = sum_i s_i loss(y_i, x_i.w + b) / sum_i s_i + alpha' ((1 - l1_ratio)/2 ||w||_2^2 +
    l1_ratio ||w||_1)``, summed over the targets if there are several; s_i is the sample's weight, and the intercept b
    is not penalised. alpha' is that of `SGDClassifier`, and so are the steps.

    With ``loss="squared_error"`` this F is, over n unweighted rows, that of scikit-learn's

    - ``Lasso(alpha)`` with ``penalty="l1"`` and the same alpha,
    - ``ElasticNet(alpha, l1_ratio=r)`` with ``penalty="elasticnet", l1_ratio=r`` and the same alpha,
    - ``Ridge(alpha)`` with ``penalty="l2", alpha=alpha / n``, divided by 2 n,
    - ``LinearRegression()`` with ``penalty=None``, divided by 2.

    Parameters
    ----------
    loss : str, default "squared_error"
        "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"; also "quantile", and "poisson"
        and "gamma", whose prediction is exp(x.w + b). Formulas in `fastopt.losses`.
    penalty : {"l2", "l1", "elasticnet"} or None, default "l2"
        With L1 coefficients become exactly zero: by Tsuruoka's truncated gradient in plain SGD, by proximal steps in
        the other rules.
    alpha : float >= 0, default 1e-4
        Strength of the penalty; the learning rates "optimal" come from it too.
    l1_ratio : float in [0, 1] or None, default 0.15
        Share of L1, with "elasticnet" only.
    fit_intercept : bool, default True
    max_iter : int >= 1, default 1000
        Epochs at most.
    tol : float >= 0 or None, default 1e-3
        An epoch counts as an improvement if the mean over its steps of loss plus penalty is at most the best so far
        less `tol`. None: all of `max_iter`.
    shuffle : bool, default True
        A new random order of the rows in each epoch.
    verbose : int, default 0
        1 prints a line per epoch; 2 shows a progress bar, if tqdm is installed.
    epsilon : float >= 0, default 0.1
        Of the Huber and epsilon-insensitive losses; > 0 for Huber's.
    random_state : int, RandomState, Generator, SeedSequence or None, default None
        Order of the rows, and the rows held out. None draws fresh entropy: NumPy's global state is never touched.
    learning_rate : str, float, Schedule or callable, default "invscaling"
        As in `SGDClassifier`; "pa1" and "pa2" with the loss "epsilon_insensitive".
    eta0 : float > 0, default 0.01
        See `learning_rate`; the aggressiveness C of "pa1" and "pa2".
    power_t : float, default 0.25
        See `learning_rate`.
    early_stopping : bool, default False
        Holds out `validation_fraction` of the rows, two at least, and watches R^2 on them instead of F.
    validation_fraction : float in (0, 1), default 0.1
    n_iter_no_change : int >= 1, default 5
        Epochs without improvement in a row after which a target's training stops.
    warm_start : bool, default False
        `fit` starts from the last coefficients; the step count starts anew.
    average : bool or int, default False
        True: the coefficients are the mean of all iterates; an integer: of those from that step on.
    optimizer : str or Optimizer, default "sgd"
        The update rule: a key of `fastopt.optimizers.OPTIMIZERS`, or an instance with its learning rate.
    batch_size : int or "full", default 1
        Rows per step.
    quantile : float in (0, 1), default 0.5
        Of the loss "quantile".

    Attributes
    ----------
    coef_ : ndarray (n_features,), or (n_targets, n_features) if y has two dimensions
        float32 if X is float32, else float64.
    intercept_ : ndarray (1,) or (n_targets,)
    n_iter_ : int
        Epochs; of the target that took the most.
    t_ : float
        One more than the steps taken since `fit` began, or since the first `partial_fit`.
    loss_ : Loss
        The loss with its parameter.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    history_ : dict of arrays
        epoch, seconds, objective (the mean over the epoch's steps, which costs no pass over the data, and without
        weights; F itself for rules other than plain SGD, and automatic rates), grad_norm (NaN but for the last epoch)
        and learning_rate (the epoch's largest).
    objective_, grad_norm_ : float
        F and the norm of its (least) subgradient at the coefficients, over all rows trained on; after `partial_fit` the
        mean over the steps, and NaN.
    converged_ : bool
        ``grad_norm_ <= tol``, measured. `tol` stops by another rule, so that this may well be False.
    stop_reason_ : str
        "no_change", "max_iter" or "interrupted".
    optimizer_state_ : dict
        State of the update rule after the last step.

    Raises
    ------
    ValueError, TypeError
        Before anything is changed: one line that names the parameter, its rule and the value. Also, from `fit` and
        `partial_fit`, if the parameters overflow even at learning rates 1e10 times smaller.
    KeyboardInterrupt
        From `fit`, after the coefficients of the last whole epoch were set; before the first one nothing is changed.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` was reached, if the iterates ran away and smaller learning rates were taken, or, in `partial_fit`,
        if F has grown to a million times that of zeros.

    References
    ----------
    Bottou, "Stochastic gradient descent tricks", 2012. Tsuruoka, Tsujii, Ananiadou, "Stochastic gradient descent
    training for L1-regularized log-linear models with cumulative penalty", ACL 2009, section 3.2. Crammer, Dekel,
    Keshet, Shalev-Shwartz, Singer, "Online passive-aggressive algorithms", JMLR 7, 2006, eq. (15).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = SGDRegressor(random_state=0).fit(scale(X), y)
    >>> model.stop_reason_, model.score(scale(X), y) > 0.5
    ('no_change', True)
    """

    loss_functions = REGRESSOR_LOSSES

    def __init__(
        self, loss: str = "squared_error", *, penalty: Any = "l2", alpha: float = 0.0001, l1_ratio: Any = 0.15,
        fit_intercept: bool = True, max_iter: int = 1000, tol: Any = 1e-3, shuffle: bool = True, verbose: int = 0,
        epsilon: float = 0.1, random_state: Any = None, learning_rate: Any = "invscaling", eta0: float = 0.01,
        power_t: float = 0.25, early_stopping: bool = False, validation_fraction: float = 0.1,
        n_iter_no_change: int = 5, warm_start: bool = False, average: Any = False, optimizer: Any = "sgd",
        batch_size: Any = 1, quantile: float = 0.5,
    ) -> None:  # fmt: skip
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.quantile = quantile

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @with_callbacks
    def fit(
        self, X: Any, y: Any, coef_init: Any = None, intercept_init: Any = None, sample_weight: Any = None
    ) -> SGDRegressor:
        """Fits the model.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
            C-ordered float32 or float64 and CSR with int32 or int64 indices are read as they are, never copied;
            anything else is converted once.
        y : array-like (n_samples,) or (n_samples, n_targets)
        coef_init, intercept_init : array-like or None
            Where to start, shaped like `coef_` and `intercept_`.
        sample_weight : array-like (n_samples,) or None
            Weights >= 0.

        Returns
        -------
        self
        """
        with unchanged_on_error(self):
            self._fit(X, y, sample_weight, (coef_init, intercept_init), (X, y, sample_weight))
        self._warn()
        return self

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, start: tuple[Any, Any] = (None, None), data: Any = None,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """`fit`, but for warnings; `data` is what callbacks get to see."""
        self._check_parameters()
        design = self._read(X, reset=True, progress=progress)
        targets = self._targets(y, design.shape[0])
        s = weights_of(sample_weight, design.shape[0], zeros=self.early_stopping)
        self._fit_outputs(design, targets, s, s, start, data, progress)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> SGDRegressor:
        """One epoch over these rows, from where the last call left off: step count, averages, the rule's state go on.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        self
        """
        with unchanged_on_error(self):
            first = not hasattr(self, "coef_")
            self._check_parameters(for_partial_fit=first)
            design = self._read(X, reset=first)
            targets = self._targets(y, design.shape[0])
            if not first and targets.shape[1] != np.atleast_2d(self.coef_).shape[0]:
                before = np.atleast_2d(self.coef_).shape[0]
                raise ValueError(f"y must have as many targets as in the last call ({before}); got {targets.shape[1]}.")
            away = self._partial_fit_outputs(design, targets, weights_of(sample_weight, design.shape[0]))
        self._warn(3, of_partial_fit=True, away=away)
        return self

    def _targets(self, y: Any, n_samples: int) -> Array:
        """Targets with a column for each output."""
        targets = np.asarray(read_targets(self, y, multi_output=True, y_numeric=True), dtype=np.float64)
        check_length(targets, n_samples)
        self._flat_coef = targets.ndim == 1
        return targets[:, None] if targets.ndim == 1 else targets

    def _link(self, z: Array) -> Array:
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(z) if self.loss in LOG_LINK else z

    def _validation_scores(self, y: Array, z: Array, s: Array | None) -> Array:
        """R^2 of each target: -inf where predictions overflow, which scikit-learn's function refuses."""
        predicted = self._link(z)
        finite = np.isfinite(predicted).all(axis=0)
        with np.errstate(over="ignore"):
            scores = r2_score(y, np.where(finite, predicted, 0.0), sample_weight=s, multioutput="raw_values")
        return np.where(finite, scores, -np.inf)

    def predict(self, X: Any) -> Array:
        """Predictions, shaped like y: Xw + b, or exp of it with the losses "poisson" and "gamma"."""
        scores = self._link(self._raw_prediction(X))
        return scores[:, 0] if self._flat_coef else scores
