"""LIBLINEAR by its own Python interface: trust-region Newton, dual coordinate descent, and newGLMNET for L1."""

from __future__ import annotations

import ctypes

import numpy as np
from scipy import sparse

from bench.solvers import Contestant, binary_only


def shuffle_by(seed: int) -> None:
    """LIBLINEAR takes its orders from C's `rand`, which goes on from wherever the process has left it."""
    ctypes.CDLL(None).srand(1 + seed)


class Liblinear(Contestant):
    FAMILY, DISTRIBUTION, REQUIRES = "LIBLINEAR", "liblinear-official", ("liblinear",)
    SOLVES = "F, but with the intercept, divided by bias, penalised too"

    def __init__(self, form: str, number: int):
        self.NAME, self.number, self.L1 = f"LIBLINEAR {form}", number, form == "L1"

    def skip(self, problem):
        if self.L1 and problem.l1_ratio < 1:
            return "is for L1 alone"
        return binary_only(problem)  # with more classes it fits one against the rest

    def knobs(self, problem):
        return [{"bias": bias} for bias in (1.0, 10.0)]

    def prepare(self, problem, *, bias):
        from liblinear.liblinear import parameter
        from liblinear.liblinear import problem as liblinear_problem
        from liblinear.liblinearutil import train

        X = sparse.csr_matrix(problem.X.astype(np.float64))
        data = liblinear_problem(problem.y, X, bias=bias)
        C, d = 1 / (problem.alpha * X.shape[0]), X.shape[1]

        def run(budget):
            shuffle_by(self.seed)
            # It has a tolerance and no number of iterations: the budget is the tolerance's inverse.
            model = train(data, parameter(f"-s {self.number} -c {C!r} -e {0.5 / budget**1.5:g} -B {bias:g} -q"))

            def read():
                w = np.ctypeslib.as_array(model.w, shape=(d + 1,)) * (1 if model.get_labels()[0] > 0 else -1)
                w[d] *= bias
                return w

            return read

        return run


CONTESTANTS = [Liblinear("primal", 0), Liblinear("dual", 7), Liblinear("L1", 6)]
