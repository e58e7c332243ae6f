"""pytest's side of the suite: options, cases and their order, what goes into the JSON beside the timings."""

from __future__ import annotations

from bench.machine import facts, memory_speed, pin_threads, version

pin_threads()  # before anything imports NumPy

import json  # noqa: E402
import math  # noqa: E402
import time  # noqa: E402
from dataclasses import asdict  # noqa: E402
from pathlib import Path  # noqa: E402
from types import SimpleNamespace  # noqa: E402

import pytest  # noqa: E402

from bench import effort, optimum, problems, workers  # noqa: E402
from bench.judge import Verdict  # noqa: E402
from bench.report import gap as gap_text  # noqa: E402
from bench.solvers import selected, words  # noqa: E402

GAPS = (1e-2, 1e-3, 1e-4)
EPOCH_RULES = ("sgd", "momentum", "adam")
EPOCH_PROBLEMS = ("text_like", "ill_conditioned")
STEP_SIZES = (1, 1_000, 10_000_000)
COLUMNS = "made_n20000_d{}_r85_k2_{}"  # 85 entries a row
SCALING = {  # what grows -> problems; each is the one before with four times as much (times three for classes)
    "rows": ("made_n2000_d2000_r30_k2_zipf", "made_n8000_d2000_r30_k2_zipf", "made_n32000_d2000_r30_k2_zipf"),
    "columns": ("made_n4000_d4000_r30_k2_zipf", "made_n4000_d16000_r30_k2_zipf", "made_n4000_d64000_r30_k2_zipf"),
    "nonzeros a row": ("made_n4000_d8000_r20_k2_zipf", "made_n4000_d8000_r80_k2_zipf", "made_n4000_d8000_r320_k2_zipf"),
    "classes": ("made_n2000_d1000_r30_k3_zipf", "made_n2000_d1000_r30_k9_zipf", "made_n2000_d1000_r30_k27_zipf"),
}
SCALING_BUDGET = 5
#: Parts of a run, in order, and their shares of its time; problems have a part each.
WEIGHTS = {"step": 0.7, "epoch": 3.0, "columns": 0.5, "fixed": 0.2, "scaling": 0.3, "to_target": 4.0}


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
    group.addoption(
        "--bench-data",
        action="append",
        default=[],
        help="a file in LIBSVM's format: one problem more (again and again)",
    )
    group.addoption("--bench-journal", default="", help="file that keeps what is done, so that a run can be resumed")
    group.addoption(
        "--bench-in-process", action="store_true", help="no process per contestant: for profilers and debuggers"
    )


def gaps_of(text: str) -> set[float]:
    """The numbers in a list of gaps. Raises ValueError for what is no gap."""
    try:
        found = set(map(float, words(text)))
    except ValueError:
        found = {math.nan}
    if not all(0 < gap < math.inf for gap in found):
        raise ValueError(f"gap must be numbers > 0, comma separated; got {text!r}.")
    return found


class Settings:
    """The options, read once. Raises ValueError for those that say nothing."""

    def __init__(self, config):
        option = config.getoption
        files = [problems.add_file(Path(name)) for name in option("--bench-data")]
        wanted = problems.named(words(option("--bench-problems")))
        self.problems = wanted or files or list(problems.USUAL)
        self.problems += [name for name in files if name not in {one.partition("@")[0] for one in self.problems}]
        self.epoch_problems = [name for name in self.problems if name in EPOCH_PROBLEMS] or self.problems
        self.gaps = sorted(gaps_of(option("--bench-gaps")), reverse=True) or list(GAPS)
        self.seconds, self.repeat, self.deadline = (
            option(f"--bench-{name}") for name in ("seconds", "repeat", "deadline")
        )
        self.codspeed = bool(config.getoption("--codspeed", False))
        self.in_process = option("--bench-in-process") or self.codspeed  # which counts what its own process does
        self.contestants = selected(words(option("--bench-solvers")))
        self.missing = {name: why for name, c in self.contestants.items() if (why := c.missing())}
        self.present = [c for name, c in self.contestants.items() if name not in self.missing]


