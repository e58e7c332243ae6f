"""python -m bench: run the suite on one thread, print the table, write the report."""

from __future__ import annotations

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import argparse  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from bench import ROOT  # noqa: E402
from bench.problems import (  # noqa: E402
    EMBEDDED,
    OPTIONAL,
    PENALTIES,
    PROBLEMS,
    USUAL,
    Missing,
    add_file,
    get,
    named,
)  # fmt: skip
from bench.report import load  # noqa: E402

RESULTS = ROOT / "bench" / "results"
QUICK = {
    "problems": "breast_cancer,digits_onehot_pairs,text_like", "gap": "1e-2,1e-3", "repeat": 1, "seconds": 0.8,
    "deadline": 70,
}  # fmt: skip
DEFAULT = {"problems": ",".join(USUAL), "gap": "1e-2,1e-3,1e-4", "repeat": 3, "seconds": 2.0, "deadline": 285}
FULL = {
    "problems": ",".join(
        [
            *EMBEDDED,
            *(f"{name}@{alpha}" for name in USUAL for alpha in ("10/n", "1e-3")),
            *(f"{name}@l1" for name in ("breast_cancer", "digits_parity", "digits_onehot_pairs", "text_like")),
            *OPTIONAL,
            "mushrooms@l1",
        ]
    ),
    "gap": "1e-2,1e-3,1e-4,1e-6",
    "repeat": 5,
    "seconds": 6.0,
    "deadline": 3300,
}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute: fewer problems, no repeats")
    parser.add_argument("--full", action="store_true", help="an hour: all problems and penalties, tighter gaps")
    parser.add_argument("--list", action="store_true", help="list problems and contestants")
    parser.add_argument(
        "--problems", help=f"comma separated, each with @penalty ({', '.join(PENALTIES)}) or without, or 'all'"
    )
    parser.add_argument(
        "--solvers", default="", help="keep contestants whose name contains one of these, comma separated"
    )
    parser.add_argument("--data", action="append", default=[], help="a file in LIBSVM's format: one problem more")
    parser.add_argument("--gap", help="relative gaps to the optimum, comma separated")
    parser.add_argument("--repeat", type=int, help="how often to go round all cases")
    parser.add_argument("--seconds", type=float, help="search for the right effort, per contestant and problem")
    parser.add_argument("--deadline", type=float, help="skip what has not begun after so many seconds; 0 for none")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="folder for report and JSON (default: bench/results)"
    )
    parser.add_argument(
        "--compare", nargs="+", type=Path, metavar=("OLD.json", "NEW.json"),
        help="compare with an older run's JSON; with two of them nothing is run",
    )  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="begin anew where an interrupted run could be resumed")
    parser.add_argument("--in-process", action="store_true", help="no process per contestant: for profilers")
    parser.add_argument(
        "--tune", action="store_true", help="search settings at length and keep them in bench/tuned.json"
    )
    parser.add_argument(
        "-k", dest="keyword", default="", help="pytest's own selection: step, epoch, columns, costs, to_target"
    )
    options = parser.parse_args(arguments)
    try:
        check(options)
    except (ValueError, OSError, Missing) as error:
        parser.error(str(error))
    if (options.problems or options.data) and options.deadline is None:
        options.deadline = 0  # asked for by name: no hurry
    if options.data and not options.problems:
        options.problems = ",".join(map(add_file, map(Path, options.data)))
    for name, value in (QUICK if options.quick else FULL if options.full else DEFAULT).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def check(options: argparse.Namespace) -> None:
    """Raises ValueError, OSError or Missing for what could not be run, before anything is."""
    from bench.conftest import gaps_of
    from bench.solvers import selected, words

    for name in ("repeat", "seconds", "deadline"):
        value, least = getattr(options, name), {"repeat": "an integer >= 1", "deadline": "a number >= 0"}
        if value is not None and not (0 <= value < math.inf and (value or name == "deadline")):
            raise ValueError(f"{name} must be {least.get(name, 'a number > 0')}; got {value}.")
    gaps_of(options.gap or "")
    selected(words(options.solvers))
    if options.compare and len(options.compare) > 2:
        raise ValueError("--compare takes one or two files.")
    for path in options.compare or ():
        load(path)
    if not options.list:
        for name in map(add_file, map(Path, options.data)):
            get(name)
    named(words(options.problems or ""))


def show_list() -> None:
    from bench.solvers import all_contestants

    print("Problems (default penalty 1/n):")
    for name in PROBLEMS:
        try:
            problem = get(name)
        except Missing as reason:
            print(f"  {name:22s} not here: {reason}")
            continue
        rows, columns = problem.X.shape
        print(
            f"  {name:22s} {rows:,} x {columns:,} {problem.kind} {problem.X.dtype}, {problem.n_classes} classes"
            f"{'; optional' if name in OPTIONAL else ''}; {problem.source}"
        )
    print("\nContestants:")
    for contestant in all_contestants().values():
        timed = [
            what
            for what, on in (
                ("step", contestant.STEP_LIMIT),
                ("pass", contestant.BATCHES),
                ("target", contestant.TO_TARGET),
            )
            if on
        ]
        print(f"  {contestant.NAME:32s} {', '.join(timed)}" + (f"; {why}" if (why := contestant.missing()) else ""))


