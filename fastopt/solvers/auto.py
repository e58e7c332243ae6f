"""solver="auto": the fastest way to tol for this problem, and another one where it gets stuck."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._validation import fail
from fastopt.objective import Objective
from fastopt.solvers.monitor import Reporter, Result, after, norm
from fastopt.solvers.resume import Course
from fastopt.solvers.row_space import Outside, RowSpace
from fastopt.solvers.scaled import variances
from fastopt.solvers.table import SOLVERS, able

__all__ = ["attempts", "auto", "choose"]

#: Parameters up to which "newton" is taken in the span of the rows, dense and CSR.
FEW, FEW_SPARSE = 300, 150
#: Epochs in which "sdca" has to show that rows are nearly orthogonal.
SOON = 32
#: Iterations of "lbfgs" and "newton", and epochs of "sdca", after which another goes on.
TIRED = 64
#: Rows from which these are tried first on dense data too, and `even` is not asked.
LARGE = 20_000
#: Squared lengths of rows below which no product of two of them is infinite, though entries were given in parts.
LONGEST = 1e290
#: Multiplications of a Hessian that takes a millisecond: then "newton" is at home everywhere.
SMALL = 50_000_000
#: Parameters beyond which it is not on CSR rows with L2: a factor takes as long as "sdca" or "lbfgs" on few rows.
MANY = 128
#: The largest eigenvalue, their mean being about one, up to which `even` calls curvature even.
EVEN = 2.2


def choose(objective: Objective) -> list[str]:
    """The solvers to try: each where the last one stalled.

    The first of these that fits begins:

    1. "newton" where the Hessian on all the rows costs less than 14 passes: a step of either is a pass, and Newton
       needs 4 to 8 of both where L-BFGS needs 20 to 200. Also on small data, where it is the most robust, but for CSR
       with L2 and more than 128 parameters: there the others take a tenth of its time.
    2. With L1 what `with_l1` says.
    3. On dense data of fewer than 20,000 rows "lbfgs" where F is known to curve evenly (`even`), else "newton-cg": its
       products cost a pass each, as a step of "lbfgs" does, and it needs fewer of them where those are many.
    4. "lbfgs" where F curves evenly.
    5. "sdca" on short rows, where the dual's steps hardly disturb each other: ``mean ||x||^2 / (n l2)`` is up to 2, or
       up to 200 on fewer than 20,000 rows that are CSR or have one output.
    6. "saga" where that measure is up to 200, with softmax from 5,000 rows on.
    7. "lbfgs" on 20,000 rows or more, "newton-cg" on fewer.

    Behind 5 and 6 comes 7, behind "lbfgs" "newton-cg", and at last, if they are not there yet, "lbfgs", and "newton"
    for up to 2,000 parameters.

    Milliseconds to a relative gap of 1e-4 / 1e-6 at alpha = 1/n, one thread of a 2.6 GHz EPYC, problems of
    `bench.problems` (in brackets ``mean ||x||^2 / (n l2)``; ">": not within the 1.5 to 2 s of its search; empty: not
    measured). From several runs on a machine that others used too, "sdca" and "saga" from another one than "newton" and
    "lbfgs"; mushrooms, saga on flights_onehot and newton on digits_parity are later ones, the processor's time for
    whole fits: good for the choice where columns differ by 2 or more. The bounds 200 and 20,000 rest on mushrooms,
    digits_onehot_pairs and flights_onehot alone.

    ==========================  =====================  =============  ============  ============  ===========
    problem                     rows x columns         newton         sdca          saga          lbfgs
    ==========================  =====================  =============  ============  ============  ===========
    ill_conditioned             500,000 x 50           91 / 116       > / >         > / >         119 / 147
    flights_dense               327,346 x 38           59 / 95        > / >         > / >         461 / 592
    digits_parity               1,797 x 64             1.7 / 1.8                                  3.5 / 5.5
    digits                      1,797 x 64, softmax    142 / 174                                  34 / 54
    mushrooms, CSR (22)         8,124 x 127            22 / 31        9.8 / 18      17 / 27       22 / 34
    digits_onehot_pairs (112)   1,797 x 1,792, CSR                    18 / 26       > / >         20 / 30
    text_like (1)               40,000 x 50,000, CSR                  63 / 87       85 / 104      97 / 108
    flights_onehot (11)         327,346 x 8,933, CSR                  > / >         169 / 276     881 / >
    flights_onehot, 10/n (1.1)  327,346 x 8,933, CSR                  169 / 256     298 / >
    ==========================  =====================  =============  ============  ============  ===========

    The same with softmax and with L1 alone. The problems of `bench.problems` are from `make bench-full`, whole
    fits by number of iterations; the others from whole fits beside other work ("->": another alpha). Where much is
    kept "newton" has become faster since, by `ColumnDescent` (digits_onehot_classes@l1 at 10/n is as it was):

    =============================  =====================  =========  =============  =============  ================
    problem                        rows x columns         newton     sdca           saga           lbfgs
    =============================  =====================  =========  =============  =============  ================
    digits (15)                    1,797 x 64             131 / 156  17 / 27        58 / 122       13 / 21
    -> 10/n (1.5)                                         127 / 140  10 / 19        12 / 23        7 / 11
    digits_onehot_classes (112)    1,797 x 1,792, CSR                28 / 53        272 / >        134 / 211
    Fashion-MNIST, softmax (162)   20,000 x 784                      > / >          18,608 / >     79,420 / 121,872
    -> 10/n (16)                                                     3,958 / 3,958  2,408 / >      42,120 / 62,207
    langid, softmax (1)            240,000 x 83,196, CSR             1,040 / 2,190  2,371 / 7,585  20,408 / 35,327
    text_topics (1)                20,000 x 20,000, CSR              75 / 122       114 / 164      > / >
    breast_cancer@l1 (30)          569 x 30               1.4 / 1.6                 35 / 201       7.8 / 12
    digits_parity@l1 (15)          1,797 x 64             4.0 / 4.4                 4.9 / 8.0      10 / 16
    mushrooms@l1 (22)              8,124 x 127, CSR       14 / 15                   168 / >        38 / 48
    digits_onehot_pairs@l1 (112)   1,797 x 1,792, CSR     27 / 28                   > / >          97 / 156
    text_like@l1 (1)               40,000 x 50,000, CSR   > / >                     173 / 257      > / >
    10,000 of its rows, L1 (1)     10,000 x 50,000, CSR   109 / 109                 68 / 121
    flights_onehot, L1 (11)        5,000 x 8,933, CSR     220 / 307                 15 / 54
    flights_dense, L1 (1e7)        80,000 x 38            83 / 270                  > / >          > / >
    digits@l1, softmax (15)        1,797 x 64             43 / 48                   284 / 550      73 / 111
    -> 10/n (1.5)                                         18 / 21                                  54 / 102
    -> 0.1/n (154)                                        133 / 144                                > / >
    digits_onehot_classes@l1       1,797 x 1,792, CSR     234 / 234                 > / >          > / >
    -> 10/n (11)                                          42 / 49                   768 / 1,488    720 / >
    -> 0.3/n (373)                                        752 / 977                                > / >
    normal columns, L1, 4 classes  200 x 5,000            28 / 33                   > / >          565 / 810
    text_topics, softmax, L1 (1)   2,000 x 20,000, CSR    130 / 149                 350 / 645      6,734 / 11,117
    -> its 5,000 rows                                     289 / 393                 597 / 1,067    8,414 / 14,084
    =============================  =====================  =========  =============  =============  ================

    Milliseconds to tol=1e-4 without "newton-cg" and with it, whole fits of random data and C beside other work (">":
    not within 100 iterations): dense 2,357 x 137, 10 classes > 648 / 330; 317 x 141, 10 classes 111 / 48; 117 x 2,735,
    10 classes > 66 / 46; 3,576 x 279, 3 classes 658 / 297; 906 x 1,103 37 / 21; 492 x 338 40 / 26; CSR 2,626 x 1,835,
    10 classes > 138 / 106; 1,868 x 8,242 93 / 47; 245 x 249 15 / 8. At worst 5,610 x 335 CSR 31 / 50; dense 576 x 1,467
    19 / 30; 1,813 x 551 19 / 26. Of 157 problems 49 took another way, 0.83 of the time in the mean, and all converged,
    where 11 had not.
    """
    usable, n = able(objective), objective.n_samples
    softmax = objective.n_outputs > 1
    parameters = objective.shape[0] * objective.n_outputs
    order = []
    small = n * parameters**2 < SMALL and not (objective.design.sparse and objective.l2 > 0 and parameters > MANY)
    if "newton" in usable and (hessian_passes(objective) < 14 or small):
        order.append("newton")
    elif objective.l1:
        order += with_l1(objective)
    elif "newton-cg" in usable and not objective.design.sparse and n < LARGE:
        order += ["lbfgs", "newton-cg"] if even(objective) else ["newton-cg"]
    else:
        sdca = "sdca" in usable and short(objective)
        saga = "saga" in usable and disturbance(objective) <= 200 and (not softmax or n >= 5_000)
        quick = "lbfgs" in usable and even(objective)
        if (sdca or saga) and not quick:
            order.append("sdca" if sdca else "saga")
        order += ["lbfgs", "newton-cg"] if quick or n >= LARGE else ["newton-cg"]
    order = [name for name in order if name in usable]
    if "lbfgs" in usable and "lbfgs" not in order:
        order.append("lbfgs")
    if "newton" in usable and "newton" not in order and parameters <= 2000:
        order.append("newton")
    return order


def even(objective: Objective) -> bool:
    """Whether F with L2 curves at zero nearly as much in all directions, once columns have one scale: "lbfgs" is quick.

    Asked of up to 20,000 rows and a fifth as many columns: data of more columns have flat directions that this does not
    see (flights_onehot: 2.9). Up to three products with the Hessian of a loss of constant curvature on some of the rows
    lead to its largest eigenvalue, which is 5.9 on digits and 9.1 on mushrooms.

    Milliseconds to tol=1e-4 on random data, one thread:

    =============================  ============  =====
    rows                           without this  lbfgs
    =============================  ============  =====
    12,402 x 258 one-hot           161           15
    6,697 x 244 CSR                15            12
    1,271 x 254 CSR                4.8           7.4
    2,073 x 232 one-hot            24            7.9
    8,370 x 785 dense              > 725         97
    7,507 x 25 CSR, 10 classes     > 510         37
    5,376 x 41 CSR, 4 classes      163           12
    1,243 x 248 CSR, 3 classes     9.0           5.4
    16,763 x 336 dense, 3 classes  851           158
    =============================  ============  =====

    Of 208 random problems it changed 66, which took 0.3 to 0.5 times as long in the mean (0.06 to 1.5).
    """
    n, d = objective.design.shape
    if n >= LARGE or 5 * d > n:
        return False
    # A loss of curvature 1 in place of F's, so that the penalty is larger by as much.
    alpha = (
        objective.l2 * objective.n_outputs if objective.n_outputs > 1 else objective.l2 / objective.loss.max_curvature
    )
    if row_length(objective) <= (EVEN - 1) * alpha:  # no eigenvalue is further from the penalty's own
        return True
    wanted = max(1024, 8 * d, n // 8)
    some = objective if 4 * wanted > 3 * n else objective.sample(wanted)  # products cost less than a copy
    F = Objective(
        some.design, np.zeros(some.n_samples), loss="squared_error", alpha=alpha, n_jobs=objective.n_jobs,
        sample_weight=some.sample_weight if len(some.weights) else None,
    )  # fmt: skip
    mean, variance = variances(some)
    with np.errstate(all="ignore"):  # what is not finite is not even
        diagonal = variance + alpha
        scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        v = np.random.default_rng(0).standard_normal(d)
        for k in range(3):
            v /= norm(v) or 1.0
            w = scale * v
            # The intercept takes what the columns' means add: its own part is rounding, which far means would multiply.
            image = F.hessian_product(F.zeros(), np.append(w, -mean @ w).reshape(F.shape))[:, 0]
            product = scale * (image[:-1] - mean * image[-1])
            quotient = v @ product
            # Before the last one: what the next will be at least.
            if not (product @ product / quotient if k < 2 else quotient) <= EVEN:
                return False
            v = product
    return True


def with_l1(objective: Objective) -> list[str]:
    """The solvers for L1 where a Hessian of all columns is too much.

    "newton" alone on fewer than 20,000 rows with ``mean ||x||^2 / (n alpha) > 5``. Else "saga" and then "newton"; on
    fewer than 2,000 rows, with softmax 5,000, the other way round.

    Milliseconds to tol=1e-4 on random data, one thread ("-": not in 100 epochs), by that ratio:

    ===============================  ======  ======  ====
    rows                              ratio  newton  saga
    ===============================  ======  ======  ====
    2,858 x 346 CSR                   5,700     159     -
    15,203 x 40 CSR                   3,000      44    59
    15,956 x 19,505 CSR                 109     384   146
    8,977 x 5 CSR, 3 classes             26      24    30
    3,702 x 7,349 CSR                    16      20    33
    15,484 x 1,887 CSR, 3 classes        14     998   431
    4,440 x 18,613 CSR                   10     190   135
    5,964 x 167, 3 classes                8     108   713
    11,523 x 111 one-hot, 3 classes       4     221   157
    8,658 x 47,733 CSR, 3 classes         2     130   156
    10,452 x 26 CSR                     0.3      17    17
    ===============================  ======  ======  ====
    """
    n, least = objective.n_samples, 2_000 if objective.n_outputs == 1 else 5_000
    if n < 20_000 and row_length(objective) > 5 * n * objective.alpha:
        return ["newton"]
    return ["saga", "newton"] if n >= least else ["newton", "saga"]


def short(objective: Objective) -> bool:
    """Whether rows are so short, beside the penalty, that the dual's steps hardly disturb each other."""
    few = objective.n_samples < LARGE and (objective.n_outputs == 1 or objective.design.sparse)
    return disturbance(objective) <= (200 if few else 2)


