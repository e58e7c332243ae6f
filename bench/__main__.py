"""python -m bench: run the suite on one thread, print the table, write the report."""

from __future__ import annotations

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from bench.problems import ALPHAS, EMBEDDED, OPTIONAL, PROBLEMS, ROOT, Missing, get  # noqa: E402

RESULTS = ROOT / "bench" / "results"
QUICK = {
    "problems": "breast_cancer,digits_onehot_pairs,text_like",
    "gap": "1e-2,1e-3",
    "repeat": 1,
    "seconds": 0.8,
    "deadline": 70,
}
DEFAULT = {"problems": ",".join(EMBEDDED), "gap": "1e-2,1e-3,1e-4", "repeat": 3, "seconds": 2.0, "deadline": 285}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute: fewer problems, no repeats")
    parser.add_argument("--list", action="store_true", help="list problems and contestants")
    parser.add_argument(
        "--problems", help=f"comma separated, each with @penalty ({', '.join(ALPHAS)}) or without, or 'all'"
    )
    parser.add_argument(
        "--solvers", default="", help="keep contestants whose name contains one of these, comma separated"
    )
    parser.add_argument("--gap", help="relative gaps to the optimum, comma separated")
    parser.add_argument("--repeat", type=int, help="how often to go round all cases")
    parser.add_argument("--seconds", type=float, help="search for the right effort, per contestant and problem")
    parser.add_argument("--deadline", type=float, help="skip what has not begun after so many seconds; 0 for none")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="folder for report and JSON (default: bench/results)"
    )
    parser.add_argument(
        "--tune", action="store_true", help="search settings at length and keep them in bench/tuned.json"
    )
    parser.add_argument("-k", dest="keyword", default="", help="pytest's own selection of cases")
    options = parser.parse_args(arguments)
    if options.problems and options.deadline is None:
        options.deadline = 0  # asked for by name: no hurry
    for name, value in (QUICK if options.quick else DEFAULT).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


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
        print(f"  {contestant.NAME:32s} {', '.join(timed)}")


def tune(options: argparse.Namespace) -> None:
    """Long searches, so that ordinary runs need none; kept in the repository."""
    from bench import effort
    from bench.solvers import selected, words

    gaps = tuple(map(float, words(options.gap)))
    for name in words(options.problems):
        problem = get(name)
        for contestant in selected(words(options.solvers)).values():
            if not contestant.TO_TARGET or contestant.skip(problem) or len(contestant.knobs(problem)) < 2:
                continue
            chosen = effort.tune(contestant, problem, gaps=gaps, seconds=options.seconds)
            tuned = json.loads(effort.TUNED.read_text()) if effort.TUNED.exists() else {}
            tuned.setdefault(name, {})[contestant.NAME] = chosen
            effort.TUNED.write_text(json.dumps(tuned, indent=1, sort_keys=True) + "\n")
            print(f"{name:22s} {contestant.NAME:32s} {chosen}", flush=True)


def run(options: argparse.Namespace) -> int:
    import pytest

    options.output.mkdir(parents=True, exist_ok=True)
    output = options.output / "benchmark.json"
    output.unlink(missing_ok=True)
    arguments = [
        str(ROOT / "bench"),
        f"--rootdir={ROOT}",
        "-q",
        "--benchmark-only",
        "--benchmark-quiet",
        "--bench-progress",
        f"--benchmark-json={output}",
        "-p",
        "no:cacheprovider",
        "-o",
        "console_output_style=classic",
        "-o",
        "addopts=",
        "-W",
        "default",
        "--no-summary",
        f"--bench-problems={options.problems}",
        f"--bench-solvers={options.solvers}",
        f"--bench-gaps={options.gap}",
        f"--bench-repeat={options.repeat}",
        f"--bench-seconds={options.seconds}",
        f"--bench-deadline={options.deadline}",
    ]
    status = int(pytest.main([*arguments, *(["-k", options.keyword] if options.keyword else [])]))
    if not output.exists() or not output.stat().st_size:
        print("Nothing was timed.", file=sys.stderr)
        return status or 1
    report(output)
    return status


def report(output: Path) -> None:
    from bench import report

    results = report.load(output)
    markdown = report.markdown(results)
    (output.parent / "benchmark.md").write_text(markdown)
    (output.parent / "report.html").write_text(report.html(results))
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
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
