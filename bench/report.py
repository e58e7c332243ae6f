"""From pytest-benchmark's JSON to tables: rounds merged, ratios to the baselines, Markdown. `page` makes HTML of it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import quantiles

from bench.solvers import FAMILIES

BASELINES = ("pure Python", "NumPy", "scipy", "scikit-learn")


def load(path: Path) -> dict:
    """The run as a dict: facts, problems, curves, skipped, seconds and `cases`, one for all rounds of a measurement."""
    raw = json.loads(Path(path).read_text())
    results = raw.get("bench", {}) | {"datetime": raw.get("datetime", "")}
    merged: dict[str, dict] = {}
    for benchmark in raw["benchmarks"]:
        info = dict(benchmark["extra_info"])
        if "what" not in info or not benchmark["stats"]["data"]:  # it failed half-way
            continue
        name = benchmark["name"].partition("-round")[0].rstrip("]") + "]"
        info.pop("again", None), info.pop("line", None)
        case = merged.setdefault(name, info | {"name": name, "data": []})
        case["data"] += benchmark["stats"]["data"]
    results["cases"] = [_summarised(case) for case in merged.values()]
    return {"facts": {}, "problems": {}, "curves": [], "skipped": [], "seconds": 0.0} | results


def _summarised(case: dict) -> dict:
    data = (
        [seconds * case["rows"] / case["rows_timed"] for seconds in case["data"]]
        if "rows_timed" in case
        else case["data"]
    )
    low, median, high = quantiles(data, n=4, method="inclusive") if len(data) > 1 else data * 3
    return case | {"median": median, "q1": low, "q3": high, "n": len(data), "rerun": _rerun(case)}


def _rerun(case: dict) -> str:
    if case["what"] == "target":
        chosen = f'--problems {case["problem"]} --solvers "{case["contestant"]}" --gap {case["target"]:g}'
        return f"python -m bench {chosen} -k to_target"
    if case["what"] == "pass":
        return f'python -m bench --problems {case["problem"]} --solvers "{case["contestant"]}" -k epoch'
    return f'python -m bench --solvers "{case["contestant"]}" -k step'


def family_order(family: str) -> int:
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)


def duels(results: dict, what: str) -> list[dict]:
    """One row per thing timed: the best of each family, and its time over fastopt's (above 1: fastopt is faster)."""
    keys = {"target": ("problem", "target"), "pass": ("problem", "batch_size", "rule"), "step": ("d", "rule")}[what]
    rows: dict[tuple, dict] = {}
    for case in results["cases"]:
        if case["what"] == what:
            best = rows.setdefault(tuple(case[key] for key in keys), {})
            if case["family"] not in best or case["median"] < best[case["family"]]["median"]:
                best[case["family"]] = case
    out = []
    for key, best in rows.items():
        ours = best.get("fastopt")
        ratios = {
            family: case["median"] / ours["median"] for family, case in best.items() if ours and family != "fastopt"
        }
        out.append({"key": key, "best": best, "ratios": ratios})
    return out


def losses(results: dict) -> list[dict]:
    """Where somebody is faster than fastopt's best, the worst first."""
    found = []
    for what in ("target", "pass", "step"):
        for duel in duels(results, what):
            family = min(duel["ratios"], key=duel["ratios"].get, default=None)
            if family and duel["ratios"][family] < 1:
                found.append(
                    {
                        "what": what,
                        "key": duel["key"],
                        "winner": duel["best"][family],
                        "ours": duel["best"]["fastopt"],
                        "ratio": duel["ratios"][family],
                    }
                )
            elif what == "target" and "fastopt" not in duel["best"]:
                winner = min(duel["best"].values(), key=lambda case: case["median"])
                found.append({"what": what, "key": duel["key"], "winner": winner, "ours": None, "ratio": 0.0})
    return sorted(found, key=lambda loss: loss["ratio"])


def seconds(value: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if value * scale >= 1:
            return f"{value * scale:.3g} {unit}" if value * scale < 1000 else f"{value * scale:.0f} {unit}"
    return f"{value * 1e9:.3g} ns"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def gap(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")


def headings() -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        "target": ("Seconds from zero to a relative gap", ("problem", "gap")),
        "pass": ("One pass over the rows", ("problem", "batch size", "rule")),
        "step": ("One update of d coordinates", ("d", "rule")),
    }


def key_words(what: str, key: tuple) -> tuple[str, ...]:
    if what == "target":
        return key[0], gap(key[1])
    return tuple(f"{part:,}" if isinstance(part, int) else part for part in key)


def markdown(results: dict) -> str:
    """Three tables: fastopt's best time, and how many times longer the best of each other family takes."""
    out = []
    for what, (title, columns) in headings().items():
        rows = duels(results, what)
        if not rows:
            continue
        families = [family for family in BASELINES if any(family in row["best"] for row in rows)]
        table = [[*columns, "fastopt", *(f"vs {family}" for family in families)]]
        for row in rows:
            ours = row["best"].get("fastopt")
            cells = [
                f"{seconds(ours['median'])}"
                + (f" ({ours['contestant'].removeprefix('fastopt ')})" if what == "target" else "")
                if ours
                else "-"
            ]
            for family in families:
                theirs = row["best"].get(family)
                cells.append("-" if not theirs else times(row["ratios"][family]) if ours else seconds(theirs["median"]))
            table.append([*key_words(what, row["key"]), *cells])
        out += [f"### {title}", "", *_aligned(table), ""]
    lost = losses(results)
    out.append(
        f"A ratio above 1 means that fastopt is faster; '-' that nobody of the family got there or was asked. "
        f"fastopt loses {len(lost)} of {sum(len(duels(results, what)) for what in headings())} comparisons."
    )
    return "\n".join(out) + "\n"


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def html(results: dict) -> str:
    from bench.page import page

    return page(results)
