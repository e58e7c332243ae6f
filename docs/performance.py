"""The performance page and the README's picture and tables, from a run of the benchmark suite.

    python docs/performance.py [--readme] [bench/results/benchmark.json]

keeps what is shown of a run in docs/performance.json and draws docs/performance.svg, the README's picture; with
--readme the run's tables, and that of a `make roofline` whose JSON lies beside it, go between the README's marks, too.
The documentation's build draws from the JSON alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SUMMARY = HERE / "performance.json"
FOLDER = HERE / "_static" / "generated"
FAMILIES = ("fastopt", "scikit-learn", "scipy", "NumPy", "pure Python")
#: Told apart by all eyes (Okabe, Ito), and by their shapes.
COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00")
MARKS = dict(zip(FAMILIES, zip(COLORS, "osD^v", strict=True), strict=True))
#: Reads on white and on black.
GREY = "#7d8590"
STYLE = {
    "axes.edgecolor": GREY, "axes.labelcolor": GREY, "axes.spines.right": False, "axes.spines.top": False,
    "axes.titlecolor": GREY, "figure.constrained_layout.use": True, "font.size": 10, "legend.frameon": False,
    "legend.labelcolor": GREY, "savefig.transparent": True, "svg.fonttype": "none", "svg.hashsalt": "fastopt",
    "text.color": GREY, "xtick.color": GREY, "ytick.color": GREY, "font.family": "sans-serif",
}  # fmt: skip
KEPT = ("what", "contestant", "family", "problem", "target", "batch_size", "rule", "d", "n", "name", "settings")


def summarise(path: Path) -> dict[str, Any]:
    """What the pages show of a run: the best of each family for each thing timed, and its curve; all losses."""
    run = report.load(path)
    best, curves = [], {}
    for what in ("target", "pass", "step"):
        for duel in report.duels(run, what):
            best += [duel["best"][family] for family in FAMILIES if family in duel["best"]]
    for case in best:
        if case["what"] == "target":
            curves.setdefault((case["problem"], case["family"]), case["contestant"])
    return {
        "datetime": run["datetime"],
        "facts": run["facts"],
        "problems": {
            name: {key: facts[key] for key in ("rows", "columns", "entries", "kind", "dtype", "classes", "alpha")}
            for name, facts in run["problems"].items()
        },
        "cases": [
            {key: case[key] for key in KEPT if key in case}
            | {key: float(f"{case[key]:.4g}") for key in ("median", "q1", "q3")}
            | {"data": []}
            for case in best
        ],
        "curves": [
            {"problem": curve["problem"], "family": curve["family"], "contestant": curve["contestant"]}
            | {"points": [[float(f"{value:.3g}") for value in point[:2]] for point in curve["points"]]}
            for curve in run["curves"]
            if curves.get((curve["problem"], curve["family"])) == curve["contestant"]
        ],
        "said": report.said(run),
        "lost": [
            [
                report.headings()[loss["what"]][0],
                ", ".join(report.key_words(loss["what"], loss["key"])),
                loss["ours"] and float(f"{loss['ratio']:.3g}"),
                loss["winner"]["contestant"],
            ]
            for loss in report.losses(run)
        ],
    }


def times(run: dict[str, Any], path: Path, targets: tuple[float, float] = (1e-2, 1e-4)) -> None:
    """Seconds to a rough and to a fine gap: a line for each problem, a mark for each family."""
    names = list(dict.fromkeys(duel["key"][0] for duel in report.duels(run, "target")))
    with mpl.rc_context(STYLE):
        axes = plt.subplots(1, 2, figsize=(9, 0.42 * len(names) + 1.4), sharey=True, sharex=True)[1]
        for ax, target in zip(axes, targets, strict=True):
            best = {duel["key"][0]: duel["best"] for duel in report.duels(run, "target") if duel["key"][1] == target}
            for family, (color, mark) in MARKS.items():
                there = [(i, best[name]) for i, name in enumerate(names) if family in best.get(name, {})]
                x, y = [one[family]["median"] for _, one in there], [i for i, _ in there]
                ax.plot(x, y, mark, color=color, label=family, markersize=9 if family == "fastopt" else 6)
            ax.set(xscale="log", xlabel=f"seconds from zero to a relative gap of {report.gap(target)}")
            ax.grid(axis="y", color=GREY, alpha=0.3)
            ax.tick_params(axis="y", length=0)
        axes[0].set_yticks(range(len(names)), [f"{name}\n{size(run['problems'][name])}" for name in names], size=8)
        axes[0].invert_yaxis()
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        plt.savefig(path, metadata={"Date": None})
        plt.close("all")


def curves(run: dict[str, Any], path: Path) -> None:
    """The gap against seconds: the best of each family."""
    names = [name for name in run["problems"] if any(curve["problem"] == name for curve in run["curves"])]
    with mpl.rc_context(STYLE):
        axes = plt.subplots(-(-len(names) // 2), 2, figsize=(9, 3 * -(-len(names) // 2)), squeeze=False)[1].ravel()
        for ax, name in zip(axes, names, strict=False):
            for curve in run["curves"]:
                if curve["problem"] == name:
                    color, mark = MARKS[curve["family"]]
                    points = [point for point in curve["points"] if point[0] > 0 and point[1] > 0]
                    if points:
                        ax.loglog(*zip(*points, strict=True), f"-{mark}", color=color, markersize=3, linewidth=1.2,
                                  label=curve["family"])  # fmt: skip
            ax.set(title=name, ylim=(1e-7, 2))
            ax.title.set_size(10)
        for ax in axes[len(names) :]:
            ax.axis("off")
        handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        axes[0].figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=5)
        axes[0].figure.supxlabel("seconds", size=10)
        axes[0].figure.supylabel("relative gap", size=10)
        plt.savefig(path, metadata={"Date": None})
        plt.close("all")


def size(problem: dict[str, Any]) -> str:
    return f"{problem['rows']:,} x {problem['columns']:,}, {problem['kind']}"


def tables(run: dict[str, Any]) -> dict[str, str]:
    """Of `bench.report`, by the name of the README's mark; and what it says of losses."""
    parts = re.split(r"^### (.*)\n", report.markdown(run), flags=re.MULTILINE)[1:]
    titles = {title: what for what, (title, _) in report.headings().items()}
    found = {titles[title]: text for title, text in zip(parts[::2], parts[1::2], strict=True) if title in titles}
    found = {what: re.sub(r"\n\n[^|\n].*", "", text.strip(), flags=re.DOTALL) + "\n" for what, text in found.items()}
    return found | {"said": run["said"] + "\n"}


