"""Automatic batch sizes and learning rates: where they start from, and how they go on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastopt._design import Design
from fastopt.objective import Objective
from fastopt.optimizers import Optimizer
from fastopt.solvers import resume
from fastopt.solvers.epochs import Epochs, Snapshot, is_plain
from fastopt.solvers.monitor import norm
from fastopt.solvers.scaled import Scaled

__all__ = ["adjusted", "auto_batch_size", "auto_learning_rate", "auto_start"]

#: An automatic rate's cycles: how much longer than the last, and how much higher. A cycle ends at 97 epochs, shortly
#: before the usual 100. These numbers, and those in `next_cycle` and `lower`, are the best of some ninety settings by
#: eleven data sets and seven rules. On ten problems of the bench, by ten rules, they take 0.89, 0.95 and 0.83 of the
#: epochs (geometric means) to relative gaps of 1e-2, 1e-3 and 1e-4 that cycles took which were 1.5 times as long, 1.3
#: times as high and 0.6 times as low; the gap after 100 epochs is 0.57 of theirs.
LONGER, HIGHER = 1.44, 1.5
#: Epochs of a cycle from which on what it lowered F by tells whether a larger batch pays.
TELLING = 5
#: A batch that may grow stays as it is where a cycle lowers F by this part of it. Beside a batch of one size this takes
#: 0.63, 0.87 and 0.66 of the epochs to relative gaps of 1e-2, 1e-3 and 1e-4, and 2 of 36 fits missed 1e-2, not 15 (1e-3
#: takes longer on digits_parity): within 200 epochs, three seeds, both rules, five problems of the bench and digits
#: with one column for each of four levels of a pixel. For the other rules that have cycles it would be 1.04, 1.45 and
#: 1.14 of the epochs.
PAYS = 0.01
#: By what a rate without cycles grows in each epoch, as long as F falls, of rules that average.
RISES = 1.3
#: Epochs without a new lowest F after which a rate that has no cycles is halved for the first time.
PATIENCE = 3
#: The rule that averages but goes on at half the rate which its trials found, and does not raise it: its steps do not
#: shrink as the gradient does. To halve it takes 0.91, 0.79 and 0.79 of the epochs to relative gaps of 1e-2, 1e-3 and
#: 1e-4 on eight problems of the bench; schedule-free SGD would take 1.01, 1.05 and 0.89. Not to raise it takes 0.80,
#: 0.92 and 0.85 on 13 problems; schedule-free SGD would take 0.98, 0.96 and 1.08.
HALVES_TRIED = "schedule_free_adam"
#: Epochs without a new lowest F after which gradient descent goes back to the lowest.
MEMORY = 10

#: Steps in which a learning rate is tried.
TRIAL_STEPS = 64
#: A quarter of a rate is not tried if four times the rate lowered F by more than this share of what the rate did.
FLAT = 0.75


def next_cycle(length: int, improved: bool, above: int, lower: tuple[float, float]) -> tuple[int, float]:
    """After a cycle of an automatic rate: the next one's length, and what its rate is multiplied by.

    `above` of the cycle's epochs ended with F above its lowest before the cycle: where the rate could be higher, F
    falls from the cycle's beginning on; where it is too high, only at its end, if it does. `lower` is that of the rule.
    """
    too_high, useless = lower
    if not improved:
        factor = useless
    elif 5 * above > 3 * length:
        factor = too_high
    else:
        factor = HIGHER if 5 * above <= 2 * length else 1.0
    return longer(length), factor


def lower(optimizer: Optimizer, grows: bool = False) -> tuple[float, float]:
    """What the rate is multiplied by after a cycle that lowered F at its end alone, and after one that did not.

    By less for Adagrad, whose steps become shorter by themselves, and where the batch `grows` instead.
    """
    if grows:
        return 0.7, 0.7
    return 0.7 if optimizer._kernel.startswith("adagrad") else 0.5, 0.25


def without_cycles(rises: int, length: int, *, rising: bool = False) -> tuple[float, int]:
    """After an epoch at a rate that has no cycles: what it is multiplied by, and the new `length`, 1 at first.

    It is halved after 3, then 4, 5, 7, 9, ... epochs in a row without a new lowest F, of which `rises` counts those so
    far; the parameters of the lowest F go on then. Without that growth it would fall to nothing far from the minimum:
    F need not fall from epoch to epoch. A rate that is `rising` grows in each epoch that lowers F, and is halved by the
    first that does not.
    """
    if rising and not rises:
        return RISES, length
    patience = 1 if rising else PATIENCE + length - 1
    return (1.0, length) if rises < patience else (0.5, longer(length))


def longer(length: int) -> int:
    """1, 2, 3, 5, 7, 10, 15, 22, 32, 46, ..."""
    return round(LONGER * length + 0.2)


def remembers(epochs: Epochs) -> bool:
    """Whether the next steps go on from what is more than w: of rules that average, and of Ftrl, whose step depends on
    the last rate. A rate that falls means something else to them: theirs has no cycles."""
    return epochs.averages or epochs.optimizer._kernel.startswith("ftrl")


def adjusted(run: resume.Run, epochs: Epochs, cycles: bool, averages: bool, grows: bool = False) -> resume.Run:
    """After an epoch with an automatic rate: the next one's course; starts anew where that is due.

    Whether the rate has `cycles`, the rule `averages` and the batch `grows` is told in `stochastic`.
    """
    run = replace(run)
    if cycles:
        if run.at == run.length:
            begin_cycle(run, epochs, grows)
    elif descends(epochs):
        two_points(run, epochs)
    elif epochs.full and "u" in epochs.optimizer.slots:
        if run.rises:
            epochs.forget()
    else:
        factor, run.length = without_cycles(run.rises, run.length, rising=averages and run.rising)
        run.scale *= factor
        if factor > 1:
            epochs.keep_start(run.scale)
        elif factor < 1:
            run.rising, run.rises = False, 0
            epochs.restart(run.best, run.scale)
    return run


def begin_cycle(run: resume.Run, epochs: Epochs, grows: bool) -> None:
    """After a cycle: the next one, from the best parameters if that did not lower F.

    Where the batch `grows`, a cycle that does not pay doubles it, and the next one is as long as the one before that.
    """
    lowest, start, length = run.best_row[2], run.cycle_start, run.length
    run.length, factor = next_cycle(length, lowest < start, run.above, lower(epochs.optimizer, grows))
    if grows and length >= TELLING and start - lowest < PAYS * abs(start) and epochs.batch_size < epochs.most_rows:
        run.batch_size = min(2 * epochs.batch_size, epochs.most_rows)
        run.length = max(TELLING, round(length / LONGER))
    run.at, run.above, run.cycle_start, run.scale = 0, 0, lowest, run.scale * factor
    if not lowest < start:
        epochs.restart(run.best, run.scale)


def descends(epochs: Epochs) -> bool:
    """Whether each step is gradient descent on all rows, with nothing around it but L1."""
    return epochs.full and is_plain(epochs.optimizer) and epochs.optimizer.weight_decay is None


def points(epochs: Epochs) -> NDArray[np.float64]:
    """Parameters and the gradient there, for `two_points` after the next step."""
    if epochs.gradient is None:
        epochs.gradient = epochs.objective.smooth_value_and_gradient(epochs.w)[1]
    gradient = epochs.gradient
    if epochs.variables is not None:
        gradient = epochs.variables.gradient(gradient).reshape(gradient.shape)
    return np.stack([epochs.here, gradient])


def five_bits(number: float) -> float:
    """The nearest number of five binary digits."""
    digits, exponent = math.frexp(number)
    return math.ldexp(round(32 * digits), exponent - 5)


def two_point_rate(before: NDArray[np.float64], now: NDArray[np.float64]) -> float | None:
    """The rate of gradient descent that parameters and gradients at the last two points give; None if they give none.

    ``lr = s'y / y'y``, s and y being what the last step changed in w and in the gradient of F without L1: the inverse
    of the curvature along it, so that ``lr y`` is as near to s as it can be. The rate has five bits: with all of them,
    what sums in another order round differently would make each step differ by more than the last (weights of two and
    rows given twice would end 1e-8 apart, in place of 1e-13).

    References
    ----------
    Barzilai, Borwein, "Two-point step size gradient methods", IMA J. Numerical Analysis 8, 1988, eq. (5).
    Wright, Nowak, Figueiredo, "Sparse reconstruction by separable approximation", 2009, section 2.2 (with L1).
    """
    s, y = now - before
    along, square = float(np.vdot(s, y)), float(np.vdot(y, y))
    return five_bits(along / square) if along > 0 and 0 < square < math.inf else None


def two_points(run: resume.Run, epochs: Epochs) -> None:
    """The next step of gradient descent with an automatic rate: that of `two_point_rate`.

    F may rise on the way; after `MEMORY` epochs without a new lowest F comes a step of 1 / L from the parameters that
    have it, which lowers F.
    """
    assert run.learning_rate is not None
    back = run.rises >= MEMORY
    if back:
        run.rises, run.scale = 0, 1.0
        epochs.restart(run.best, run.scale)
    now = points(epochs)
    if run.before is not None and not back and (rate := two_point_rate(run.before, now)) is not None:
        run.scale = rate / run.learning_rate
    run.before = now


def auto_batch_size(design: Design, optimizer: Optimizer, *, waits: bool = True) -> int:
    """A batch size from the layout, the length of the rows and the cache: the knee of an epoch's time per row.

    Smaller batches take more steps in an epoch, which is worth more than a tenth of its time. So:

    - CSR, plain SGD: 4. Its step costs the nonzeros alone, so that all sizes are equally fast; 4 has the noise of 1 and
      the automatic rate of 8 (seconds to a gap of 1e-2 on text_like: 0.17, 0.12, 0.19 for 1, 4, 8). On up to 1,000
      rows 32, as for the others: where all rows fit, a weight of two is the same as the row twice.
    - CSR, rules with memory: 32 where columns wait for their rows. Where steps of all columns pay within 256 rows
      (3 b rows' nonzeros are as many as the columns), up to 128: three times as fast on text_like.
    - CSR, in other variables than w (where columns do not `wait`): as where steps of all columns pay.
    - RMSprop: twice as many, on dense rows too. Its memory of squared gradients is ten steps long, and what single rows
      add to it moves the point where the steps come to rest; no rate mends that (`rests_away`).
    - dense: 32, of at most 1 MB, so that a batch read twice is in cache the second time; but 8, over which the
      coordinates' own work is spread.

    Nanoseconds per row, float32, one thread of a 2.6 GHz EPYC, best of 2 epochs:

    ============================  ========  =====  =====  =====  =====  =====  =====  =====
    data                          rule      1      8      16     32     64     128    256
    ============================  ========  =====  =====  =====  =====  =====  =====  =====
    dense, 10 columns             Adam      73     27     26     25     23     25     24
    dense, 100 columns            momentum  94     40     39     37     38     37     37
    dense, 100 columns            Adam      117    44     41     40     39     37     38
    dense, 1,000 columns          Adam      826    397    368    341    348    211    254
    dense, 8,000 columns          Adam      5,337  2,818  2,611  3,143  2,855  3,064  3,426
    CSR, 10 of 1,000 columns      SGD       51     49     50     50     53     53     53
    CSR, 10 of 1,000 columns      Adam      275    98     77     63     59     57     54
    CSR, 10 of 100,000 columns    momentum  232    171    174    160    156    158    154
    CSR, 100 of 50,000 columns    SGD       221    229    220    228    213    216    223
    CSR, 100 of 50,000 columns    Adam      987    1,111  1,116  815    502    365    301
    ============================  ========  =====  =====  =====  =====  =====  =====  =====
    """
    n, d = design.shape
    row = design.n_stored / max(n, 1)
    if not design.sparse:
        size = max(8, min(32, int(2**20 / (row * design.dtype.itemsize))))
    elif is_plain(optimizer) and n > 1000 and waits:
        size = 4
    else:
        knee = d / (3 * max(row, 1.0))
        size = 2 ** round(math.log2(min(max(knee, 32), 128))) if knee <= 256 or not waits else 32
    if optimizer._kernel.startswith("rmsprop"):
        size *= 2
    return max(1, min(size, n))


def rests_away(optimizer: Optimizer) -> bool:
    """Whether steps of small batches come to rest away from the minimum, whatever the rate, and larger ones do not."""
    return optimizer._kernel.startswith(("rmsprop", "adadelta"))


def auto_learning_rate(
    objective: Objective, optimizer: Optimizer, batch_size: int, variables: Scaled | None = None
) -> float:
    """A learning rate from the data.

    For plain steps and momentum 2 / L (1 / L with all rows), L being the expected smoothness of a batch of b of n rows,
    ``n (b - 1) / (b (n - 1)) L_full + (n - b) / (b (n - 1)) L_row + alpha``, where L_row is the mean over rows and not,
    as in the worst case of the theory, the largest: the solver's guard and its halving stand behind it. Momentum
    multiplies the second, noise's part by 1 / (1 - mu). Where `TRIAL_STEPS` batches take all the rows, that is but the
    first of the rates that are tried (`_calibrated`), with L_row for L_full, which needs no pass: on more rows the best
    rate for so few steps is too high (momentum on text_like: 10 epochs to a relative gap of 1e-2 in place of 5).
    The other rules, and losses whose slope is not Lipschitz, are always calibrated.

    References
    ----------
    Gower, Loizou, Qian, Sailanbayev, Shulgin, Richtárik, "SGD: General analysis and improved rates", ICML 2019,
    eq. (15).
    """
    return auto_start(objective, optimizer, batch_size, variables=variables)[0]


def auto_start(
    objective: Objective, optimizer: Optimizer, batch_size: int, epochs: Epochs | None = None,
    variables: Scaled | None = None,
) -> tuple[float, Snapshot | None]:  # fmt: skip
    """`auto_learning_rate`, and what the steps that found it came to from w = 0, for `Epochs.restore`.

    None where no rate was tried, or on a sample's copy alone (`_calibrated`), or none lowered F. `epochs` of this
    objective, rule and batch size may be lent for the trials: they are as before afterwards.

    Fits that go on from there, rather than from zero after trials on 1,024 rows, take 0.87, 0.90 and 1.00 of the
    epochs, the trials' own included, to relative gaps of 1e-2, 1e-3 and 1e-4 on breast_cancer, digits_parity and
    text_like, and 0.87, 0.77 and 0.90 on ten other problems of the bench (geometric means over 11 rules, where both
    get there).
    """
    n, b = objective.n_samples, batch_size
    with np.errstate(over="ignore", invalid="ignore"):
        norms = objective.design.row_norms_squared + objective.fit_intercept
        if len(objective.weights):
            norms = norms * objective.weights.reshape(n, -1).max(axis=1)
        mean = float(norms.mean())
    if not math.isfinite(mean):
        return 1e-30, None  # some rules refuse 0, or divide by it
    curvature = objective.loss.max_curvature
    if optimizer._kernel not in ("sgd", "momentum", "nesterov") or not np.isfinite(curvature):
        return _calibrated(objective, optimizer, b, optimizer.first_rate, epochs, variables)
    row = curvature * mean if variables is None else float(len(variables.scale))
    noise = (n - b) / (b * (n - 1)) / (1 - getattr(optimizer, "momentum", 0.0)) if b < n else 0.0
    share = n * (b - 1) / (b * (n - 1)) if b < n else 1.0
    if b < n <= TRIAL_STEPS * b or (b < n and variables is not None):
        first = 2 / max((share + noise) * row + objective.l2, 1e-300)  # at most four times too low: the trials climb
        return _calibrated(objective, optimizer, b, first, epochs, variables)
    full = min(_largest_curvature(objective, variables), row)
    smoothness = share * full + noise * row + objective.l2
    return (1 if b == n else 2) / max(smoothness, 1e-300), None


def _calibrated(
    objective: Objective, optimizer: Optimizer, batch_size: int, rate: float, epochs: Epochs | None,
    variables: Scaled | None,
) -> tuple[float, Snapshot | None]:  # fmt: skip
    """The rate that lowers F most among 4^k times `rate`, where k climbs while it pays.

    Each is tried from w = 0 in 64 steps, on rows from all over the data, and F is then measured on up to 1,024 rows:
    mostly two or three rates, about half an epoch on 40,000 rows. Of a file, and by Adagrad where 64 steps do not take
    all the rows, only those 1,024 are tried: Adagrad's steps shrink by themselves, and the rate that is best for few
    steps on rows that are new is too low for an epoch.

    References
    ----------
    Bottou, "Stochastic gradient descent tricks", 2012, section 4.2.
    """
    n, wanted = objective.n_samples, TRIAL_STEPS * batch_size
    rows = np.linspace(0, n - 1, min(n, max(1024, batch_size))).astype(np.intp)
    sample = objective.rows(rows) if len(rows) < n else objective
    shrinks = optimizer._kernel.startswith("adagrad") and wanted < n
    tried = sample if objective.design.mapped or shrinks else objective
    optimizer = optimizer.with_learning_rate(1.0)
    if epochs is None or epochs.objective is not tried or epochs.batch_size != batch_size:
        epochs = Epochs(tried, optimizer, batch_size, variables=variables)
    lent, gradient, before = epochs.optimizer, epochs.gradient, epochs.snapshot()
    epochs.optimizer = optimizer
    rng, n, wanted = np.random.default_rng(0), tried.n_samples, TRIAL_STEPS * epochs.batch_size
    if wanted < n:
        order = rng.choice(n, wanted, replace=False)
    else:
        order = np.concatenate([rng.permutation(n) for _ in range(-(-wanted // n))])[:wanted]
    course = np.asarray(optimizer.rate(np.arange(float(TRIAL_STEPS))))
    start, zero, first = tried.zeros(), sample.value(sample.zeros()), rate

    def reached(rate: float) -> tuple[float, Snapshot]:
        """F after the steps, and what they came to."""
        epochs.restart(start, 1.0)
        epochs.run(order, rate * course)
        value = sample.value(epochs.solution)
        return value if np.isfinite(value) else np.inf, epochs.snapshot()

    with np.errstate(over="ignore", invalid="ignore"):
        best, begun = reached(rate)
        for factor in (4.0, 0.25) if best < zero else (0.25,):  # where a rate does not lower F, no higher one is tried
            lowest = value = best
            while 1e-8 < rate * factor / first < 1e7:
                value, there = reached(rate * factor)
                if value >= best and math.isfinite(best):  # of two that overflow neither is the better
                    break
                rate, best, begun = rate * factor, value, there
            # Where a higher one was better, or nearly as good, no lower one is.
            if best < lowest or zero - value > FLAT * (zero - best):
                break
    epochs.optimizer = lent
    epochs.restore(before)
    epochs.gradient = gradient
    if optimizer._kernel.startswith(HALVES_TRIED):
        rate /= 2
    return rate, begun if tried is objective and best < zero else None


def _largest_curvature(objective: Objective, variables: Scaled | None = None, iterations: int = 5) -> float:
    """Upper estimate of the largest eigenvalue of the data's Hessian, in these variables, anywhere.

    Lanczos' at w = 0, where losses of classes curve most, with a tenth added for what it has not found yet; on a
    sample of the rows, whose largest eigenvalue is on average above that of all. Losses of regression may be flat there
    (Huber's far from the target): it is that of the squared error, times their largest curvature.
    """
    objective, factor = objective.sample(1024), 1.0
    if objective.loss.targets == "regression":
        factor = objective.loss.max_curvature
        objective = Objective(
            objective.design, objective.y, alpha=objective.l2 / factor, loss="squared_error",
            sample_weight=objective.sample_weight if len(objective.weights) else None,
            fit_intercept=objective.fit_intercept, n_outputs=objective.n_outputs, n_jobs=objective.n_jobs,
        )  # fmt: skip
    zeros, before = np.zeros(objective.shape), np.zeros(objective.shape)
    v = np.random.default_rng(0).standard_normal(objective.shape)
    T, beside = np.zeros((iterations, iterations)), 0.0
    v /= norm(v)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(iterations):
            w = v if variables is None else variables.parameters(v)
            image = objective.hessian_product(zeros, w)
            if variables is not None:
                image = variables.gradient(image).reshape(v.shape)
            image -= beside * before
            T[k, k] = np.vdot(image, v)
            image -= T[k, k] * v
            beside = norm(image)
            if not beside > 1e-10 * abs(T[k, k]) or k + 1 == iterations:
                break
            T[k, k + 1] = T[k + 1, k] = beside
            before, v = v, image / beside
        T = T[: k + 1, : k + 1]
        value = float(np.linalg.eigvalsh(T)[-1]) if np.isfinite(T).all() else math.inf
    return 1.1 * factor * value
