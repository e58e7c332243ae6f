"""The benchmark suite itself: the judge, its verdicts on honest and dishonest contestants, the problems, the report."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bench import effort, judge, page, problems, report, solvers

ROOT = Path(__file__).resolve().parent.parent


# ---- the judge -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["breast_cancer", "digits@10/n", "digits_onehot_pairs@1e-3"])
def test_gradient_is_the_derivative_of_the_objective(name):
    problem, rng = problems.get(name), np.random.default_rng(0)
    w, direction = rng.standard_normal((2, *problem.shape)) * 0.1
    _, gradient = judge.objective_and_gradient(problem, w)
    after, before = (judge.objective_and_gradient(problem, w + h * direction)[0] for h in (1e-5, -1e-5))
    assert (after - before) / 2e-5 == pytest.approx(np.vdot(gradient, direction), rel=1e-6)


def test_objective_survives_any_margin():
    problem = problems.get("breast_cancer")
    value, gradient = judge.objective_and_gradient(problem, np.full(problem.shape, 1e6))
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
    assert problem.optimum.bound < 1e-8


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
    verdict = judge.check_same_F(Wrong(factor), problems.get(name))
    assert verdict.finding == "another F"
    assert verdict.alpha_ratio == pytest.approx(factor, rel=1e-3)


def test_contestant_with_the_right_penalty_is_believed():
    assert judge.check_same_F(Wrong(1.0), problems.get("breast_cancer")).finding == "same F"


@pytest.mark.parametrize("name", [name for name, c in solvers.all_contestants().items() if c.TO_TARGET])
def test_every_contestant_solves_the_same_F(name):
    contestant, problem = solvers.all_contestants()[name], problems.get("breast_cancer@10/n")
    assert contestant.skip(problem) is None
    verdict = judge.check_same_F(contestant, problem, seconds=1.5)
    assert verdict.finding != "another F"
    assert verdict.gap < 1e-2


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


def test_a_contestant_is_added_by_a_file(monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from bench.solvers import Contestant\n"
        "class Mine(Contestant):\n"
        "    NAME, FAMILY = 'mine', 'mine'\n"
        "    def prepare(self, problem):\n"
        "        return lambda budget: np.zeros(problem.shape)\n"
        "CONTESTANTS = [Mine()]\n"
    )
    monkeypatch.setattr(solvers, "__path__", [*solvers.__path__, str(tmp_path)])
    try:
        found = solvers.all_contestants()
    finally:
        sys.modules.pop("bench.solvers.mine", None)
    assert list(found)[-1] == "mine"
    assert list(solvers.selected(["mine"])) == [] or "mine" in solvers.selected(["mine"])
    plan = effort.plan(found["mine"], problems.get("breast_cancer"), gap=1e-2, seconds=0.5)
    assert plan.cheapest(1e-2) is None
    assert plan.best().verdict.finding == "not converged"


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
            benchmark("test_step[failed]", [], line=""),
        ],
        "bench": {
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
                    "points": [[0.001, 0.5], [0.01, 5e-3]],
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
    assert len(cases) == 5
    assert cases["fastopt sgdtarget"]["median"] == 0.02
    assert cases["fastopt sgdtarget"]["n"] == 3
    assert cases["NumPy sgdpass"]["median"] == pytest.approx(0.1)


def test_markdown_has_ratios_and_admits_losses(results):
    text = report.markdown(results)
    assert "| digits  | 1e-2 | 20 ms (sgd) | 0.25x    | 10x             |" in text
    assert "fastopt loses 1 of 2 comparisons" in text
    assert [loss["winner"]["contestant"] for loss in report.losses(results)] == ["scipy CG"]


def test_page_has_its_parts_and_needs_nothing_from_outside(results):
    html = page.page(results)
    for part in ("headline", "losses", "convergence", "throughput", "details", "skipped", "method"):
        assert f'id="{part}"' in html
    assert "a &lt;fast&gt; one" in html
    assert "binary only" in html
    assert "python -m bench --problems digits --solvers &quot;scipy CG&quot; --gap 0.01 -k to_target" in html
    assert "http://" not in html
    assert "https://" not in html


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
    path.write_text(page.page(results).replace("</body>", check + "</body>"))
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += " --disable-component-update --disable-sync --enable-logging=stderr --window-size=500,900 --dump-dom"
    command = [CHROMIUM, *options.split(), f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert "<title>first scikit-learn saga, lit 1, wide 0</title>" in done.stdout


# ---- the whole -----------------------------------------------------------------------------------


def test_command_line_runs_and_writes_everything(tmp_path):
    pytest.importorskip("pytest_benchmark")
    arguments = [
        "--problems",
        "breast_cancer",
        "--solvers",
        "L-BFGS-B,liblinear",
        "--gap",
        "1e-2",
        "--repeat",
        "2",
        "--seconds",
        "0.5",
    ]
    command = [sys.executable, "-m", "bench", *arguments, "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert "breast_cancer-scipy-L-BFGS-B-1e-2-round1" in done.stdout
    assert "| breast_cancer | 1e-2 |" in (tmp_path / "benchmark.md").read_text()
    results = report.load(tmp_path / "benchmark.json")
    assert {case["contestant"] for case in results["cases"]} == {"scipy L-BFGS-B", "scikit-learn liblinear"}
    assert all(case["gap"] <= 1e-2 for case in results["cases"])
    assert "node" not in json.loads((tmp_path / "benchmark.json").read_text())["machine_info"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupt_keeps_what_is_done(tmp_path):
    pytest.importorskip("pytest_benchmark")
    arguments = ["--problems", "breast_cancer,digits", "--gap", "1e-2", "-k", "to_target", "--output", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "bench", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if "lbfgs" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.communicate(timeout=60)[0]
    assert "Wrote report.html" in rest
    assert process.returncode == 2
    assert report.load(tmp_path / "benchmark.json")["cases"]
    assert (tmp_path / "report.html").exists()


def test_list_names_problems_and_contestants():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--list"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert "text_like" in done.stdout
    assert "scikit-learn SGDClassifier" in done.stdout
