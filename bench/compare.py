"""python -m bench.compare BASE: this tree against another revision, both in one job, alternating run by run.

A case counts as slower only past a ratio and past an absolute difference, and when the rank test sees it. The exit
status is 1 if one does.
"""

from __future__ import annotations

from bench.machine import pin_threads

pin_threads()  # before anything imports NumPy

import argparse  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from bench import ROOT, problems, report, workers  # noqa: E402


def cases(quick: bool) -> list[tuple[str, str, str | None, str, tuple]]:
    """What is timed: name, contestant, problem, the method that prepares it, its arguments."""
    found = [
        (f"step of {d:,} coordinates, {rule}", f"fastopt {rule}", None, "step", (d, "float32"))
        for d in (1_000, 1_000_000)
        for rule in ("sgd", "adam")
    ]
    sets = ("digits_onehot_pairs", "digits") if quick else ("text_like", "ill_conditioned", "digits")
    found += [
        (f"pass over {name}, {rule}, batch size {size}", f"fastopt {rule}", name, "epoch", (size, 0))
        for name in sets
        for rule in ("sgd", "momentum", "adam")
        for size in (1, 32)
    ]
    found += [(f"10 iterations on {name}, lbfgs", "fastopt lbfgs", name, "prepare", ()) for name in sets]
    return found


def build(sha: str) -> Path:
    """The commit's tree in build/compare, its kernels compiled in place; nothing is done twice."""
    tree = ROOT / "build" / "compare" / sha
    if not (tree / "setup.py").exists():
        tree.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "archive", sha], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)
    subprocess.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=tree, check=True)
    return tree


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def alternate(name, contestant, problem, method, args, trees: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Seconds of `rounds` runs of each tree, alternating; who goes first changes, too."""
    hands = {side: workers.Worker(contestant, path=str(tree)) for side, tree in trees.items()}
    try:
        jobs = {}
        for side, hand in hands.items():
            if problem is not None:
                hand.load(problem)
            jobs[side] = hand.job(method, *args)
        budget = (10,) if method == "prepare" else ()
        repeat = 1
        for job in jobs.values():
            job(*budget)  # warm-up
            repeat = max(repeat, min(2000, int(2e-3 / max(job.seconds, 1e-7))))
        seconds: dict[str, list[float]] = {side: [] for side in jobs}
        for i in range(rounds):
            for side in sorted(jobs, reverse=bool(i % 2)):
                jobs[side](*budget, repeat=repeat)
                seconds[side].append(jobs[side].seconds)
        return seconds
    finally:
        for hand in hands.values():
            hand.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("base", help="the revision to compare with: a branch, a tag, a commit")
    parser.add_argument("--rounds", type=int, default=15, help="runs of each tree per case, default 15")
    parser.add_argument("--quick", action="store_true", help="small problems only")
    parser.add_argument("-k", dest="keyword", default="", help="only cases whose name contains this")
    parser.add_argument("--json", type=Path, help="write the times there")
    options = parser.parse_args(arguments)
    from bench.solvers import all_contestants

    if options.rounds < 3:
        parser.error(f"rounds must be an integer >= 3, of which a rank test sees something; got {options.rounds}.")
    wanted = [case for case in cases(options.quick) if options.keyword in case[0]]
    if not wanted:
        parser.error(f"-k must be part of a case's name, such as 'lbfgs'; got {options.keyword!r}.")
    try:
        sha = git("rev-parse", "--verify", "--quiet", f"{options.base}^{{commit}}")
    except (subprocess.CalledProcessError, OSError):
        parser.error(f"base must be a revision of this repository; got {options.base!r}.")
    tree = build(sha)
    trees, contestants = {"base": tree, "head": ROOT}, all_contestants()
    print(f"base {sha[:12]}, head {git('rev-parse', '--short=12', 'HEAD')} and what is not committed", flush=True)
    rows, times = [], {}
    for name, who, problem_name, method, args in wanted:
        problem = problems.get(problem_name) if problem_name else None
        args = (args[0], problem.X.shape[0]) if method == "epoch" else args
        try:
            found = alternate(name, contestants[who], problem, method, args, trees, options.rounds)
        except workers.Trouble as trouble:
            print(f"{name}: cannot be compared: {trouble}", flush=True)
            continue
        times[name] = found
        rows.append(row(name, found))
        print(f"{name}: {rows[-1]['ratio']:.3f}", flush=True)
    rows.sort(key=lambda one: -one["ratio"])
    print("\n" + report.comparison(rows))
    if options.json:
        options.json.write_text(json.dumps(times))
    return int(any(map(report.regressed, rows)))


def row(name: str, found: dict[str, list[float]]) -> dict:
    """A row of the comparison."""
    from statistics import median

    old, new = median(found["base"]), median(found["head"])
    sure = report.certainty(tuple(found["head"]), tuple(found["base"]))
    return {"name": name, "old": old, "new": new, "ratio": new / old} | sure


if __name__ == "__main__":
    sys.exit(main())