def disturbance(objective: Objective) -> float:
    """``mean ||x||^2 / (n l2)``."""
    return row_length(objective) / max(objective.n_samples * objective.l2, 1e-300)


def row_length(objective: Objective) -> float:
    """The mean of ``||x||^2``; of many rows that are dense or in a file on a sample: of others "sdca" and "saga" want
    all, which they then find."""
    design = objective.design
    if design.n_stored < 1_000_000 or (design.sparse and not design.mapped):
        return float(design.row_norms_squared.mean())
    return float(objective.sample(1024).design.row_norms_squared.mean())


def hessian_passes(objective: Objective) -> float:
    """What the Hessian on all rows costs, in passes.

    A row of p parameters takes 15 ns, 0.5 ns for each parameter and 0.025 ns (float32 0.02, float64 0.03) for each p^2;
    its pass 15 ns and 0.35 ns for each entry and output.
    """
    parameters = objective.shape[0] * objective.n_outputs
    entries = objective.design.n_stored / objective.n_samples * objective.n_outputs
    return (15 + 0.5 * parameters + 0.025 * parameters**2) / (15 + 0.35 * entries)


@dataclass(frozen=True)
class Attempt:
    """A solver by name, for so many iterations at most, in the span of the rows (`RowSpace`) or not."""

    name: str
    most: int = sys.maxsize
    in_span: bool = False


