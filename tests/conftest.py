"""Fixtures for all tests."""

import signal

import numpy as np
import pytest
from hypothesis import settings

#: Not tests: a target for a fuzzer, and scikit-learn's own tests with our estimators in place.
collect_ignore_glob = ["fuzz/*", "stand_in.py"]

# The same examples in every run: a red suite is then red for the next one who looks. The slow machine is not a bug.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")

# In the background of a shell Ctrl-C is ignored, also by the processes that tests start in order to interrupt them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def tolerance(dtype):
    """Largest error of a few dozen steps, relative to the largest number."""
    return 2e-5 if dtype == np.float32 else 1e-10
