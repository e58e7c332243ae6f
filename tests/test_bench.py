"""The benchmark suite itself: the judge, its verdicts on honest and dishonest contestants, the problems, the report."""

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bench import __main__ as command
from bench import compare, effort, judge, objective, optimum, page, problems, report, solvers, workers

ROOT = Path(__file__).resolve().parent.parent


# ---- the judge -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["breast_cancer", "digits@10/n", "digits_onehot_pairs@1e-3"])
def test_gradient_is_the_derivative_of_the_objective(name):
    problem, rng = problems.get(name), np.random.default_rng(0)
    w, direction = rng.standard_normal((2, *problem.shape)) * 0.1
    _, gradient = objective.objective_and_gradient(problem, w)
    after, before = (objective.objective_and_gradient(problem, w + h * direction)[0] for h in (1e-5, -1e-5))
    assert (after - before) / 2e-5 == pytest.approx(np.vdot(gradient, direction), rel=1e-6)


def test_objective_survives_any_margin():
    problem = problems.get("breast_cancer")
    value, gradient = objective.objective_and_gradient(problem, np.full(problem.shape, 1e6))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["breast_cancer", "digits@10/n"])
def test_optimum_is_that_of_scikit_learn(name):
    problem = problems.get(name)
    model = LogisticRegression(
        C=1 / (problem.alpha * len(problem.y)), solver="newton-cholesky", tol=1e-10, max_iter=200
    )
    model.fit(problem.X, problem.y)
    verdict = judge.judge(problem, np.vstack([model.coef_.T, model.intercept_]))
    assert abs(verdict.gap) < 1e-9
    assert verdict.grad_norm < 1e-6
    assert optimum.find(problem).bound < 1e-8


