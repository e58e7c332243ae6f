"""From pytest-benchmark's JSON to tables: rounds merged, ratios to the baselines, Markdown. `page` makes HTML of it."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from statistics import median, quantiles

from bench.solvers import FAMILIES

BASELINES = ("pure Python", "NumPy", "scipy", "scikit-learn")


def load(path: Path) -> dict:
    """The run as a dict: facts, problems, curves, skipped, seconds and `cases`, one for all rounds of a measurement."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
        results = raw.get("bench", {}) | {"datetime": raw.get("datetime", "")}
        measured = [(entry["name"], dict(entry["extra_info"]), entry["stats"]["data"]) for entry in raw["benchmarks"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"results must be the JSON of a run; {path} is not: {error!r}") from error
    merged: dict[str, dict] = {}
    for name, info, data in measured:
        if "what" not in info or not data:  # it failed half-way
            continue
        name = name.partition("-round")[0].rstrip("]") + "]"
        info.pop("again", None), info.pop("line", None)
        case = merged.setdefault(name, info | {"name": name, "data": []})
        case["data"] += data
    results["cases"] = [_summarised(case) for case in merged.values()]
    return {"facts": {}, "problems": {}, "curves": [], "skipped": [], "seconds": 0.0} | results


def _summarised(case: dict) -> dict:
    data = (
        [seconds * case["rows"] / case["rows_timed"] for seconds in case["data"]]
        if "rows_timed" in case
        else [seconds * case.get("share", 1.0) for seconds in case["data"]]
    )
    low, middle, high = quantiles(data, n=4, method="inclusive") if len(data) > 1 else data * 3
    summary = {"median": middle, "q1": low, "q3": high, "n": len(data), "rerun": _rerun(case)}
    return case | summary | {"data": data}


def _rerun(case: dict) -> str:
    if case["what"] == "target":
        chosen = f'--problems {case["problem"]} --solvers "{case["contestant"]}" --gap {case["target"]:g}'
        return f"python -m bench {chosen} -k to_target"
    if case["what"] == "pass":
        return f'python -m bench --problems {case["problem"]} --solvers "{case["contestant"]}" -k epoch'
    return f'python -m bench --solvers "{case["contestant"]}" -k {case["what"]}'


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
        sure = {family: certainty(tuple(best[family]["data"]), tuple(ours["data"])) for family in ratios}
        out.append({"key": key, "best": best, "ratios": ratios, "sure": sure})
    return out


@lru_cache(maxsize=4096)
def certainty(theirs: tuple[float, ...], ours: tuple[float, ...]) -> dict[str, float]:
    """How sure the ratio of two medians is: its 95 % bootstrap interval, and the rank test's p (Mann-Whitney).

    Runs of one machine are not independent draws: the interval covers the noise within this run, nothing else.
    """
    import numpy as np
    from scipy.stats import mannwhitneyu

    if min(len(theirs), len(ours)) < 3:
        return {"low": math.nan, "high": math.nan, "p": math.nan}
    rng = np.random.default_rng(0)
    draws = [np.median(np.array(t)[rng.integers(0, len(t), (1000, len(t)))], axis=1) for t in (theirs, ours)]
    low, high = np.quantile(draws[0] / draws[1], (0.025, 0.975))
    return {"low": float(low), "high": float(high), "p": float(mannwhitneyu(theirs, ours).pvalue)}


def picks(results: dict) -> list[dict]:
    """For each problem and gap the three fastest contestants: who should be taken for what."""
    rows: dict[tuple, list[dict]] = {}
    for case in results["cases"]:
        if case["what"] == "target":
            rows.setdefault((case["problem"], case["target"]), []).append(case)
    return [
        {"problem": problem, "target": target, "cases": sorted(cases, key=lambda case: case["median"])}
        for (problem, target), cases in rows.items()
    ]


def profiles(results: dict, most: int = 3) -> dict[str, list[tuple[float, float]]]:
    """Dolan and More's performance profiles: for each contestant the steps of tau -> share of the tasks within tau
    times the fastest. A task is a problem with a gap. The best of each family; of fastopt, the `most` best.
    """
    tasks = picks(results)
    if not tasks:
        return {}
    names = {case["contestant"]: case["family"] for task in tasks for case in task["cases"]}
    steps, areas = {}, {}
    for name in names:
        ratios = sorted(
            next((c["median"] for c in task["cases"] if c["contestant"] == name), math.inf) / task["cases"][0]["median"]
            for task in tasks
        )
        steps[name] = [(r, (i + 1) / len(tasks)) for i, r in enumerate(ratios) if r < math.inf]
        areas[name] = sum(1 / (1 + math.log(r)) for r in ratios if r < math.inf)
    chosen = []
    for family in sorted(set(names.values()), key=lambda family: (family_order(family), family)):
        members = sorted((n for n in names if names[n] == family), key=lambda n: -areas[n])
        chosen += members[: most if family == "fastopt" else 1]
    return {name: steps[name] for name in chosen}


def scaling(results: dict) -> list[dict]:
    """For each contestant and axis the exponent p of seconds ~ size^p, fitted to the medians by least squares."""
    rows: dict[tuple, dict[int, float]] = {}
    families = {}
    for case in results["cases"]:
        if case["what"] == "scaling":
            rows.setdefault((case["axis"], case["contestant"]), {})[case["size"]] = case["median"]
            families[case["contestant"]] = case["family"]
    out = []
    for (axis, contestant), points in rows.items():
        if len(points) < 2:
            continue
        x, y = ([math.log(v) for v in values] for values in (points.keys(), points.values()))
        mx, my = sum(x) / len(x), sum(y) / len(y)
        exponent = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
        out.append(
            {"axis": axis, "contestant": contestant, "family": families[contestant], "exponent": exponent}
            | {"points": sorted(points.items())}
        )
    return out


def costs(results: dict) -> list[dict]:
    """For each contestant: its fixed cost, and on each problem preparation and peak memory beyond the data."""
    rows: dict[str, dict] = {}
    for case in results["cases"]:
        row = rows.setdefault(case["contestant"], {"family": case["family"], "fixed": None, "problems": {}})
        if case["what"] == "fixed":
            row["fixed"] = case["median"]
        elif case["what"] == "target" and "memory" in case:
            kept = row["problems"].setdefault(case["problem"], {"memory": 0, "preparation": 0.0})
            kept["memory"] = max(kept["memory"], case["memory"])
            kept["preparation"] = max(kept["preparation"], case["preparation"])
    return [{"contestant": name, **row} for name, row in rows.items() if row["fixed"] or row["problems"]]


def accurate(results: dict) -> list[dict]:
    """Where there are test rows: who is at the optimum's accuracy, less 0.1 %, and when."""
    return [
        {"problem": curve["problem"], "contestant": curve["contestant"], "family": curve["family"]}
        | {"seconds": curve["seconds_to_accuracy"]}
        for curve in results["curves"]
        if curve.get("seconds_to_accuracy") is not None
    ]


def compare(old: dict, new: dict) -> list[dict]:
    """Cases that are in both runs: new over old, and how sure that is; the slowest first."""
    before = {case["name"]: case for case in old["cases"]}
    rows = []
    for case in new["cases"]:
        if case["name"] in before:
            was = before[case["name"]]
            rows.append(
                {"name": case["name"], "old": was["median"], "new": case["median"]}
                | {"ratio": case["median"] / was["median"]}
                | certainty(tuple(case["data"]), tuple(was["data"]))
            )
    return sorted(rows, key=lambda row: -row["ratio"])


def regressed(row: dict, *, ratio: float = 1.1, seconds: float = 20e-6, p: float = 0.01) -> bool:
    """Slower by a ratio and by an absolute difference, and the rank test sees it: each alone is noise."""
    return row["ratio"] > ratio and row["new"] - row["old"] > seconds and row["p"] < p


def comparison(rows: list[dict]) -> str:
    """The comparison as a Markdown table."""
    if not rows:
        return "No case is in both runs.\n"
    table = [["case", "old", "new", "new / old", "95 %", "p", ""]]
    for row in rows:
        table.append(
            [
                row["name"],
                seconds(row["old"]),
                seconds(row["new"]),
                f"{row['ratio']:.2f}",
                f"{row['low']:.2f} to {row['high']:.2f}",
                f"{row['p']:.1g}",
                "SLOWER" if regressed(row) else "",
            ]
        )
    middle = median(row["ratio"] for row in rows)
    return "\n".join(_aligned(table)) + f"\n\n{len(rows)} cases; median of new / old {middle:.3f}.\n"


def took_part(results: dict) -> bool:
    """Whether fastopt was asked at all: `--solvers` may have left it out."""
    skipped = (f"{entry['contestant']} ".startswith("fastopt ") for entry in results.get("skipped", ()))
    return any(case["family"] == "fastopt" for case in results["cases"]) or any(skipped)


def losses(results: dict) -> list[dict]:
    """Where somebody is faster than fastopt's best, the worst first."""
    found: list[dict] = []
    if not took_part(results):
        return found
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


def alone(results: dict, contestant: str = "fastopt auto") -> list[dict]:
    """One contestant of fastopt's by itself beside the fastest of all others, for each problem and gap that it came to:
    the ratio of their times (above 1: it is faster), the slowest first."""
    found = []
    for pick in picks(results):
        ours = [case for case in pick["cases"] if case["contestant"] == contestant]
        theirs = [case for case in pick["cases"] if case["family"] != "fastopt"]
        if ours and theirs:
            ratio = theirs[0]["median"] / ours[0]["median"]
            found.append({"key": (pick["problem"], pick["target"]), "winner": theirs[0], "ratio": ratio})
    return sorted(found, key=lambda row: row["ratio"])


def said(results: dict) -> str:
    """How often fastopt loses, to whom, and how "auto" does alone: two sentences."""
    if not took_part(results):
        return "fastopt took no part in this run."
    timed = [row for what in headings() for row in duels(results, what)]
    # A row in which only fastopt has a time compares it with nobody.
    lost, compared = losses(results), sum(bool(row["ratios"]) or "fastopt" not in row["best"] for row in timed)
    if not compared:
        return "Nobody else was timed beside fastopt."
    of = [
        f"{loss['winner']['contestant']} on {' at '.join(map(str, key_words(loss['what'], loss['key'])))}"
        f" ({format(loss['ratio'], '.2f') if loss['ours'] else 'fastopt did not get there'})"
        for loss in lost
    ]
    text = f"fastopt loses {len(lost)} of the run's {compared} comparisons{': to ' if of else ''}{', '.join(of)}."
    if rows := alone(results):
        mean = math.exp(sum(math.log(row["ratio"]) for row in rows) / len(rows))
        behind = [row for row in rows if row["ratio"] < 1]
        worst = f" ({behind[0]['ratio']:.2f} at worst)" if behind else ""
        text += (
            f' "auto" by itself, which is told nothing of a problem, is {mean:.2g} times as fast as the fastest of all'
            f" others in the geometric mean of {len(rows)} rows, three times as fast or more in"
            f" {sum(row['ratio'] >= 3 for row in rows)} of them, and behind in {len(behind)}{worst}."
        )
    return text


def seconds(value: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if value * scale >= 1:
            return f"{value * scale:.3g} {unit}" if value * scale < 1000 else f"{value * scale:.0f} {unit}"
    return f"{value * 1e9:.3g} ns"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def gap(value: float) -> str:
    """1e-2, 1.5e-3, 1: as many digits as it has, up to four."""
    digits, _, exponent = f"{value:.3e}".partition("e")
    return digits.rstrip("0").rstrip(".") + (f"e{int(exponent)}" if int(exponent) else "")


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
    wide = [case for case in results["cases"] if case["what"] == "columns"]
    if wide:
        table = [["rule", "popularity of columns", "100,000 columns", "10 million columns", "ratio"]]
        table += [
            [c["rule"], c["popularity"], f"{c['narrow_ns']:.3g} ns", f"{c['wide_ns']:.3g} ns", times(c["ratio"])]
            for c in wide
        ]
        out += ["### One nonzero on CSR, 85 a row, batch size 1", "", *_aligned(table), ""]
    shares = [case for case in results["cases"] if case["what"] == "step" and "share" in case.get("bandwidth", {})]
    if shares:
        names = sorted({case["family"] for case in shares}, key=family_order)
        table = [["rule", *names]]
        for rule in dict.fromkeys(case["rule"] for case in shares):
            found = {c["family"]: f"{c['bandwidth']['share']:.0%}" for c in shares if c["rule"] == rule}
            table.append([rule, *(found.get(name, "-") for name in names)])
        out += ["### Share of the memory's speed, 10 million coordinates, float32", "", *_aligned(table), ""]
    out.append(
        "A ratio above 1 means that fastopt is faster; '-' that nobody of the family got there or was asked. "
        + said(results)
    )
    return "\n".join(out) + "\n"


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
