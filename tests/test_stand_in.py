"""scikit-learn's own tests of SGD and logistic regression pass with our estimators in the place of its own."""

import importlib.util
from pathlib import Path

import pytest
import sklearn
import stand_in

DOCS = Path(__file__).parents[1] / "docs" / "coming_from_scikit_learn.md"


@pytest.mark.skipif(not sklearn.__version__.startswith("1.9."), reason="DIFFERENT is about the tests of 1.9")
@pytest.mark.timeout(900)  # a whole suite of its own
@pytest.mark.parametrize("module", stand_in.MODULES)
def test_scikit_learns_own_tests(module):
    """Those of `DIFFERENT` fail, all others pass; what a new row there would need is a reason."""
    if importlib.util.find_spec(f"sklearn.linear_model.tests.{module}") is None:
        pytest.skip("scikit-learn is installed without its tests")
    result = stand_in.run(module, "-rfE")
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-1000:]


@pytest.mark.parametrize("module", stand_in.MODULES)
def test_the_docs_say_why_a_test_fails(module):
    text = DOCS.read_text(encoding="utf-8")
    for start in stand_in.DIFFERENT[module]:
        assert f"`{start.split('[')[0]}" in text