@pytest.fixture(autouse=True)
def on_its_own(monkeypatch):
    """pytest-benchmark times nothing in what a worker of pytest-xdist starts."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


class Wrong(solvers.Contestant):
    """Solves F with another penalty, as a careless adapter does."""

    NAME = FAMILY = "wrong"

    def __init__(self, factor):
        self.factor = factor

    def prepare(self, problem):
        C = 1 / (self.factor * problem.alpha * problem.X.shape[0])

        def run(budget):
            model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=500).fit(problem.X, problem.y)
            return np.vstack([model.coef_.T, model.intercept_])

        return run


@pytest.mark.parametrize("name", ["breast_cancer", "digits_parity", "digits"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_contestant_with_another_penalty_is_caught(name, factor):
    verdict = effort.check_same_F(Wrong(factor), problems.get(name), seconds=0.5)
    assert verdict.finding == "another F"
    assert verdict.alpha_ratio == pytest.approx(factor, rel=1e-3)


def test_contestant_with_the_right_penalty_is_believed():
    assert effort.check_same_F(Wrong(1.0), problems.get("breast_cancer")).finding == "same F"


CONTESTANTS = [name for name, c in solvers.all_contestants().items() if c.TO_TARGET]
EXACT = {"fastopt lbfgs", "scipy L-BFGS-B", "scipy Newton-CG", "scikit-learn lbfgs", "scikit-learn newton-cholesky"}


@pytest.fixture(params=CONTESTANTS)
def at_work(request):
    """A contestant and the process in which it works."""
    contestant = solvers.all_contestants()[request.param]
    if reason := contestant.missing():
        pytest.skip(reason)
    hand = workers.Worker(contestant)
    yield contestant, hand
    hand.close()


def closest(contestant, hand, problem, gap, seconds=6.0):
    """The coefficients with which a contestant comes closest to the minimum of `problem`, and how close that is.

    A peer of its own package may be too old for what else is installed.
    """
    try:
        return closest_in_time(contestant, hand, problem, gap, seconds)
    except workers.Trouble as trouble:
        if not contestant.REQUIRES:
            raise
        pytest.skip(f"{contestant.NAME} does not work here: {trouble}")


def closest_in_time(contestant, hand, problem, gap, seconds):
    hand.load(problem)
    named = problems.get(problem.name.partition("@")[0])  # settings are kept under this name
    candidates = effort.known(contestant, named) or contestant.knobs(named)
    best, spent = (np.inf, np.zeros(problem.shape)), 0.0
    for budget in (4, 32, 256, 2048):
        for knobs in candidates:
            run = hand.job("prepare", **knobs)
            coef = run(budget)
            best = min(best, (judge.judge(problem, coef).gap, coef), key=lambda pair: pair[0])
            spent += run.seconds
            if best[0] <= gap or spent > seconds:
                return best
    return best


def small_problem(contestant):
    """One that it takes: some are for L1 alone."""
    return next(p for p in map(problems.get, ("breast_cancer@10/n", "breast_cancer@l1")) if not contestant.skip(p))


def test_every_contestant_solves_the_same_F(at_work):
    contestant, hand = at_work
    problem = small_problem(contestant)
    gap, coef = closest(contestant, hand, problem, 1e-2)
    assert gap <= 1e-2
    assert judge.judge(problem, coef).grad_norm < 0.1


def test_every_contestant_reads_csr(at_work):
    contestant, hand = at_work
    problem = problems.get("digits_onehot_pairs@10/n")
    if reason := contestant.skip(problem) or (None if contestant.CSR else "takes no sparse data"):
        pytest.skip(reason)
    _, coef = closest(contestant, hand, problem, 0.1)
    verdict = judge.judge(problem, coef)
    assert verdict.finding != "another F"
    assert verdict.objective < 0.5  # log 2 at the start, 0.14 at the minimum


def test_half_the_penalty_is_caught_with_every_contestant(at_work):
    """As a careless adapter would, one gives its contestant half of the penalty."""
    contestant, hand = at_work
    problem = small_problem(contestant)
    half = dataclasses.replace(problem, alpha=problem.alpha / 2)
    gap, coef = closest(contestant, hand, half, 1e-5)
    if gap > 1e-2:
        pytest.skip(f"had no time to converge: gap {gap:.0e}")
    verdict = judge.judge(problem, coef)
    assert verdict.finding != "same F"
    if contestant.NAME in EXACT:
        assert verdict.finding == "another F"
        assert verdict.alpha_ratio == pytest.approx(0.5, rel=1e-2)


def test_a_first_short_step_is_not_taken_for_another_F():
    problem = problems.get("breast_cancer")
    w = -1e-6 * objective.objective_and_gradient(problem, np.zeros(problem.shape))[1]
    assert judge.judge(problem, w).finding == "not converged"


def test_accuracy_is_that_of_the_test_rows():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 3)), np.where(rng.random(50) < 0.5, 1.0, -1.0)
    problem = problems.Problem("mine", X, y, 0.1, 2, "here", "free", test=(X, y))
    w = rng.standard_normal(problem.shape)
    right = sum((X[i] @ w[:-1, 0] + w[-1, 0] > 0) == (y[i] > 0) for i in range(50))
    assert judge.judge(problem, w).accuracy == right / 50
    assert judge.judge(problem, np.full(problem.shape, np.nan)).accuracy == 0.0


# ---- seconds to a gap ----------------------------------------------------------------------------


def point(budget, seconds, gap, knobs=None):
    return effort.Point(budget, seconds, judge.Verdict(1.0, gap, 1.0, 1.0, "same F"), knobs or {})


def test_time_to_a_gap_is_interpolated_between_checked_runs():
    plan = effort.Plan([point(1, 1.0, 1e-1), point(2, 2.0, 1e-3), point(4, 4.0, 1e-5)])
    assert plan.aim(1e-2).point.budget == 2
    assert plan.aim(1e-2).seconds == pytest.approx(1.5)  # half-way from 1e-1 to 1e-3, by powers of ten
    assert plan.aim(1e-3).seconds == pytest.approx(2.0)
    assert plan.aim(1e-4).seconds == pytest.approx(3.0)
    assert plan.aim(0.5).seconds == 1.0  # nobody does less than one epoch
    assert plan.aim(1e-6) is None


def test_the_soonest_setting_is_aimed_with():
    slow, fast = {"rate": 1}, {"rate": 2}
    plan = effort.Plan([point(1, 1.0, 1.0, slow), point(1, 1.0, 1.0, fast), point(2, 2.0, 1e-4, slow)])
    assert plan.aim(1e-2).point.knobs == slow
    plan.points.append(point(2, 1.5, 1e-4, fast))
    assert plan.aim(1e-2).point.knobs == fast


def test_a_gap_counts_if_the_median_of_three_seeds_reaches_it():
    plan = effort.Plan([point(1, 1.0, 1e-1), point(2, 2.0, 1e-3), point(4, 4.0, 1e-3)])
    asked = []

    def verdict_of(run, seed):
        asked.append((run.budget, seed))
        gaps = {(2, 1): 2e-2, (2, 2): 1e-4, (4, 1): 3e-3, (4, 2): 0.5}
        return point(run.budget, 0.0, gaps[run.budget, seed]).verdict

    assert plan.settle(5e-4, verdict_of) is None
    assert plan.settle(2e-3, verdict_of).point.budget == 2  # 1e-4, 1e-3, 2e-2
    aim = plan.settle(2e-3, verdict_of)
    assert asked == [(2, 1), (2, 2)]  # once
    assert aim.point.verdict.gap == 1e-3
    plan.points[1] = point(2, 2.0, 1e-5)
    assert plan.settle(5e-5, verdict_of) is None  # 1e-5 by luck: 1e-4 is the median
    assert plan.settle(4e-3, verdict_of).point.budget == 2
    plan.points[1] = point(2, 2.0, 5e-2)
    assert plan.settle(4e-3, verdict_of).point.budget == 4


def test_who_draws_nothing_is_run_once_more_only():
    plan, asked = effort.Plan([point(1, 1.0, 1e-3)]), []

    def verdict_of(run, seed):
        asked.append(seed)
        return run.verdict

    assert plan.settle(1e-2, verdict_of).point.settled
    assert asked == [1]


# ---- processes -----------------------------------------------------------------------------------


def test_clock_runs_only_while_a_contestant_works():
    contestant, problem = solvers.all_contestants()["scipy L-BFGS-B"], problems.get("breast_cancer")
    hand = workers.Worker(contestant)
    before = workers.clock()
    hand.load(problem)
    job = hand.job("prepare")
    assert workers.clock() == before
    coef = job(20)
    assert workers.clock() - before == pytest.approx(job.seconds)
    assert coef.shape == problem.shape
    assert (coef == contestant.prepare(problem)(20)).all()  # the process changes nothing
    hand.close()


TROUBLE = """
import os
import numpy as np
from bench.solvers import Contestant
class Dies(Contestant):
    NAME, FAMILY = "dies", "trouble"
    def prepare(self, problem):
        return lambda budget: os.abort()