def attempts(objective: Objective) -> list[Attempt]:
    """The solvers of `choose`, and what comes before them where there are few rows of many columns and L2.

    "lbfgs" and "sdca" leave the last of the default's 100 iterations to "newton-cg", where that is the next: it needs
    few. On 2,626 x 1,835 CSR with 10 classes they took 138 ms without converging, and 106 so.
    "newton" leaves them to "lbfgs": columns a billion times as far from zero as they are wide (times of one minute, in
    seconds since 1970) leave its Hessian no digits, and the variables of "lbfgs" centre them.

    Of CSR rows "sdca" then needs 3 to 40 epochs however long they are, since in so many dimensions they are nearly
    orthogonal; if they are not, it is seen soon. In the span of the rows "newton" takes some milliseconds for up to
    some hundred parameters, and "newton-cg" is the fastest for more. The way there costs n / 15 passes over dense rows.

    Milliseconds to tol=1e-4 for random data and C, one thread beside other work, by `choose` alone and so: 281 x 8,220
    float32, 10 classes 261 / 38; 77 x 1,046 11 / 2; 27 x 1,327 CSR 101 / 1; 744 x 17,838 CSR 47 / 1.3; 807 x 69,300
    CSR, 10 classes > 7,153 / 59. At worst 450 x 1,147, before the bounds on n: 5 / 13.
    """
    order = choose(objective)
    n, d = objective.design.shape
    K, sparse = objective.n_outputs, objective.design.sparse
    first: list[Attempt] = []
    if order and not objective.l1 and objective.l2 > 0 and d >= 2 * n:
        few = n * K <= (FEW_SPARSE if sparse else FEW)
        dual = order[0] == "sdca" if sparse else short(objective)
        near = few or (not sparse and n <= min(500 * K, 1000) and n * n <= 125 * K * d)
        span = near and 0 < float(np.max(objective.design.row_norms_squared)) < LONGEST
        if "sdca" in able(objective) and (span if dual else sparse and not few):
            first.append(Attempt("sdca", SOON))
        if span:
            first.append(Attempt("newton" if few else "newton-cg", in_span=True))
    for name, following in zip(order, [*order[1:], ""], strict=True):
        tires = following == "newton-cg" or (name, following) == ("newton", "lbfgs")
        first.append(Attempt(name, TIRED if tires else sys.maxsize))
    return first


