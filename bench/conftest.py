"""pytest's side of the suite: options, cases and their order, what goes into the JSON beside the timings."""

from __future__ import annotations

from bench.machine import facts, pin_threads

pin_threads()  # before anything imports NumPy

import time  # noqa: E402

import pytest  # noqa: E402

from bench import effort, problems  # noqa: E402
from bench.solvers import selected, words  # noqa: E402

GAPS = (1e-2, 1e-3, 1e-4)
EPOCH_RULES = ("sgd", "momentum", "adam")
EPOCH_PROBLEMS = ("text_like", "ill_conditioned")
STEP_SIZES = (1_000, 100_000, 10_000_000)


def pytest_addoption(parser):
    group = parser.getgroup("fastopt bench")
    group.addoption("--bench-problems", default="", help="names, comma separated; 'all' adds the optional ones")
    group.addoption(
        "--bench-solvers", default="", help="keep contestants whose name contains one of these, comma separated"
    )
    group.addoption("--bench-gaps", default="", help="relative gaps to the optimum, comma separated")
    group.addoption("--bench-repeat", type=int, default=1, help="how often to go round all cases")
    group.addoption(
        "--bench-seconds", type=float, default=3.0, help="search for the right effort, per contestant and problem"
    )
    group.addoption("--bench-deadline", type=float, default=0.0, help="skip what has not begun after so many seconds")
    group.addoption("--bench-progress", action="store_true", help="one line per case in place of pytest's own report")


class Settings:
    """The options, read once."""

    def __init__(self, config):
        option = config.getoption
        named = words(option("--bench-problems"))
        self.problems = list(problems.PROBLEMS) if named == ["all"] else named or list(problems.EMBEDDED)
        self.epoch_problems = [name for name in self.problems if name in EPOCH_PROBLEMS] or self.problems
        self.gaps = sorted(map(float, words(option("--bench-gaps"))), reverse=True) or list(GAPS)
        self.seconds, self.repeat, self.deadline = (
            option(f"--bench-{name}") for name in ("seconds", "repeat", "deadline")
        )
        self.contestants = selected(words(option("--bench-solvers")))


class Record:
    """What a run finds out beside timings."""

    def __init__(self):
        self.start = time.monotonic()
        self.skipped: dict[tuple, str] = {}
        self.problems: dict[str, dict] = {}
        self.curves: list[dict] = []
        self.plans: dict[tuple, effort.Plan] = {}
        self.runs: dict[tuple, object] = {}

    def plan(self, settings: Settings, contestant, problem) -> effort.Plan:
        """The search is made once, in the first round, and its runs are the convergence plot."""
        key = contestant.NAME, problem.name
        if key not in self.plans:
            found = effort.plan(contestant, problem, gap=min(settings.gaps), seconds=settings.seconds)
            self.plans[key] = found
            self.curves.append(
                {
                    "contestant": contestant.NAME,
                    "family": contestant.FAMILY,
                    "problem": problem.name,
                    "points": found.curve(),
                }
            )
        return self.plans[key]

    def run(self, contestant, problem, knobs: dict):
        """The prepared contestant, kept for the next rounds."""
        key = contestant.NAME, problem.name, *sorted(knobs.items())
        if key not in self.runs:
            self.runs[key] = contestant.prepare(problem, **knobs)
        return self.runs[key]

    def as_json(self) -> dict:
        skipped = [
            {"contestant": c, "problem": p, "what": what, "reason": reason}
            for (what, c, p), reason in self.skipped.items()
        ]
        return {
            "facts": facts(),
            "problems": self.problems,
            "curves": self.curves,
            "skipped": skipped,
            "seconds": time.monotonic() - self.start,
        }


def pytest_configure(config):
    config.bench_settings, config.bench_record = Settings(config), Record()


def identifier(value) -> str:
    if isinstance(value, float):
        return f"{value:.0e}".replace("e-0", "e-")
    return getattr(value, "NAME", str(value)).replace(" ", "-")


def pytest_generate_tests(metafunc):
    """Cases come from the options; a test names what it varies over by its arguments."""
    if "bench" not in metafunc.fixturenames:
        return
    settings = metafunc.config.bench_settings
    contestants = settings.contestants.values()
    if metafunc.function.__name__ == "test_step":
        names = "d", "contestant"
        cases = [(d, c) for d in STEP_SIZES for c in contestants if c.STEP_LIMIT >= d]
    elif metafunc.function.__name__ == "test_epoch":
        names = "problem_name", "batch_size", "contestant"
        cases = [
            (p, b, c)
            for p in settings.epoch_problems
            for b in (1, 32, 256)
            for c in contestants
            if c.RULE in EPOCH_RULES and b in c.BATCHES
        ]
    else:
        names = "problem_name", "contestant", "gap"
        cases = [(p, c, gap) for p in settings.problems for c in contestants if c.TO_TARGET for gap in settings.gaps]
    cases = [(*case, again) for again in range(settings.repeat) for case in cases]
    ids = [
        "-".join(map(identifier, case[:-1])) + (f"-round{case[-1]}" if settings.repeat > 1 else "") for case in cases
    ]
    metafunc.parametrize((*names, "again"), cases, ids=ids)


