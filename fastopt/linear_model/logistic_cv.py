"""Logistic regression with the strength of its penalty chosen by cross-validation."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)

from fastopt._design import Design
from fastopt._validation import as_float, check_bool, check_choice, check_integer, check_positive, check_real, fail
from fastopt.linear_model._base import (
    PENALTY_NAMES,
    Progress,
    class_weights,
    generator,
    read,
    unchanged_on_error,
    weights_of,
)
from fastopt.linear_model.logistic import LogisticRegression, _old_ways

__all__ = ["LogisticRegressionCV"]

Array = NDArray[Any]

#: What the model on all rows hands over to the estimator.
KEPT = (
    "coef_", "intercept_", "history_", "objective_", "grad_norm_", "converged_", "stop_reason_", "solver_",
    "optimizer_state_",
)  # fmt: skip


#: What one fit of a path hands over to the next.
CARRIED = ("classes_", "n_features_in_", "coef_", "intercept_", "optimizer_state_")


@dataclass(frozen=True)
class _Data:
    """What all fits share; X is as splitters and scorers want it, `metadata` what the scorer gets beside it."""

    X: Any
    labels: Array
    sample_weight: Array | None
    classes: Array
    class_weight: Any
    scorer: Any
    metadata: dict[str, Any]


class LogisticRegressionCV(LogisticRegression):
    """Logistic regression whose C (and l1_ratio) is the best of a grid by cross-validation.

    For each fold and l1_ratio the Cs are fitted in their order, each from the coefficients of the one before. The best
    pair, by the mean score over the folds, is fitted on all rows, from the mean of the folds' coefficients. The
    objective is that of `LogisticRegression`.

    Parameters
    ----------
    Cs : int or array-like of float, default 10
        The grid; an integer is that many values from 1e-4 to 1e4, evenly spaced in their logarithm.
    l1_ratios : array-like of float or None, default "warn"
        As `LogisticRegression` takes them; each is tried with each C. None and the default are L2 alone, with
        scikit-learn's warnings that they will be (0.0,).
    fit_intercept : bool, default True
    cv : int, splitter, iterable or None, default None
        Folds as in scikit-learn; None is 5 stratified ones. Rows of some classes may be missing in a fold's training
        rows: all classes take part in its fits.
    dual, penalty, intercept_scaling
        As in `LogisticRegression`; `penalty` is not None.
    scoring : str, callable or None, default "warn"
        A scorer as in scikit-learn; None is the accuracy, and so is the default, with scikit-learn's warning that it
        will be "neg_log_loss".
    solver, learning_rate, batch_size, tol, max_iter
        As in `LogisticRegression`.
    class_weight : dict, "balanced" or None, default None
        "balanced" weighs by the frequencies among all rows.
    n_jobs : int or None, default None
        Threads for the folds, whose passes over X then have one each. None is one fold after the other, with all
        threads that are allowed in the passes. The results do not depend on it.
    verbose : int, default 0
        1 prints a line per epoch of the last fit, more shows a progress bar.
    refit : bool, default True
        False: no fit on all rows; the coefficients, C and l1_ratio are the means of the best ones of each fold, and the
        attributes that tell of a fit are missing.
    random_state : int, RandomState, Generator, SeedSequence or None, default None
        Order of the rows in update rules.
    use_legacy_attributes : bool, default "warn"
        True gives `C_`, `l1_ratio_`, `coefs_paths_`, `scores_` and `n_iter_` the shapes that they had before
        scikit-learn 1.8: dicts by class, values repeated for each class, no axis for l1_ratios if they are None. The
        default does so too, with scikit-learn's warning that it will be False.

    Attributes
    ----------
    classes_, coef_, intercept_, n_features_in_, feature_names_in_
        As in `LogisticRegression`.
    history_, objective_, grad_norm_, converged_, stop_reason_, solver_, optimizer_state_
        Of the fit on all rows.
    C_, l1_ratio_ : float
        The best. What follows has these shapes with ``use_legacy_attributes=False``.
    Cs_ : ndarray (n_cs,)
    l1_ratios_ : ndarray (n_l1_ratios,)
    coefs_paths_ : ndarray (n_folds, n_l1_ratios, n_cs, n_outputs, n_features + fit_intercept)
        The intercept is last.
    scores_ : ndarray (n_folds, n_l1_ratios, n_cs)
        On the rows left out.
    n_iter_ : ndarray (n_folds, n_l1_ratios, n_cs)
        Epochs or iterations.

    Raises
    ------
    ValueError, TypeError
        From `fit`, before anything is changed.

    Warns
    -----
    ConvergenceWarning
        If fits end above `tol`; one warning tells how many of the folds' do.
    FutureWarning
        Of defaults that scikit-learn will change. ``l1_ratios=(0,), scoring="neg_log_loss",
        use_legacy_attributes=False`` are the coming ones, without a warning.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegressionCV(
    ...     Cs=[0.01, 0.1, 1.0], l1_ratios=(0,), scoring="neg_log_loss", use_legacy_attributes=False, max_iter=300
    ... ).fit(X, y)
    >>> model.C_, model.scores_.shape
    (1.0, (5, 1, 3))
    """

    # `score` hands sample weights to the scorer, under whose request they are.
    __metadata_request__score = {"sample_weight": UNUSED}  # noqa: RUF012 (scikit-learn's protocol)

    def __init__(
        self, *, Cs: Any = 10, l1_ratios: Any = "warn", fit_intercept: bool = True, cv: Any = None,
        dual: bool = False, penalty: Any = "deprecated", scoring: Any = "warn", solver: Any = "auto",
        learning_rate: Any = "auto", batch_size: Any = "auto", tol: float = 1e-4, max_iter: int = 100,
        class_weight: Any = None, n_jobs: Any = None, verbose: int = 0, refit: bool = True,
        intercept_scaling: float = 1.0, random_state: Any = None, use_legacy_attributes: bool | str = "warn",
    ) -> None:  # fmt: skip
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.dual = dual
        self.penalty = penalty
        self.scoring = scoring
        self.solver = solver
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.refit = refit
        self.intercept_scaling = intercept_scaling
        self.random_state = random_state
        self.use_legacy_attributes = use_legacy_attributes

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> LogisticRegressionCV:
        """Chooses C and l1_ratio, and fits with them.

        Parameters
        ----------
        X, y, sample_weight
            As in `LogisticRegression`.
        **params : dict
            Metadata for the splitter and the scorer, if metadata routing is enabled.

        Returns
        -------
        self
        """
        _raise_for_params(params, self, "fit")
        with unchanged_on_error(self):
            self._fit_path(X, y, sample_weight, params)
        self._warn()
        return self

    def _model(self, C: float, l1_ratio: float, class_weight: Any, verbose: int = 0) -> LogisticRegression:
        return LogisticRegression(
            C=C, l1_ratio=l1_ratio, dual=self.dual, tol=self.tol, fit_intercept=self.fit_intercept,
            intercept_scaling=self.intercept_scaling, class_weight=class_weight, random_state=self.random_state,
            solver=self.solver, learning_rate=self.learning_rate,
            batch_size=self.batch_size, max_iter=self.max_iter, verbose=verbose, warm_start=True,
            n_jobs=None if self.n_jobs is None else 1,  # the folds have the threads
        )  # fmt: skip

    def _grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The Cs and the l1_ratios, validated along with all else."""
        check_bool("refit", self.refit)
        if not _is_default(self.use_legacy_attributes):
            check_bool("use_legacy_attributes", self.use_legacy_attributes)
        given = None if _is_default(self.l1_ratios) else self.l1_ratios
        if np.ndim(self.Cs) == 0:
            check_integer("Cs", self.Cs, low=1, rule="an integer >= 1 or a list of numbers > 0")
        Cs = np.logspace(-4, 4, self.Cs) if np.ndim(self.Cs) == 0 else np.asarray(self.Cs)
        if self.penalty == "deprecated":
            ratios = np.asarray((0.0,) if given is None else given)
        else:
            check_choice("penalty", self.penalty, PENALTY_NAMES)
            if self.penalty == "elasticnet" and given is None:
                fail("l1_ratios", "a list of numbers in [0, 1] where penalty is 'elasticnet'", None)
            ratios = np.asarray(given if self.penalty == "elasticnet" else (float(self.penalty == "l1"),))
        for name, values in (("Cs", Cs), ("l1_ratios", ratios)):
            if values.ndim != 1 or not len(values):
                fail(name, "a list of numbers", getattr(self, name))
        for C in Cs.tolist():
            check_positive("Cs", C, "Each of them is a C.", finite=False)
        for ratio in ratios.tolist():
            check_real("l1_ratios", ratio, low=0, high=1, remedy="Each of them is an l1_ratio.")
        Cs = np.array([as_float(C) for C in Cs.tolist()])
        for ratio in ratios.tolist():
            self._model(float(Cs[0]), ratio, None, self.verbose)._check_parameters()
        return Cs, ratios.astype(np.float64)

    def _fit_path(
        self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any], progress: Progress | None = None
    ) -> None:
        """`fit`, but for warnings; `progress` is told of each fit of the path."""
        Cs, ratios = self._grid()
        design = read(self, X, reset=True)
        codes, classes = self._encode(y, design.shape[0])
        labels = classes[codes]
        s = weights_of(sample_weight, design.shape[0])
        X = _matrix(design)
        scorer = _with_labels(self._get_scorer(), classes)
        split, score = self._routed(sample_weight, s, params)
        begun = None if progress is None else progress.run
        folds = begun["folds"] if begun else list(check_cv(self.cv, labels, classifier=True).split(X, labels, **split))
        weights = self.class_weight
        if weights is not None:
            counts = np.bincount(codes, s, minlength=len(classes)).astype(np.float64)
            found = class_weights(weights, classes, counts)
            weights = dict(zip(classes.tolist(), found.tolist(), strict=True))
        data = _Data(X, labels, s, classes, weights, scorer, score)
        jobs = [(train, test, ratio) for train, test in folds for ratio in ratios.tolist()]
        if begun:
            seeds, runs = begun["seeds"], list(begun["runs"])
        else:
            seeds, runs = self._seeds(len(jobs) + 1), [{"fits": [], "model": {}} for _ in jobs]

        def path(number: int) -> None:
            for run in self._fits_of(data, *jobs[number], seeds[1 + number], Cs, runs[number]):
                runs[number] = run  # at once, for whoever looks
                if progress is not None:
                    progress.tell({"folds": folds, "seeds": seeds, "runs": [*runs]})

        Parallel(n_jobs=self.n_jobs, prefer="threads")(delayed(path)(number) for number in range(len(jobs)))
        self.classes_, self.Cs_, self.l1_ratios_ = classes, Cs, ratios
        fits = [fit for run in runs for fit in run["fits"]]
        self._take((len(folds), len(ratios), len(Cs)), fits)
        if self.refit:
            self._fit_best(data, seeds[0])
        else:
            self._average_best(design.dtype)
        self._missed = sum(not fit[3] for fit in fits)
        if self.use_legacy_attributes:  # "warn" too
            self._to_legacy()

    def _routed(self, sample_weight: Any, s: Array | None, params: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """What the splitter and the scorer get beside X and y: by metadata routing, or the scorer the weights s."""
        if not _routing_enabled():
            return {}, {} if s is None else {"sample_weight": s}
        routed = process_routing(self, "fit", sample_weight=sample_weight, **params)
        return routed.splitter.split, routed.scorer.score

    def _seeds(self, size: int) -> list[int]:
        """Of the fit on all rows, and of each run."""
        rng = generator(self.random_state)
        draw = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
        seeds: list[int] = draw(2**31 - 1, size=size).tolist()
        return seeds

    def _fits_of(
        self, data: _Data, train: Array, test: Array, ratio: float, seed: int, Cs: Array, run: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Fits the Cs that are missing in this run, each from the one before; the run as it is after each.

        A fit is its parameters, the score of the test rows, its iterations and whether it converged.
        """
        X, labels, s = data.X[train], data.labels[train], data.sample_weight
        s = None if s is None else s[train]
        X_test, labels_test = data.X[test], data.labels[test]
        of_test = {key: _rows(value, test, len(data.labels)) for key, value in data.metadata.items()}
        model = self._model(1.0, ratio, data.class_weight).set_params(random_state=seed)
        vars(model).update(run["model"])
        for C in Cs[len(run["fits"]) :].tolist():
            model.C = C
            model._fit(X, labels, s, data.classes, keeps=False)
            d = X.shape[1]
            w = np.zeros((len(model.coef_), d + bool(self.fit_intercept)))
            w[:, :d] = model.coef_
            if self.fit_intercept:
                w[:, -1] = model.intercept_
            value = float(data.scorer(model, X_test, labels_test, **of_test))
            fits = [*run["fits"], [w, value, int(model.n_iter_[0]), model.converged_]]
            run = {"fits": fits, "model": {name: getattr(model, name) for name in CARRIED}}
            yield run

    def _take(self, grid: tuple[int, int, int], fits: list[list[Any]]) -> None:
        """Takes over the fits of the folds; the grid is that of folds, l1_ratios and Cs."""
        paths = np.stack([fit[0] for fit in fits])
        self.coefs_paths_: Any = paths.reshape(*grid, *paths.shape[1:])
        self.scores_: Any = np.array([fit[1] for fit in fits]).reshape(grid)
        self.n_iter_: Any = np.array([fit[2] for fit in fits], np.int32).reshape(grid)

    def _fit_best(self, data: _Data, seed: int) -> None:
        """Fits all rows with the best pair of the grid."""
        means = self.scores_.mean(axis=0)
        ratio, C = np.unravel_index(int(np.argmax(means.T)), means.T.shape)[::-1]  # the smallest of equally good Cs
        self.C_: Any = float(self.Cs_[C])
        self.l1_ratio_: Any = float(self.l1_ratios_[ratio])
        model = self._model(self.C_, self.l1_ratio_, data.class_weight, self.verbose).set_params(random_state=seed)
        self._set_coefficients(self.coefs_paths_[:, ratio, C].mean(axis=0), data.X.dtype)
        model.classes_, model.coef_, model.intercept_ = self.classes_, self.coef_, self.intercept_
        model._fit(data.X, data.labels, data.sample_weight, keeps=False)
        for name in KEPT:
            setattr(self, name, getattr(model, name))

    def _average_best(self, dtype: Any) -> None:
        """The means of the coefficients, Cs and l1_ratios that are the best of each fold."""
        folds = np.arange(len(self.scores_))
        best = self.scores_.reshape(len(folds), -1).argmax(axis=1)
        ratio, C = np.unravel_index(best, self.scores_.shape[1:])
        self._set_coefficients(self.coefs_paths_[folds, ratio, C].mean(axis=0), dtype)
        self.C_, self.l1_ratio_ = float(self.Cs_[C].mean()), float(self.l1_ratios_[ratio].mean())

    def _set_coefficients(self, w: Array, dtype: Any) -> None:
        d = self.n_features_in_
        self.coef_ = np.ascontiguousarray(w[:, :d], dtype=dtype)
        self.intercept_ = w[:, d].astype(dtype) if self.fit_intercept else np.zeros(len(w), dtype)

    def _to_legacy(self) -> None:
        """The attributes in the shapes that they had before scikit-learn 1.8."""
        classes = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        self.coefs_paths_ = {label: self.coefs_paths_[..., i, :].swapaxes(1, 2) for i, label in enumerate(classes)}
        self.scores_ = dict.fromkeys(classes, self.scores_.swapaxes(1, 2))
        self.n_iter_ = self.n_iter_.swapaxes(1, 2)[None]
        if self.l1_ratios is None or _is_default(self.l1_ratios):  # the old attributes have no axis for it then
            self.coefs_paths_ = {label: paths[:, :, 0] for label, paths in self.coefs_paths_.items()}
            self.scores_ = {label: scores[..., 0] for label, scores in self.scores_.items()}
            self.n_iter_ = self.n_iter_[..., 0]
        self.C_, self.l1_ratio_ = np.full(len(classes), self.C_), np.full(len(classes), self.l1_ratio_)

    def _warn(self, level: int = 3) -> None:
        missed, fits = self.__dict__.pop("_missed", 0), np.size(self.n_iter_)
        for text, category in self._old_ways():
            warnings.warn(text, category, stacklevel=level)
        parts = []
        if self.refit and not self.converged_:
            parts.append(f"The fit on all rows ended with |gradient| {self.grad_norm_:.3g} > tol {self.tol:.3g}. ")
        if missed:
            parts.append(f"{missed} of {fits} fits of the folds ended above tol. ")
        if parts:
            remedy = f"Raise max_iter ({self.max_iter}) or tol, or scale the features (StandardScaler)."
            warnings.warn("".join(parts) + remedy, ConvergenceWarning, stacklevel=level)

    def _old_ways(self) -> Iterator[tuple[str, type[Warning]]]:
        """scikit-learn's warnings, in its words."""
        if _is_default(self.l1_ratios):
            yield (
                "The default value for l1_ratios will change from None to (0.0,) in version 1.10. From version 1.10 "
                "onwards, only array-like with values in [0, 1] will be allowed, None will be forbidden. To avoid this "
                "warning, explicitly set a value, e.g. l1_ratios=(0,).", FutureWarning,
            )  # fmt: skip
        if self.penalty != "deprecated":
            yield from _old_ways(self.penalty, None)
        elif self.l1_ratios is None:
            yield (
                "'l1_ratios=None' was deprecated in version 1.8 and will trigger an error in 1.10. Use an array-like "
                "with values in [0, 1] instead.", FutureWarning,
            )  # fmt: skip
        if _is_default(self.scoring):
            yield (
                "The default value of the parameter 'scoring' will change from None, i.e. accuracy, to 'neg_log_loss' "
                "in version 1.11. To silence this warning, explicitly set the scoring parameter: "
                "scoring='neg_log_loss' for the new, scoring='accuracy' or scoring=None for the old default.",
                FutureWarning,
            )  # fmt: skip
        if _is_default(self.use_legacy_attributes):
            yield (
                f"The fitted attributes of {type(self).__name__} will be simplified in scikit-learn 1.10 to remove "
                "redundancy. Set `use_legacy_attributes=False` to enable the new behavior now, or set it to `True` to "
                "silence this warning during the transition period while keeping the deprecated behavior for the time "
                "being. The default value of use_legacy_attributes will change from True to False in scikit-learn "
                "1.10.", FutureWarning,
            )  # fmt: skip

    def _get_scorer(self) -> Any:
        return get_scorer("accuracy" if self.scoring is None or _is_default(self.scoring) else self.scoring)

    def score(self, X: Any, y: Any, sample_weight: Any = None, **score_params: Any) -> float:
        """The scorer's value on these data, the accuracy if `scoring` is None.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        **score_params : dict
            Metadata for the scorer, if metadata routing is enabled.
        """
        _raise_for_params(score_params, self, "score")
        if sample_weight is not None:
            score_params["sample_weight"] = sample_weight
        if _routing_enabled():
            score_params = process_routing(self, "score", **score_params).scorer.score
        return float(self._get_scorer()(self, X, y, **score_params))

    def get_metadata_routing(self) -> Any:
        """What metadata the splitter and the scorer get: scikit-learn's MetadataRouter."""
        to_scorer = MethodMapping().add(caller="score", callee="score").add(caller="fit", callee="score")
        to_splitter = MethodMapping().add(caller="fit", callee="split")
        router = MetadataRouter(owner=self).add_self_request(self)
        router = router.add(splitter=self.cv, method_mapping=to_splitter)
        return router.add(scorer=self._get_scorer(), method_mapping=to_scorer)


def _is_default(value: Any) -> bool:
    """Whether it is scikit-learn's mark of a parameter that was not given and whose default will change."""
    return isinstance(value, str) and value == "warn"


def _matrix(design: Design) -> Any:
    """X as it was read: an array, or one of scipy's without what CSR may have behind its entries."""
    if design.indices is None or design.indptr is None:
        return design.values
    stored = design.n_stored
    return sparse.csr_array((design.values[:stored], design.indices[:stored], design.indptr), shape=design.shape)


def _with_labels(scorer: Any, classes: Array) -> Any:
    """The scorer told of all classes, if it can be: a fold's rows may lack some."""
    score = getattr(scorer, "_score_func", None)
    known = inspect.signature(score).parameters if score is not None else {}
    if "labels" not in known:
        return scorer
    given: dict[str, Any] = {"labels": classes}
    if len(classes) == 2 and "pos_label" in known:
        given["pos_label"] = classes[1]
    return make_scorer(
        score, response_method=scorer._response_method, greater_is_better=scorer._sign > 0, **(given | scorer._kwargs)
    )


def _rows(value: Any, rows: Array, n_samples: int) -> Any:
    """The metadata of some rows: of arrays with an element for each row; else all of it."""
    if value is None or np.ndim(value) == 0 or len(value) != n_samples:
        return value
    return np.asarray(value)[rows]
