"""The report as one HTML file without any outside resource: tables, plots drawn as SVG, a few lines of script."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from statistics import median

from bench.report import (
    BASELINES,
    accurate,
    costs,
    duels,
    family_order,
    gap,
    headings,
    key_words,
    losses,
    picks,
    profiles,
    scaling,
    seconds,
    times,
)

HERE = Path(__file__).parent
FACTS = 11  # so many facts are about the machine, fastopt and what it needs; versions of peers follow
# One hue and saturation for each family, whichever take part: Okabe and Ito's for those that are always there. Within
# a family lightness and marker differ, so that nothing hangs on the hue alone.
HUES = {
    "fastopt": (20, 90), "pure Python": (220, 5), "NumPy": (325, 55), "scipy": (163, 85), "scikit-learn": (207, 90),
    "numba": (90, 60), "LIBLINEAR": (0, 65), "Vowpal Wabbit": (42, 60), "snapml": (185, 75), "cyanure": (120, 35),
    "glum": (48, 95), "skglm": (30, 35), "PyTorch": (255, 60), "jax + optax": (280, 50), "Keras": (60, 75),
    "river": (200, 30),
}  # fmt: skip
OTHER_HUES = ((310, 35), (75, 40), (235, 45), (10, 30))
MARKERS = (
    '<circle cx="{x}" cy="{y}" r="4"/>',
    '<path d="M{x} {y}m-4-4h8v8h-8z"/>',
    '<path d="M{x} {y}m0-5l5 9h-10z"/>',
    '<path d="M{x} {y}m0-5.5l5.5 5.5l-5.5 5.5l-5.5-5.5z"/>',
    '<path d="M{x} {y}m0 5l5-9h-10z"/>',
    '<path d="M{x} {y}m-5-1.5h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z"/>',
)


def page(results: dict) -> str:
    looks = _looks(results)
    parts = [
        _head(results),
        _picks(results),
        _headline(results),
        _lost(results),
        _profile(results, looks),
        _convergence(results, looks),
        _throughput(results, looks),
        _steps(results, looks),
        _columns(results),
        _scaling(results, looks),
        _costs(results),
        _details(results),
        _skipped(results),
        _method(results),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>fastopt: benchmark report</title>'
        f"<style>{(HERE / 'page.css').read_text(encoding='utf-8')}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, parts))
        + f"\n</main><script>{(HERE / 'page.js').read_text(encoding='utf-8')}</script></body></html>\n"
    )


# ---- pieces --------------------------------------------------------------------------------------


def _looks(results: dict) -> dict[str, tuple[str, str, bool]]:
    """Contestant -> (colour, marker, is it fastopt's): one look throughout the page."""
    named = {entry["contestant"]: entry["family"] for entry in [*results["curves"], *results["cases"]]}
    families = sorted(set(named.values()), key=lambda family: (family_order(family), family))
    others = [family for family in families if family not in HUES]
    hues = HUES | {family: OTHER_HUES[i % len(OTHER_HUES)] for i, family in enumerate(others)}
    looks = {}
    for family in families:
        members = sorted(name for name, its in named.items() if its == family)
        for i, name in enumerate(members):
            lightness = 30 + (22 * i / (len(members) - 1) if len(members) > 1 else 8)
            hue, saturation = hues[family]
            looks[name] = (
                f"hsl({hue} {saturation}% calc({lightness:.0f}% + var(--lift)))",
                MARKERS[i % len(MARKERS)],
                family == "fastopt",
            )
    return looks


def _table(
    columns: list[str], rows: list[list], *, words: int = 1, ours: list[bool] | None = None, name: str = ""
) -> str:
    """A sortable table of cells: text, or (text, number to sort by, class). The first `words` columns are text."""
    head = "".join(
        f'<th class="{"text" if i < words else ""}"><button>{escape(column)}</button></th>'
        for i, column in enumerate(columns)
    )
    body = []
    for row, own in zip(rows, ours or [False] * len(rows), strict=True):
        cells = []
        for i, cell in enumerate(row):
            text, value, style = (*cell, None, "")[:3] if isinstance(cell, tuple) else (cell, None, "")
            style = " ".join(filter(None, ("text" if i < words else "", style or "")))
            data = "" if value is None else f' data-v="{value:.9g}"'
            cells.append(
                f'<td class="{style}"{data}>{text if str(text).startswith("<code>") else escape(str(text))}</td>'
            )
        body.append(f'<tr class="{"ours" if own else ""}">{"".join(cells)}</tr>')
    return (
        f'<div class="scroll"><table{f" id={name}" if name else ""}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _head(results: dict) -> str:
    def listed(facts: dict) -> str:
        return "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts.items()
        )

    machine = dict(list(results["facts"].items())[:FACTS])
    peers = dict(list(results["facts"].items())[FACTS:])
    if speed := results.get("memory"):
        machine["memory, one thread"] = f"{max(speed.values()) / 1e9:.0f} GB/s"
    machine["run"] = f"{results['datetime'][:16].replace('T', ' ')} UTC, {results['seconds']:.0f} s"
    more = f'<details><summary>versions of the peers</summary><dl class="facts">{listed(peers)}</dl></details>'
    return (
        "<h1>fastopt against its peers</h1><p>Every contestant minimises the same function, F = mean "
        "loss + alpha/2 ||w||² (alpha ||w||₁ where @l1 stands behind a problem's name, half of each for @elasticnet), "
        "on one thread. A separate judge computes F in float64, outside the clock, from the coefficients that "
        "each returns.</p>"
        '<nav><a href="#picks">Which for what</a><a href="#headline">Headline</a><a href="#losses">Where fastopt '
        'loses</a><a href="#profile">Profile</a><a href="#convergence">Convergence</a>'
        '<a href="#throughput">Throughput</a><a href="#steps">Steps</a><a href="#scaling">Scaling</a>'
        '<a href="#costs">Costs</a><a href="#details">All rows</a><a '
        'href="#skipped">Skipped</a><a href="#method">Method</a></nav>'
        f'<div class="card"><dl class="facts">{listed(machine)}</dl>{more if peers else ""}</div>'
    )


def _tiles(results: dict) -> str:
    tiles = []
    for what, words in (
        ("pass", "one pass over the data"),
        ("target", "seconds to a gap"),
        ("step", "one dense update"),
    ):
        rows = duels(results, what)
        for family in BASELINES:
            ratios = [row["ratios"][family] for row in rows if family in row["ratios"]]
            wanted = {
                "pass": ("pure Python", "NumPy", "scikit-learn"),
                "target": ("scipy", "scikit-learn"),
                "step": ("NumPy",),
            }[what]
            if ratios and family in wanted:
                tiles.append(
                    f'<div class="tile"><b>{times(median(ratios))}</b><span>{family}: {words}, median of {len(ratios)} '
                    f"({times(min(ratios))} to {times(max(ratios))})</span></div>"
                )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _headline(results: dict) -> str:
    out = [
        '<h2 id="headline">Headline</h2><p>How many times as long as fastopt the best of each other family takes. '
        "Above 1, fastopt is faster; below 1, it loses; a dash means that nobody of the family got there in time, "
        "or can be timed so. In brackets the 95 % bootstrap interval over the rounds of this run; without colour: "
        "leads under 30 %, or that the rank test (Mann and Whitney, p < 0.05) does not see.</p>",
        _tiles(results),
    ]
    for what, (title, keys) in headings().items():
        rows = duels(results, what)
        if not rows:
            continue
        there = {family for row in rows for family in row["best"]} - {"fastopt"}
        families = sorted(there, key=lambda family: (family_order(family), family))
        table = []
        for row in rows:
            ours = row["best"].get("fastopt")
            words = [
                (word, float(part)) if isinstance(part, (int, float)) else word
                for word, part in zip(key_words(what, row["key"]), row["key"], strict=True)
            ]
            cells = [(f"{seconds(ours['median'])}", ours["median"]) if ours else ("not reached", math.inf)]
            if what == "target":
                cells.append(ours["contestant"].removeprefix("fastopt ") if ours else "")
            for family in families:
                ratio, theirs = row["ratios"].get(family), row["best"].get(family)
                if ratio:
                    sure = row["sure"][family]
                    tie = not (sure["p"] < 0.05) or 1 / 1.3 < ratio < 1.3
                    text = times(ratio)
                    if sure["low"] == sure["low"]:
                        text += f" ({times(sure['low'])[:-1]}–{times(sure['high'])[:-1]})"
                    cells.append((text, ratio, "" if tie else "win" if ratio > 1 else "loss"))
                else:
                    cells.append((seconds(theirs["median"]), 0.0, "loss") if theirs else ("–", math.inf))
            table.append([*words, *cells])
        columns = [*keys, "fastopt", *(["by"] if what == "target" else []), *(f"vs {family}" for family in families)]
        out += [f"<h3>{title}</h3>", _table(columns, table, words=len(keys))]
    return "\n".join(out)


LOST = {"target": "to a gap: ", "pass": "one pass: ", "step": "one update: "}


def _lost(results: dict) -> str:
    rows = []
    for loss in losses(results):
        winner, ours = loss["winner"], loss["ours"]
        rows.append(
            [
                (LOST[loss["what"]] + ", ".join(key_words(loss["what"], loss["key"])), None, "wrap"),
                winner["contestant"],
                (seconds(winner["median"]), winner["median"]),
                (seconds(ours["median"]), ours["median"]) if ours else ("not reached", math.inf),
                (times(1 / loss["ratio"]), 1 / loss["ratio"]) if ours else ("–", math.inf),
            ]
        )
    said = (
        _table(["what", "fastest", "its time", "fastopt's best", "times slower"], rows, words=2)
        if rows
        else "<p>Nowhere in this run.</p>"
    )
    return f'<h2 id="losses">Where fastopt loses</h2>{said}'


def _axis(low: float, high: float, start: float, length: float):
    """A log scale: value -> position, and its decades."""
    a, b = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    b = max(b, a + 1)
    return (lambda v: start + length * (math.log10(v) - a) / (b - a)), range(a, b + 1)


def _power(exponent: int) -> str:
    if 0 <= exponent <= 2:
        return str(10**exponent)
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _across(x, decades) -> list[str]:
    """Lines and words for the decades of the axis of x."""
    return [
        f'<path class="grid" d="M{x(10.0**e):.1f} 22V262"/><text x="{x(10.0**e):.1f}" y="280" '
        f'text-anchor="middle">{_power(e)}</text>'
        for e in decades
    ]


def _upwards(y, decades) -> list[str]:
    """The same of the axis of y."""
    return [
        f'<path class="grid" d="M52 {y(10.0**e):.1f}H492"/><text x="46" y="{y(10.0**e) + 4:.1f}" '
        f'text-anchor="end">{_power(e)}</text>'
        for e in decades
    ]


def _plot(problem: str, curves: list[dict], looks: dict, major: set[str]) -> str:
    """Gap against seconds, both by powers of ten; contestants that are not `major` stay pale until picked."""
    cut = [
        (curve["contestant"], [(s, min(1.0, max(g, 1e-7))) for s, g, *_ in curve["points"] if g < 1e300])
        for curve in curves
    ]
    cut = [(name, points) for name, points in cut if points]
    if not cut:
        return ""
    every = [point for _, points in cut for point in points]
    x, x_decades = _axis(min(s for s, _ in every), max(s for s, _ in every), 52, 440)
    y, y_decades = _axis(min([1e-4, *(g for _, g in every)]), 1.0, 262, -240)
    marks = [*_across(x, x_decades), *_upwards(y, y_decades)]
    for name, points in sorted(cut, key=lambda pair: looks[pair[0]][2]):
        colour, marker, ours = looks[name]
        path = "M" + "L".join(f"{x(s):.1f} {y(g):.1f}" for s, g in points)
        dots = "".join(
            f'<g style="fill:{colour}"><title>{escape(name)}: gap {g:.1e} after {seconds(s)}</title>'
            f"{marker.format(x=f'{x(s):.1f}', y=f'{y(g):.1f}')}</g>"
            for s, g in points
        )
        marks.append(
            f'<g class="curve{" ours" if ours else ""}{"" if name in major else " minor"}" data-c="{escape(name)}">'
            f'<path style="stroke:{colour}" d="{path}"/>{dots}</g>'
        )
    return (
        f'<figure class="card"><h3>{escape(problem)}</h3><svg viewBox="0 0 504 312" role="img" '
        f'aria-label="Gap against seconds on '
        f'{escape(problem)}">{"".join(marks)}<text x="272" y="304" text-anchor="middle">seconds</text>'
        '<text x="8" y="14">relative gap</text></svg></figure>'
    )


def _convergence(results: dict, looks: dict) -> str:
    if not results["curves"]:
        return ""
    names = sorted({curve["contestant"] for curve in results["curves"]}, key=list(looks).index)
    major = set(profiles(results)) or set(names)
    legend = "".join(
        f'<button data-c="{escape(name)}" aria-pressed="false"><svg width="14" height="14" '
        f'style="fill:{looks[name][0]}">'
        f"{looks[name][1].format(x=7, y=7)}</svg>{escape(name)}</button>"
        for name in names
    )
    plots = "".join(
        _plot(problem, [c for c in results["curves"] if c["problem"] == problem], looks, major)
        for problem in results["problems"]
    )
    return (
        '<h2 id="convergence">Convergence</h2><p>Each mark is one whole run from zero with a larger '
        "budget; settings are tuned for "
        "each contestant. Further left and lower is better. Press names to pick out their curves; at first those "
        "of the performance profile stand out.</p>"
        f'<div class="legend">{legend}</div><div class="plots">{plots}</div>'
    )


def _throughput(results: dict, looks: dict) -> str:
    cases = [case for case in results["cases"] if case["what"] == "pass"]
    if not cases:
        return ""
    rates = [case["entries"] / case["median"] for case in cases]
    speed = max(results.get("memory", {}).values(), default=0.0)
    roofs = {}  # numbers of X a second that memory can deliver: values, and on CSR an int32 column with each
    for case in cases:
        size = 8 if case["dtype"] == "float64" else 4
        roofs[case["problem"]] = speed / (size + (4 if case["kind"] == "csr" else 0))
    place, decades = _axis(min(rates), max([*rates, *roofs.values()]), 0, 100)
    cards = []
    for problem, size in dict.fromkeys((case["problem"], case["batch_size"]) for case in cases):
        group = [case for case in cases if (case["problem"], case["batch_size"]) == (problem, size)]
        lines = []
        roof = roofs[problem]
        mark = (
            f'<i class="roof" style="left:{place(roof):.1f}%" title="memory: {roof / 1e6:,.0f} M/s"></i>'
            if roof
            else ""
        )
        for rule in dict.fromkeys(case["rule"] for case in group):
            lines.append(f'<div class="rule">{escape(rule)}</div>')
            for case in sorted((c for c in group if c["rule"] == rule), key=lambda c: c["median"]):
                rate = case["entries"] / case["median"]
                label = case["contestant"].removesuffix(f" {rule}")
                lines.append(
                    f'<div>{escape(label)}</div><div class="track"><div class="bar" style="width:{place(rate):.1f}%;'
                    f'background:{looks[case["contestant"]][0]}"></div>{mark}</div>'
                    f'<div class="value">{rate / 1e6:.3g}</div>'
                )
        kind = f"{group[0]['kind']}, {group[0]['dtype']}"
        cards.append(
            f'<figure class="card"><h3>{escape(problem)}, batch size {size}</h3><figcaption>{kind}; million '
            f"numbers a second"
            f'</figcaption><div class="bars" style="--decades:{len(decades) - 1}">{"".join(lines)}</div></figure>'
        )
    return (
        '<h2 id="throughput">Throughput of one pass</h2><p>Numbers of X (nonzeros if sparse) worked off '
        "in a second, over a shuffled "
        "pass. The scale is logarithmic, the same in all panels: each line is ten times the one before. "
        "The dashed line is the roof: what the machine's memory delivers when X is read once "
        f"({speed / 1e9:.0f} GB/s, measured in this run); X that fits into a cache may pass it. "
        "Pure Python and NumPy step every "
        "coordinate for rules with memory; fastopt leaves idle coordinates for later "
        "(Adam with L2 then walks another path to the same minimum).</p>"
        f'<div class="plots">{"".join(cards)}</div>'
    )


def _told(case: dict | None, first: dict):
    """A cell with a contestant and its time, in colour if it is the fastest."""
    if case is None:
        return ("–", math.inf)
    return (f"{case['contestant']}, {seconds(case['median'])}", case["median"], "win" if case is first else "")


def _picks(results: dict) -> str:
    """Who is fastest, problem by problem."""
    rows = []
    for task in picks(results):
        problem, first = results["problems"].get(task["problem"], {}), task["cases"][0]
        kind = f"{problem.get('rows', 0):,} x {problem.get('columns', 0):,} {problem.get('kind', '')}"
        ours = next((case for case in task["cases"] if case["family"] == "fastopt"), None)
        others = next((case for case in task["cases"] if case["family"] != "fastopt"), None)

        ratio = others["median"] / ours["median"] if ours and others else math.nan
        rows.append(
            [
                task["problem"],
                kind,
                (gap(task["target"]), task["target"]),
                _told(ours, first),
                _told(others, first),
                (times(ratio), ratio, "win" if ratio > 1 else "loss") if ratio == ratio else "–",
            ]
        )
    if not rows:
        return ""
    columns = ["problem", "size", "to gap", "best of fastopt", "best of the others", "others / fastopt"]
    return (
        '<h2 id="picks">Which solver for which problem</h2><p>The fastest to each gap in this run, the faster one of '
        "the two in colour. A gap of 1e-2 is enough for most predictions; 1e-4 and less is for coefficients that are "
        "to be read.</p>" + _table(columns, rows, words=5)
    )


def _lines(curves: dict[str, list], looks: dict, x, y, *, stairs: bool = False) -> list[str]:
    """Curves as SVG, each with its contestant's colour and marker."""
    out = []
    for name, points in sorted(curves.items(), key=lambda pair: looks[pair[0]][2]):
        colour, marker, ours = looks[name]
        places = [(x(a), y(b)) for a, b in points]
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
        for px, py in places[1:]:
            path += f"H{px:.1f}V{py:.1f}" if stairs else f"L{px:.1f} {py:.1f}"
        dots = "".join(
            f'<g style="fill:{colour}"><title>{escape(name)}</title>{marker.format(x=f"{px:.1f}", y=f"{py:.1f}")}</g>'
            for px, py in places
        )
        out.append(
            f'<g class="curve{" ours" if ours else ""}" data-c="{escape(name)}"><path style="stroke:{colour}" '
            f'd="{path}"/>{dots}</g>'
        )
    return out


def _key(names, looks: dict) -> str:
    """Names with their markers, for a plot of its own."""
    return '<div class="key">' + "".join(
        f'<span><svg width="14" height="14" style="fill:{looks[n][0]}">{looks[n][1].format(x=7, y=7)}</svg>'
        f"{escape(n)}</span>"
        for n in names
    ) + "</div>"  # fmt: skip


def _profile(results: dict, looks: dict) -> str:
    curves = {name: steps for name, steps in profiles(results).items() if steps}
    if not curves:
        return ""
    far = max([10.0, *(tau for steps in curves.values() for tau, _ in steps)])
    x, decades = _axis(1.0, far, 52, 600)
    marks = _across(x, decades)
    y = lambda share: 262 - 240 * share  # noqa: E731
    marks += [
        f'<path class="grid" d="M52 {y(s):.1f}H652"/><text x="46" y="{y(s) + 4:.1f}" text-anchor="end">{s:.0%}</text>'
        for s in (0, 0.25, 0.5, 0.75, 1)
    ]
    marks += _lines(curves, looks, x, y, stairs=True)
    return (
        '<h2 id="profile">Performance profile</h2><p>After Dolan and Moré (2002): for how many of the tasks (a problem '
        "and a gap) a contestant needs at most so many times what the fastest needs. Higher is better; the left end "
        "says how often it is the fastest, the right end how often it gets there at all. Shown are fastopt's three "
        "best and the best of each other family.</p>"
        f'<figure class="card">{_key(curves, looks)}<svg viewBox="0 0 664 312" role="img" aria-label="Performance '
        f'profile">{"".join(marks)}<text x="352" y="304" text-anchor="middle">times the fastest</text>'
        '<text x="8" y="14">share of tasks</text></svg></figure>'
    )


def _steps(results: dict, looks: dict) -> str:
    cases = [case for case in results["cases"] if case["what"] == "step"]
    if not cases:
        return ""
    cards = []
    for d in dict.fromkeys(case["d"] for case in cases):
        group = [case for case in cases if case["d"] == d]
        shares = [case for case in group if case.get("bandwidth")]
        lines = []
        values = {id(c): c["bandwidth"]["share"] if shares else c["median"] for c in (shares or group)}
        place, decades = _axis(min(values.values()), max([*values.values(), 1.0 if shares else 0.0]), 0, 100)
        for rule in dict.fromkeys(case["rule"] for case in group):
            lines.append(f'<div class="rule">{escape(rule)}</div>')
            for case in sorted((c for c in group if c["rule"] == rule), key=lambda c: c["median"]):
                value = values.get(id(case))
                said = seconds(case["median"]) + (f", {value:.0%}" if shares and value else "")
                bar = (
                    f'<div class="bar" style="width:{place(value):.1f}%;'
                    f'background:{looks[case["contestant"]][0]}"></div>'
                    if value
                    else ""
                )
                label = case["contestant"].removesuffix(f" {rule}")
                lines.append(f'<div>{escape(label)}</div><div class="track">{bar}</div><div class="value">{said}</div>')
        caption = (
            "share of the memory's speed, logarithmic; w and the rule's slots read and written, the gradient read"
            if shares
            else "seconds a call, logarithmic: shorter is better"
        )
        cards.append(
            f'<figure class="card"><h3>d = {d:,}</h3><figcaption>{caption}</figcaption>'
            f'<div class="bars" style="--decades:{len(decades) - 1}">{"".join(lines)}</div></figure>'
        )
    return (
        '<h2 id="steps">One update of d coordinates</h2><p>A dense gradient, float32 (floats in pure Python). At d = 1 '
        "this is what a call costs; at 10 million it is the memory: the bytes that the rule must move against the "
        "faster of NumPy's <code>a += b</code> and <code>a[:] = b</code>, timed in the same process between the "
        'rounds.</p><div class="plots">' + "".join(cards) + "</div>"
    )


def _columns(results: dict) -> str:
    cases = [case for case in results["cases"] if case["what"] == "columns"]
    if not cases:
        return ""
    rows = [
        [
            c["contestant"],
            c["popularity"],
            (f"{c['narrow_ns']:.3g} ns", c["narrow_ns"]),
            (f"{c['wide_ns']:.3g} ns", c["wide_ns"]),
            (times(c["ratio"]), c["ratio"]),
            _command(c),
        ]
        for c in cases
    ]
    columns = ["contestant", "popularity of columns", "100,000 columns", "10 million columns", "ratio", "rerun"]
    return (
        "<h3>What a nonzero costs when columns are many</h3><p>CSR, float32, 20,000 rows of 85 entries, batch size 1; "
        "passes over the two alternate.</p>" + _table(columns, rows, words=2)
    )


def _scaling(results: dict, looks: dict) -> str:
    fits = scaling(results)
    if not fits:
        return ""
    plots = []
    for axis in dict.fromkeys(fit["axis"] for fit in fits):
        group = [fit for fit in fits if fit["axis"] == axis]
        every = [point for fit in group for point in fit["points"]]
        x, x_decades = _axis(min(a for a, _ in every), max(a for a, _ in every), 52, 440)
        y, y_decades = _axis(min(b for _, b in every), max(b for _, b in every), 262, -240)
        lines = _lines({fit["contestant"]: fit["points"] for fit in group}, looks, x, y)
        marks = [*_across(x, x_decades), *_upwards(y, y_decades), *lines]
        plots.append(
            f'<figure class="card"><h3>{escape(axis)}</h3><svg viewBox="0 0 504 312" role="img" aria-label="Seconds '
            f'against {escape(axis)}">{"".join(marks)}<text x="272" y="304" text-anchor="middle">{escape(axis)}</text>'
            '<text x="8" y="14">seconds</text></svg></figure>'
        )
    axes = list(dict.fromkeys(fit["axis"] for fit in fits))
    names = list(dict.fromkeys(fit["contestant"] for fit in fits))
    found = {(fit["contestant"], fit["axis"]): fit["exponent"] for fit in fits}
    rows = [
        [n, *((f"{found[n, a]:.2f}", found[n, a]) if (n, a) in found else ("–", math.inf) for a in axes)] for n in names
    ]
    return (
        '<h2 id="scaling">How the cost grows</h2><p>The same number of epochs or iterations on generated CSR data, of '
        "which one thing grows at a time. The exponent p of seconds ~ size^p is fitted to the medians: 1 is "
        "proportional, 0 does not depend on it.</p>"
        + _table(["contestant", *(f"p for {axis}" for axis in axes)], rows)
        + _key(names, looks)
        + f'<div class="plots">{"".join(plots)}</div>'
    )


def _costs(results: dict) -> str:
    found = costs(results)
    if not found:
        return ""
    largest = sorted(results["problems"], key=lambda name: -results["problems"][name].get("entries", 0))[:3]
    columns = ["contestant", "fixed cost"]
    columns += [f"{what}, {name}" for name in largest for what in ("memory", "preparation")]
    rows = []
    for row in found:
        cells = [row["contestant"], (seconds(row["fixed"]), row["fixed"]) if row["fixed"] else ("–", math.inf)]
        for name in largest:
            kept = row["problems"].get(name)
            cells.append((f"{kept['memory'] / 2**20:.1f} MB", kept["memory"]) if kept else ("–", math.inf))
            cells.append((seconds(kept["preparation"]), kept["preparation"]) if kept else ("–", math.inf))
        rows.append(cells)
    out = (
        '<h2 id="costs">Fixed cost, memory, preparation</h2><p>Fixed cost: one epoch or iteration over 100 rows of 5 '
        "columns. Memory: the process's peak beyond what it used with the data loaded, libraries that are loaded then "
        "included. Preparation: conversion, imports and compilers, which no other figure counts.</p>"
        + _table(columns, rows, ours=[row["family"] == "fastopt" for row in found])
    )
    points = accurate(results)
    if points:
        problems = list(dict.fromkeys(point["problem"] for point in points))
        names = list(dict.fromkeys(point["contestant"] for point in points))
        when = {(p["contestant"], p["problem"]): p["seconds"] for p in points}
        rows = [
            [n, *((seconds(when[n, p]), when[n, p]) if (n, p) in when else ("–", math.inf) for p in problems)]
            for n in names
        ]
        out += (
            "<h3>Seconds to the optimum's test accuracy, less 0.1 %</h3><p>On rows that nobody was trained on; from "
            "the runs of the search, once each. "
            + "; ".join(
                f"{escape(p)}: {results['problems'][p]['accuracy']:.2%} of {results['problems'][p]['test_rows']:,} rows"
                for p in problems
                if "accuracy" in results["problems"].get(p, {})
            )
            + "</p>"
            + _table(["contestant", *problems], rows)
        )
    return out


def _command(case: dict) -> str:
    return f"<code>{escape(case['rerun'])}</code>"


def _spread(case: dict) -> list[tuple]:
    return [
        (seconds(case["median"]), case["median"]),
        (f"{seconds(case['q1'])} – {seconds(case['q3'])}", case["q1"]),
        (str(case["n"]), case["n"]),
    ]


def _settings(case: dict) -> str:
    return ", ".join(f"{name}={value}" for name, value in case["settings"].items()) or "defaults"


def _details(results: dict) -> str:
    out = [
        '<h2 id="details">All rows</h2><p>Medians and quartiles over interleaved rounds. Press a heading to sort.</p>'
    ]
    targets = sorted(
        (case for case in results["cases"] if case["what"] == "target"),
        key=lambda c: (c["problem"], -c["target"], c["median"]),
    )
    if targets:
        columns = [
            "contestant",
            "problem",
            "to gap",
            "median",
            "quartiles",
            "runs",
            "budget",
            "gap reached",
            "gradient norm",
            "alpha it acts by",
            "solved",
            "settings",
            "version",
            "rerun",
        ]
        rows = [
            [
                c["contestant"],
                c["problem"],
                (gap(c["target"]), c["target"]),
                *_spread(c),
                (c["budget"], c["budget"]),
                (f"{c['gap']:.1e}", c["gap"]),
                (f"{c['grad_norm']:.1e}", c["grad_norm"]),
                (f"{c['alpha_ratio']:.3f}", c["alpha_ratio"]),
                c["solves"] + ("" if c["finding"] == "same F" else f" ({c['finding']})"),
                _settings(c),
                c["version"],
                _command(c),
            ]
            for c in targets
        ]
        out.append(
            "<h3>Seconds to a gap</h3><p class=soft>Gap and gradient norm of our F at the returned "
            "coefficients. “alpha it acts by” is the "
            "penalty under which they would be a minimum, over the right one; 1.000 at the minimum of F.</p>"
            '<input data-filter="#targets" placeholder="filter: text_like adam" aria-label="filter rows">'
            + _table(columns, rows, words=2, ours=[c["family"] == "fastopt" for c in targets], name="targets")
        )
    passes = sorted(
        (case for case in results["cases"] if case["what"] == "pass"),
        key=lambda c: (c["problem"], c["batch_size"], c["median"]),
    )
    if passes:
        columns = [
            "contestant",
            "problem",
            "batch",
            "a pass",
            "quartiles",
            "runs",
            "M numbers/s",
            "rows timed",
            "rerun",
        ]
        rows = [
            [
                c["contestant"],
                c["problem"],
                (c["batch_size"], c["batch_size"]),
                *_spread(c),
                (f"{c['entries'] / c['median'] / 1e6:.4g}", c["entries"] / c["median"]),
                (
                    "all" if c["rows_timed"] == c["rows"] else f"{c['rows_timed']:,} of {c['rows']:,}, scaled",
                    c["rows_timed"],
                ),
                _command(c),
            ]
            for c in passes
        ]
        out.append(
            "<h3>One pass</h3>" + _table(columns, rows, words=2, ours=[c["family"] == "fastopt" for c in passes])
        )
    steps = sorted(
        (case for case in results["cases"] if case["what"] == "step"), key=lambda c: (c["d"], c["rule"], c["median"])
    )
    if steps:
        columns = ["contestant", "d", "an update", "quartiles", "runs", "ns a coordinate", "dtype", "rerun"]
        rows = [
            [
                c["contestant"],
                (f"{c['d']:,}", c["d"]),
                *_spread(c),
                (f"{c['median'] / c['d'] * 1e9:.3g}", c["median"] / c["d"]),
                c["dtype"],
                _command(c),
            ]
            for c in steps
        ]
        out.append("<h3>One dense update</h3>" + _table(columns, rows, ours=[c["family"] == "fastopt" for c in steps]))
    return "\n".join(out)


def _skipped(results: dict) -> str:
    rows = [
        [entry["contestant"], entry["problem"], entry["what"], (entry["reason"], None, "text wrap")]
        for entry in results["skipped"]
    ]
    said = _table(["contestant", "problem", "what", "reason"], rows, words=4) if rows else "<p>Nothing.</p>"
    return f'<h2 id="skipped">Skipped, or not reached</h2>{said}'


def _method(results: dict) -> str:
    rows = [
        [
            name,
            f"{p['rows']:,} x {p['columns']:,}",
            f"{p['kind']} {p['dtype']}",
            (f"{p['entries']:,}", p["entries"]),
            (p["classes"], p["classes"]),
            (f"{p['alpha']:.2e}", p["alpha"]),
            *(
                [(f"{p['optimum']:.10g}", p["optimum"]), (f"{p['bound']:.0e}", p["bound"])]
                if "optimum" in p
                else ["", ""]
            ),
            (p["source"], None, "text wrap"),
            p["licence"],
        ]
        for name, p in results["problems"].items()
    ]
    problems = _table(
        ["problem", "size", "storage", "numbers", "classes", "alpha", "F*", "F* sure to", "source", "licence"], rows
    )
    return (
        '<h2 id="method">Method</h2>' + problems + "<ul>"
        "<li>F* comes from scikit-learn in float64, polished by Newton steps until the gradient, or with L1 alone a "
        "point of the dual, proves it (“F* sure to”, relative).</li>"
        "<li>Each contestant works in a process of its own on one thread; the clock runs only while it works.</li>"
        "<li>Seconds to a gap: a budget and settings are searched beforehand, knowing F*, for every "
        "contestant alike; neither that search nor conversion nor judging is in the clock. So everybody is flattered. "
        "A budget counts if the median of three orders of the rows reaches the gap. Between the last checked run "
        "above the gap and the first below it the time is interpolated, log gap against seconds.</li>"
        "<li>fastopt's update rules (sgd, adam, ...) are timed as loops over data that were checked before, as NumPy "
        "and scipy are; its other solvers, auto and SGDClassifier among them, and scikit-learn's estimators as fit, "
        "whose checks of X and y are in the clock: “Fixed cost” says how much that is on little data.</li>"
        "<li>Learning rates of minibatch rules fall linearly to zero over the budget; on sparse data "
        "fastopt's rules with memory let them fall "
        "from epoch to epoch. scikit-learn's SGD uses its own schedules.</li>"
        "<li>Rounds of all contestants alternate. Leads under 30 % on a shared machine are ties.</li>"
        "<li>Pure Python and NumPy are timed on part of a pass where a whole one would take minutes; "
        "the table says on how many rows.</li></ul>"
    )
