"""Draws the pictures of the pages from what the pages' own code computes: python docs/pictures.py [folder]."""

from __future__ import annotations

import doctest
import io
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter, NullLocator

from fastopt.plot import convergence, paths

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
        for example in doctest.DocTestParser().get_examples(page.read_text(encoding="utf-8")):
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


def first_fit(page: dict[str, Any]) -> None:
    ax = plt.subplots(figsize=(6.4, 3.6))[1]
    convergence(*page["models"].values(), y="grad_norm", ax=ax)
    ax.axhline(1e-3, color="0.5", linewidth=1, linestyle=":")
    ax.annotate("tol", (0, 1.1e-3), color="0.4")


def quadrature(page: dict[str, Any]) -> None:
    ax = plt.subplots(figsize=(6, 3.6))[1]
    t = np.unique(np.logspace(1, 3.3, 14).astype(int))
    for n in (2, 3, 4):
        ax.loglog(t, [page["largest_error"](int(one), n) for one in t], "-o", markersize=3, label=f"{n} nodes")
    ax.axvline(250, color="0.5", linewidth=1, linestyle=":")
    ax.annotate("used from here on", (260, 1e-2), color="0.4")
    ax.set(xlabel="steps already taken, $t$", ylabel="largest relative error")
    ax.legend(loc="lower left")


def batch(page: dict[str, Any]) -> None:
    """The way of a batch: four stages, what goes between them, and what each is specialised by."""
    ax = plt.subplots(figsize=(8.2, 3.6))[1]
    ax.set(xlim=(0, 9), ylim=(0, 3.9))
    ax.axis("off")
    stages = [
        ("predict", "$z = Xw + b$", "row.pxd", "layout"), ("dloss", "$r = s\\,\\ell'(y, z)$", "loss.pxd", "loss"),
        ("scatter", "$g = X^T r$", "row.pxd", "layout"), ("step", "$w, m, v \\leftarrow$ rule", "rule.pxd", "rule"),
    ]  # fmt: skip
    arrow = {"arrowstyle": "-|>", "color": "0.3", "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    for i, (name, formula, file, special) in enumerate(stages):
        x = 0.35 + 2.2 * i
        ax.add_patch(plt.Rectangle((x, 1.45), 1.6, 1.0, facecolor=COLORS[i] + "30", edgecolor=COLORS[i]))
        ax.text(x + 0.8, 2.18, name, ha="center", va="center", weight="bold")
        ax.text(x + 0.8, 1.75, formula, ha="center", va="center")
        ax.text(x + 0.8, 1.22, f"by {special}", ha="center", va="center", color="0.35", size=9)
        ax.text(x + 0.8, 0.97, file, ha="center", va="center", color="0.35", family="monospace", size=8)
        if i:
            ax.annotate("", (x, 1.95), (x - 0.6, 1.95), arrowprops=arrow)
            ax.text(x - 0.3, 2.1, "zrg"[i - 1], ha="center", style="italic")
    inputs = {1.15: "rows of the batch, in the given order", 3.35: "y, weights", 7.75: "the step's row of the table"}
    for x, text in inputs.items():
        ax.text(x, 3.25, text, ha="center", va="center", size=9)
        ax.annotate("", (x, 2.47), (x, 3.08), arrowprops=arrow)
    ax.plot([7.75, 7.75, 1.15], [0.8, 0.4, 0.4], color="0.3", linewidth=1.4)
    ax.annotate("", (1.15, 0.8), (1.15, 0.38), arrowprops=arrow)
    ax.text(4.45, 0.52, "the next batch sees the new w", ha="center", va="bottom", size=9)


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
PICTURES: dict[str, list[Callable[[dict[str, Any]], None]]] = {
    "first_fit.md": [first_fit],
    "gradient_descent.md": [
        derivative, learning_rate, bowl, likelihood, momentum, nesterov, rosenbrock, minibatches, himmelblau, network,
        adaptive, beale,
    ],
    "kernels.md": [batch],
    "sparse_steps.md": [quadrature],
}  # fmt: skip


#: What the pictures of gradient_descent_ko.md say; longer pieces first, where one is part of another.
KOREAN = {
    "the gradient points uphill": "그래디언트는 오르막을 가리킨다",
    "error of the derivative of $e^x$ at 1": "1에서 exp(x)를 미분한 오차",
    "10 rows, constant rate": "10행씩, 일정한 학습률", "10 rows, falling rate": "10행씩, 줄어드는 학습률",
    "all 1,000 rows": "1,000행 모두", "RMSProp, constant rate": "RMSProp, 일정한 학습률",
    "RMSProp, falling rate": "RMSProp, 줄어드는 학습률",
    "gradient descent": "경사하강법", "momentum": "모멘텀", "Nesterov": "네스테로프", "one-sided": "전진 차분",
    "central": "중앙 차분",
    "tangent": "접선", "slope": "기울기", "too small": "너무 작다", "too large": "너무 크다", "right": "알맞다",
    "large": "크다",
    "epoch": "에포크", "loss": "손실", "start": "출발", "minimum": "최솟점", "end": "끝", " steps": "걸음",
}  # fmt: skip


def draw(folder: Path = FOLDER) -> None:
    """All pictures, as SVG; for gradient_descent_ko.md, whose code is the same, once more in Korean."""
    (folder / "ko").mkdir(parents=True, exist_ok=True)
    for page, pictures in PICTURES.items():
        names = run(HERE / page)
        plt.close("all")
        for picture in pictures:
            with mpl.rc_context(STYLE):
                picture(names)
                plt.savefig(folder / f"{picture.__name__}.svg", metadata={"Date": None})
                if page == "gradient_descent.md":
                    translate()
                    plt.savefig(folder / "ko" / f"{picture.__name__}.svg", metadata={"Date": None})
                plt.close("all")


def translate() -> None:
    """The current figure's words, in Korean; as text, which the reader's fonts draw."""
    mpl.rcParams["svg.fonttype"] = "none"
    warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it is the browser that needs them
    for text in plt.gcf().findobj(mpl.text.Text):
        words = text.get_text()
        if ":" in words:  # mathtext has no Korean
            words = words.replace("$\\eta$", "η")
        for english, korean in KOREAN.items():
            words = words.replace(english, korean)
        text.set_text(words)


if __name__ == "__main__":
    draw(*map(Path, sys.argv[1:]))