def page(run: dict[str, Any]) -> str:
    """What the performance page includes."""
    facts, shown = run["facts"], tables(run)
    told = ("processor", "system", "Python", "numpy", "scipy", "scikit-learn")
    machine = ", ".join(f"{name} {facts[name]}" for name in told)
    text = [f"The run of {run['datetime'][:10]}: {machine}; {facts['threads']} thread.\n"]
    for what, (title, _) in report.headings().items():
        if what in shown:
            text += [f"## {title}\n", shown[what]]
            if what == "target":
                text += ["![Gap against seconds, the best of each family](_static/generated/performance_curves.svg)\n"]
    text += ["## Where others are faster\n", run["said"] + "\n"]
    if run["lost"]:
        text += ["| | | fastopt takes | fastest |\n|---|---|---|---|"]
        for title, words, ratio, winner in run["lost"]:
            ours = f"{report.times(1 / ratio)} as long" if ratio else "has not got there"
            text += [f"| {title} | {words} | {ours} | {winner} |"]
    return re.sub(r"(?<=\de)-(?=\d)", "\u2011", "\n".join(text) + "\n")  # 1e-2 stays on one line


def draw(folder: Path = FOLDER) -> None:
    """What the documentation's build needs."""
    run = json.loads(SUMMARY.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    times(run, folder / "performance.svg")
    curves(run, folder / "performance_curves.svg")
    (folder / "performance.md").write_text(page(run), encoding="utf-8")


def refresh(path: Path) -> dict[str, Any]:
    run = summarise(path)
    SUMMARY.write_text(json.dumps(run, indent=None, separators=(",", ":")).replace('},{"what"', '},\n{"what"') + "\n")
    times(run, HERE / "performance.svg")
    return run


def roofline(path: Path) -> str:
    """The table of `make roofline`, from its JSON."""
    lines = ["| kernel | speed | ratio to | is | goal |", "|---|---|---|---|---|"]
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        lines += ["| {kernel} | {measured} | {against} | {ratio:.2f} | {goal:g} |".format(**row)]
    return "\n".join(lines) + "\n"


def write_tables(shown: dict[str, str], page: Path = ROOT / "README.md") -> None:
    text = page.read_text(encoding="utf-8")
    for what, table in shown.items():
        marks = rf"(<!-- bench: {what} -->\n).*?(<!-- end -->)"
        text = re.sub(marks, lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text, flags=re.DOTALL)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", action="store_true", help="put the run's tables into the README")
    parser.add_argument("run", nargs="?", type=Path, default=ROOT / "bench" / "results" / "benchmark.json")
    options = parser.parse_args()
    shown = tables(refresh(options.run))
    limits = options.run.with_name("roofline.json")
    if limits.exists():
        shown["roofline"] = roofline(limits)
    if options.readme:
        write_tables(shown)
