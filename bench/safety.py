"""What safety costs: python -m bench.safety.

What the validation of CSR arrays adds to a fit, as a share of one epoch of SGD at batch size 1 over the same rows: the
same fit of one epoch with and without it, in turns, the difference of the shortest times (one thread each). And how far
another Python thread comes while a fit runs, compared with the same fit in another process.
"""

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import os  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from contextlib import nullcontext  # noqa: E402
from unittest import mock  # noqa: E402

import numpy as np  # noqa: E402
from sklearn.base import clone  # noqa: E402

from bench import problems  # noqa: E402
from fastopt import LogisticRegression, SGDClassifier  # noqa: E402
from fastopt._design import Design, check_csr  # noqa: E402
from fastopt.objective import Objective  # noqa: E402
from fastopt.optimizers import SGD  # noqa: E402
from fastopt.solvers.stochastic import Epochs  # noqa: E402

ROUNDS = 9
#: Turns of fits with and without validation: the times differ by more from turn to turn than by what is sought.
VALIDATIONS = 150


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


#: The fits whose validation is timed. Those that begin with a pass over all rows check them on the way, `SGDClassifier`
#: and "sdca" in their first epoch.
FITS = {
    "LogisticRegression, sgd": LogisticRegression(solver="sgd", learning_rate=0.01, batch_size=1),
    "LogisticRegression, sgd, batch size 32": LogisticRegression(solver="sgd", learning_rate=0.01, batch_size=32),
    "LogisticRegression, lbfgs": LogisticRegression(solver="lbfgs"),
    "LogisticRegression, sdca": LogisticRegression(solver="sdca"),
    "LogisticRegression, saga": LogisticRegression(solver="saga"),
    "SGDClassifier": SGDClassifier(),
}


def unvalidated(X, later=False):
    """`Design._from_sparse` without a look at the arrays."""
    return Design(X.data, X.indices, X.indptr, X.shape)


def validation(X, y, model):
    """Milliseconds that validation adds to a fit."""
    model = clone(model).set_params(max_iter=1, tol=0.0, n_jobs=1, random_state=0)
    best = {True: np.inf, False: np.inf}
    for turn in range(VALIDATIONS):
        for checked in (True, False) if turn % 2 else (False, True):
            with nullcontext() if checked else mock.patch.object(Design, "_from_sparse", unvalidated):
                best[checked] = min(best[checked], timed(lambda: model.fit(X, y)))
    return 1e3 * (best[True] - best[False])


def epoch(X, y):
    """Milliseconds of an epoch of SGD at batch size 1, without what a fit does beside it."""
    epochs = Epochs(Objective(Design.from_array(X), y, alpha=1 / len(y)), SGD(learning_rate=0.01))
    orders = [np.random.default_rng(k).permutation(len(y)) for k in range(ROUNDS)]
    return 1e3 * min(timed(lambda order=order: epochs.run(order)) for order in orders)


def progress(seconds=0.25):
    """Another thread's rate while fits run in this process, as a share of that while they run in another one.

    The other one takes the same cores and memory, but not this one's GIL. Medians of turns, by solver.
    """
    count, stop, least = [0], threading.Event(), {}

    def work():
        while not stop.is_set():
            count[0] += sum(range(2000)) > 0

    p = problems.get("ill_conditioned")
    X, y = p.X[:200_000], p.y[:200_000]
    threading.Thread(target=work, daemon=True).start()
    for solver in ("lbfgs", "newton", "sdca", "saga", "adam", "gd"):
        model, shares = LogisticRegression(solver=solver, max_iter=1000, tol=0.0, n_jobs=1), []
        for _ in range(ROUNDS):
            beside, start = count[0], time.perf_counter()
            child = os.fork()
            if not child:
                _until(model, X, y, start + seconds)
                os._exit(0)
            os.waitpid(child, 0)
            idle = (count[0] - beside) / (time.perf_counter() - start)
            before, start = count[0], time.perf_counter()
            fit = threading.Thread(target=_until, args=(model, X, y, start + seconds))
            fit.start()
            fit.join()
            shares.append((count[0] - before) / (time.perf_counter() - start) / idle)
        least[solver] = statistics.median(shares)
    stop.set()
    return least


def _until(model, X, y, end):
    """Fits of a few epochs each, until the time is over."""
    model.set_params(max_iter=5)
    while time.perf_counter() < end:
        model.fit(X, y)


def main():
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or ["text_like", "flights_onehot"]:
        try:
            X, y = (p := problems.get(name)).X, p.y
        except problems.Missing as error:
            print(f"{name}: {error}")
            continue
        for dtype in ("float32", "float64"):
            typed = X.astype(dtype)
            check = min(timed(lambda X=typed: check_csr(X.data, X.indices, X.indptr, X.shape)) for _ in range(ROUNDS))
            one = epoch(typed, y)
            print(f"{name}, {dtype}: an epoch of SGD {one:.3g} ms, a check by itself {1e3 * check:.2f} ms")
            for fit, model in FITS.items():
                added = validation(typed, y, model)
                print(f"  {fit}: validation adds {added:.2f} ms, {100 * added / one:.1f} % of that epoch")
    for solver, share in progress().items():
        print(f"another thread during {solver}: {100 * share:.0f} % of its rate beside another process")


if __name__ == "__main__":
    main()
