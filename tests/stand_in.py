"""scikit-learn's own tests of its estimators, with ours standing in: ``python tests/stand_in.py [pytest's arguments]``.

Prints what failed; docs/coming_from_scikit_learn.md says why.
"""

import re
import subprocess
import sys

MODULES = ["sklearn.linear_model.tests.test_sgd", "sklearn.linear_model.tests.test_logistic"]
#: Tests of what is not ours: the one-class SVM, scikit-learn's loss classes and private helpers.
OTHERS = "oneclass or OneClass or one_class or ocsvm or test_loss_ or test_gradient_"


def pytest_configure(config):
    """Before the test modules are imported: ours under scikit-learn's names."""
    import sklearn.linear_model
    from sklearn.linear_model import _logistic, _stochastic_gradient

    import fastopt

    for module in (sklearn.linear_model, _stochastic_gradient, _logistic):
        for name in ("SGDClassifier", "SGDRegressor", "LogisticRegression", "LogisticRegressionCV"):
            if hasattr(module, name) and hasattr(fastopt, name):
                setattr(module, name, getattr(fastopt, name))


def main(arguments):
    command = [
        sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", "-p", "tests.stand_in",
        "--tb=no", "-rf", "-k", f"not ({OTHERS})", "--pyargs", *(arguments or MODULES),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True)
    print(result.stdout[-8000:], result.stderr[-2000:])
    failed = set(re.findall(r"^FAILED \S*::(test_\w+)", result.stdout, re.M))
    print(sorted(failed))


if __name__ == "__main__":
    main(sys.argv[1:])