def tune(options: argparse.Namespace) -> None:
    """Long searches, so that ordinary runs need none; kept in the repository."""
    from bench import effort, workers
    from bench.solvers import selected, words

    gaps = tuple(map(float, words(options.gap)))
    for name in named(words(options.problems)):
        problem = get(name)
        for contestant in selected(words(options.solvers)).values():
            if not contestant.TO_TARGET or contestant.missing() or contestant.skip(problem):
                continue
            if len(contestant.knobs(problem)) < 2:
                continue
            hand = workers.Worker(contestant)
            try:
                chosen = effort.tune(contestant, problem, gaps=gaps, seconds=options.seconds, hand=hand)
            except workers.Trouble as trouble:
                print(f"{name:22s} {contestant.NAME:32s} failed: {trouble}", flush=True)
                continue
            finally:
                hand.close()
            tuned = json.loads(effort.TUNED.read_text(encoding="utf-8")) if effort.TUNED.exists() else {}
            tuned.setdefault(name, {})[contestant.NAME] = chosen
            effort.TUNED.write_text(json.dumps(tuned, indent=1, sort_keys=True) + "\n")
            print(f"{name:22s} {contestant.NAME:32s} {chosen}", flush=True)


def begin_journal(options: argparse.Namespace) -> Path:
    """The file in which a run keeps what is done; one that was interrupted with the same options is gone on with."""
    from bench.machine import facts

    files = [path for part in ("fastopt", "bench") for path in (ROOT / part).rglob("*")]
    files = [path for path in files if path.suffix in (".py", ".so", ".pyd")] + [Path(name) for name in options.data]
    sources = [path.stat().st_mtime for path in files]
    told = {name: str(value) for name, value in vars(options).items() if name not in ("fresh", "compare")}
    first = json.dumps({"options": told, "facts": facts(), "sources": max(sources, default=0)})
    path = options.output / "unfinished.jsonl"
    if path.exists() and not options.fresh and path.read_text(encoding="utf-8").partition("\n")[0] == first:
        print("Going on with the run that was interrupted (--fresh begins anew).", flush=True)
    else:
        path.write_text(first + "\n")
    return path


def run(options: argparse.Namespace) -> int:
    import pytest

    old = load(options.compare[0]) if options.compare else None  # it may be the file that this run replaces
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        journal = begin_journal(options)
    except OSError as error:
        print(f"output must be a folder that can be written to: {error}", file=sys.stderr)
        return 2
    output, begun = (options.output / name for name in ("benchmark.json", "unfinished.json"))
    begun.unlink(missing_ok=True)  # what an earlier run wrote stays until this one has something to say
    arguments = [
        str(ROOT / "bench"),
        f"--rootdir={ROOT}",
        "-q",
        "--benchmark-only",
        "--benchmark-quiet",
        "--bench-progress",
        f"--benchmark-json={begun}",
        *("-p", "no:cacheprovider"),
        *("-p", "no:codspeed"),
        *("-o", "console_output_style=classic"),
        *("-o", "addopts="),
        *("-W", "default"),
        "--no-summary",
        f"--bench-problems={options.problems}",
        f"--bench-solvers={options.solvers}",
        f"--bench-gaps={options.gap}",
        f"--bench-repeat={options.repeat}",
        f"--bench-seconds={options.seconds}",
        f"--bench-deadline={options.deadline}",
        *(f"--bench-data={name}" for name in options.data),
        f"--bench-journal={journal}",
        "--timeout=900",  # the optimum of a large problem takes minutes
    ]
    arguments += ["--bench-in-process"] if options.in_process else []
    status = int(pytest.main([*arguments, *(["-k", options.keyword] if options.keyword else [])]))
    if status in (0, 1):  # to the end; 2 is Ctrl-C
        journal.unlink(missing_ok=True)
    if not begun.exists() or not begun.stat().st_size:
        begun.unlink(missing_ok=True)
        print("Nothing was timed.", file=sys.stderr)
        return status or 1
    begun.replace(output)
    report(output)
    if status == 2:
        print("Interrupted: the same command goes on from here.")
    if old is not None:
        compare(old, load(output))
    return status


def compare(old: dict, new: dict) -> int:
    """Print what became slower or faster; 1 if something became slower beyond doubt."""
    from bench import report

    rows = report.compare(old, new)
    print(report.comparison(rows))
    return int(any(map(report.regressed, rows)))


def report(output: Path) -> None:
    from bench import report
    from bench.page import page

    results = load(output)
    markdown = report.markdown(results)
    (output.parent / "benchmark.md").write_text(markdown, encoding="utf-8")
    (output.parent / "report.html").write_text(page(results), encoding="utf-8")
    print(f"\n{markdown}\nWrote report.html, benchmark.json and benchmark.md to {relative(output.parent)}")


def relative(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.list:
        show_list()
        return 0
    if options.tune:
        tune(options)
        return 0
    if options.compare and len(options.compare) == 2:
        return compare(*map(load, options.compare))
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
