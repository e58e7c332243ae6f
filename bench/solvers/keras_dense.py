"""Keras: one dense layer, compiled and fitted as its guide does, on the backend that is there."""

from __future__ import annotations

import importlib.util
import os

import numpy as np

from bench.solvers import Contestant, rule_knobs

BACKENDS = ("jax", "torch", "tensorflow")


class Keras(Contestant):
    NAME, FAMILY, DISTRIBUTION, REQUIRES = "Keras adam", "Keras", "keras", ("keras",)
    RULE, CSR = "adam", False

    def missing(self):
        if not any(importlib.util.find_spec(name) for name in BACKENDS):
            return f"none of its backends is installed: {', '.join(BACKENDS)}"
        return super().missing()

    def knobs(self, problem):
        return [knobs for knobs in rule_knobs("adam", problem) if knobs["batch_size"] >= 256]

    def prepare(self, problem, *, learning_rate, batch_size, falls):
        backend = next(name for name in BACKENDS if importlib.util.find_spec(name))
        os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND", backend)
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        if backend == "torch":
            import torch

            torch.set_num_threads(1)
        import keras

        keras.config.set_floatx(str(problem.X.dtype))
        d, K = problem.shape
        layer = keras.layers.Dense(
            K, kernel_initializer="zeros", kernel_regularizer=keras.regularizers.L2(problem.alpha / 2)
        )
        model = keras.Sequential([keras.layers.Input((d - 1,)), layer])
        if K == 1:
            loss, y = keras.losses.BinaryCrossentropy(from_logits=True), (problem.y > 0).astype(problem.X.dtype)
        else:
            loss, y = keras.losses.SparseCategoricalCrossentropy(from_logits=True), problem.y.astype(np.int32)
        optimizer = keras.optimizers.Adam(learning_rate)
        model.compile(optimizer=optimizer, loss=loss)

        def run(budget):
            keras.utils.set_random_seed(self.seed)
            for variable in [*model.trainable_variables, *optimizer.variables]:
                variable.assign(np.zeros(variable.shape, dtype=variable.dtype))

            def rate(epoch, now):
                return learning_rate * (1 - epoch / budget)

            callbacks = [keras.callbacks.LearningRateScheduler(rate)]
            model.fit(problem.X, y, batch_size=batch_size, epochs=budget, verbose=0, callbacks=callbacks)
            return np.vstack([np.asarray(value) for value in (layer.get_weights()[0], layer.get_weights()[1][None])])

        run(1)  # compiles
        return run


CONTESTANTS = [Keras()]
