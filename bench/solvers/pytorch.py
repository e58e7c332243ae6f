"""PyTorch: its update rules one step at a time, and minibatches of Adam and SGD, and L-BFGS, to a gap."""

from __future__ import annotations

import numpy as np

from bench.solvers import Contestant, base_step, rates, rule_knobs, some

RULES = {  # ours -> torch.optim's class and arguments
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {"alpha": 0.9}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "nadam": ("NAdam", {}),
    "adamax": ("Adamax", {}),
    "adadelta": ("Adadelta", {}),
}


class _Torch(Contestant):
    FAMILY, DISTRIBUTION, REQUIRES = "PyTorch", "torch", ("torch",)

    def skip(self, problem):
        if problem.kind == "csr" and problem.n_entries > 5_000_000:
            return "its CSR rows cannot be picked; the batches would be rebuilt at every step"


def _one_thread():
    import torch

    torch.set_num_threads(1)
    return torch


class _Step:
    """One update of d coordinates, by whichever of torch.optim's implementations is fastest."""

    def step(self, d, dtype):
        import time

        torch = _one_thread()
        name, settings = RULES[self.RULE]
        g = torch.from_numpy(some(d, dtype)[::-1].copy())
        best, fastest = np.inf, None
        for choice in ({"foreach": False}, {"foreach": True}, {"fused": True}):
            w = torch.nn.Parameter(torch.from_numpy(some(d, dtype)))
            w.grad = g
            try:
                optimizer = getattr(torch.optim, name)([w], lr=1e-3, **settings, **choice)
                optimizer.step()
            except (RuntimeError, TypeError):  # not for this rule
                continue
            start = time.perf_counter()
            for _ in range(3):
                optimizer.step()
            if time.perf_counter() - start < best:
                best, fastest = time.perf_counter() - start, optimizer
        return fastest.step


class Rule(_Step, _Torch):
    """A rule that is timed by the step only."""

    TO_TARGET, STEP_LIMIT = False, 10**9

    def __init__(self, rule: str):
        self.RULE, self.NAME = rule, f"PyTorch {rule}"


def _tensors(problem, torch):
    """X, y (floats or class numbers) as tensors that share the arrays' memory; a CSR X stays with SciPy."""
    X = torch.from_numpy(problem.X) if problem.kind == "dense" else problem.X
    y = (problem.y > 0).astype(problem.X.dtype) if problem.n_outputs == 1 else problem.y.astype(np.int64)
    return X, torch.from_numpy(y)


class Minibatches(Rule):
    """What a PyTorch user writes: a linear layer, batches, autograd, zero_grad, backward, step."""

    TO_TARGET, BATCHES = True, (32, 256)

    def epoch(self, problem, batch_size, rows):
        rate = base_step(problem) if self.RULE == "sgd" else 0.001
        run = self.prepare(problem, learning_rate=rate, batch_size=batch_size, falls="never")
        return lambda: run(1)

    def knobs(self, problem):
        return [k for k in rule_knobs(self.RULE, problem) if k["batch_size"] >= 256 and k["falls"] == "to zero"]

    def prepare(self, problem, *, learning_rate, batch_size, falls):
        torch = _one_thread()
        X, y = _tensors(problem, torch)
        n, d = problem.X.shape
        dtype = torch.float32 if problem.X.dtype == np.float32 else torch.float64
        loss_of = torch.nn.functional.binary_cross_entropy_with_logits
        if problem.n_outputs > 1:
            loss_of = torch.nn.functional.cross_entropy
        name, settings = RULES[self.RULE]

        def batch(rows):
            if problem.kind == "dense":
                return X[torch.from_numpy(rows)]
            part = X[rows]
            return torch.sparse_csr_tensor(
                torch.from_numpy(part.indptr), torch.from_numpy(part.indices), torch.from_numpy(part.data), part.shape,
                check_invariants=False,
            )  # fmt: skip

        def run(budget):
            rng = np.random.default_rng(self.seed)
            w = torch.zeros((d, problem.n_outputs), dtype=dtype, requires_grad=True)
            b = torch.zeros(problem.n_outputs, dtype=dtype, requires_grad=True)
            optimizer = getattr(torch.optim, name)([w, b], lr=learning_rate, fused=True, **settings)
            steps = -(-n // batch_size)
            every = iter(rates(problem, steps * budget, learning_rate, falls))
            for _ in range(budget):
                order = rng.permutation(n)
                for start in range(0, n, batch_size):
                    rows = order[start : start + batch_size]
                    z = batch(rows) @ w + b
                    loss = loss_of(z[:, 0] if problem.n_outputs == 1 else z, y[rows])
                    loss = loss + problem.alpha / 2 * (w * w).sum()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.param_groups[0]["lr"] = float(next(every))
                    optimizer.step()
            return torch.vstack([w, b[None]]).detach().numpy()

        run(1)  # its first steps load and choose
        return run


class LBFGS(_Torch):
    NAME = "PyTorch LBFGS"

    def prepare(self, problem):
        torch = _one_thread()
        X, y = _tensors(problem, torch)
        if problem.kind == "csr":
            arrays = (torch.from_numpy(a) for a in (problem.X.indptr, problem.X.indices, problem.X.data))
            X = torch.sparse_csr_tensor(*arrays, problem.X.shape, check_invariants=False)
            T = problem.X.T.tocsr()
            arrays = (torch.from_numpy(a) for a in (T.indptr, T.indices, T.data))
            XT = torch.sparse_csr_tensor(*arrays, T.shape, check_invariants=False)
        else:
            XT = X.T
        K, alpha, n = problem.n_outputs, problem.alpha, problem.X.shape[0]
        dtype = torch.float32 if problem.X.dtype == np.float32 else torch.float64

        def run(budget):
            w = torch.nn.Parameter(torch.zeros(problem.shape, dtype=dtype))
            optimizer = torch.optim.LBFGS(
                [w], max_iter=budget, max_eval=10 * budget + 20, tolerance_grad=0, tolerance_change=0,
                history_size=10, line_search_fn="strong_wolfe",
            )  # fmt: skip

            def closure():
                with torch.no_grad():  # by hand: autograd has no good backward pass for CSR
                    z = X @ w[:-1] + w[-1]
                    if K == 1:
                        value = torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], y)
                        residual = (torch.sigmoid(z[:, 0]) - y)[:, None]
                    else:
                        value = torch.nn.functional.cross_entropy(z, y)
                        residual = torch.softmax(z, 1)
                        residual[torch.arange(n), y] -= 1
                    w.grad = torch.vstack([XT @ residual / n + alpha * w[:-1], residual.sum(0, keepdim=True) / n])
                    return value + alpha / 2 * (w[:-1] * w[:-1]).sum()

            optimizer.step(closure)
            return w.detach().numpy()

        run(1)
        return run


CONTESTANTS = [
    *(Minibatches(rule) if rule in ("sgd", "adam") else Rule(rule) for rule in RULES),
    LBFGS(),
]
