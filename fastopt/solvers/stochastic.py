"""The loop that drives epochs of an update rule to `tol`: what undoes them, and what a run ends with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastopt.objective import Objective
from fastopt.optimizers import Optimizer
from fastopt.solvers import resume
from fastopt.solvers.epochs import Epochs, Snapshot
from fastopt.solvers.monitor import Monitor, Reporter, Result, Row, norm
from fastopt.solvers.rates import HALVES_TRIED, adjusted, auto_batch_size, auto_start, descends, points, rests_away
from fastopt.solvers.scaled import other_variables

__all__ = ["stochastic"]

#: Epochs undone in a row before a fit is called diverged: the rate is then 4^-8 of what it was.
RETRIES = 8


class LastWhole(NamedTuple):
    """The last whole epoch, with which a run ends whatever comes after it.

    Attributes
    ----------
    run : Run
        What goes on from it.
    snapshot : Snapshot
        Parameters and the rule's state.
    mark : tuple
        Where the random numbers were, for `Draws.numbers`.
    measurements, epochs : int
        How many there were.
    """

    run: resume.Run
    snapshot: Snapshot
    mark: tuple[dict[str, Any], int]
    measurements: int
    epochs: int


def stochastic(
    objective: Objective, w: NDArray[Any], optimizer: Optimizer, *, batch_size: int | str, tol: float, max_iter: int,
    rng: np.random.RandomState | np.random.Generator, verbose: int | Reporter = 0,
    state: dict[str, Any] | None = None, epochs_of: Callable[..., Epochs] = Epochs,
) -> Result:  # fmt: skip
    """Minimises F from w by epochs in shuffled order until the gradient's norm over all the data is at most tol.

    An epoch that ends not finite, or with F above its start value, is undone: the best parameters so far go on with a
    fresh state and a rate four times smaller, up to `RETRIES` times in a row.

    With ``learning_rate="auto"`` the rate starts from the data (`auto_learning_rate`), and a fit from w = 0 goes on
    from the steps in which that was tried, if it was (`auto_start`). How it goes on depends on the rule (`adjusted`):

    - It falls to zero, linearly, in cycles of 1, 2, 3, 5, 7, 10, ... epochs: at a constant rate the iterates end in a
      cloud around the minimum whose size is proportional to the rate, and how soon it must fall nobody knows
      beforehand. A cycle begins 1.5 times higher than the last where F was above its start in up to two fifths of the
      last one's epochs, and at half the rate where it was above in more than three fifths; after one that did not lower
      F, from the best parameters at a quarter of the rate (`next_cycle`). Adagrad's is cut less, and so is that of
      rules whose batches grow (`lower`).
    - Rules that average, and Ftrl, keep the rate; the former raise it by 1.3 per epoch until F rises. Schedule-free
      AdamW takes half of what the trials found, and raises it only if it does not go on from them. The rate is halved,
      and the best parameters go on, after 3, then 4, 5, 7, ... epochs without a new lowest F (`without_cycles`).
    - With all rows in each step there is no cloud: plain gradient descent takes its rate from the last two points
      (`two_points`), and where there is momentum, it is that which overshoots and starts anew.

    Where columns differ in size or are far from zero (`unlike`), an automatic rate is one for steps in variables in
    which they are alike (`Scaled`): one rate for columns of ages and of incomes would be that of the largest. The
    rule's formula is taken in u of ``(w, b + mean.w) = scale u``; F, its penalty and what is measured are those of w,
    and X is neither copied nor touched. The gap to the minimum after 100 epochs of a fit with defaults, without and
    with it (times differ by 5 to 20 %):

    ======================================  ================  ================  ================  ================
    data                                    sgd               momentum          adagrad           adam
    ======================================  ================  ================  ================  ================
    5,000 x 20, columns of 1e-6 to 1e6      2.6e-1    2e-6    2.4e-1    8e-7    1.5e-1    1e-6    1.2e-1    3e-6
    5,000 x 20, as in a census              9.4e-1    4e-6    9.3e-1    4e-6    9.0e-1    3e-6    8.8e-1    4e-6
    flights, unscaled, 50,000 x 38          1.8e-1    8e-4    1.8e-1    3e-4    2.6e-2    4e-4    2.2e-2    1e-5
    breast_cancer, unscaled, 569 x 30       1.4e+0    6e-2    1.2e+0    4e-2    6.2e-1    2e-2    4.7e-1    1e-2
    wine, unscaled, 178 x 13                1.2e+1    8e-3    9.2e+0    4e-3    2.4e+0    2e-3    1.1e+0    4e-4
    digits, pixels, two classes             5.0e-2    5e-4    2.7e-2    4e-4    1.6e-2    9e-4    8.6e-3    3e-4
    columns of 1 to 10, normal              5e-5      1e-6    3e-5      2e-6    8e-7      1e-6    2e-6      1e-6
    ======================================  ================  ================  ================  ================

    ``batch_size="auto"`` is that of `auto_batch_size`. Rules that divide by the root of a short mean of squared
    gradients (`rests_away`) come to rest where the mean of ``g / sqrt(mean g^2)`` is zero, and that is not the minimum,
    however small the rate: where the rate is automatic too, their batch is doubled, up to all rows, after a cycle of at
    least 5 epochs that lowered F by less than a hundredth, and the next cycle is as long as the one before that.

    With the `state` that an earlier run returned beside w it goes on where that run ended, as if it had not: k epochs
    and k more are 2k epochs, bit for bit, the order of the rows included (`rng` is not used then). See `resume`.

    References
    ----------
    Defazio, Cutkosky, Mehta, Mishchenko, "Optimal linear decay learning rate schedules and further refinements", 2023,
    section 2 (linear decay).
    O'Donoghue, Candès, "Adaptive restart for accelerated gradient schemes", 2015, section 3.2 (the momentum's restart).
    LeCun, Bottou, Orr, Müller, "Efficient backprop", 1998, sections 4.3 and 6 (inputs centred and scaled).
    Zaheer, Reddi, Sachan, Kale, Kumar, "Adaptive methods for nonconvex optimization", NeurIPS 2018 (such rules converge
    as batches grow).
    """
    auto = optimizer.learning_rate == "auto"
    grows = auto and batch_size == "auto" and rests_away(optimizer)
    # At w = 0 at once: this pass checks X's entries, too, for which a sample of the rows would need one of its own.
    first = objective.smooth_value_and_gradient(w) if state is None and not np.any(w) else None
    variables = other_variables(objective, optimizer) if auto else None
    if variables is not None:
        epochs_of = partial(epochs_of, variables=variables)
    if batch_size == "auto":
        batch_size = auto_batch_size(objective.design, optimizer, waits=variables is None)
    mark = None if variables is None else resume.checksum(np.append(variables.mean, variables.scale))
    before = resume.fitting(state, objective, optimizer, w, mark)
    rng = resume.generator(before) or rng
    epochs = epochs_of(objective, optimizer, batch_size, w=w if before is None else before["run"]["w"], state=before)
    if before is None:
        epochs.drop_unused()
    averages = optimizer.averaged(epochs.w, epochs.state) is not epochs.w
    # A rate that falls means something else to rules that average, and to Ftrl, whose step depends on the last rate.
    cycles = auto and not epochs.full and not averages and not optimizer._kernel.startswith("ftrl")
    monitor = Monitor(objective, tol, verbose)

    def check(epoch: int, learning_rate: float = math.nan, known: tuple[float, Any] | None = None) -> bool:
        """Measures after an epoch; the gradient serves the next step too, if that is one on all rows."""
        w = epochs.solution
        value, gradient = known or objective.smooth_value_and_gradient(w)
        epochs.gradient = gradient if epochs.full and not averages else None
        value, gradient = objective.with_l1(w, value, gradient)
        return monitor.record(value, norm(gradient), epoch, learning_rate, w)

    def sized(size: int | None) -> Epochs:
        """The epochs that go on, with that many rows per step."""
        if size is None or size == epochs.batch_size:
            return epochs
        return epochs_of(objective, epochs.optimizer, size, w=epochs.w, state=epochs.state)

    def here() -> LastWhole:
        return LastWhole(run, epochs.snapshot(), draws.mark(), len(monitor.rows), done)

    converged, done, failures = check(0, known=first), 0, 0
    reason = "max_iter"
    earlier, begun = resume.Run.of(before, optimizer, epochs.batch_size, w, monitor.rows[0]), None
    if earlier is None or (earlier.batch_size is not None and not grows) or (auto and earlier.learning_rate is None):
        run, begun = first_run(objective, optimizer, epochs, monitor, tries=auto and not converged)
        run.variables = mark
        if before is not None:
            run = no_worse(run, objective, w, before["run"])
    else:
        run = earlier
    if run.learning_rate is not None:
        epochs.optimizer = optimizer.with_learning_rate(run.learning_rate)
    if before is None and not converged:
        epochs.keep_start(run.scale)
    draws = resume.Draws(rng, lambda rng: epochs.order(rng), objective.n_samples)
    epochs = sized(run.batch_size)
    whole = here()
    if begun is not None and not np.any(w):
        # A fit that ends before its first epoch does leaves no rate, so that the next one begins with trials, too.
        whole = whole._replace(run=replace(run, learning_rate=None))
        epochs.restore(begun)
        run.rising = not optimizer._kernel.startswith(HALVES_TRIED)
    try:
        while not converged and done < max_iter:
            if auto and epochs.state["t"] and not failures and (done or begun is None):
                run = adjusted(run, epochs, cycles, averages, grows)
                epochs = sized(run.batch_size)
            order = None if epochs.full else draws.order()
            rates = epoch_rates(run, epochs, cycles)
            with np.errstate(over="ignore", invalid="ignore"):
                epochs.run(order, None if run.scale == 1 and not cycles else rates)
                converged = check(done + 1, float(np.max(rates)))
            if is_sound(monitor, run.start):
                run, done, failures = counted(run, epochs, monitor.rows[-1], cycles), done + 1, 0
                whole = here()
            else:
                monitor.forget_last()
                run, converged, failures = undone(run, epochs), False, failures + 1
                if failures > RETRIES:
                    reason, whole = "diverged", here()
                    break
        if converged:
            reason = "tol"
    except KeyboardInterrupt:
        reason = "interrupted"
    epochs.restore(whole.snapshot)
    del monitor.rows[whole.measurements :]
    run, solution = whole.run, epochs.solution
    if reason in ("max_iter", "diverged") and monitor.value > run.best_row[2]:
        solution = run.best
        monitor.rows.append(run.best_row)
        if run.best_row[3] <= tol:  # now: it was another tol, or another F, before
            reason = "tol"
    kept = {key: a.copy() if isinstance(a, np.ndarray) else a for key, a in epochs.state.items()}
    kept["run"] = run.as_dict(epochs.w, solution, draws.numbers(whole.mark))
    return monitor.result(solution.copy(), whole.epochs, reason, kept)


def first_run(
    objective: Objective, optimizer: Optimizer, epochs: Epochs, monitor: Monitor, *, tries: bool
) -> tuple[resume.Run, Snapshot | None]:
    """A run that goes on from no other, and what the trials of its rate came to (`auto_start`), if it `tries` any."""
    rate: float | None = None
    begun: Snapshot | None = None
    if tries:
        lent = epochs if type(epochs) is Epochs else None  # of chunks there are more than are tried on
        rate, begun = auto_start(objective.rated, optimizer, epochs.batch_size, lent, epochs.variables)
    two = points(epochs) if optimizer.learning_rate == "auto" and descends(epochs) else None
    row = monitor.rows[0]
    run = resume.Run(
        settings=resume.settings(optimizer, epochs.batch_size), learning_rate=rate, start=monitor.value, row=row,
        best=epochs.solution.copy(), best_row=row, cycle_start=monitor.value, before=two, rule=optimizer._kernel,
    )  # fmt: skip
    return run, begun


def no_worse(run: resume.Run, objective: Objective, w: NDArray[Any], last: dict[str, Any]) -> resume.Run:
    """The run on another problem than the last one's, whose best parameters w may be better than where it ended."""
    value, gradient = objective.value_and_gradient(w)
    if not value < run.best_row[2]:
        return run
    epoch, seconds = (a - b for a, b in zip(last["best_row"][:2], last["row"][:2], strict=True))
    return replace(run, best=w.copy(), best_row=(epoch, seconds, value, norm(gradient), last["best_row"][4]))


