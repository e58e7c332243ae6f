"""Vowpal Wabbit: SGD and L-BFGS over a cache file, passes and all in its own loop."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from bench.solvers import Contestant, base_step, binary_only


class Vowpal(Contestant):
    FAMILY, DISTRIBUTION, REQUIRES = "Vowpal Wabbit", "vowpalwabbit", ("vowpalwabbit",)
    CONSTANT = 11650396  # its number for the intercept

    def __init__(self, method: str):
        self.method, self.NAME = method, f"Vowpal Wabbit {method}"
        if method == "SGD":
            self.SOLVES = "F, but with the intercept penalised too, by alpha/2 b^2"

    def skip(self, problem):
        if problem.n_entries > 10_000_000:
            return "its text file would take minutes to write"
        return binary_only(problem)

    def knobs(self, problem):
        if self.method == "BFGS":
            return [{}]
        # Plain steps: with its adaptive ones the penalty that it applies is not the one that was asked for.
        constant = [{"learning_rate": base_step(problem) * factor, "power_t": 0.0} for factor in (0.25, 1, 4, 16)]
        n = problem.X.shape[0]
        return constant + [k | {"learning_rate": k["learning_rate"] * n**0.5, "power_t": 0.5} for k in constant]

    def prepare(self, problem, **knobs):
        from vowpalwabbit import Workspace

        folder = tempfile.TemporaryDirectory(prefix="bench-vw-")
        text, cache = Path(folder.name) / "rows", Path(folder.name) / "cache"
        n, d = problem.X.shape
        columns = list(range(d))
        with text.open("w") as file:
            for i in np.random.default_rng(0).permutation(n):  # it reads them in the file's order
                if problem.kind == "csr":
                    entries = slice(problem.X.indptr[i], problem.X.indptr[i + 1])
                    columns, values = problem.X.indices[entries].tolist(), problem.X.data[entries].tolist()
                else:
                    values = problem.X[i].tolist()
                row = " ".join(f"{j}:{v:.9g}" for j, v in zip(columns, values, strict=True) if v)
                file.write(f"{problem.y[i]:g} | {row}\n")
        bits = max(18, math.ceil(math.log2(d + 1)) + 1)
        common = f"-b {bits} --loss_function logistic --quiet --cache_file {cache} --holdout_off"
        make = Workspace(f"{common} -d {text} --passes 1 -k")
        make.run_parser()
        make.finish()
        text.unlink()
        if self.method == "BFGS":
            # Its penalty stands beside the sum of the losses.
            method = f"--bfgs --mem 10 --l2 {problem.alpha * n!r} --no_bias_regularization --termination 0"
        else:
            method = f"--sgd --l2 {problem.alpha!r} --predict_only_model"
        method += "".join(f" --{name} {value!r}" for name, value in knobs.items())

        def run(budget):
            machine = Workspace(f"{common} {method} --passes {budget + (self.method == 'BFGS')}")
            machine.run_parser()

            def read():
                if self.method == "SGD":  # saving multiplies the penalty's shrinking into the weights
                    machine.save(str(Path(folder.name) / "model"))
                w = np.array([machine.get_weight(j) for j in range(d)] + [machine.get_weight(self.CONSTANT)])
                machine.finish()
                return w

            return read

        return run


CONTESTANTS = [Vowpal("SGD"), Vowpal("BFGS")]