class Journal:
    """What is done, line by line in a file, so that an interrupted run can be resumed."""

    def __init__(self, path: str):
        self.path = Path(path) if path else None
        self.cases: dict[str, dict] = {}  # pytest's name -> pytest-benchmark's entry, or {} if skipped
        self.lines: list[dict] = []
        if self.path and self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    self.lines.append(json.loads(line))
                except ValueError:  # cut off in the middle
                    break
        for line in self.lines:
            if "case" in line:
                self.cases[line["case"]] = line["benchmark"]
        last = next((name for name in reversed(self.cases) if self.cases[name]), None)
        self.cases.pop(last, None)  # timed again: pytest-benchmark writes nothing when nothing was timed

    def add(self, **line):
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(line, default=str) + "\n")

    def of(self, kind: str) -> list:
        return [line for line in self.lines if kind in line]


class Record:
    """What a run finds out beside timings."""

    def __init__(self, journal: Journal, settings: Settings):
        self.start = time.monotonic()
        self.journal = journal
        self.skipped: dict[tuple, str] = {("all", name, ""): why for name, why in settings.missing.items()}
        self.problems: dict[str, dict] = {}
        self.plans: dict[tuple, effort.Plan] = {}
        self.jobs: dict[tuple, workers.Job] = {}
        self.hands: dict[str, workers.Local | workers.Worker] = {}
        self.at = None  # the problem in hand
        self.parts: dict[tuple, float] = {}  # parts of the run to come, with their weights
        self.ends: dict[tuple, float] = {}  # when the part begun must end
        for line in journal.of("skip"):
            self.skipped[tuple(line["skip"])] = line["reason"]
        for line in journal.of("problem"):
            self.problems.setdefault(line["problem"], {}).update(line["facts"])
        for line in journal.of("plan"):
            points = [
                effort.Point(p["budget"], p["seconds"], Verdict(**p["verdict"]), p["knobs"]) for p in line["points"]
            ]
            self.plans[tuple(line["plan"])] = effort.Plan(points)

    def say(self, problem: str, **told):
        """Keep facts about a problem."""
        kept = self.problems.setdefault(problem, {})
        if any(name not in kept for name in told):
            kept.update(told)
            self.journal.add(problem=problem, facts=told)

    def hand(self, settings: Settings, contestant):
        """The process in which a contestant works, until it dies."""
        if contestant.NAME not in self.hands:
            local = settings.in_process
            self.hands[contestant.NAME] = (
                workers.Local(contestant, tidy=not settings.codspeed) if local else workers.Worker(contestant)
            )
        return self.hands[contestant.NAME]

    def forget(self, contestant):
        """After trouble: its process is gone or in doubt."""
        if hand := self.hands.pop(contestant.NAME, None):
            hand.close()
        self.jobs = {key: job for key, job in self.jobs.items() if key[0] != contestant.NAME}

    def job(self, settings: Settings, contestant, problem, method: str, *args, **knobs) -> workers.Job:
        """Something prepared, kept for the next rounds; a new problem lets go of those before."""
        if problem is not None and problem is not self.at:
            self.at, self.jobs = problem, {}
        key = contestant.NAME, method, args, *sorted(knobs.items())
        if key not in self.jobs:
            hand = self.hand(settings, contestant)
            if problem is not None:
                hand.load(problem)
            self.jobs[key] = hand.job(method, *args, **knobs)
        return self.jobs[key]

    def plan(self, settings: Settings, contestant, problem, seconds: float) -> effort.Plan:
        """The search is made once, in the first round, and its runs are the convergence plot."""
        key = contestant.NAME, problem.name
        if key not in self.plans:
            if problem is not self.at:
                self.at, self.jobs = problem, {}
            hand = self.hand(settings, contestant)
            found = effort.plan(contestant, problem, gap=min(settings.gaps), seconds=seconds, hand=hand)
            self.plans[key] = found
            self.journal.add(plan=key, points=[asdict(point) for point in found.points])
        return self.plans[key]

    def begin(self, part: tuple, deadline: float) -> float:
        """When this part of the run must end: what time is left is shared among the parts to come, by weight."""
        if part not in self.ends:
            left = max(0.0, self.start + deadline - time.monotonic())
            share = self.parts[part] / sum(self.parts.values())
            self.ends[part] = time.monotonic() + share * left
            del self.parts[part]
        return self.ends[part]

    def as_json(self, settings: Settings) -> dict:
        families = {name: c.FAMILY for name, c in settings.contestants.items()}
        curves = [
            {"contestant": name, "family": families.get(name, name), "problem": problem, "points": plan.curve()}
            for (name, problem), plan in self.plans.items()
        ]
        for curve in curves:  # seconds to the optimum's test accuracy, less a tenth of a percent
            wanted = self.problems.get(curve["problem"], {}).get("accuracy")
            if wanted is not None:
                point = self.plans[curve["contestant"], curve["problem"]].accurate(wanted - 1e-3)
                curve["seconds_to_accuracy"] = point and point.seconds
        skipped = [
            {"contestant": c, "problem": p, "what": what, "reason": reason}
            for (what, c, p), reason in self.skipped.items()
        ]
        return {
            "facts": facts() | {c.DISTRIBUTION: version(c.DISTRIBUTION) for c in settings.present if c.DISTRIBUTION},
            "memory": memory_speed(10_000_000),
            "problems": self.problems,
            "curves": curves,
            "skipped": skipped,
            "seconds": time.monotonic() - self.start + sum(line["seconds"] for line in self.journal.of("seconds")),
        }


