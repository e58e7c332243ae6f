"""Draws the pictures of the pages from what the pages' own code computes: python docs/pictures.py [folder]."""

from __future__ import annotations

import doctest
import io
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter, NullLocator

from fastopt.plot import paths

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "_static" / "generated"
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"]  # Okabe, Ito: told apart by all eyes
STYLE = {
    "axes.prop_cycle": plt.cycler(color=COLORS),
    "axes.spines.right": False, "axes.spines.top": False,
    "figure.constrained_layout.use": True, "figure.figsize": (7, 3.6), "font.size": 10, "legend.frameon": False,
    "svg.fonttype": "path", "svg.hashsalt": "fastopt",
}  # fmt: skip


def run(page: Path) -> dict[str, Any]:
    """The names that a page's examples leave behind."""
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()):
        for example in doctest.DocTestParser().get_examples(page.read_text()):
            exec(compile(example.source, page.name, "exec"), names)
    return names


def derivative(page: dict[str, Any]) -> None:
    f, df = page["f"], page["df"]
    left, right = plt.subplots(1, 2)[1]
    x = np.linspace(2.5, 7.5, 200)
    left.plot(x, f(x), "k", linewidth=1.2)
    for h, color in [(2.0, "C3"), (1.0, "C1"), (0.4, "C2")]:
        slope = page["forward"](f, 5.0, h)
        left.plot(x, f(5.0) + slope * (x - 5), color=color, linewidth=1, label=f"h = {h:g}: slope {slope:g}")
        left.plot(5 + h, f(5 + h), "o", color=color, markersize=4)
    left.plot(x, f(5.0) + df(5.0) * (x - 5), "C0", label=f"tangent: slope {df(5.0):g}")
    left.plot(5, f(5.0), "o", color="C0")
    left.set(xlabel="$x$", ylabel="$f(x)$", ylim=(-4, 22))
    left.legend()
    h = np.logspace(-13, 0, 250)
    for name, label in [("forward", "one-sided"), ("central", "central")]:
        right.loglog(h, [abs(page[name](np.exp, 1.0, one) - np.e) for one in h], label=label, linewidth=1)
    right.set(xlabel="$h$", ylabel="error of the derivative of $e^x$ at 1")
    right.legend()


def learning_rate(page: dict[str, Any]) -> None:
    texts = {0.01: "too small", 0.3: "right", 0.9: "large", 1.05: "too large"}
    x = np.linspace(-6.9, 12.9, 300)
    axes = plt.subplots(1, 4, figsize=(9, 2.8), sharey=True)[1]
    for ax, (rate, path) in zip(axes, page["ways"].items(), strict=True):
        path = np.array(path, dtype=float)
        ax.plot(x, page["f"](x), "0.7")
        ax.plot(path, page["f"](path), "-o", markersize=3.5, linewidth=1)
        ax.plot(path[0], page["f"](path[0]), "ko", markersize=5)
        ax.set(title=f"$\\eta$ = {rate}: {texts[rate]}", xlabel="$x$", ylim=(-3, 95))
    axes[0].set_ylabel("$f(x)$")


def bowl(page: dict[str, Any]) -> None:
    ax = plt.subplots(figsize=(5.2, 4.3))[1]
    ax.set_aspect("equal")
    paths(page["bowl"], page["bowl_path"], minimum=(0, 0), bounds=((-2.8, 1.2), (-1, 2.4)), ax=ax)
    for x in page["bowl_path"][:3]:
        tip = x + 0.1 * page["bowl_gradient"](x)
        ax.annotate("", tip, x, arrowprops={"arrowstyle": "->", "color": COLORS[1], "linewidth": 1.5})
    ax.annotate("the gradient points uphill", (-1.5, 1.3), color=COLORS[1])


def likelihood(page: dict[str, Any]) -> None:
    ax = paths(
        lambda x: np.log(-page["log_likelihood"](x)), page["ascent"], minimum=page["ascent"][-1],
        bounds=((1.5, 7.5), (0.2, 1.9)), ax=plt.subplots(figsize=(5.6, 3.8))[1],
    )  # fmt: skip
    ax.set(xlabel="$\\mu$", ylabel="$s = \\log \\sigma$")


def momentum(page: dict[str, Any]) -> None:
    labels = [f"gradient descent: {steps(page['zigzag'])}", f"momentum: {steps(page['rolling'])}"]
    for ax, path, label, color in zip(column(2), (page["zigzag"], page["rolling"]), labels, COLORS[:2], strict=True):
        valley(page, ax, path, label, color)


def nesterov(page: dict[str, Any]) -> None:
    labels = [f"momentum 0.9: {steps(page['heavy'])}", f"Nesterov 0.9: {steps(page['nesterov'])}"]
    for ax, path, label, color in zip(column(2), (page["heavy"], page["nesterov"]), labels, COLORS[1:3], strict=True):
        valley(page, ax, path, label, color)


