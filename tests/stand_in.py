"""scikit-learn's own tests of its estimators, with ours standing in: ``python tests/stand_in.py [pytest's arguments]``.

`DIFFERENT` lists the tests that ours fail, each with the reason, and docs/coming_from_scikit_learn.md gives them too;
all others must pass, and those listed must fail (test_stand_in.py). `test_sgd.py`, `test_logistic.py` of scikit-learn
1.9 are meant.
"""

import subprocess
import sys

MODULES = ("test_sgd", "test_logistic")
#: Tests of what is not ours: the one-class SVM, scikit-learn's loss classes and private helpers.
OTHERS = ("oneclass", "OneClass", "one_class", "ocsvm", "test_loss_", "test_gradient_")
#: Tests that start processes or fit hundreds of models: more than 2 s each on a busy machine. They run with
#: ``python tests/stand_in.py --slow``.
SLOW = (
    "test_SGDClassifier_fit_for_all_backends", "test_multi_core_gridsearch_and_early_stopping",
    "test_LogisticRegressionCV_GridSearchCV_elastic_net[3]", "test_logistic_regression_solvers_multiclass",
    "test_logistic_cv_sparse[42-csr_matrix-lbfgs]", "test_logistic_cv_sparse[42-csr_array-lbfgs]",
    "test_check_solver_option[LogisticRegressionCV]", "test_multinomial_cv_iris",
    "test_logistic_regression_sample_weights[42-lbfgs-cv]", "test_logistic_regression_class_weights[42-csr_matrix]",
    "test_LogisticRegressionCV_no_refit[3-l1_ratios1]",
)  # fmt: skip

SLOWER_INTERCEPT = "expects the intercept's slower rate on CSR"
EMPTY_TASK = "counts a task that scikit-learn's loop begins after its last iteration"
INT64 = "expects int64 indices to be refused"
#: Tests that ours do not pass, by the beginning of their names, and why.
DIFFERENT = {
    "test_sgd": {
        "test_late_onset_averaging_reached[Sparse": SLOWER_INTERCEPT,
        "test_average_binary_computed_correctly[Sparse": SLOWER_INTERCEPT,
        "test_sgd_multiclass_average[Sparse": SLOWER_INTERCEPT,
        "test_sgd_averaged_computed_correctly[Sparse": SLOWER_INTERCEPT,
        "test_sgd_averaged_partial_fit[Sparse": SLOWER_INTERCEPT,
        "test_average_sparse[Sparse": SLOWER_INTERCEPT,
        "test_sgd_predict_proba_method_access": "goes through all losses; ours has probabilities for multinomial too",
        "test_input_format[SGDRegressor]": "expects an error for y with two columns",
        "test_input_format[SparseSGDRegressor]": "expects an error for y with two columns",
        "test_partial_fit_equal_fit[optimal-SGDRegressor]": "iterates run away, which only fit can undo",
        "test_partial_fit_equal_fit[optimal-SparseSGDRegressor]": "iterates run away, which only fit can undo",
        "test_tol_parameter": "compares numbers of epochs that depend on the order of the rows",
        "test_validation_mask_correctly_subsets": "replaces a private class of scikit-learn's",
    },
    "test_logistic": {
        "test_check_solver_option": "expects L1, elastic net and C=inf to be refused by solvers that can do them here",
        "test_liblinear_dual_random_state": "expects another minimum for another random_state",
        "test_logistic_cv[": "compares two fits to 1.5e-6 whose tol is 1e-4",
        "test_logreg_l1[": "compares dense and CSR fits to 7 digits of a coefficient of 1e-3: tol=1e-10 allows 2e-10",
        "test_logistic_cv_multinomial_score": "passes our parameters to a private function of scikit-learn's",
        "test_logreg_predict_proba_multinomial": "calls a private method",
        "test_dtype_match[csr_matrix-False-liblinear]": "expects float64 coefficients of float32 data",
        "test_dtype_match[csr_matrix-True-liblinear]": "expects float64 coefficients of float32 data",
        "test_dtype_match[csr_array-False-liblinear]": "expects float64 coefficients of float32 data",
        "test_dtype_match[csr_array-True-liblinear]": "expects float64 coefficients of float32 data",
        "test_large_sparse_matrix[csr_matrix-liblinear]": INT64,
        "test_large_sparse_matrix[csr_array-liblinear]": INT64,
        "test_large_sparse_matrix[csr_matrix-sag": INT64,
        "test_large_sparse_matrix[csr_array-sag": INT64,
        "test_liblinear_with_large_values": "expects values above 1e30 to be refused, since liblinear hangs on them",
        "test_newton_cholesky_fallback_to_lbfgs": "expects lbfgs's number of iterations: our newton needs no fallback",
        "test_logisticregression_warns_with_n_jobs": "expects a warning that n_jobs has no effect: here it has",
        "test_logistic_regression_callback_support[0]": EMPTY_TASK,
        "test_logistic_regression_callback_support[2]": EMPTY_TASK,
        "test_logistic_regression_callback_support_warning": "expects callbacks to work with lbfgs alone",
    },
}


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="the slow ones too")


def pytest_configure(config):
    """Before the test modules are imported: ours under scikit-learn's names."""
    import sklearn.linear_model
    from sklearn.linear_model import _logistic, _stochastic_gradient

    import fastopt

    for module in (sklearn.linear_model, _stochastic_gradient, _logistic):
        for name in ("SGDClassifier", "SGDRegressor", "LogisticRegression", "LogisticRegressionCV"):
            if hasattr(module, name) and hasattr(fastopt, name):
                setattr(module, name, getattr(fastopt, name))


def pytest_collection_modifyitems(config, items):
    import pytest

    out = OTHERS if config.getoption("--slow") else (*OTHERS, *SLOW)
    config.hook.pytest_deselected(items=[item for item in items if any(part in item.nodeid for part in out)])
    items[:] = [item for item in items if not any(part in item.nodeid for part in out)]
    for item in items:
        for start, reason in DIFFERENT[item.module.__name__.rsplit(".", 1)[-1]].items():
            if item.name.startswith(start):
                item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


def run(*arguments):
    """The finished process of pytest on the modules or on what the arguments name."""
    named = [module for module in MODULES if module in arguments] or MODULES
    command = [
        sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", "-p", "tests.stand_in",
        "--tb=short", "-W", "ignore", *(argument for argument in arguments if argument not in MODULES),
        "--pyargs", *(f"sklearn.linear_model.tests.{module}" for module in named),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True)


if __name__ == "__main__":
    result = run("-rfEX", *sys.argv[1:])
    print(result.stdout[-8000:], result.stderr[-2000:])
    sys.exit(result.returncode)
