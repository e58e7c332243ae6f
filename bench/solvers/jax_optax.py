"""JAX with Optax: minibatches in one compiled scan over an epoch."""

from __future__ import annotations

import os

import numpy as np

from bench.solvers import Contestant, base_step, rates, rule_knobs


class Optax(Contestant):
    FAMILY, DISTRIBUTION, REQUIRES = "jax + optax", "optax", ("jax", "optax")
    BATCHES, CSR = (32, 256), False

    def __init__(self, rule: str):
        self.RULE, self.NAME = rule, f"jax + optax {rule}"

    def knobs(self, problem):
        return [k for k in rule_knobs(self.RULE, problem) if k["batch_size"] >= 32 and k["falls"] == "to zero"]

    def prepare(self, problem, *, learning_rate, batch_size, falls):
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax
        import optax
        from jax import numpy as jnp

        jax.config.update("jax_enable_x64", problem.X.dtype == np.float64)
        dtype, n, alpha = problem.X.dtype, problem.X.shape[0], problem.alpha
        X = jnp.asarray(problem.X)
        y = jnp.asarray(problem.y, dtype=dtype if problem.n_outputs == 1 else jnp.int32)
        make = {"sgd": optax.sgd, "adam": optax.adam}[self.RULE]
        optimizer = optax.inject_hyperparams(make)(learning_rate=1.0)
        steps = n // batch_size  # whole batches: compiled shapes are fixed; the rest of the rows has its turn later

        def loss(w, rows):
            z = X[rows] @ w[:-1] + w[-1]
            if problem.n_outputs == 1:
                losses = jnp.logaddexp(0, -y[rows] * z[:, 0])
            else:
                losses = optax.softmax_cross_entropy_with_integer_labels(z, y[rows])
            return losses.mean() + alpha / 2 * (w[:-1] ** 2).sum()

        def step(carry, given):
            w, state = carry
            rows, rate = given
            state.hyperparams["learning_rate"] = rate
            updates, state = optimizer.update(jax.grad(loss)(w, rows), state, w)
            return (optax.apply_updates(w, updates), state), None

        @jax.jit
        def epoch(w, state, order, every):
            return jax.lax.scan(step, (w, state), (order, every))[0]

        def run(budget):
            rng = np.random.default_rng(self.seed)
            w = jnp.zeros(problem.shape, dtype=dtype)
            state = optimizer.init(w)
            every = rates(problem, steps * budget, learning_rate, falls).astype(dtype)
            for k in range(budget):
                order = rng.permutation(n)[: steps * batch_size].reshape(steps, batch_size)
                w, state = epoch(w, state, order, every[k * steps : (k + 1) * steps])
            return np.asarray(w)

        run(2)  # compiles, twice: the first state has other types than the next ones
        return run

    def epoch(self, problem, batch_size, rows):
        rate = base_step(problem) if self.RULE == "sgd" else 0.001
        run = self.prepare(problem, learning_rate=rate, batch_size=batch_size, falls="never")
        return lambda: run(1)


CONTESTANTS = [Optax("sgd"), Optax("adam")]