def rosenbrock(page: dict[str, Any]) -> None:
    paths(
        lambda x: np.log(1e-2 + page["rosenbrock"](x)), page["bending"], page["creeping"],
        labels=[f"Nesterov: {steps(page['bending'])}", f"gradient descent: {steps(page['creeping'])}"], minimum=(1, 1),
        bounds=((-1.7, 1.7), (-0.6, 2)), ax=plt.subplots(figsize=(6.4, 4.4))[1], grid=300,
    )  # fmt: skip


def minibatches(page: dict[str, Any]) -> None:
    names = {"all_rows": "all 1,000 rows", "ten_rows": "10 rows, constant rate", "cooling": "10 rows, falling rate"}
    rows = np.arange(page["n"])
    axes = plt.subplots(1, 3, figsize=(9, 3.4), sharex=True, sharey=True)[1]
    for i, (ax, (name, title)) in enumerate(zip(axes, names.items(), strict=True)):
        ax.set_prop_cycle(color=[COLORS[i]])
        paths(
            lambda w: page["error"](w, rows), page[name], minimum=page["line"], bounds=((-0.1, 1.5), (-0.2, 2.4)),
            ax=ax, grid=40,
        )  # fmt: skip
        ax.set(title=title, xlabel="$w_0$", ylabel="$w_1$" if not i else "")


def himmelblau(page: dict[str, Any]) -> None:
    ends = [path[-1] for path, _ in page["four"]]
    paths(
        lambda x: np.log(1 + page["himmelblau"](x)), *(path for path, _ in page["four"]), minimum=ends,
        bounds=((-5.5, 5.5), (-5, 5)), ax=plt.subplots(figsize=(5.6, 4.8))[1],
    )  # fmt: skip


def network(page: dict[str, Any]) -> None:
    left, right = plt.subplots(1, 2, figsize=(8, 3.6))[1]
    for name, losses in page["losses"].items():
        left.plot(np.arange(1, len(losses) + 1), losses, label=name)
    left.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    left.legend()
    line = np.linspace(-1, 1, 80)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    out = page["network"](page["trained"].x, grid)[1].reshape(80, 80)
    right.contourf(line, line, np.tanh(out / 4), levels=20, cmap="RdBu", vmin=-1.6, vmax=1.6)
    right.contour(line, line, out, levels=[0], colors="k", linewidths=1)
    X, label = page["X"], page["label"]
    right.scatter(*X.T, c=np.where(label > 0, "#0072b2", "#b2182b"), s=6)
    right.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


def adaptive(page: dict[str, Any]) -> None:
    names = {"adagrad": "Adagrad", "rmsprop": "RMSProp, constant rate", "rmsprop_falling": "RMSProp, falling rate"}
    names["adam"] = "Adam"
    for i, (ax, (name, label)) in enumerate(zip(column(4), names.items(), strict=True)):
        valley(page, ax, page[name], f"{label}: {steps(page[name])}", COLORS[i])


def beale(page: dict[str, Any]) -> None:
    ax = paths(
        lambda x: np.log(0.02 + page["beale"](x)), *(path for path, _ in page["race"].values()), minimum=(3, 0.5),
        labels=[f"{name}: {steps(path)}" for name, (path, _) in page["race"].items()],
        bounds=((0.0, 4.2), (-2.1, 1.8)), ax=plt.subplots(figsize=(6.8, 5))[1],
    )  # fmt: skip
    ax.get_legend().set_loc("lower right")


def steps(path: Any) -> str:
    return f"{len(path) - 1:,} steps"


def column(n: int) -> Any:
    return plt.subplots(n, 1, figsize=(7, 1.55 * n), sharex=True)[1]


def valley(page: dict[str, Any], ax: Any, path: Any, label: str, color: str) -> None:
    ax.set_prop_cycle(color=[color])
    paths(page["valley"], path[:101], minimum=(0, 0), bounds=((-4.4, 2), (-1.3, 1.3)), ax=ax, levels=14)
    ax.set(title=label, xlabel="")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_formatter(NullFormatter())


#: Pages, and the pictures on each.
PICTURES = {
    "gradient_descent.md": [
        derivative, learning_rate, bowl, likelihood, momentum, nesterov, rosenbrock, minibatches, himmelblau, network,
        adaptive, beale,
    ],
}  # fmt: skip


def draw(folder: Path = FOLDER) -> None:
    """All pictures, as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    for page, pictures in PICTURES.items():
        names = run(HERE / page)
        plt.close("all")
        for picture in pictures:
            with mpl.rc_context(STYLE):
                picture(names)
                plt.savefig(folder / f"{picture.__name__}.svg", metadata={"Date": None})
                plt.close("all")


if __name__ == "__main__":
    draw(*map(Path, sys.argv[1:]))