def auto(
    objective: Objective, w: NDArray[Any], *, tol: float, max_iter: int,
    rng: Callable[[], np.random.RandomState | np.random.Generator], verbose: int | Reporter = 0,
    course: Course | None = None,
) -> tuple[str, Result]:  # fmt: skip
    """Minimises F from w by the first of `attempts`; where it stalls, the next goes on.

    "sdca" and "saga" do so as soon as their measurements foretell that max_iter epochs are far from enough.

    Returns
    -------
    name : str
        The solver that ran, or several joined by "+".
    result : Result
        Its history and iterations are those of all that ran.
    """
    order = attempts(objective)
    if not order:
        what = f"{objective.n_outputs} outputs with an L1 penalty"
        fail("solver", f"one that can minimise F of {what}", "auto", "Use an update rule.")
    names: list[str] = []
    result: Result | None = None
    course = course or Course()
    reporter = verbose if isinstance(verbose, Reporter) else Reporter(verbose)
    before = course.state.get("before")
    if before is not None and before["names"] == [attempt.name for attempt in order[: len(before["names"])]]:
        names, result = before["names"], Result(w, before["epoch"], 0.0, 0.0, "stalled", before["history"])
    for attempt in order[len(names) :]:
        name, done = attempt.name, result.n_iter if result is not None else 0
        space = RowSpace(objective) if attempt.in_span else None
        start = w if result is None else result.w
        options: dict[str, Any] = {"tol": tol, "max_iter": min(max_iter - done, attempt.most), "verbose": reporter}
        if SOLVERS[name].shuffles:
            options |= {"rng": rng(), "foretell": attempt is not order[-1]}
        if result is not None:
            before = {"names": [*names], "epoch": done, "history": result.history}
        part = _Part(course, before, result, space, tol)
        if space is None:
            new = SOLVERS[name].run(objective, start, **options, course=part.course)
        else:
            options["verbose"] = Outside(reporter, space)
            new = SOLVERS[name].run(space.narrow, space.inside(start), **options, course=part.course)
            new = space.result(new, tol)
        course.state = part.with_before(part.course.state)
        result = new if result is None else after(result, new)
        names = [*names, name]
        over = new.stop_reason == "max_iter" and new.n_iter == attempt.most
        if not (over or new.stop_reason == "stalled") or result.n_iter >= max_iter:
            break
    assert result is not None
    return "+".join(names), result


class _Part:
    """The course of one solver of several."""

    def __init__(
        self, whole: Course, before: dict[str, Any] | None, result: Result | None, space: RowSpace | None, tol: float
    ) -> None:  # fmt: skip
        self.whole, self.before, self.result, self.space, self.tol = whole, before, result, space, tol
        self.course = Course(whole.state, None if whole.told is None else self.told)

    def with_before(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state, and what the solvers before this one have left."""
        return state | {"before": self.before} if state and self.before is not None else state

    def told(self, result: Callable[[], Result]) -> None:
        """Passes on what the solver has told."""
        self.whole.state = self.with_before(self.course.state)
        assert self.whole.told is not None

        def so_far() -> Result:
            found = result() if self.space is None else self.space.result(result(), self.tol)
            return found if self.result is None else after(self.result, found)

        self.whole.told(so_far)
