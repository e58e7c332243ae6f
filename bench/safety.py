"""What safety costs: python -m bench.safety.

The pass that validates CSR arrays, as a share of one epoch of SGD over the same rows at batch sizes 1 and 32 (ratio of
medians, measured in turns, one thread each); and how far another Python thread comes while a fit runs, compared with
the same fit in another process.
"""

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import os  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402

from bench import problems  # noqa: E402
from fastopt import LogisticRegression  # noqa: E402
from fastopt._design import check_csr  # noqa: E402

ROUNDS = 9


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def validation(name):
    """(milliseconds of the check, {batch size: milliseconds of an epoch}), GB/s of the check."""
    X, y = (p := problems.get(name)).X, p.y
    fits = {
        size: (LogisticRegression(solver="sgd", learning_rate=0.01, batch_size=size, max_iter=1, tol=0.0),
               LogisticRegression(solver="sgd", learning_rate=0.01, batch_size=size, max_iter=3, tol=0.0))
        for size in (1, 32)
    }  # fmt: skip
    checks, epochs = [], {size: [] for size in fits}
    for _ in range(ROUNDS):
        checks.append(timed(lambda: check_csr(X.data, X.indices, X.indptr, X.shape)))
        for size, pair in fits.items():  # two epochs more, without what a fit costs besides
            one, three = (timed(lambda model=model: model.fit(X, y)) for model in pair)
            epochs[size].append((three - one) / 2)
    check = statistics.median(checks)
    stored = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    return 1e3 * check, {size: 1e3 * statistics.median(times) for size, times in epochs.items()}, stored / check / 1e9


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
            check, epochs, rate = validation(name)
        except Exception as error:
            print(f"{name}: {error}")
            continue
        shares = ", ".join(f"{100 * check / e:.2g} % of {e:.3g} ms at batch size {size}" for size, e in epochs.items())
        print(f"validation, {name}: {check:.3g} ms, {rate:.3g} GB/s: {shares}")
    for solver, share in progress().items():
        print(f"another thread during {solver}: {100 * share:.0f} % of its rate beside another process")


if __name__ == "__main__":
    main()
