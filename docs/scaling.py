"""Draws docs/scaling.svg from docs/scaling.json, which `python -m bench.scaling_model --save` writes."""

from __future__ import annotations

import json

from performance import COLORS, GREY, HERE, STYLE, mpl, plt

from bench.scaling_model import NETWORKS, Speeds, predictions


def draw() -> None:
    """Seconds per round of L-BFGS against workers."""
    kept = json.loads((HERE / "scaling.json").read_text(encoding="utf-8"))
    cases = predictions(Speeds(**kept["speeds"]), kept["rounds"])
    titles = {"strong": r"$10^{11}$ nonzeros in 1,000 partitions", "weak": r"$10^8$ nonzeros a worker"}
    lines = {1_000: ":", 100_000: "--", 1_000_000: "-"}
    with mpl.rc_context(STYLE):
        axes = plt.subplots(1, 2, figsize=(9, 3.8))[1]
        for ax, (kind, title) in zip(axes, titles.items(), strict=True):
            for columns, line in lines.items():
                for gigabits, color in zip(NETWORKS, COLORS, strict=False):
                    shown = [c for c in cases if (c["kind"], c["columns"], c["gigabits"]) == (kind, columns, gigabits)]
                    ax.loglog([c["workers"] for c in shown], [c["round"]["lbfgs"] for c in shown], line, color=color)
            ax.set(title=title, xlabel="workers", ylabel="predicted seconds per round")
            ax.title.set_size(10)
        handles = [plt.Line2D([], [], color=c, label=f"{n} Gbit/s") for n, c in zip(NETWORKS, COLORS, strict=False)]
        handles += [plt.Line2D([], [], color=GREY, linestyle=s, label=f"{n:,} columns") for n, s in lines.items()]
        axes[0].figure.legend(handles=handles, loc="outside upper center", ncols=3)
        plt.savefig(HERE / "scaling.svg", metadata={"Date": None})
        plt.close("all")


if __name__ == "__main__":
    draw()