class Raises(Contestant):
    NAME, FAMILY = "raises", "trouble"
    def prepare(self, problem):
        raise MemoryError("too much")
class Missing(Contestant):
    NAME, FAMILY, REQUIRES = "missing", "trouble", ("no_such_module",)
CONTESTANTS = [Dies(), Raises(), Missing()]
"""


def bench(*arguments, folder=None, **options):
    """The command line, in a process of its own."""
    environment = os.environ | ({"FASTOPT_BENCH_SOLVERS": str(folder)} if folder else {})
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, **options)


def test_trouble_with_a_contestant_is_a_reason_and_no_error(tmp_path):
    pytest.importorskip("pytest_benchmark")
    (tmp_path / "trouble.py").write_text(TROUBLE)
    arguments = ["--problems", "breast_cancer", "--solvers", "dies,raises,missing,scipy CG", "-k", "to_target"]
    done = bench(*arguments, "--gap", "1e-2", "--repeat", 2, "--output", tmp_path, folder=tmp_path)
    assert done.returncode == 0
    results = report.load(tmp_path / "benchmark.json")
    reasons = {entry["contestant"]: entry["reason"] for entry in results["skipped"]}
    assert reasons["dies"] == f"failed: its process ended by signal {signal.SIGABRT.value}"
    assert reasons["raises"].startswith("failed: MemoryError: too much")
    assert reasons["missing"] == "not installed: pip install no_such_module"
    assert {case["contestant"] for case in results["cases"]} == {"scipy CG"}


# ---- problems ------------------------------------------------------------------------------------


def test_generated_problems_are_the_same_every_time():
    for build in (lambda: problems._text_like(n=300, d=500), lambda: problems._ill_conditioned(n=300, d=5)):
        (X, y, *_), (again_X, again_y, *_) = build(), build()
        assert (X != again_X).sum() == 0
        assert (y == again_y).all()
        assert set(y) == {-1.0, 1.0}


def test_onehot_pairs_have_one_entry_per_pair_of_neighbours():
    X = problems.get("digits_onehot_pairs").X
    assert X.shape == (1797, 1792)
    assert (np.diff(X.indptr) == 112).all()
    assert (X.data == 1).all()


@pytest.mark.parametrize("name", ["no_such_set", "digits@2/n"])
def test_unknown_problem_is_refused(name):
    with pytest.raises(ValueError, match="problem must be one of"):
        problems.get(name)


def test_missing_data_are_a_reason_and_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(problems, "SHARED", tmp_path)
    with pytest.raises(problems.Missing, match="is not there"):
        problems.OPTIONAL["langid"]()


# ---- contestants ---------------------------------------------------------------------------------


def test_recipe_for_a_contestant(tmp_path):
    pytest.importorskip("pytest_benchmark")
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Add a contestant")[2]
    code = recipe.partition("```python\n")[2].partition("```")[0]
    assert 5 < len([line for line in code.splitlines() if line.strip()]) <= 12
    (tmp_path / "mine.py").write_text(code)
    arguments = ["--problems", "breast_cancer,digits_onehot_pairs", "--solvers", "mine", "-k", "to_target"]
    done = bench(*arguments, "--gap", "1e-2", "--repeat", 1, "--output", tmp_path, folder=tmp_path)
    assert done.returncode == 0
    cases = report.load(tmp_path / "benchmark.json")["cases"]
    assert [(c["contestant"], c["problem"]) for c in cases] == [
        ("mine", "breast_cancer"),
        ("mine", "digits_onehot_pairs"),
    ]
    assert all(case["finding"] == "same F" for case in cases)


def test_estimators_are_found_by_the_names_they_accept():
    from bench.solvers.fastopt import _solver_names

    names = _solver_names()
    assert {"auto", "lbfgs"} <= set(names)
    assert not {"adam", "liblinear"} & set(names)  # a rule, another's name
    assert {f"fastopt {name}" for name in names} <= set(solvers.all_contestants())


def test_solver_for_benchopt_minimises_its_objective():
    pytest.importorskip("benchopt")
    from scipy.special import expit

    spec = importlib.util.spec_from_file_location("benchopt_solver", ROOT / "bench" / "benchopt_solver.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    problem, lmbd = problems.get("breast_cancer"), 3.0
    solver = module.Solver.get_instance(solver="lbfgs")
    solver.set_objective(problem.X, problem.y, lmbd)
    solver.run(200)
    beta = solver.get_result()["beta"]
    residual = -problem.y * expit(-problem.y * (problem.X @ beta))
    assert np.linalg.norm(problem.X.T @ residual + lmbd * beta) < 1e-3


# ---- the report ----------------------------------------------------------------------------------


def benchmark(name, seconds, **info):
    return {"name": name, "stats": {"data": seconds}, "extra_info": info}


def target(contestant, family, seconds):
    verdict = {"gap": 5e-3, "grad_norm": 1e-3, "alpha_ratio": 1.01, "finding": "same F", "solves": "F"}
    return [
        benchmark(
            f"test_to_target[digits-{contestant}-1e-2-round{i}]".replace(" ", "-"),
            [s],
            what="target",
            target=1e-2,
            budget=4,
            contestant=contestant,
            family=family,
            problem="digits",
            settings={},
            version="1",
            again=i,
            **verdict,
        )
        for i, s in enumerate(seconds)
    ]


@pytest.fixture
def results(tmp_path):
    passes = {
        "what": "pass",
        "rule": "sgd",
        "problem": "digits",
        "batch_size": 1,
        "rows": 100,
        "entries": 6400,
        "kind": "dense",
        "dtype": "float64",
    }
    raw = {
        "datetime": "2026-01-01T00:00:00",
        "benchmarks": [
            *target("fastopt sgd", "fastopt", [0.01, 0.02, 0.03]),
            *target("scipy CG", "scipy", [0.005]),
            *target("scikit-learn saga", "scikit-learn", [0.2, 0.2]),
            benchmark(
                "test_epoch[digits-1-fastopt-sgd]",
                [1e-3],
                contestant="fastopt sgd",
                family="fastopt",
                rows_timed=100,
                **passes,
            ),
            benchmark(
                "test_epoch[digits-1-NumPy-sgd]",
                [1e-2],
                contestant="NumPy sgd",
                family="NumPy",
                rows_timed=10,
                **passes,
            ),
            benchmark(
                "test_step[10000000-fastopt-adam]",
                [7e-3, 7.1e-3, 7.2e-3],
                what="step",
                contestant="fastopt adam",
                family="fastopt",
                rule="adam",
                d=10**7,
                rows=10**7,
                rows_timed=10**7,
                dtype="float32",
                bandwidth={"share": 0.87},
            ),
            benchmark(
                "test_columns[zipf-fastopt-adam]",
                [0.1],
                what="columns",
                contestant="fastopt adam",
                family="fastopt",
                rule="adam",
                popularity="zipf",
                narrow_ns=30.0,
                wide_ns=60.0,
                ratio=2.0,
            ),
            *(
                benchmark(
                    f"test_scaling[rows-{n}-fastopt-sgd]",
                    [1e-6 * n**1.5],
                    what="scaling",
                    contestant="fastopt sgd",
                    family="fastopt",
                    axis="rows",
                    size=n,
                    problem="made",
                )
                for n in (1000, 4000, 16000)
            ),
            benchmark("test_fixed[fastopt-sgd]", [1e-4], what="fixed", contestant="fastopt sgd", family="fastopt"),
            benchmark("test_step[failed]", [], line=""),
        ],
        "bench": {
            "memory": {"add": 4e10, "copy": 3e10},
            "facts": {"processor": "a <fast> one"},
            "seconds": 9.0,
            "problems": {
                "digits": {
                    "rows": 100,
                    "columns": 64,
                    "kind": "dense",
                    "dtype": "float64",
                    "entries": 6400,
                    "classes": 10,
                    "alpha": 0.01,
                    "source": "here",
                    "licence": "free",
                }
            },
            "curves": [
                {
                    "contestant": "fastopt sgd",
                    "family": "fastopt",
                    "problem": "digits",
                    "points": [[0.001, 0.5, 0.8], [0.01, 5e-3, 0.9]],
                    "seconds_to_accuracy": 0.01,
                }
            ],
            "skipped": [
                {"contestant": "scikit-learn liblinear", "problem": "digits", "what": "target", "reason": "binary only"}
            ],
        },
    }
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(raw))
    return report.load(path)


def test_rounds_are_merged_and_partial_passes_scaled(results):
    cases = {case["contestant"] + case["what"]: case for case in results["cases"]}
    assert len(cases) == 9
    assert cases["fastopt sgdtarget"]["median"] == 0.02
    assert cases["fastopt sgdtarget"]["n"] == 3
    assert cases["NumPy sgdpass"]["median"] == pytest.approx(0.1)


def test_markdown_has_ratios_and_admits_losses(results):
    text = report.markdown(results)
    assert "| digits  | 1e-2 | 20 ms (sgd) | 0.25x    | 10x             |" in text
    assert "fastopt loses 1 of the run's 2 comparisons: to scipy CG on digits at 1e-2 (0.25)." in text
    assert "| adam | zipf                  | 30 ns           | 60 ns              | 2x    |" in text
    assert "| adam | 87%     |" in text
    assert [loss["winner"]["contestant"] for loss in report.losses(results)] == ["scipy CG"]


def test_a_run_that_fastopt_was_not_asked_for_is_not_lost(results):
    results["cases"] = [case for case in results["cases"] if case["family"] == "scipy"]
    assert report.losses(results) == []
    assert "fastopt took no part in this run." in report.markdown(results)
    results["skipped"].append({"contestant": "fastopt sgd", "problem": "digits", "what": "target", "reason": "late"})
    assert [loss["ours"] for loss in report.losses(results)] == [None]
    assert "(fastopt did not get there)" in report.markdown(results)


def test_rows_without_a_rival_are_no_comparisons(results):
    case = next(case for case in results["cases"] if case["contestant"] == "fastopt sgd" and case["what"] == "target")
    results["cases"].append(case | {"target": 1e-6})
    assert "of the run's 2 comparisons" in report.said(results)
    results["cases"] = [case for case in results["cases"] if case["family"] == "fastopt"]
    assert report.said(results) == "Nobody else was timed beside fastopt."


def test_newton_is_not_asked_for_more_parameters_than_it_takes():
    newton = solvers.all_contestants()["fastopt newton"]
    assert newton.skip(problems.get("digits_onehot_pairs")) is None
    assert newton.skip(problems.get("text_like")) == "takes at most 5,000 parameters"
    assert newton.skip(problems.get("text_like@l1")) is None


def test_what_auto_does_alone(results):
    assert "auto" not in report.said(results)
    case = next(case for case in results["cases"] if case["contestant"] == "fastopt sgd" and case["what"] == "target")
    results["cases"] += [
        case | {"contestant": "fastopt auto", "median": 0.0025},
        case | {"contestant": "fastopt auto", "median": 0.01, "target": 1e-3},
        case | {"contestant": "liblinear", "family": "LIBLINEAR", "median": 0.005, "target": 1e-3},
    ]
    assert [round(row["ratio"], 3) for row in report.alone(results)] == [0.5, 2.0]
    assert report.said(results).endswith(
        "geometric mean of 2 rows, three times as fast or more in 0 of them, and behind in 1 (0.50 at worst)."
    )


def test_page_has_its_parts_and_needs_nothing_from_outside(results):
    html = page.page(results)
    parts = ("picks", "headline", "losses", "profile", "convergence", "throughput", "steps", "scaling", "costs")
    for part in (*parts, "details", "skipped", "method"):
        assert f'id="{part}"' in html
    assert "a &lt;fast&gt; one" in html
    assert "binary only" in html
    assert "python -m bench --problems digits --solvers &quot;scipy CG&quot; --gap 0.01 -k to_target" in html
    assert "http://" not in html
    assert "https://" not in html


def test_exponents_are_fitted(results):
    (fit,) = report.scaling(results)
    assert fit["exponent"] == pytest.approx(1.5)


def test_profile_counts_tasks_within_tau(results):
    profiles = report.profiles(results)
    assert profiles["scipy CG"] == [(1.0, 1.0)]
    assert profiles["fastopt sgd"] == [(pytest.approx(4.0), 1.0)]
    assert profiles["scikit-learn saga"] == [(pytest.approx(40.0), 1.0)]


def test_certainty_of_a_ratio():
    rng = np.random.default_rng(0)
    slow, fast = (tuple(scale * rng.lognormal(0, 0.05, 30)) for scale in (2.0, 1.0))
    sure = report.certainty(slow, fast)
    assert 1.9 < sure["low"] < 2 < sure["high"] < 2.1
    assert sure["p"] < 1e-6
    assert report.certainty(fast, fast)["p"] > 0.9


def test_only_a_sure_and_large_difference_is_a_regression():
    row = {"ratio": 1.5, "old": 1e-3, "new": 1.5e-3, "p": 1e-4}
    assert report.regressed(row)
    assert not report.regressed(row | {"ratio": 1.05})
    assert not report.regressed(row | {"old": 1e-6, "new": 1.5e-6})
    assert not report.regressed(row | {"p": 0.2})


def test_comparison_of_two_runs(results):
    slower = results | {"cases": [case | {"data": [2 * s for s in case["data"]]} for case in results["cases"]]}
    slower["cases"] = [case | {"median": 2 * case["median"]} for case in slower["cases"]]
    rows = report.compare(results, slower)
    assert len(rows) == len(results["cases"])
    assert all(row["ratio"] == pytest.approx(2) for row in rows)
    assert "median of new / old 2.000" in report.comparison(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-revision"], "base must be a revision of this repository; got 'no-such-revision'."),
        (["HEAD", "--rounds", "2"], "rounds must be an integer >= 3"),
        (["HEAD", "-k", "nothing"], "-k must be part of a case's name, such as 'lbfgs'; got 'nothing'."),
    ],
)
def test_what_cannot_be_compared_is_refused(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        compare.main(arguments)
    assert message in capsys.readouterr().err


def test_two_trees_are_timed_alternately():
    trees, sgd = {"base": ROOT, "head": ROOT}, solvers.all_contestants()["fastopt sgd"]
    found = compare.alternate("a step", sgd, None, "step", (1000, "float32"), trees, 5)
    assert {side: len(seconds) for side, seconds in found.items()} == {"base": 5, "head": 5}
    assert not report.regressed(compare.row("a step", {"base": [1.0, 1.1, 1.2], "head": [1.0, 1.1, 1.2]}))


def test_page_survives_an_interrupted_run(tmp_path):
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps({"benchmarks": []}))
    assert "fastopt against its peers" in page.page(report.load(path))


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_page_works_in_a_browser(results, tmp_path):
    check = """<script>
      const heading = [...document.querySelectorAll("#targets th button")].find(b => b.textContent === "median");
      heading.click(); heading.click();
      const first = document.querySelector("#targets tbody tr").cells[0].textContent;
      document.querySelector(".legend button").click();
      const lit = document.querySelectorAll(".lit .curve.on").length;
      const root = document.documentElement;
      document.title = `first ${first}, lit ${lit}, wide ${root.scrollWidth - root.clientWidth}`;
    </script>"""
    path = tmp_path / "report.html"
    path.write_text(page.page(results).replace("</body>", check + "</body>"), encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += " --disable-component-update --disable-sync --enable-logging=stderr --window-size=500,900 --dump-dom"
    command = [CHROMIUM, *options.split(), f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert "<title>first scikit-learn saga, lit 1, wide 0</title>" in done.stdout


# ---- the whole -----------------------------------------------------------------------------------


def test_command_line_runs_and_writes_everything(tmp_path):
    pytest.importorskip("pytest_benchmark")
    arguments = ["--problems", "breast_cancer", "--solvers", "L-BFGS-B,liblinear", "--gap", "1e-2", "--repeat", 2]
    done = bench(*arguments, "--seconds", 0.5, "--output", tmp_path, check=True)
    assert "breast_cancer-scipy-L-BFGS-B-1e-2-round1" in done.stdout
    assert "| breast_cancer | 1e-2 |" in (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert not (tmp_path / "unfinished.jsonl").exists()
    results = report.load(tmp_path / "benchmark.json")
    targets = [case for case in results["cases"] if case["what"] == "target"]
    assert {case["contestant"] for case in targets} == {"scipy L-BFGS-B", "scikit-learn liblinear"}
    assert all(case["gap"] <= 1e-2 for case in targets)
    assert {case["contestant"] for case in results["cases"] if case["what"] == "fixed"} >= {"scipy L-BFGS-B"}
    assert "node" not in json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))["machine_info"]


def test_file_in_libsvm_format_is_a_problem(tmp_path):
    pytest.importorskip("pytest_benchmark")
    from sklearn.datasets import dump_svmlight_file

    problem = problems.get("digits_onehot_pairs")
    dump_svmlight_file(problem.X[:300], problem.y[:300] > 0, str(tmp_path / "some pairs.svm"))
    done = bench("--data", tmp_path / "some pairs.svm", "--solvers", "scipy CG", "--gap", "1e-2", "--output", tmp_path)
    assert done.returncode == 0
    results = report.load(tmp_path / "benchmark.json")
    assert results["problems"]["some_pairs"]["rows"] == 300
    assert any(case["problem"] == "some_pairs" for case in results["cases"] if case["what"] == "target")


@pytest.fixture
def own_problems(monkeypatch):
    """What a test adds to the problems is gone after it."""
    monkeypatch.setattr(problems, "PROBLEMS", dict(problems.PROBLEMS))
    monkeypatch.setattr(problems, "FILES", {})
    yield
    problems.get.cache_clear(), problems._data.cache_clear()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.svm", None, "data must be a file in LIBSVM's format; got"),
        ("bad.svm", "1 1:1 2:abc\n-1 1:2\n", "bad.svm cannot be read: could not convert string to float: b'abc'"),
        ("bad.svm.gz", "1 1:1\n", "bad.svm.gz cannot be read: "),
        ("nan.svm", "1 1:nan\n-1 1:2\n", "nan.svm has nan or inf in it"),
        ("empty.svm", "", "empty has 0 different labels"),
        ("one.svm", "1 1:1\n1 1:2\n", "one has 1 different label:"),
        ("prices.svm", "1.5 1:1\n2.5 1:2\n3.5 1:3\n", "prices has labels that are no whole numbers"),
    ],
)
def test_file_that_is_no_problem_is_refused_before_anything_runs(tmp_path, capsys, own_problems, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit, match="2"):
        command.main(["--data", str(tmp_path / name), "--output", str(tmp_path / "results")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_files_get_names_of_their_own(tmp_path, own_problems):
    paths = [tmp_path / name for name in ("digits.svm", "digits.txt", "a,b.svm")]
    for path in paths:
        path.write_text("1 1:1\n-1 2:1\n")
    assert [problems.add_file(path) for path in paths] == ["digits_2", "digits_3", "a_b"]
    assert problems.add_file(paths[0]) == "digits_2"
    assert problems.get("digits").n_classes == 10
    paths[2].write_text("1 2:1\n-1 1:1\n")
    key = problems.get("a_b").key
    problems.get.cache_clear(), problems._data.cache_clear()
    paths[2].write_text("1 1:1\n-1 3:1\n")
    assert problems.get("a_b").key != key  # whose optimum is kept under it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gap", "1e-2,x"], "gap must be numbers > 0, comma separated; got '1e-2,x'."),
        (["--gap=-1"], "gap must be numbers > 0"),
        (["--gap", "nan"], "gap must be numbers > 0"),
        (["--repeat", "0"], "repeat must be an integer >= 1; got 0."),
        (["--seconds", "nan"], "seconds must be a number > 0; got nan."),
        (["--seconds", "0"], "seconds must be a number > 0; got 0.0."),
        (["--deadline=-5"], "deadline must be a number >= 0; got -5.0."),
        (["--problems", "digits,digit"], "got 'digit'."),
        (["--solvers", "sgd,adm"], "got 'adm'."),
        (["--compare", "a", "b", "c"], "--compare takes one or two files."),
        (["--compare", "nothing.json"], "nothing.json"),
        (["--compare", __file__], "results must be the JSON of a run"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        command.main([*arguments, "--output", str(tmp_path / "results")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_results_stay_where_nothing_is_timed(tmp_path):
    pytest.importorskip("pytest_benchmark")
    (tmp_path / "benchmark.json").write_text("{}")
    done = bench("--problems", "breast_cancer", "--solvers", "scipy CG", "-k", "nothing", "--output", tmp_path)
    assert "Nothing was timed." in done.stderr
    assert (tmp_path / "benchmark.json").read_text() == "{}"
    (tmp_path / "file").touch()
    done = bench("--quick", "--output", tmp_path / "file")
    assert done.returncode == 2
    assert "output must be a folder that can be written to" in done.stderr


def test_a_run_is_compared_with_the_one_that_it_replaces(tmp_path):
    pytest.importorskip("pytest_benchmark")
    arguments = "--problems", "breast_cancer", "--solvers", "scipy CG", "-k", "fixed", "--repeat", 1
    bench(*arguments, "--output", tmp_path, check=True)
    done = bench(*arguments, "--output", tmp_path, "--compare", tmp_path / "benchmark.json", check=True)
    assert "1 cases; median of new / old 1.000" not in done.stdout
    assert "1 cases; median of new / old" in done.stdout


def test_an_optimum_that_is_not_known_judges_nobody(tmp_path):
    pytest.importorskip("pytest_benchmark")
    (tmp_path / "huge.svm").write_text("1 1:1e300\n0 1:2e300\n1 1:-1e300\n0 2:1\n")
    done = bench("--data", tmp_path / "huge.svm", "--solvers", "fastopt sgd", "-k", "to_target", "--output", tmp_path)
    assert "F* is not known well enough" in done.stdout


def test_an_optimum_that_was_cut_off_is_found_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(optimum, "CACHE", tmp_path)
    problem = dataclasses.replace(problems.get("breast_cancer"), name="cut")
    known = optimum.find(problem).objective
    optimum.kept(problem).write_text('{"objective": 0.')
    optimum.find.cache_clear()
    assert optimum.find(problem).objective == known
    assert [path.name for path in tmp_path.iterdir()] == [optimum.kept(problem).name]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-2, "1e-2"), (1.5e-3, "1.5e-3"), (1.4e-3, "1.4e-3"), (1e-10, "1e-10"), (1.0, "1"), (0.5, "5e-1")],
)
def test_a_gap_is_written_with_its_digits(value, text):
    assert report.gap(value) == text


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupted_run_keeps_what_is_done_and_goes_on(tmp_path):
    pytest.importorskip("pytest_benchmark")
    arguments = ["--problems", "breast_cancer", "--solvers", "scipy", "--gap", "1e-2,1e-3", "-k", "to_target"]
    arguments += ["--repeat", "5", "--output", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "bench", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        rest = ""
        for line in process.stdout:
            rest += line
            if "Newton-CG-1e-2" in line:  # and once more a round later, should Python have lost the first one
                process.send_signal(signal.SIGINT)
    assert "Wrote report.html" in rest
    assert "the same command goes on from here" in rest
    assert process.wait(60) == 2
    before = report.load(tmp_path / "benchmark.json")["cases"]
    assert before
    assert (tmp_path / "report.html").exists()
    done = bench(*arguments)
    assert done.returncode == 0
    assert "Going on with the run that was interrupted" in done.stdout
    assert "scipy-L-BFGS-B-1e-2-round0" not in done.stdout  # timed once
    after = {case["name"]: case for case in report.load(tmp_path / "benchmark.json")["cases"]}
    assert {case["contestant"] for case in after.values()} >= {"scipy L-BFGS-B", "scipy TNC", "scipy trust-ncg"}
    assert after[before[0]["name"]]["data"][: before[0]["n"]] == before[0]["data"]
    assert not (tmp_path / "unfinished.jsonl").exists()


def test_list_names_problems_and_contestants():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--list"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert "text_like" in done.stdout
    assert "scikit-learn SGDClassifier" in done.stdout


# ---- L1 -------------------------------------------------------------------------------------------------------------

WITH_L1 = pytest.mark.parametrize(
    "name", ["breast_cancer@l1", "digits_parity@elasticnet", "digits@l1", "digits_onehot_pairs@l1"]
)


@WITH_L1
def test_the_gradient_with_l1_is_the_least_slope(name):
    """F's directional derivatives: those of any direction are at least minus the subgradient's norm, which one has."""
    problem, rng = problems.get(name), np.random.default_rng(0)
    w = rng.standard_normal(problem.shape) * (rng.random(problem.shape) < 0.5)
    value, gradient = objective.objective_and_gradient(problem, w)
    size = np.linalg.norm(gradient)

    def slope(direction, h=1e-7):
        return (objective.objective_and_gradient(problem, w + h * direction)[0] - value) / h

    assert slope(-gradient / size) == pytest.approx(-size, rel=1e-3)
    for direction in rng.standard_normal((5, *problem.shape)):
        assert slope(direction / np.linalg.norm(direction)) >= -size * 1.001


@WITH_L1
def test_the_optimum_with_l1_is_that_of_its_dual(name):
    """No point is below it, where L1 stands alone by its dual; and another solver comes to it, too."""
    problem = problems.get(name)
    best = optimum.find(problem)
    assert best.bound < 1e-6
    coef = solvers.all_contestants()["fastopt newton"].prepare(problem)(500)
    assert objective.objective_and_gradient(problem, coef)[0] == pytest.approx(best.objective, rel=1e-6)
    for seed in range(3):
        w = 0.1 * np.random.default_rng(seed).standard_normal(problem.shape)
        assert objective.objective_and_gradient(problem, w)[0] > best.objective
        if problem.l1_ratio == 1:
            low = objective.objective_and_gradient(problem, w)[0] - optimum.duality_gap(problem, w)
            assert low <= best.objective


@WITH_L1
def test_scikit_learn_and_fastopt_solve_the_same_F_with_l1(name):
    problem = problems.get(name)
    named = {contestant: solvers.all_contestants()[contestant] for contestant in ("fastopt auto", "scikit-learn saga")}
    for contestant, budget in (("fastopt auto", 500), ("scikit-learn saga", 400)):
        coef = named[contestant].prepare(problem)(budget)
        assert judge.judge(problem, coef, gap_reached=3e-2).finding == "same F", contestant


@pytest.mark.parametrize("name", ["breast_cancer@l1", "digits_parity@elasticnet"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_another_l1_is_caught(name, factor):
    problem = problems.get(name)
    wrong = dataclasses.replace(problem, alpha=factor * problem.alpha)
    verdict = judge.judge(problem, solvers.all_contestants()["fastopt newton"].prepare(wrong)(500))
    assert verdict.finding == "another F"
    assert verdict.alpha_ratio == pytest.approx(factor, rel=1e-3)


def test_scipy_split_into_two_parts_has_the_same_minimum():
    problem = problems.get("digits_parity@l1")
    coef = solvers.all_contestants()["scipy L-BFGS-B"].prepare(problem)(1000)
    assert abs(judge.judge(problem, coef).gap) < 1e-5