def pytest_configure(config):
    try:
        config.bench_settings = Settings(config)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    config.bench_journal = Journal(config.getoption("--bench-journal"))
    config.bench_record = Record(config.bench_journal, config.bench_settings)


def pytest_unconfigure(config):
    if hasattr(config, "bench_record"):
        record = config.bench_record
        record.journal.add(seconds=time.monotonic() - record.start)
        workers.close_all()


def identifier(value) -> str:
    if isinstance(value, float):
        return gap_text(value)
    return getattr(value, "NAME", str(value)).replace(" ", "-")


def pytest_generate_tests(metafunc):
    """Cases come from the options; a test names what it varies over by its arguments."""
    if "bench" not in metafunc.fixturenames:
        return
    settings = metafunc.config.bench_settings
    present = settings.present
    if metafunc.function.__name__ == "test_step":
        names = "d", "contestant"
        cases = [(d, c) for d in STEP_SIZES for c in present if c.STEP_LIMIT]
    elif metafunc.function.__name__ == "test_epoch":
        names = "problem_name", "batch_size", "contestant"
        cases = [
            (p, b, c)
            for p in settings.epoch_problems
            for b in (1, 32, 256)
            for c in present
            if c.RULE in EPOCH_RULES and b in c.BATCHES
        ]
    elif metafunc.function.__name__ == "test_columns":
        names = "popularity", "contestant"
        cases = [(p, c) for p in ("uniform", "zipf") for c in present if c.RULE in EPOCH_RULES and c.LAZY]
    elif metafunc.function.__name__ == "test_fixed":
        names, cases = ("contestant",), [(c,) for c in present if c.TO_TARGET]
    elif metafunc.function.__name__ == "test_scaling":
        names = "axis", "problem_name", "contestant"
        cases = [(axis, p, c) for axis, sizes in SCALING.items() for p in sizes for c in present if c.SCALING]
    else:
        names = "problem_name", "contestant", "gap"
        cases = [(p, c, gap) for p in settings.problems for c in present if c.TO_TARGET for gap in settings.gaps]
    cases = [(*case, again) for again in range(settings.repeat) for case in cases]
    ids = [
        "-".join(map(identifier, case[:-1])) + (f"-round{case[-1]}" if settings.repeat > 1 else "") for case in cases
    ]
    metafunc.parametrize((*names, "again"), cases, ids=ids)