def epoch_rates(run: resume.Run, epochs: Epochs, cycles: bool) -> NDArray[np.float64]:
    """Those of the next epoch's steps, or one for all; in `cycles` they are on their way to zero."""
    rates = run.scale * epochs.optimizer.rates(int(epochs.state["t"]), epochs.n_steps)
    if cycles:
        left = 1 - (run.at + (np.arange(epochs.n_steps) + 0.5) / epochs.n_steps) / run.length
        # Columns that wait know constant rates only: they fall epoch by epoch.
        rates = rates * (left.mean() if epochs._may_wait else left)
    return rates


def is_sound(monitor: Monitor, start: float) -> bool:
    """Whether the last epoch ended finite, and with F no higher than at the start."""
    finite = math.isfinite(monitor.value) and math.isfinite(monitor.grad_norm)
    return finite and not monitor.value > start * (1 + 1e-12)


def counted(run: resume.Run, epochs: Epochs, row: Row, cycles: bool) -> resume.Run:
    """After a whole epoch, measured by `row`."""
    value, lowest = row[2], run.best_row[2]
    rises = run.rises + 1 if value >= lowest else 0
    above = run.above + (cycles and value > run.cycle_start)
    run = replace(run, rises=rises, at=run.at + cycles, above=above, row=row)
    if value < lowest:
        run.best, run.best_row = epochs.solution.copy(), row
    return run


def undone(run: resume.Run, epochs: Epochs) -> resume.Run:
    """After an epoch that does not count: the best parameters go on, with a fresh state and a quarter of the rate."""
    # What two points gave may be any number of times the first rate; back to that at least.
    run = replace(run, scale=min(run.scale / 4, 1.0), rising=False, row=run.best_row)
    epochs.restart(run.best, run.scale)
    return run