def pytest_collection_modifyitems(config, items):
    """Round after round of all cases: contestants alternate, so that a slow minute of the machine hits them all."""
    others = [item for item in items if "bench" not in getattr(item, "fixturenames", ())]
    cases = [item for item in items if item not in others and isinstance(item.callspec.params.get("again"), int)]
    for item in cases:
        item.add_marker(pytest.mark.filterwarnings("default"))  # a peer's warning is no error of ours
    items[:] = others + sorted(cases, key=lambda item: item.callspec.params["again"])


class Bench:
    """What a benchmark needs: settings, record, and the two ways to leave a trace."""

    def __init__(self, config):
        self.settings, self.record = config.bench_settings, config.bench_record

    def skip(self, what: str, contestant, problem_name: str, reason: str):
        self.record.skipped[what, contestant.NAME, problem_name] = reason
        pytest.skip(reason)

    def problem(self, what: str, contestant, name: str) -> problems.Problem:
        """The problem, if it is there and for this contestant."""
        try:
            problem = problems.get(name)
        except problems.Missing as missing:
            self.skip(what, contestant, name, str(missing))
        self.record.problems.setdefault(name, problem.describe())
        if what != "pass" and (reason := contestant.skip(problem)):
            self.skip(what, contestant, name, reason)
        if what == "target":
            self.record.problems[name] |= {"optimum": problem.optimum.objective, "bound": problem.optimum.bound}
        return problem


@pytest.fixture
def bench(request):
    """Skips what comes too late, and holds every BLAS to one thread."""
    from threadpoolctl import threadpool_limits

    found = Bench(request.config)
    deadline = found.settings.deadline
    if deadline and time.monotonic() - found.record.start > deadline:
        case = request.node.callspec.params
        if case["again"] == 0:
            what = request.node.name.partition("[")[0].removeprefix("test_").replace("_", " ")
            found.skip(what, case["contestant"], case.get("problem_name", ""), "time was up")
        pytest.skip("time was up")
    with threadpool_limits(1):
        yield found


# ---- what goes into the JSON, and the line per case ----------------------------------------------


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.clear()  # it would hold the host's name
    machine_info.update(facts())


def pytest_benchmark_update_json(config, benchmarks, output_json):
    output_json["bench"] = config.bench_record.as_json()


def pytest_report_teststatus(report, config):
    if config.getoption("--bench-progress"):
        return ("" if report.when != "call" and report.passed else report.outcome), "", ""


def pytest_runtest_makereport(item, call):
    if call.when == "call" and "benchmark" in getattr(item, "funcargs", {}):
        item.user_properties.append(("bench", item.funcargs["benchmark"].extra_info.get("line", "")))


def pytest_runtest_logreport(report):
    PROGRESS.show(report)


class _Progress:
    """A line per case: how far, how long, what."""

    config = None
    late = False
    done = total = 0

    def show(self, report):
        if not self.config or report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        self.done += 1
        took = time.monotonic() - self.config.bench_record.start
        left = took / self.done * (self.total - self.done)
        name = report.nodeid.partition("[")[2].rstrip("]") or report.nodeid
        kind = report.nodeid.partition("::test_")[2].partition("[")[0]
        said = dict(report.user_properties).get("bench", "")
        late = report.skipped and report.longrepr[2].endswith("time was up")
        if report.skipped and ((late and self.late) or ("-round" in name and not name.endswith("-round0"))):
            return  # said before
        if report.skipped:
            self.late = late
            said = "skipped: " + str(report.longrepr[2]).removeprefix("Skipped: ")
        elif report.failed:
            said = "FAILED: " + str(report.longrepr).strip().splitlines()[-1]
        writer = self.config.pluginmanager.get_plugin("terminalreporter")
        writer.write_line(
            f"{self.done:4d}/{self.total} {took:4.0f}s, {left:3.0f}s left  {kind:9s} {name:62s} {said}"[:200]
        )


PROGRESS = _Progress()


def pytest_collection_finish(session):
    if session.config.getoption("--bench-progress"):
        PROGRESS.config, PROGRESS.total = session.config, len(session.items)