def part_of(item) -> tuple:
    """The part of the run that a case belongs to: a test function, and what its data are."""
    name, case = item.function.__name__.removeprefix("test_"), item.callspec.params
    data = (case[key] for key in ("axis", "problem_name", "popularity", "d") if key in case)
    return name, next(data, "")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Part after part; in each, round after round: contestants alternate, so that a slow minute hits them all."""
    others = [item for item in items if "bench" not in getattr(item, "fixturenames", ())]
    cases = [item for item in items if item not in others and isinstance(item.callspec.params.get("again"), int)]
    order = {name: i for i, name in enumerate(WEIGHTS)}
    done = config.bench_journal.cases
    first = {part: i for i, part in reversed(list(enumerate(map(part_of, cases))))}
    # Those of one part lie together whatever file they are from.
    cases.sort(key=lambda item: (order[part_of(item)[0]], first[part_of(item)], item.callspec.params["again"]))
    left = [item for item in cases if item.name not in done]
    config.hook.pytest_deselected(items=[item for item in cases if item.name in done])
    for item in left:
        item.add_marker(pytest.mark.filterwarnings("default"))  # a peer's warning is no error of ours
        config.bench_record.parts[part_of(item)] = WEIGHTS[part_of(item)[0]]
    items[:] = others + left


class Bench:
    """What a benchmark needs: settings, record, and the two ways to leave a trace."""

    searched = 0.0  # seconds that the last search could take

    def __init__(self, config, item):
        self.settings, self.record, self.item = config.bench_settings, config.bench_record, item
        self.what = item.function.__name__.removeprefix("test_").replace("_", " ")

    def skip(self, contestant, problem_name: str, reason: str, what: str = ""):
        self.record.skipped[what or self.what, contestant.NAME, problem_name] = reason
        self.record.journal.add(skip=[what or self.what, contestant.NAME, problem_name], reason=reason)
        pytest.skip(reason)

    def problem(self, contestant, name: str) -> problems.Problem:
        """The problem, if it is there and for this contestant."""
        try:
            problem = problems.get(name)
        except problems.Missing as missing:
            self.skip(contestant, name, str(missing))
        if self.what in ("epoch", "to target"):
            self.record.say(name, **problem.describe())
        if problem.kind == "csr" and not contestant.CSR:
            self.skip(contestant, name, "takes no sparse data")
        if problem.l1 and not contestant.L1:
            self.skip(contestant, name, "takes no L1 penalty")
        if self.what != "epoch" and (reason := contestant.skip(problem)):
            self.skip(contestant, name, reason)
        if self.what == "to target":
            deadline, ran = self.settings.deadline, time.monotonic() - self.record.start
            if deadline and (needs := optimum.seconds(problem)) > deadline - ran:
                self.skip(contestant, name, f"its optimum takes about {needs:.0f} s to find, more than was left")
            best = optimum.find(problem)
            told = {} if problem.test is None else {"accuracy": best.accuracy, "test_rows": len(problem.test[1])}
            self.record.say(name, optimum=best.objective, bound=best.bound, **told)
        return problem

    def job(self, contestant, problem, method: str, *args, **knobs) -> workers.Job:
        return self.record.job(self.settings, contestant, problem, method, *args, **knobs)

    def hand(self, contestant):
        return self.record.hand(self.settings, contestant)

    def plan(self, contestant, problem) -> effort.Plan:
        seconds = self.settings.seconds
        if self.settings.deadline:
            begun = self.record.begin(part_of(self.item), self.settings.deadline) - time.monotonic()
            rivals = sum(c.TO_TARGET for c in self.settings.present)
            left = rivals - sum(key[1] == problem.name for key in self.record.plans)
            seconds = min(seconds, max(0.1, 0.75 * begun / max(1, left)))
        self.searched = seconds
        return self.record.plan(self.settings, contestant, problem, seconds)

    @staticmethod
    def times(benchmark):
        """The engine's statistics; all nan under CodSpeed, which keeps its own."""
        stats = getattr(benchmark, "stats", None)
        return stats.stats if stats else SimpleNamespace(median=math.nan, min=math.nan)

    def failed(self, contestant, problem_name: str, trouble: workers.Trouble):
        """A contestant's trouble is a reason in the report, no error of the suite."""
        self.record.forget(contestant)
        self.skip(contestant, problem_name, f"failed: {trouble}")


