"""What safety costs: python -m bench.safety.

What the validation of CSR arrays adds to a fit, as a share of one epoch of SGD at batch size 1 over the same rows: what
reads the rows first, and checks them on the way, beside the same on rows that are known to be sound, in turns (one
thread each). And how far another Python thread comes while a fit runs, compared with the same fit in another process.
"""

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import argparse  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402

import numpy as np  # noqa: E402

from bench import problems  # noqa: E402
from fastopt import LogisticRegression  # noqa: E402
from fastopt._design import Design, check_csr  # noqa: E402
from fastopt.objective import Objective  # noqa: E402
from fastopt.optimizers import SGD  # noqa: E402
from fastopt.solvers import sdca  # noqa: E402
from fastopt.solvers.epochs import Around, Epochs  # noqa: E402

ROUNDS = 9
#: Turns with and without validation: the times differ by more from turn to turn than by what is sought.
VALIDATIONS = 200


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def a_pass(design, y, order):
    """What begins a fit by a rule with one constant rate, by "lbfgs" or both Newtons: F and its gradient at zero."""
    F = objective(design, y)
    w = np.zeros(F.shape)
    return lambda: F.value_and_gradient(w)


def an_epoch(design, y, order):
    """The first epoch of `SGDClassifier`."""
    epochs = Epochs(objective(design, y), SGD(learning_rate=0.01), around=Around(guarded=True, raw_weights=True))
    return lambda: epochs.run(order)


def a_dual_epoch(design, y, order):
    """The first epoch of "sdca"."""
    epochs = sdca.DualEpochs(objective(design, y), later=not design.sound)
    return lambda: epochs.run(order)


def columns_squares(design, y, order):
    """What begins a fit by "saga"."""
    return lambda: design.column_squares


def objective(design, y):
    return Objective(design, y, alpha=1 / len(y))


#: What reads the rows first, by the fits that begin with it.
FIRST = {
    "a pass (sgd, lbfgs)": a_pass,
    "an epoch (SGDClassifier)": an_epoch,
    "a dual epoch (sdca)": a_dual_epoch,
    "columns' squares (saga)": columns_squares,
}


def unvalidated(X):
    """`Design.from_array` without a look at the arrays."""
    return Design(X.data, X.indices, X.indptr, X.shape)


def validation(X, y, first):
    """Milliseconds that validation adds: the median over turns, in each of which the machine is as fast for both."""
    order = np.random.default_rng(0).permutation(len(y))
    added = []
    for turn in range(VALIDATIONS):
        seconds = {}
        for checked in (True, False) if turn % 2 else (False, True):
            start = time.perf_counter()
            design = Design.from_array(X, later=True) if checked else unvalidated(X)
            spent = time.perf_counter() - start
            seconds[checked] = spent + timed(first(design, y, order))
            assert design.sound
        added.append(seconds[True] - seconds[False])
    return 1e3 * statistics.median(added)


def epoch(X, y):
    """Milliseconds of an epoch of SGD at batch size 1, without what a fit does beside it."""
    epochs = Epochs(objective(Design.from_array(X), y), SGD(learning_rate=0.01))
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
    for solver in ("lbfgs", "newton", "newton-cg", "sdca", "saga", "adam", "gd"):
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=["text_like", "flights_onehot"], help="names of CSR problems")
    warnings.simplefilter("ignore")
    for name in parser.parse_args().problems:
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
            for name_of_first, first in FIRST.items():
                added = validation(typed, y, first)
                print(f"  {name_of_first}: validation adds {added:.2f} ms, {100 * added / one:.1f} % of that epoch")
    for solver, share in progress().items():
        print(f"another thread during {solver}: {100 * share:.0f} % of its rate beside another process")


if __name__ == "__main__":
    main()