@pytest.fixture
def bench(request):
    """Skips what comes too late or is known to fail; one thread for every BLAS; the workers' clock."""
    from threadpoolctl import threadpool_limits

    found = Bench(request.config, request.node)
    case = request.node.callspec.params
    contestant, name = case["contestant"], case.get("problem_name", "")
    deadline = found.settings.deadline
    if deadline and time.monotonic() > found.record.begin(part_of(request.node), deadline):
        if case["again"] == 0:
            found.skip(contestant, name, "time was up")
        pytest.skip("time was up")
    known = found.record.skipped.get((found.what, contestant.NAME, name))
    if known and known.startswith("failed"):
        pytest.skip(known)
    benchmark = request.getfixturevalue("benchmark")
    if hasattr(benchmark, "_timer"):
        benchmark._timer = workers.clock
    with threadpool_limits(1):
        yield found


# ---- what goes into the JSON, and the line per case ----------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.clear()  # it would hold the host's name
    machine_info.update(facts())


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config, benchmarks, output_json):
    output_json["benchmarks"][:0] = [entry for entry in config.bench_journal.cases.values() if entry]
    output_json["bench"] = config.bench_record.as_json(config.bench_settings)


def pytest_report_teststatus(report, config):
    if config.getoption("--bench-progress"):
        return ("" if report.when != "call" and report.passed else report.outcome), "", ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Turns a contestant's trouble into a reason."""
    try:
        return (yield)
    except workers.Trouble as trouble:
        case = item.callspec.params
        item.funcargs["bench"].failed(case["contestant"], case.get("problem_name", ""), trouble)


def pytest_runtest_makereport(item, call):
    if call.when != "call" or "bench" not in getattr(item, "funcargs", {}):
        return
    benchmark, journal = item.funcargs["benchmark"], item.config.bench_journal
    item.user_properties.append(("bench", benchmark.extra_info.get("line", "")))
    stats = getattr(benchmark, "stats", None)
    if call.excinfo is None and stats is not None:
        journal.add(case=item.name, benchmark=stats.as_dict(include_data=True))
    elif call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception):
        journal.add(case=item.name, benchmark={})


def pytest_runtest_logreport(report):
    PROGRESS.show(report)


class _Progress:
    """A line per case: how far, how long, what; below them a bar, in a terminal with rich."""

    config = bar = None
    late = False
    done = total = 0

    def begin(self, session):
        self.config, self.total = session.config, len(session.items)
        try:
            from rich import progress
        except ImportError:
            return
        columns = progress.BarColumn(None), progress.MofNCompleteColumn(), progress.TextColumn("{task.fields[left]}")
        bar = progress.Progress(progress.TextColumn("bench"), *columns)
        if bar.console.is_terminal and self.total:
            self.bar, self.task = bar, bar.add_task("", total=self.total, left="")
            bar.start()

    def end(self):
        if self.bar:
            self.bar.stop()

    def left(self) -> float:
        """Seconds to go: as fast as until now, and never beyond the deadline."""
        record, deadline = self.config.bench_record, self.config.bench_settings.deadline
        took = time.monotonic() - record.start
        left = took / self.done * (self.total - self.done)
        return min(left, max(0.0, deadline - took)) if deadline else left

    def show(self, report):
        if not self.config or report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        self.done += 1
        took, left = time.monotonic() - self.config.bench_record.start, self.left()
        if self.bar:
            self.bar.update(self.task, completed=self.done, left=f"about {left / 60:.0f} min left")
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
        line = f"{self.done:4d}/{self.total} {took:4.0f}s, {left:3.0f}s left  {kind:9s} {name:62s} {said}"[:200]
        if self.bar:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            self.config.pluginmanager.get_plugin("terminalreporter").write_line(line)


PROGRESS = _Progress()


def pytest_collection_finish(session):
    if session.config.getoption("--bench-progress"):
        PROGRESS.begin(session)


def pytest_sessionfinish(session):
    PROGRESS.end()
