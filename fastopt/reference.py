"""Every loss, update rule and epoch in plain Python and NumPy.

The compiled code is tested against this module and timed against it: it is the oracle of the tests and the baseline
of the benches. So it imports nothing compiled but NumPy, and says each formula once, in the plainest way that is
still the way a good user of NumPy would write it.

Conventions
-----------
- ``w`` has shape (n_features + fit_intercept, n_outputs). With an intercept the last row is the intercept, which is
  never penalised.
- Targets of the binary losses are -1.0 and +1.0; of "multinomial", the class numbers 0 .. K-1.
- ``z = X w + b`` is the raw prediction; ``dloss`` is the derivative of the loss with respect to it.
- A rule sees steps ``t = 1, 2, ...``, counted over the whole run.
- The losses and the rules are pure functions that run on arrays and, by the very same lines, on Python floats (one
  row, one coordinate).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = [
    "COMMON",
    "CURVATURES",
    "LOSSES",
    "RULES",
    "Rule",
    "averaged",
    "clip",
    "decayed",
    "ema",
    "epoch",
    "gradient",
    "init",
    "objective",
    "polyak",
    "proximal_step",
    "python_epoch",
    "python_init",
    "saga_epoch",
    "sdca_epoch",
    "sdca_init",
    "sdca_softmax_epoch",
    "sdca_softmax_init",
    "sdca_softmax_visit",
    "sdca_visit",
    "sgd_epoch",
    "soft_threshold",
    "step",
    "waiting_step",
]


Value: TypeAlias = Any  # a Python float or an array
State: TypeAlias = dict[str, Any]
Hyper: TypeAlias = dict[str, Any]
LossPair: TypeAlias = tuple[Callable[..., Any], Callable[..., Any]]
Loss: TypeAlias = str | LossPair

# --- what Python floats and arrays do not share ---------------------------------------------------


def _exp(x: Value, factor: Value = 1.0) -> Value:
    """factor * exp(x) that overflows to inf without a word: math.exp raises, numpy.exp warns."""
    if isinstance(x, float):
        try:
            return float(factor) * math.exp(x)
        except OverflowError:
            return float(factor) * math.inf
    with np.errstate(over="ignore"):
        return factor * np.exp(x)


def _log1p(x: Value) -> Value:
    return math.log1p(x) if isinstance(x, float) else np.log1p(x)


def _square(x: Value) -> Value:
    """x * x, inf without a word where it is too large for a float."""
    if isinstance(x, float):
        x = float(x)  # numpy.float64 is a float that warns
        return x * x
    with np.errstate(over="ignore"):
        return x * x


def _max(a: Value, b: Value) -> Value:
    return max(a, b) if isinstance(a, float) and isinstance(b, float) else np.maximum(a, b)


def _sign(x: Value) -> Value:
    return float(x > 0) - float(x < 0) if isinstance(x, float) else np.sign(x)


def _where(condition: Value, a: Value, b: Value) -> Value:
    if isinstance(condition, (bool, np.bool_)):
        return a if condition else b
    return np.where(condition, a, b)


def _zeros(w: Value) -> Value:
    return 0.0 if isinstance(w, float) else np.zeros_like(w)


def _full(w: Value, value: float) -> Value:
    return float(value) if isinstance(w, float) else np.full_like(w, value)


def _copy(w: Value) -> Value:
    return w if isinstance(w, float) else np.array(w)


# --- losses ---------------------------------------------------------------------------------------


def log_loss(y: Value, z: Value) -> Value:
    """Logistic loss ``log(1 + exp(-y z))``, y in {-1, +1}.

    Computed as ``max(-y z, 0) + log1p(exp(-|y z|))``, which neither overflows nor rounds small losses to zero.

    Parameters
    ----------
    y : float or array
        -1.0 or +1.0.
    z : float or array
        Raw prediction.

    Returns
    -------
    float or array
        The loss, pointwise.

    References
    ----------
    Bishop, "Pattern Recognition and Machine Learning", 2006, eq. (7.48).
    """
    m = y * z
    return _max(-m, 0.0) + _log1p(_exp(-abs(m)))


def dlog_loss(y: Value, z: Value) -> Value:
    """Derivative of `log_loss`: ``-y / (1 + exp(y z))``; an infinite exponential rightly gives zero."""
    return -y / (1.0 + _exp(y * z))


def multinomial(y: Value, z: Value) -> Value:
    """Softmax cross-entropy ``log(sum_k exp(z_k)) - z_y``.

    Computed as ``(max z - z_y) + log1p(sum over the others of exp(z_k - max z))``: no overflow, and no cancellation
    where the loss is small.

    Parameters
    ----------
    y : (n,) array
        Class numbers 0 .. K-1, as integers or floats.
    z : (n, K) array
        Raw predictions.

    Returns
    -------
    (n,) array
        The loss of each row.

    References
    ----------
    Bishop, "Pattern Recognition and Machine Learning", 2006, eqs. (4.104) and (4.108).
    """
    rows = np.arange(len(z))
    top = z.argmax(axis=1)
    highest = z[rows, top]
    others = np.exp(z - highest[:, None])
    others[rows, top] = 0.0
    return (highest - z[rows, np.asarray(y).astype(np.intp)]) + np.log1p(others.sum(axis=1))


def dmultinomial(y: Value, z: Value) -> Value:
    """Derivative of `multinomial`: ``softmax(z)_k - [k = y]``, shape (n, K) (Bishop 2006, eq. (4.109))."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(z)), np.asarray(y).astype(np.intp)] -= 1.0
    return p


def hinge(y: Value, z: Value) -> Value:
    """Hinge loss ``max(0, 1 - y z)`` (Cortes, Vapnik, "Support-vector networks", Machine Learning 20, 1995)."""
    return _max(1.0 - y * z, 0.0)


def dhinge(y: Value, z: Value) -> Value:
    """Subgradient of `hinge`: ``-y`` where ``y z <= 1``, the kink included (scikit-learn's choice), else 0."""
    return _where(y * z <= 1.0, -y, 0.0)


def squared_hinge(y: Value, z: Value) -> Value:
    """Squared hinge loss ``max(0, 1 - y z)^2``, without a half (scikit-learn, LIBLINEAR's L2-loss)."""
    return _square(_max(1.0 - y * z, 0.0))


def dsquared_hinge(y: Value, z: Value) -> Value:
    """Derivative of `squared_hinge`: ``-2 y max(0, 1 - y z)``."""
    return -2.0 * y * _max(1.0 - y * z, 0.0)


def modified_huber(y: Value, z: Value) -> Value:
    """Modified Huber loss: ``max(0, 1 - y z)^2`` for ``y z >= -1``, else ``-4 y z``.

    References
    ----------
    Zhang, "Solving large scale linear prediction problems using stochastic gradient descent algorithms", ICML 2004.
    """
    m = y * z
    return _where(m >= -1.0, _square(_max(1.0 - m, 0.0)), -4.0 * m)


def dmodified_huber(y: Value, z: Value) -> Value:
    """Derivative of `modified_huber`: ``-2 y max(0, 1 - y z)`` for ``y z >= -1``, else ``-4 y``."""
    m = y * z
    return _where(m >= -1.0, -2.0 * y * _max(1.0 - m, 0.0), -4.0 * y)


def perceptron(y: Value, z: Value) -> Value:
    """Perceptron loss ``max(0, -y z)`` (Rosenblatt, "The perceptron", Psychological Review 65, 1958)."""
    return _max(-(y * z), 0.0)


def dperceptron(y: Value, z: Value) -> Value:
    """Subgradient of `perceptron`: ``-y`` where ``y z <= 0``, else 0; not 0 at the kink, where training starts."""
    return _where(y * z <= 0.0, -y, 0.0)


def squared_error(y: Value, z: Value) -> Value:
    """Half the squared error ``(z - y)^2 / 2`` (scikit-learn's SGDRegressor has the half too)."""
    return 0.5 * _square(z - y)


def dsquared_error(y: Value, z: Value) -> Value:
    """Derivative of `squared_error`: ``z - y``."""
    return z - y


def huber(y: Value, z: Value, epsilon: float = 0.1) -> Value:
    """Huber loss of ``r = z - y``: ``r^2 / 2`` for ``|r| <= epsilon``, else ``epsilon |r| - epsilon^2 / 2``.

    References
    ----------
    Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35(1), 1964.
    """
    r = abs(z - y)
    return _where(r <= epsilon, 0.5 * _square(r), epsilon * (r - 0.5 * epsilon))


def dhuber(y: Value, z: Value, epsilon: float = 0.1) -> Value:
    """Derivative of `huber`: ``z - y`` cut to ``[-epsilon, epsilon]``."""
    r = z - y
    return _where(abs(r) <= epsilon, r, epsilon * _sign(r))


def epsilon_insensitive(y: Value, z: Value, epsilon: float = 0.1) -> Value:
    """``max(0, |z - y| - epsilon)`` (Vapnik, "The Nature of Statistical Learning Theory", 1995)."""
    return _max(abs(z - y) - epsilon, 0.0)


def depsilon_insensitive(y: Value, z: Value, epsilon: float = 0.1) -> Value:
    """Subgradient of `epsilon_insensitive`: ``sign(z - y)`` where ``|z - y| > epsilon``, else 0."""
    r = z - y
    return _where(abs(r) > epsilon, _sign(r), 0.0)


def squared_epsilon_insensitive(y: Value, z: Value, epsilon: float = 0.1) -> Value:
    """``max(0, |z - y| - epsilon)^2``, without a half (scikit-learn)."""
    return _square(_max(abs(z - y) - epsilon, 0.0))


def dsquared_epsilon_insensitive(y: Value, z: Value, epsilon: float = 0.1) -> Value:
    """Derivative of `squared_epsilon_insensitive`: ``2 sign(z - y) max(0, |z - y| - epsilon)``."""
    r = z - y
    return 2.0 * _sign(r) * _max(abs(r) - epsilon, 0.0)


def poisson(y: Value, z: Value) -> Value:
    """Half the Poisson deviance with log link, up to a term in y alone: ``exp(z) - y z``, y >= 0.

    References
    ----------
    McCullagh, Nelder, "Generalized Linear Models", 2nd ed., 1989, section 2.3 (deviances).
    """
    return _exp(z) - y * z


def dpoisson(y: Value, z: Value) -> Value:
    """Derivative of `poisson`: ``exp(z) - y``."""
    return _exp(z) - y


def gamma(y: Value, z: Value) -> Value:
    """Half the gamma deviance with log link, up to a term in y alone: ``y exp(-z) + z``, y > 0 (see `poisson`)."""
    return _exp(-z, y) + z


def dgamma(y: Value, z: Value) -> Value:
    """Derivative of `gamma`: ``1 - y exp(-z)``."""
    return 1.0 - _exp(-z, y)


def quantile(y: Value, z: Value, quantile: float = 0.5) -> Value:
    """Pinball loss ``q (y - z)`` for ``y >= z``, else ``(1 - q) (z - y)``; q = 0.5 is half the absolute error.

    References
    ----------
    Koenker, Bassett, "Regression quantiles", Econometrica 46(1), 1978.
    """
    return _max(quantile * (y - z), (1.0 - quantile) * (z - y))


def dquantile(y: Value, z: Value, quantile: float = 0.5) -> Value:
    """Subgradient of `quantile`: ``-q`` for ``y >= z``, the kink included (scikit-learn's choice), else ``1 - q``."""
    return _where(y - z >= 0.0, -quantile, 1.0 - quantile)


LOSSES: dict[str, LossPair] = {
    "log_loss": (log_loss, dlog_loss),
    "multinomial": (multinomial, dmultinomial),
    "hinge": (hinge, dhinge),
    "squared_hinge": (squared_hinge, dsquared_hinge),
    "modified_huber": (modified_huber, dmodified_huber),
    "perceptron": (perceptron, dperceptron),
    "squared_error": (squared_error, dsquared_error),
    "huber": (huber, dhuber),
    "epsilon_insensitive": (epsilon_insensitive, depsilon_insensitive),
    "squared_epsilon_insensitive": (squared_epsilon_insensitive, dsquared_epsilon_insensitive),
    "poisson": (poisson, dpoisson),
    "gamma": (gamma, dgamma),
    "quantile": (quantile, dquantile),
}


# --- update rules ---------------------------------------------------------------------------------


class Rule(NamedTuple):
    """One row of `RULES`.

    Attributes
    ----------
    slots : tuple of str
        What the state holds beside the parameters, each like w, with the default hyper-parameters. `init` adds the
        slots of options that are switched on.
    defaults : dict
        Hyper-parameters and their defaults; all rules also know those of `COMMON`.
    init : callable
        ``init(w, hyper) -> state``, ``hyper`` complete.
    step : callable
        ``step(w, g, state, t, lr, hyper) -> (w, state)``, ``hyper`` complete; new values, nothing is written in place.
    scalars : tuple of str
        What the state holds that is one float for all coordinates.
    """

    slots: tuple[str, ...]
    defaults: Hyper
    init: Callable[[Value, Hyper], State]
    step: Callable[[Value, Value, State, int, float, Hyper], tuple[Value, State]]
    scalars: tuple[str, ...] = ()


def gd_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """Gradient descent: ``w = w - lr g``."""
    return w - lr * g, state


def sgd_init(w: Value, hyper: Hyper) -> State:
    """No state, or the velocity u = 0 where momentum is not zero."""
    return {"u": _zeros(w)} if hyper["momentum"] else {}


def sgd_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """SGD with momentum mu.

    ``u = mu u - lr g``, then ``w = w + u``, or with Nesterov ``w = w + mu u - lr g``. The learning rate is inside the
    velocity (Keras); PyTorch keeps ``u = mu u + g`` and multiplies by lr afterwards, the same iterates only while lr
    does not change.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", ICML 2013,
    eqs. (1)-(2); Nesterov: eqs. (3)-(4), written for the point where the gradient is taken.
    """
    mu = hyper["momentum"]
    if not mu:
        return w - lr * g, state
    u = mu * state["u"] - lr * g
    return (w + mu * u - lr * g if hyper["nesterov"] else w + u), {"u": u}


def adagrad_init(w: Value, hyper: Hyper) -> State:
    """a = initial_accumulator_value."""
    return {"a": _full(w, hyper["initial_accumulator_value"])}


def adagrad_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """Adagrad: ``a = a + g^2``, ``w = w - lr g / sqrt(a + eps)``, eps inside the root (Keras).

    PyTorch has ``sqrt(a) + eps``.

    References
    ----------
    Duchi, Hazan, Singer, "Adaptive subgradient methods", JMLR 12, 2011, eq. (1), diagonal.
    """
    a = state["a"] + g * g
    return w - lr * g / (a + hyper["epsilon"]) ** 0.5, {"a": a}


def rmsprop_init(w: Value, hyper: Hyper) -> State:
    """v = 0; with momentum also u = 0, centered also m = 0."""
    state = {"v": _zeros(w)}
    if hyper["momentum"]:
        state["u"] = _zeros(w)
    if hyper["centered"]:
        state["m"] = _zeros(w)
    return state


def rmsprop_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """RMSprop.

    ``v = rho v + (1 - rho) g^2``; step ``s = lr g / sqrt(v + eps)``, eps inside the root (Keras; PyTorch has
    ``sqrt(v) + eps``). Centered: ``m = rho m + (1 - rho) g`` and ``v - m^2`` in place of v, kept from falling below
    zero by rounding (Keras gives NaN there). With momentum mu: ``u = mu u + s``, ``w = w - u``, else ``w = w - s``.

    References
    ----------
    Tieleman, Hinton, "Lecture 6.5: RMSprop", Coursera, 2012. Graves, "Generating sequences with recurrent neural
    networks", 2013, eqs. (38)-(41), for centered and momentum.
    """
    rho = hyper["rho"]
    v = rho * state["v"] + (1.0 - rho) * (g * g)
    new = {"v": v}
    spread = v
    if hyper["centered"]:
        m = new["m"] = rho * state["m"] + (1.0 - rho) * g
        spread = _max(v - m * m, 0.0)
    s = lr * g / (spread + hyper["epsilon"]) ** 0.5
    if hyper["momentum"]:
        s = new["u"] = hyper["momentum"] * state["u"] + s
    return w - s, new


def adam_init(w: Value, hyper: Hyper) -> State:
    """m = v = 0; with AMSGrad also v_max = 0."""
    state = {"m": _zeros(w), "v": _zeros(w)}
    if hyper["amsgrad"]:
        state["v_max"] = _zeros(w)
    return state


def adam_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """Adam and AMSGrad.

    ``m = m + (1 - b1) (g - m)``, ``v = v + (1 - b2) (g^2 - v)``, ``w = w - lr sqrt(1 - b2^t) / (1 - b1^t) m /
    (sqrt(v) + eps)``: eps beside the root of the uncorrected v, as in Keras. AMSGrad puts ``v_max = max(v_max, v)``
    in v's place and keeps the bias correction.

    References
    ----------
    Kingma, Ba, "Adam: A method for stochastic optimization", ICLR 2015, the form at the end of section 2 ("epsilon
    hat"), not that of Algorithm 1, which has PyTorch's ``sqrt(v / (1 - b2^t)) + eps``. Reddi, Kale, Kumar, "On the
    convergence of Adam and beyond", ICLR 2018, Algorithm 2 (which has no bias correction).
    """
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    m = state["m"] + (1.0 - b1) * (g - state["m"])
    v = state["v"] + (1.0 - b2) * (g * g - state["v"])
    new = {"m": m, "v": v}
    if hyper["amsgrad"]:
        v = new["v_max"] = _max(state["v_max"], v)
    rate = lr * (1.0 - b2**t) ** 0.5 / (1.0 - b1**t)
    return w - rate * m / (v**0.5 + hyper["epsilon"]), new


def nadam_init(w: Value, hyper: Hyper) -> State:
    """m = v = 0, and the product of the momentum schedule, one float for all coordinates."""
    return {"m": _zeros(w), "v": _zeros(w), "u_product": 1.0}


def nadam_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """Adam with Nesterov momentum.

    ``u_t = b1 (1 - 0.96^t / 2)``, ``U_t = u_1 ... u_t``; m and v as in Adam;
    ``w = w - lr (u_{t+1} m / (1 - U_{t+1}) + (1 - u_t) g / (1 - U_t)) / (sqrt(v / (1 - b2^t)) + eps)``.

    The exponent of 0.96 is t as in Keras; Dozat and PyTorch have t / 250 (PyTorch's ``momentum_decay=0.004``).

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, Algorithm 2.
    """
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    u = b1 * (1.0 - 0.5 * 0.96**t)
    u_next = b1 * (1.0 - 0.5 * 0.96 ** (t + 1))
    product = state["u_product"] * u
    m = state["m"] + (1.0 - b1) * (g - state["m"])
    v = state["v"] + (1.0 - b2) * (g * g - state["v"])
    m_hat = u_next * m / (1.0 - product * u_next) + (1.0 - u) * g / (1.0 - product)
    v_hat = v / (1.0 - b2**t)
    return w - lr * m_hat / (v_hat**0.5 + hyper["epsilon"]), {"m": m, "v": v, "u_product": product}


def adamax_init(w: Value, hyper: Hyper) -> State:
    """m = u = 0."""
    return {"m": _zeros(w), "u": _zeros(w)}


def adamax_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """Adam with the infinity norm.

    ``m = m + (1 - b1) (g - m)``, ``u = max(b2 u, |g|)``, ``w = w - lr / (1 - b1^t) m / (u + eps)``: eps beside u
    (Keras); PyTorch puts it inside the maximum, ``max(b2 u, |g| + eps)``, the paper has none.

    References
    ----------
    Kingma, Ba, "Adam: A method for stochastic optimization", ICLR 2015, Algorithm 2.
    """
    b1 = hyper["beta_1"]
    m = state["m"] + (1.0 - b1) * (g - state["m"])
    u = _max(hyper["beta_2"] * state["u"], abs(g))
    return w - lr / (1.0 - b1**t) * m / (u + hyper["epsilon"]), {"m": m, "u": u}


def adadelta_init(w: Value, hyper: Hyper) -> State:
    """a = d = 0."""
    return {"a": _zeros(w), "d": _zeros(w)}


def adadelta_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """Adadelta.

    ``a = rho a + (1 - rho) g^2``, ``s = g sqrt(d + eps) / sqrt(a + eps)``, ``d = rho d + (1 - rho) s^2``, ``w = w -
    lr s``; the paper has lr = 1 (PyTorch's default; Keras's is 0.001).

    References
    ----------
    Zeiler, "ADADELTA: An adaptive learning rate method", 2012, Algorithm 1 and eq. (14).
    """
    rho, epsilon = hyper["rho"], hyper["epsilon"]
    a = rho * state["a"] + (1.0 - rho) * (g * g)
    s = (state["d"] + epsilon) ** 0.5 * g / (a + epsilon) ** 0.5
    d = rho * state["d"] + (1.0 - rho) * (s * s)
    return w - lr * s, {"a": a, "d": d}


def ftrl_init(w: Value, hyper: Hyper) -> State:
    """n = initial_accumulator_value, z = 0 (so that w at the start is not kept: see `ftrl_step`)."""
    return {"n": _full(w, hyper["initial_accumulator_value"]), "z": _zeros(w)}


def ftrl_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """FTRL-Proximal with L1 and L2.

    ``n' = n + g^2``, ``z = z + g + 2 shrinkage w - (n'^p - n^p) / lr w`` with ``p = -learning_rate_power``,
    ``w = -sign(z) max(|z| - l1, 0) / (n'^p / lr + 2 l2 + beta / lr)``.

    The penalties are Keras's: its l2 is half the paper's lambda_2. The new w depends on the old one only through z:
    parameters that were not zero at the start are lost at the first step.

    References
    ----------
    McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, Algorithm 1 (which starts at n = 0).
    """
    p = -hyper["learning_rate_power"]
    n = state["n"] + g * g
    root = n**p
    z = state["z"] + (g + 2.0 * hyper["l2_shrinkage_regularization_strength"] * w - (root - state["n"] ** p) / lr * w)
    quadratic = root / lr + 2.0 * (hyper["l2_regularization_strength"] + hyper["beta"] / (2.0 * lr))
    return -_sign(z) * _max(abs(z) - hyper["l1_regularization_strength"], 0.0) / quadratic, {"n": n, "z": z}


def lion_init(w: Value, hyper: Hyper) -> State:
    """m = 0."""
    return {"m": _zeros(w)}


def lion_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """Lion: ``w = w - lr sign(b1 m + (1 - b1) g)``, then ``m = b2 m + (1 - b2) g``; sign(0) = 0.

    References
    ----------
    Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, Algorithm 2.
    """
    b1, b2, m = hyper["beta_1"], hyper["beta_2"], state["m"]
    return w - lr * _sign(b1 * m + (1.0 - b1) * g), {"m": b2 * m + (1.0 - b2) * g}


def schedule_free_sgd_init(w: Value, hyper: Hyper) -> State:
    """z = w."""
    return {"z": _copy(w), "weight_sum": 0.0, "lr_max": 0.0}


def schedule_free_sgd_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """Schedule-free SGD; w is y, the point where gradients are taken.

    With ``x = (y - (1 - beta) z) / beta`` (`averaged` gives it): ``z = z - lr (g + weight_decay y)``, ``x = (1 - c) x
    + c z``, ``y = (1 - beta) z + beta x``, beta being ``momentum``. The weight of step t in the average is ``t^r
    lr_max^weight_lr_power``, and c its share in the sum of all so far (1 / t by default). lr rises linearly over
    ``warmup_steps``.

    The reference code keeps x as a third array; here it is recovered from y and z. Weight decay acts within the rule,
    at y, on z.

    References
    ----------
    Defazio et al., "The road less scheduled", NeurIPS 2024, section 1; facebookresearch/schedule_free,
    SGDScheduleFreeReference.
    """
    return _schedule_free(w, g, state, t, lr, hyper, hyper["momentum"])


def schedule_free_adamw_init(w: Value, hyper: Hyper) -> State:
    """z = w, v = 0."""
    return schedule_free_sgd_init(w, hyper) | {"v": _zeros(w)}


def schedule_free_adamw_step(w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    """Schedule-free AdamW; w is y, the point where gradients are taken.

    As `schedule_free_sgd_step` with beta_1 for beta and ``v = b2 v + (1 - b2) g^2``,
    ``z = z - lr (weight_decay y + g / (sqrt(v / (1 - b2^t)) + eps))``.

    Keras's ScheduleFreeAdamW is this with ``weight_lr_power=0`` (weights 1 / t also in warm-up), except that its
    weight decay shrinks y behind the rule's back.

    References
    ----------
    Defazio et al., "The road less scheduled", NeurIPS 2024, Algorithm 1; facebookresearch/schedule_free,
    AdamWScheduleFreeReference.
    """
    b2 = hyper["beta_2"]
    v = b2 * state["v"] + (1.0 - b2) * (g * g)
    direction = g / ((v / (1.0 - b2**t)) ** 0.5 + hyper["epsilon"])
    w, state = _schedule_free(w, direction, state, t, lr, hyper, hyper["beta_1"])
    return w, state | {"v": v}


def _schedule_free(
    y: Value, direction: Value, state: State, t: int, lr: float, hyper: Hyper, beta: float
) -> tuple[Value, State]:
    if t <= hyper["warmup_steps"]:
        lr = lr * t / hyper["warmup_steps"]
    lr_max = max(lr, state["lr_max"])
    weight = float(t) ** hyper["r"] * lr_max ** hyper["weight_lr_power"]
    weight_sum = state["weight_sum"] + weight
    c = weight / weight_sum if weight_sum else 0.0
    x = (y - (1.0 - beta) * state["z"]) / beta
    z = state["z"] - lr * direction
    if hyper["weight_decay"] is not None:
        z = z - lr * hyper["weight_decay"] * y
    x = (1.0 - c) * x + c * z
    return (1.0 - beta) * z + beta * x, {"z": z, "weight_sum": weight_sum, "lr_max": lr_max}


def averaged(name: str, w: Value, state: State, hyper: Hyper | None = None) -> Value:
    """The parameters to use: x of the schedule-free rules, the moving average with ``ema_momentum``, else w itself."""
    rule, hyper = _complete(name, hyper or {})
    if hyper["ema_momentum"] is not None:
        return state["ema"]
    if rule.step not in _DECAYS_ITSELF:
        return w
    beta = hyper["beta_1"] if "beta_1" in hyper else hyper["momentum"]
    return (w - (1.0 - beta) * state["z"]) / beta


_BETAS = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999}
_ADAM = _BETAS | {"epsilon": 1e-8, "amsgrad": False}
_FREE = {"warmup_steps": 0, "r": 0.0, "weight_lr_power": 2.0}
_SGD = {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}

RULES: dict[str, Rule] = {
    "gd": Rule((), {"learning_rate": 0.01}, lambda w, hyper: {}, gd_step),
    "sgd": Rule((), _SGD, sgd_init, sgd_step),
    "momentum": Rule(("u",), _SGD | {"momentum": 0.9}, sgd_init, sgd_step),
    "nesterov": Rule(("u",), _SGD | {"momentum": 0.9, "nesterov": True}, sgd_init, sgd_step),
    "adagrad": Rule(
        ("a",), {"learning_rate": 0.01, "initial_accumulator_value": 0.0, "epsilon": 1e-6}, adagrad_init, adagrad_step
    ),
    "rmsprop": Rule(
        ("v",),
        {"learning_rate": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-8, "centered": False},
        rmsprop_init,
        rmsprop_step,
    ),
    "adam": Rule(("m", "v"), _ADAM, adam_init, adam_step),
    "adamw": Rule(("m", "v"), _ADAM | {"weight_decay": 0.004}, adam_init, adam_step),
    "nadam": Rule(("m", "v"), _BETAS | {"epsilon": 1e-7}, nadam_init, nadam_step, ("u_product",)),
    "adamax": Rule(("m", "u"), _BETAS | {"epsilon": 1e-7}, adamax_init, adamax_step),
    "adadelta": Rule(("a", "d"), {"learning_rate": 0.001, "rho": 0.95, "epsilon": 1e-7}, adadelta_init, adadelta_step),
    "ftrl": Rule(
        ("n", "z"),
        {
            "learning_rate": 0.001,
            "learning_rate_power": -0.5,
            "initial_accumulator_value": 0.1,
            "l1_regularization_strength": 0.0,
            "l2_regularization_strength": 0.0,
            "l2_shrinkage_regularization_strength": 0.0,
            "beta": 0.0,
        },
        ftrl_init,
        ftrl_step,
    ),
    "lion": Rule(("m",), _BETAS | {"beta_2": 0.99}, lion_init, lion_step),
    "schedule_free_sgd": Rule(
        ("z",),
        _FREE | {"learning_rate": 1.0, "momentum": 0.9},
        schedule_free_sgd_init,
        schedule_free_sgd_step,
        ("weight_sum", "lr_max"),
    ),
    "schedule_free_adamw": Rule(
        ("z", "v"),
        _FREE | _BETAS | {"learning_rate": 0.0025, "epsilon": 1e-8},
        schedule_free_adamw_init,
        schedule_free_adamw_step,
        ("weight_sum", "lr_max"),
    ),
}

#: Rules that apply weight_decay within their step, at another point than w.
_DECAYS_ITSELF = (schedule_free_sgd_step, schedule_free_adamw_step)

#: What every rule knows beside its own hyper-parameters (None: off).
COMMON: Hyper = {"decay": 0.0, "weight_decay": None, "clipnorm": None, "clipvalue": None, "ema_momentum": None}


def decayed(learning_rate: float, t: int, decay: float) -> float:
    """Learning rate of step t: ``learning_rate / (1 + decay (t - 1))`` (PyTorch Adagrad's ``lr_decay``)."""
    return learning_rate / (1.0 + decay * (t - 1))


def clip(g: Value, clipnorm: float | None = None, clipvalue: float | None = None) -> Value:
    """Gradient clipped as Keras does it.

    ``g clipnorm / max(||g||_2, clipnorm)``, the norm taken over the whole array, or each entry cut to [-clipvalue,
    clipvalue].

    References
    ----------
    Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", ICML 2013, Algorithm 1.
    """
    if clipnorm and clipvalue:
        raise ValueError(f"clipvalue must be None where clipnorm is given; got {clipvalue!r}. Use one of the two.")
    if clipnorm:
        norm = abs(g) if isinstance(g, float) else float(np.linalg.norm(g))
        return g * clipnorm / max(norm, clipnorm)
    if clipvalue:
        return -_max(-_max(g, -clipvalue), -clipvalue)
    return g


def ema(average: Value, w: Value, t: int, momentum: float) -> Value:
    """Moving average of the iterates as in Keras: w itself at t = 1, then ``momentum average + (1 - momentum) w``."""
    return _copy(w) if t == 1 else momentum * average + (1.0 - momentum) * w


def polyak(average: Value, w: Value, t: int, start: int = 1) -> Value:
    """Plain average of the iterates from step `start` on.

    w itself until then, after that ``average + (w - average) / (t - start + 1)``.

    References
    ----------
    Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30(4), 1992.
    """
    return _copy(w) if t <= start else average + (w - average) / (t - start + 1)


def _complete(name: str, hyper: Hyper) -> tuple[Rule, Hyper]:
    """The rule's row and all its hyper-parameters."""
    if name not in RULES:
        raise ValueError(f"name must be one of {sorted(RULES)}; got {name!r}.")
    known = COMMON | RULES[name].defaults
    for key in hyper:
        if key not in known:
            raise ValueError(f"hyper must hold only parameters of {name!r}; got {key!r}. It has {sorted(known)}.")
    return RULES[name], known | hyper


def init(name: str, w: Value, **hyper: Any) -> State:
    """State of a rule before its first step.

    Parameters
    ----------
    name : str
        A key of `RULES`.
    w : float or array
        Parameters at the start; not written.
    **hyper
        Hyper-parameters other than the defaults.

    Returns
    -------
    dict
        Slot name -> value like w; for some rules also floats (`Rule.scalars`). No step counter: `step` is told t.
    """
    rule, hyper = _complete(name, hyper)
    state = rule.init(w, hyper)
    if hyper["ema_momentum"] is not None:
        state["ema"] = _copy(w)
    return state


def step(
    name: str, w: Value, g: Value, state: State, t: int, lr: float | None = None, **hyper: Any
) -> tuple[Value, State]:
    """One step of a rule with all of Keras's common options: clip g, decay w, the rule's own step, the moving average.

    Parameters
    ----------
    name : str
        A key of `RULES`.
    w, g : float or array
        Parameters and gradient; not written.
    state : dict
        As `init` or the last step returned it; not written.
    t : int
        1 for the first step.
    lr : float or None
        Learning rate of this very step; None: ``decayed(learning_rate, t, decay)`` from the hyper-parameters.
    **hyper
        Hyper-parameters other than the defaults.

    Returns
    -------
    w, state
        New values.
    """
    rule, hyper = _complete(name, hyper)
    if lr is None:
        lr = decayed(hyper["learning_rate"], t, hyper["decay"])
    return _step(rule, w, g, state, t, lr, hyper)


def _step(rule: Rule, w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper) -> tuple[Value, State]:
    lr = float(lr)  # a numpy.float64 would turn float32 parameters into float64
    g = clip(g, hyper["clipnorm"], hyper["clipvalue"])
    if hyper["weight_decay"] is not None and rule.step not in _DECAYS_ITSELF:
        w = w - lr * hyper["weight_decay"] * w
    new, new_state = rule.step(w, g, state, t, lr, hyper)
    if hyper["ema_momentum"] is not None:
        new_state = new_state | {"ema": ema(state["ema"], new, t, hyper["ema_momentum"])}
    return new, new_state


# --- objective and epochs -------------------------------------------------------------------------


def _pair(loss: Loss) -> LossPair:
    """(loss, dloss) from a name of `LOSSES`, or such a pair itself."""
    if not isinstance(loss, str):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {sorted(LOSSES)} or a pair of functions; got {loss!r}.")
    return LOSSES[loss]


def _raw_prediction(X: Any, w: Value, fit_intercept: bool) -> Value:
    z = X @ (w[:-1] if fit_intercept else w)
    return z + w[-1] if fit_intercept else z


def _pointwise(function: Callable[[Value, Value], Value], y: Value, z: Value) -> Value:
    """A loss or dloss on raw predictions of shape (n, n_outputs); y is (n, n_outputs) where outputs have their own."""
    return function(y, z) if z.shape[1] > 1 else function(np.reshape(y, -1), z[:, 0])


def _shares(sample_weight: Value, n: int) -> Value:
    """Weights divided by their sum, by column; of shape (n, 1) or (n, n_outputs)."""
    s = np.ones((n, 1)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64).reshape(n, -1)
    return s / s.sum(axis=0)


def objective(
    X: Any,
    y: Value,
    w: Value,
    *,
    loss: Loss = "log_loss",
    alpha: float = 0.0,
    sample_weight: Value = None,
    fit_intercept: bool = True,
    l1_ratio: float = 0.0,
) -> float:
    """F(w) in float64: ``sum_i s_i loss(y_i, z_i) / sum_i s_i + alpha ((1 - l1_ratio) / 2 ||w||^2 + l1_ratio |w|_1)``.

    The intercept is not penalised. Pointwise losses of several outputs add up.

    Parameters
    ----------
    X : (n, d) ndarray or scipy CSR
    y : (n,) array, or (n, n_outputs) for a pointwise loss with several outputs
    w : (d + fit_intercept, n_outputs) array
    loss : str or pair of functions
        A key of `LOSSES`, or (loss, dloss) themselves, so that functools.partial can set a loss's parameter.
    alpha : float
        Strength of the penalty.
    sample_weight : (n,) array, or of y's shape, or None
    fit_intercept : bool
        Whether the last row of w is the intercept.
    l1_ratio : float
        Share of L1 in the penalty.

    Returns
    -------
    float
    """
    w = np.asarray(w, dtype=np.float64)
    losses = _pointwise(_pair(loss)[0], y, _raw_prediction(X, w, fit_intercept)).reshape(X.shape[0], -1)
    penalised = w[:-1] if fit_intercept else w
    penalty = (1.0 - l1_ratio) * 0.5 * np.sum(penalised * penalised) + l1_ratio * np.sum(abs(penalised))
    return float(np.sum(_shares(sample_weight, X.shape[0]) * losses) + alpha * penalty)


def gradient(
    X: Any,
    y: Value,
    w: Value,
    *,
    loss: Loss = "log_loss",
    alpha: float = 0.0,
    sample_weight: Value = None,
    fit_intercept: bool = True,
    l1_ratio: float = 0.0,
) -> Value:
    """Gradient of `objective`, shape of w, float64; with L1 its subgradient of least norm. Parameters as there."""
    w = np.asarray(w, dtype=np.float64)
    r = _pointwise(_pair(loss)[1], y, _raw_prediction(X, w, fit_intercept)).reshape(X.shape[0], -1)
    r = r * _shares(sample_weight, X.shape[0])
    penalised, l1 = w[:-1] if fit_intercept else w, alpha * l1_ratio
    g = X.T @ r + alpha * (1.0 - l1_ratio) * penalised
    g = np.where(penalised != 0, g + l1 * np.sign(penalised), g - np.clip(g, -l1, l1))
    return np.vstack([g, r.sum(axis=0)]) if fit_intercept else g


def epoch(
    X: Any,
    y: Value,
    w: Value,
    state: State | None,
    *,
    rule: str,
    hyper: Hyper | None = None,
    loss: Loss = "log_loss",
    alpha: float = 0.0,
    sample_weight: Value = None,
    fit_intercept: bool = True,
    order: Value = None,
    batch_size: int | str = 1,
    learning_rates: Value = None,
    t0: int = 0,
    on_step: Callable[[int, Any, State], object] | None = None,
    l1_ratio: float = 0.0,
    shares: Value = None,
) -> tuple[Value, State, int]:
    """One pass of minibatch steps, each of which moves every coordinate, on dense and on CSR data alike.

    The gradient of a batch of b rows is ``1/b sum_i s'_i dloss_i x_i + alpha (1 - l1_ratio) w`` with ``s' = s /
    mean(s)``; the last batch may be shorter. L1 is a proximal step in the rule's own metric (`proximal_step`).

    With `shares` the penalties act on a coordinate in the steps alone whose batch has a row with it, divided by the
    share of such batches: L2 unless the rule is linear, L1 (`waiting_step`) unless the rule is FTRL or Lion.

    Parameters
    ----------
    X, y, loss, alpha, sample_weight, fit_intercept
        As in `objective`.
    w : (d + fit_intercept, n_outputs) array
        Parameters at the start; not written. Its dtype is the dtype of all steps.
    state : dict or None
        As `init` or the last epoch returned it; None: ``init(rule, w, **hyper)``. Not written.
    rule : str
        A key of `RULES`.
    hyper : dict or None
        Hyper-parameters other than the defaults. ``weight_decay`` leaves the intercept alone.
    order : (n,) integer array or None
        Row numbers; consecutive slices of it are the batches. None: 0 .. n-1.
    batch_size : int or "full"
    learning_rates : (n_steps,) array or None
        Learning rate of each step of this epoch; None: ``decayed(learning_rate, t, decay)`` from the hyper-parameters.
    t0 : int
        Steps taken before this epoch.
    on_step : callable or None
        ``on_step(t, w, state)`` after every step.
    shares : (d,) array or None
        Share of the batches that touch each coordinate; X is CSR then, and touched what has an entry, be it zero.

    Returns
    -------
    w, state, t
        New values, and the steps taken so far.
    """
    row, hyper = _complete(rule, hyper or {})
    n, d = X.shape
    s = None if sample_weight is None else n * _shares(sample_weight, n)
    data = _Data(X, np.asarray(y), s, _pair(loss)[1], d, hasattr(X, "indptr"), fit_intercept)
    in_order = order is None
    order = np.arange(n) if order is None else np.asarray(order)
    size = len(order) if batch_size == "full" else int(batch_size)
    # A full batch needs no copy of X in another order of rows.
    in_order = in_order or (size >= n == len(order) and bool(np.bincount(order, minlength=n).all()))
    if hyper["weight_decay"] is not None and fit_intercept:
        mask = np.full((len(w), 1), hyper["weight_decay"], dtype=w.dtype)
        mask[-1] = 0.0
        hyper = hyper | {"weight_decay": mask}
    if state is None:
        state = init(rule, w, **hyper)
    t, single = t0, w.shape[1] == 1 and size == 1
    l2_waits = shares is not None and row.step not in (sgd_step, gd_step)
    l1_waits = shares is not None and row.step not in (ftrl_step, lion_step)
    for start in range(0, len(order), size):
        if single:
            g = _row_gradient(data, w, order[start])
        else:
            rows = slice(start, start + size)
            g = _batch_gradient(data, w, rows if in_order else order[rows])
        often = 1.0 if shares is None else _often(X, order[start : start + size], shares)
        if alpha:
            g[:d] += alpha * (1.0 - l1_ratio) * w[:d] * (often if l2_waits else 1.0)
        t += 1
        lr = (
            decayed(hyper["learning_rate"], t, hyper["decay"]) if learning_rates is None else learning_rates[t - 1 - t0]
        )
        if alpha * l1_ratio:
            l1 = np.full((len(w), 1), alpha * l1_ratio)
            l1[d:] = 0.0
            l1[:d] *= often if l1_waits else 1.0
            shrink = waiting_step if l1_waits else proximal_step
            w, state = shrink(row, w, g, state, t, float(lr), hyper, l1)
        else:
            w, state = _step(row, w, g, state, t, lr, hyper)
        if on_step is not None:
            on_step(t, w, state)
    return w, state, t


class _Data(NamedTuple):
    """What an epoch's gradients are made of; s are the sample weights over their mean, (n, 1) or (n, n_outputs)."""

    X: Any
    y: Any
    s: Any
    dloss: Callable[..., Any]
    d: int
    sparse: bool
    fit_intercept: bool


def _batch_gradient(data: _Data, w: Value, rows: Any) -> Value:
    """The mean of the losses' gradients over these rows."""
    X, y, s, dloss, d, _, fit_intercept = data
    g = np.zeros_like(w)
    yb = y[rows]
    Xb = X if isinstance(rows, slice) and len(yb) == len(y) else X[rows]
    z = Xb @ w[:d]
    if fit_intercept:
        z += w[d]
    r = _pointwise(dloss, yb, z).reshape(len(yb), -1) / len(yb)
    if s is not None:
        r = r * s[rows]
    r = r.astype(w.dtype, copy=False)
    g[:d] = Xb.T @ r
    if fit_intercept:
        g[d] = r.sum(axis=0)
    return g


def _row_gradient(data: _Data, w: Value, i: int) -> Value:
    """`_batch_gradient` of one row: numbers are cheaper than arrays of one, slices of CSR far cheaper than X[i]."""
    X, y, s, dloss, d, sparse, fit_intercept = data
    g = np.zeros_like(w)
    if sparse:
        entries = slice(X.indptr[i], X.indptr[i + 1])
        columns, values = X.indices[entries], X.data[entries]
        z = values @ w[columns, 0]
    else:
        z = X[i] @ w[:d, 0]
    r = dloss(float(y[i]), float(z + w[d, 0] if fit_intercept else z))
    if s is not None:
        r *= float(s[i, 0])
    if sparse:
        np.add.at(g[:, 0], columns, r * values)
    else:
        np.multiply(X[i], r, out=g[:d, 0])
    if fit_intercept:
        g[d] = r
    return g


def _often(X: Any, batch: Value, shares: Value) -> Value:
    """1 over the share of batches that touch a coordinate, for those that this one touches; 0 for the rest."""
    often = np.zeros((X.shape[1], 1))
    touched = X[batch].indices
    often[touched, 0] = 1.0 / np.asarray(shares)[touched]
    return often


def proximal_step(
    rule: Rule, w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper, l1: Value
) -> tuple[Value, State]:
    """A step of a rule, then `soft_threshold` by l1 times the factor that the rule has for a lasting gradient.

    At a fixed point of the rule without L1 the gradient is zero; here it is within l1 of zero where w is zero, and -l1
    sign(w) elsewhere. Velocities are those of the iterates after the threshold (Nesterov's is zero where that is
    zero, so that w is zero beside x). Two rules differ: FTRL has L1 in its
    formula, t l1 in step t; Lion, whose steps have one size, takes the subgradient of least norm, and no step of it
    crosses zero or leaves it where that is zero.

    References
    ----------
    Ochs, Chen, Brox, Pock, "iPiano: Inertial proximal algorithm for nonconvex optimization", 2014, Algorithm 1.
    Beck, Teboulle, "A fast iterative shrinkage-thresholding algorithm", 2009, eqs. (4.1)-(4.3), for Nesterov. McMahan,
    "Follow-the-regularized-leader and mirror descent", AISTATS 2011, for FTRL. Andrew, Gao, "Scalable training of
    L1-regularized log-linear models", ICML 2007, for Lion's orthants.
    """
    before = w
    if rule.step is ftrl_step:
        hyper = hyper | {"l1_regularization_strength": hyper["l1_regularization_strength"] + t * l1}
        return _step(rule, w, g, state, t, lr, hyper)
    if rule.step is lion_step:
        g = np.where(w != 0, g + l1 * np.sign(w), soft_threshold(g, l1))
    w, state = _step(rule, w, g, state, t, lr, hyper)
    mu = hyper.get("momentum", 0.0)
    if rule.step is lion_step:
        crosses = (before * w < 0) | (abs(w) < 1e-3 * lr) | ((before == 0) & (g == 0))  # 1e-3: but for rounding
        return np.where(crosses & (l1 > 0), 0.0, w), state
    if rule.step in _DECAYS_ITSELF:
        beta: Value = hyper.get("beta_1", mu)
        z = soft_threshold(state["z"], l1 * _factor(rule, state, t, lr, hyper))
        x = (w - (1.0 - beta) * state["z"]) / beta + _share(state, t, lr, hyper) * (z - state["z"])
        return (1.0 - beta) * z + beta * x, state | {"z": z}
    if rule.step is sgd_step and mu and hyper["nesterov"]:
        x = w - mu * state["u"]
        moved = soft_threshold(x, lr * l1)
        u = np.where((moved == 0) & (l1 > 0), 0.0, state["u"] + (moved - x))
        return moved + mu * u, {"u": u}
    moved = soft_threshold(w, l1 * _factor(rule, state, t, lr, hyper))
    if "u" in state and rule.step is not adamax_step:  # RMSprop subtracts its velocity
        state = state | {"u": state["u"] + (moved - w) * (-1.0 if rule.step is rmsprop_step else 1.0)}
    return moved, state


def waiting_step(
    rule: Rule, w: Value, g: Value, state: State, t: int, lr: float, hyper: Hyper, l1: Value
) -> tuple[Value, State]:
    """A step of a rule with L1 for coordinates that then wait for long, where l1 > 0: `soft_threshold` of their goals.

    The goal of a coordinate is ``w + way velocity``, to where past gradients would take it if no others came and v
    stayed as it is; the threshold is l1 times what a gradient does in the end. If it leaves zero, w is zero and the
    velocity ends; else w moves as its goal does. Where nothing moves without gradients it is `proximal_step`.
    """
    slot, way, lasting = _goal(rule, hyper)
    if slot is None:
        return proximal_step(rule, w, g, state, t, lr, hyper, l1)
    w, state = _step(rule, w, g, state, t, lr, hyper)
    factor = _factor(rule, state, t, lr, hyper)
    if slot == "m":
        way = -way * factor
        if rule.step is nadam_step:  # its last gradient has a gain of its own
            b1, product = hyper["beta_1"], state["u_product"]
            u, u_next = b1 * (1.0 - 0.5 * 0.96**t), b1 * (1.0 - 0.5 * 0.96 ** (t + 1))
            of_m, of_g = u_next / (1.0 - product * u_next), (1.0 - u) / (1.0 - product)
            way = way * of_m / (of_m + of_g)
    goal = w + way * state[slot]
    left = soft_threshold(goal, l1 * factor * lasting)
    ends = (left == 0) & (l1 > 0)
    return np.where(ends, 0.0, w + (left - goal)), state | {slot: np.where(ends, 0.0, state[slot])}


def _goal(rule: Rule, hyper: Hyper) -> tuple[str | None, float, float]:
    """The slot that moves w without gradients, how far (Adam's kin: in their factor), and what a gradient adds."""
    mu, beta = hyper.get("momentum", 0.0), hyper.get("beta_1", 0.0)
    if rule.step is sgd_step and mu:
        return "u", (mu * mu if hyper["nesterov"] else mu) / (1.0 - mu), 1.0 / (1.0 - mu)
    if rule.step is rmsprop_step and mu:
        return "u", -mu / (1.0 - mu), 1.0 / (1.0 - mu)
    if rule.step in (adam_step, nadam_step, adamax_step):
        return "m", beta / (1.0 - beta), 1.0
    return None, 0.0, 0.0


def _share(state: State, t: int, lr: float, hyper: Hyper) -> float:
    """c of the schedule-free rules' last step."""
    return float(float(t) ** hyper["r"] * state["lr_max"] ** hyper["weight_lr_power"] / state["weight_sum"])


def _factor(rule: Rule, state: State, t: int, lr: float, hyper: Hyper) -> Value:
    """What the last step multiplied a gradient by that lasts."""
    epsilon = hyper.get("epsilon", 0.0)
    if rule.step in _DECAYS_ITSELF and t <= hyper["warmup_steps"]:
        lr = lr * t / hyper["warmup_steps"]
    if rule.step is adagrad_step:
        return lr / (state["a"] + epsilon) ** 0.5
    if rule.step is rmsprop_step:
        spread = _max(state["v"] - state["m"] ** 2, 0.0) if hyper["centered"] else state["v"]
        return lr / (spread + epsilon) ** 0.5
    if rule.step is adam_step:
        v = state["v_max"] if hyper["amsgrad"] else state["v"]
        return lr * (1.0 - hyper["beta_2"] ** t) ** 0.5 / (1.0 - hyper["beta_1"] ** t) / (v**0.5 + epsilon)
    if rule.step is nadam_step:
        b1, product = hyper["beta_1"], state["u_product"]
        u, u_next = b1 * (1.0 - 0.5 * 0.96**t), b1 * (1.0 - 0.5 * 0.96 ** (t + 1))
        gain = u_next / (1.0 - product * u_next) + (1.0 - u) / (1.0 - product)
        return lr * gain / ((state["v"] / (1.0 - hyper["beta_2"] ** t)) ** 0.5 + epsilon)
    if rule.step is adamax_step:
        return lr / (1.0 - hyper["beta_1"] ** t) / (state["u"] + epsilon)
    if rule.step is adadelta_step:
        return lr * (state["d"] + epsilon) ** 0.5 / (state["a"] + epsilon) ** 0.5
    if rule.step is schedule_free_adamw_step:
        return lr / ((state["v"] / (1.0 - hyper["beta_2"] ** t)) ** 0.5 + epsilon)
    return lr


# --- scikit-learn's SGD ---------------------------------------------------------------------------


def sgd_epoch(
    X: Value,
    y: Value,
    w: Value,
    state: State | None,
    *,
    learning_rates: Value,
    loss: Loss = "log_loss",
    alpha: float = 0.0,
    l1_ratio: float = 0.0,
    step_weight: Value = None,
    fit_intercept: bool = True,
    order: Value = None,
    batch_size: int = 1,
    l1: str = "proximal",
    average: int = 0,
    passive: str | None = None,
    bound: float = 1.0,
    guarded: bool = False,
    calm: bool = False,
    t0: int = 0,
    on_step: Callable[[int, Any, State], object] | None = None,
) -> tuple[Value, State, Value]:
    """One pass of plain SGD steps with what scikit-learn has around them, every coordinate moved in each step.

    ``w = (1 - lr alpha (1 - l1_ratio)) w - lr g``, then L1, then the average.

    Parameters
    ----------
    X : (n, d) array
    y : (n,) or (n, n_outputs) array
    w : (d + fit_intercept, n_outputs) array
    state : dict or None
        "average"; "l1_paid" and "l1_owed" of the truncated gradient; "intercept_curvature". None: zeros.
    learning_rates : (n_steps,) array
    loss, alpha, l1_ratio, fit_intercept, order, t0, on_step
        As in `epoch` and `objective`.
    step_weight : (n,) or (n, n_outputs) array or None
        What each row's step is multiplied by.
    l1 : str
        "proximal": `soft_threshold` by ``lr alpha l1_ratio``. "truncated": each coordinate pays, towards zero and no
        further, what L1 has asked of all so far less what it has paid.
    average : int
        The first step (from 1) whose w is part of the mean; 0: none.
    passive : str or None
        "pa1" or "pa2": step sizes ``min(bound, loss / ||x||^2)`` and ``loss / (||x||^2 + 1 / (2 bound))``.
    guarded : bool
        Slopes cut to [-1e12, 1e12]; the factor of L2 never below 0.
    calm : bool
        The intercept's rate in a step of b rows is ``4 b / h``, between lr / 100 and lr; h is three times the loss's
        largest curvature (1 of linear pieces) and the sum over rows so far of `bend`.

    Returns
    -------
    w, state, sums
        New values; the sums over rows of losses and of penalties, each at the w of its step, (2, n_outputs).

    References
    ----------
    Tsuruoka, Tsujii, Ananiadou, ACL 2009, section 3.2 and Figure 2. Crammer et al., JMLR 7, 2006, eq. (15).
    """
    value, dloss = _pair(loss)
    n, d = X.shape
    k = w.shape[1]
    order = np.arange(n) if order is None else order
    weights = np.ones((n, 1)) if step_weight is None else np.asarray(step_weight).reshape(n, -1)
    state = {"average": _zeros(w), "l1_paid": _zeros(w), "l1_owed": 0.0} if state is None else dict(state)
    most = MOST_BENT.get(loss, 0.0) if isinstance(loss, str) else 0.0
    state.setdefault("intercept_curvature", np.full((1, k), 3.0 * most * np.mean(weights)))
    sums, l2, strength = np.zeros((2, k)), alpha * (1.0 - l1_ratio), alpha * l1_ratio
    for s, start in enumerate(range(0, len(order), batch_size)):
        rows, lr, t = order[start : start + batch_size], learning_rates[s], t0 + s + 1
        z = X[rows] @ w[:d] + (w[d] if fit_intercept else 0.0)
        losses = _pointwise(value, y[rows], z).reshape(len(rows), -1)
        slopes = _pointwise(dloss, y[rows], z).reshape(len(rows), -1)
        sums[0, : losses.shape[1]] += losses.sum(axis=0)
        sums[1] += len(rows) * (0.5 * l2 * (w[:d] ** 2).sum(axis=0) + strength * abs(w[:d]).sum(axis=0))
        if passive is None:
            moves = -lr * (np.clip(slopes, -1e12, 1e12) if guarded else slopes)
        else:
            norms = (X[rows] ** 2).sum(axis=1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                sizes = losses / (norms + 0.5 / bound) if passive == "pa2" else np.minimum(bound, losses / norms)
            sizes = np.where((passive == "pa1") & (norms == 0), 0.0, sizes)
            targets = y[rows].reshape(len(rows), -1)
            moves = sizes * (targets if loss in ("hinge", "perceptron") else np.where(targets < z, -1.0, 1.0))
        moves, share = weights[rows] * moves / len(rows), np.ones(k)
        if calm and passive is None:
            bends = weights[rows] * bend(loss, y[rows].reshape(len(rows), -1), z, slopes)
            h = state["intercept_curvature"] = state["intercept_curvature"] + bends.sum(axis=0)
            share = np.maximum(0.01, 4 * len(rows) / np.maximum(4 * len(rows), lr * h[0]))
        factor = 1.0 - lr * l2
        w = w.copy()
        w[:d] = (max(factor, 0.0) if guarded else factor) * w[:d] + X[rows].T @ moves
        if fit_intercept:
            w[d] += share * moves.sum(axis=0)
        if l1 == "proximal":
            w[:d] = soft_threshold(w[:d], lr * strength)
        elif strength:
            owed = state["l1_owed"] = state["l1_owed"] + lr * strength
            paid, before = state["l1_paid"].copy(), w[:d].copy()
            w[:d] = np.where(before > 0, np.maximum(before - (owed + paid[:d]), 0.0), before)
            w[:d] = np.where(before < 0, np.minimum(before + (owed - paid[:d]), 0.0), w[:d])
            paid[:d] += w[:d] - before
            state["l1_paid"] = paid
        if 0 < average <= t:
            state["average"] = polyak(state["average"], w, t, average)
        if on_step is not None:
            on_step(t, w, dict(state))
    return w, state, sums


#: Losses that have a `bend`, and the largest second derivative: of linear pieces the largest square of a slope.
MOST_BENT = {
    "log_loss": 0.25, "multinomial": 0.5, "squared_error": 1.0, "huber": 1.0, "hinge": 1.0, "perceptron": 1.0,
    "squared_hinge": 2.0, "modified_huber": 2.0, "squared_epsilon_insensitive": 2.0,
}  # fmt: skip


def bend(loss: Loss, y: Value, z: Value, slopes: Value) -> Value:
    """Each row's curvature in the intercept: the squared slope, or of squares the slope over the distance from their
    minimum."""
    if loss in ("log_loss", "multinomial", "hinge", "perceptron"):
        return slopes**2
    if loss == "squared_error":
        return np.ones_like(slopes)
    with np.errstate(divide="ignore", invalid="ignore"):
        if loss == "huber":
            return np.where(slopes == z - y, 1.0, slopes / (z - y))
        if loss in ("squared_hinge", "modified_huber"):
            return np.where(slopes == 0, 0.0, slopes / (z - y))  # y is 1 or -1: where y z = 1
    return 2.0 * (slopes != 0) if loss == "squared_epsilon_insensitive" else 0.0 * slopes


def soft_threshold(w: Value, by: Value) -> Value:
    """w moved towards zero by `by`, and no further: the proximal operator of ``by |w|_1``."""
    return _sign(w) * _max(abs(w) - by, 0.0)


# --- one row at a time, with a memory for each row ---------------------------------------------------


#: Second derivatives of the losses with bounded curvature, with respect to z.
CURVATURES: dict[str, Callable[..., Any]] = {
    "log_loss": lambda y, z: -y * dlog_loss(y, z) * (1.0 + y * dlog_loss(y, z)),
    "squared_error": lambda y, z: 1.0,
    "squared_hinge": lambda y, z: 2.0 * (y * z < 1.0),
    "modified_huber": lambda y, z: 2.0 * (-1.0 <= y * z < 1.0),
    "huber": lambda y, z, epsilon=0.1: 1.0 * (abs(z - y) <= epsilon),
    "squared_epsilon_insensitive": lambda y, z, epsilon=0.1: 2.0 * (abs(z - y) > epsilon),
}


def sdca_init(n: int, loss: str) -> Value:
    """Dual variables zero, shape (n, 2): the logistic loss has each one's logit beside it, at first -20."""
    state = np.zeros((n, 2))
    state[:, 1] = -20.0 if loss == "log_loss" else 0.0
    return state


def sdca_visit(y: float, z: float, q: float, a: float, logit: float, loss: str) -> tuple[float, float]:
    """The new dual variable of a row, and its logit: it maximises the dual in this one variable.

    ``a`` is the variable of the squared error, else y times it. Solves ``new = -dloss(z + q (new - a))``, in closed
    form but for the logistic loss: there Newton's steps on ``u + q sigmoid(u) = q a - y z``, kept between what is known
    to bracket the root, until a tenth of the first error is left.

    References
    ----------
    Hsieh, Chang, Lin, Keerthi, Sundararajan, "A dual coordinate descent method for large-scale linear SVM", ICML 2008,
    eq. (9); Yu, Huang, Lin, "Dual coordinate descent methods for logistic regression and maximum entropy models",
    Machine Learning 85, 2011, section 4.
    """
    if loss == "squared_error":
        return a + (y - z - a) / (1.0 + q), 0.0
    if loss == "squared_hinge":
        return max(a + (2.0 * (1.0 - y * z) - a) / (1.0 + 2.0 * q), 0.0), 0.0
    if loss == "hinge":
        return max(min(a + (1.0 - y * z) / max(q, 1e-300), 1.0), 0.0), 0.0
    goal, p, u = q * a - y * z, a, logit
    low, high, h = goal - q - 1.0, goal + 1.0, logit + y * z
    enough = 0.1 * abs(h)
    for _ in range(40):
        u -= h / (1.0 + q * p * (1.0 - p))
        if not low < u < high:
            u = 0.5 * (low + high)
        p = 1.0 / (1.0 + _exp(-u))
        h = u + q * p - goal
        if abs(h) <= enough:
            break
        low, high = (low, u) if h > 0 else (u, high)
    return p, u


def sdca_epoch(
    X: Any,
    y: Value,
    w: Value,
    state: Value,
    *,
    l2: float,
    loss: str = "log_loss",
    c2: float = 0.0,
    sample_weight: Value = None,
    order: Value = None,
    on_step: Callable[[Any, Any], object] | None = None,
) -> tuple[Value, Value]:
    """One visit of each row's dual variable: ``w = 1/(l2 n) sum_i s'_i a_i x_i``, ``s' = s / mean(s)``.

    Parameters
    ----------
    X : (n, d) array
    w : (d + 1,) array
        The intercept last: a column of value sqrt(c2), so that it stays where it is for ``c2=0``.
    state : (n, 2) array
        As `sdca_init` or the last epoch returned it.

    Returns
    -------
    w, state
        New values.

    References
    ----------
    Shalev-Shwartz, Zhang, "Stochastic dual coordinate ascent methods for regularized loss minimization", JMLR 14, 2013,
    Procedure SDCA.
    """
    n = len(y)
    s = np.ones(n) if sample_weight is None else np.asarray(sample_weight) / np.mean(sample_weight)
    w, state = np.array(w, dtype=np.float64), np.array(state)
    for i in np.arange(n) if order is None else order:
        x = np.asarray(X[i], dtype=np.float64)
        unit = float(s[i]) / (l2 * n)
        target, old = float(y[i]), float(state[i, 0])
        q = unit * (float(x @ x) + c2)
        new, logit = sdca_visit(target, float(x @ w[:-1] + w[-1]), q, old, float(state[i, 1]), loss)
        state[i] = new, logit
        change = unit * (new - old) * (1.0 if loss == "squared_error" else target)
        w[:-1] += change * x
        w[-1] += change * c2
        if on_step is not None:
            on_step(w, state)
    return w, state


def sdca_softmax_init(y: Value, n_classes: int) -> Value:
    """Logarithms of the dual variables p = e_y, shape (n, n_classes): -1000 is as good as minus infinity."""
    state = np.full((len(y), n_classes), -1000.0)
    state[np.arange(len(y)), np.asarray(y, dtype=int)] = 0.0
    return state


def _softmax(u: Value) -> tuple[Value, Value]:
    """log softmax(u) and softmax(u), 0 below 1e-290."""
    u = u - u.max()
    p = np.exp(u)
    p[p <= 1e-290] = 0.0
    return u - np.log(p.sum()), p / p.sum()


def _simplex_maximum(z: Value, q: float, old: Value) -> Value:
    """log p of the p on the simplex with ``log p_k + q (p_k - old_k) - z_k`` the same for every k, by bisection."""
    x = z + q * old
    x = x - x.max()
    low, high = q / len(z) - math.log(len(z)), q  # the largest p is 1 / K at least, and 1 at most
    for _ in range(200):
        middle = 0.5 * (low + high)
        u = np.minimum(x + middle, 0.0)  # p_k alone as a function of lambda: Newton's steps from above its root
        for _ in range(100):
            step = (u + q * np.exp(u) - x - middle) / (1.0 + q * np.exp(u))
            u = u - step
            if np.abs(step).max() < 1e-15:
                break
        low, high = (low, middle) if np.exp(u).sum() > 1.0 else (middle, high)
    return _softmax(u)[0]


def sdca_softmax_visit(z: Value, q: float, log_p: Value) -> Value:
    """The logarithms of a softmax row's new dual variables: p maximises the dual on the simplex.

    Solves ``log p_k + q (p_k - old_k) - z_k = lambda`` for all k: at most four steps of Newton on the logits, until of
    the gain that is left a hundredth remains, or 2 % of what is gained; else exactly.

    References
    ----------
    Yu, Huang, Lin, "Dual coordinate descent methods for logistic regression and maximum entropy models", Machine
    Learning 85, 2011, section 5 (the problem of a row).
    """
    old = np.exp(log_p)
    old[old <= 1e-290] = 0.0
    u, p, h = log_p, old, log_p - z
    first = last = 0.0
    for i in range(5):
        r = 1.0 / (1.0 + q * p)
        lam = float((p * r * h).sum() / (p * r).sum())
        left = float((p * r * (h - lam) ** 2).sum())
        step = -(h - lam) * r
        if i == 0:
            first = left
        elif step.max() <= 1.0:
            noise = 4e-30 * (1.0 + abs(lam) + q) ** 2 / (1.0 + q)
            gain = float(((p - old) * (z - 0.5 * q * (p - old)) - p * u + old * log_p).sum())
            if left <= max(0.01 * first, noise, 0.02 * gain):
                return u
        if (i > 1 and not left < 0.5 * last) or i == 4:
            break
        last = left
        u, p = _softmax(u + step)
        h = u + q * (p - old) - z
    return _simplex_maximum(z, q, old) if q > 1e-8 else _softmax(z)[0]


def sdca_softmax_epoch(
    X: Any,
    y: Value,
    w: Value,
    state: Value,
    *,
    l2: float,
    c2: float = 0.0,
    sample_weight: Value = None,
    order: Value = None,
) -> tuple[Value, Value]:
    """One visit of each row's dual variables: ``w = 1/(l2 n) sum_i s'_i x_i (e_y - p_i)'``, ``s' = s / mean(s)``.

    Parameters
    ----------
    X : (n, d) array
    y : (n,) array
        Class numbers.
    w : (d + 1, K) array
        The intercepts last: a column of value sqrt(c2), as in `sdca_epoch`.
    state : (n, K) array
        log p, as `sdca_softmax_init` or the last epoch returned it.

    Returns
    -------
    w, state
        New values.
    """
    n = len(y)
    s = np.ones(n) if sample_weight is None else np.asarray(sample_weight) / np.mean(sample_weight)
    w, state = np.array(w, dtype=np.float64), np.array(state)
    for i in np.arange(n) if order is None else order:
        x = np.asarray(X[i], dtype=np.float64)
        unit = float(s[i]) / (l2 * n)
        new = sdca_softmax_visit(x @ w[:-1] + w[-1], unit * (float(x @ x) + c2), state[i])
        change = unit * (np.exp(state[i]) - np.exp(new))
        state[i] = new
        w[:-1] += np.outer(x, change)
        w[-1] += change * c2
    return w, state


def saga_epoch(
    X: Any,
    y: Value,
    w: Value,
    average: Value,
    table: Value,
    *,
    steps: Value,
    loss: str = "log_loss",
    l1: float = 0.0,
    l2: float = 0.0,
    sample_weight: Value = None,
    shares: Value = None,
    pull: bool = True,
    order: Value = None,
    on_step: Callable[[Any, Any, Any], object] | None = None,
) -> tuple[Value, Value, Value]:
    """One pass of SAGA's proximal steps.

    ``w = prox_{B l1}(w - A r x - B (g + l2 w))``, ``g = g + (new - old) x / n`` with A the column's step, B = A over
    its share of the rows, new the row's slope ``s' dloss``, old the one in the table, ``r = (new - old) / (1 + q s'
    ddloss)`` and ``q = sum A x^2``. With K outputs slopes and r have K numbers and ddloss, diag(p) - p p' of
    "multinomial", is a matrix: ``r = (I + q s' ddloss)^-1 (new - old)``.

    Parameters
    ----------
    X : (n, d) array
    w, average : (d + 1, K) array
        The intercepts last; they have no penalty.
    table : (n, K) array
        Slopes, whose mean times row is `average`.
    steps : (d + 1,) array
    shares : (d,) array or None
        Share of rows in which each column is not zero: a step moves the columns of its row that are not zero, and
        these alone. None: it moves all, and B = A.
    pull : bool
        False: without the average, plain SGD's steps.

    Returns
    -------
    w, average, table
        New values.

    References
    ----------
    Defazio, Bach, Lacoste-Julien, NIPS 2014, eq. (1); Leblond, Pedregosa, Lacoste-Julien, "ASAGA", AISTATS 2017,
    eq. (4); Pedregosa, Leblond, Lacoste-Julien, NIPS 2017, section 2.
    """
    n = len(y)
    s = np.ones(n) if sample_weight is None else np.asarray(sample_weight) / np.mean(sample_weight)
    w, average, table = (np.array(a, dtype=np.float64) for a in (w, average, table))
    full = (steps / np.append(np.ones(len(w) - 1) if shares is None else shares, 1.0))[:, None]
    penalised = np.append(np.ones(len(w) - 1), 0.0)[:, None]
    for i in np.arange(n) if order is None else order:
        x = np.append(np.asarray(X[i], dtype=np.float64), 1.0)
        target, z, old = np.array([float(y[i])]), x @ w, table[i].copy()
        table[i] = s[i] * LOSSES[loss][1](target, z[None] if loss == "multinomial" else z).reshape(-1)
        if loss == "multinomial":
            p = dmultinomial(target, z[None])[0] + (np.arange(len(z)) == target)
            curvature = np.diag(p) - np.outer(p, p)
        else:
            curvature = np.array([[CURVATURES[loss](float(target[0]), float(z[0]))]])
        r = np.linalg.solve(np.eye(len(z)) + float(steps @ (x * x)) * s[i] * curvature, table[i] - old)
        moved = w - np.outer(steps * x, r) - full * (pull * average + l2 * penalised * w)
        by = full * l1 * penalised
        moved = np.sign(moved) * np.maximum(abs(moved) - by, 0.0)
        w = np.where(((x != 0) | (shares is None))[:, None], moved, w)
        average += np.outer(x, table[i] - old) / n
        if on_step is not None:
            on_step(w, average, table)
    return w, average, table


# --- pure Python ----------------------------------------------------------------------------------


def _python_dlog_loss(y: float, z: float) -> float:
    m = y * z
    return -y / (1.0 + math.exp(m)) if m < 709.0 else 0.0


def python_epoch(
    rows: list[tuple[list[int], list[float]]],
    y: list[float],
    w: list[float],
    state: State | None,
    *,
    rule: str,
    hyper: Hyper | None = None,
    loss: Loss = "log_loss",
    alpha: float = 0.0,
    sample_weight: Value = None,
    fit_intercept: bool = True,
    order: Value = None,
    batch_size: int | str = 1,
    learning_rates: Value = None,
    t0: int = 0,
    on_step: Callable[[int, Any, State], object] | None = None,
) -> tuple[list[float], State, int]:
    """`epoch` in pure Python, for one output: what a program without NumPy costs.

    Plain gradient steps ("gd", "sgd" without momentum) touch only the nonzeros of the batch; L2 and weight decay
    scale all coordinates at once (``w = scale * v``). All other rules step every coordinate: the textbook's in a loop
    of their own, the rest through `RULES`.

    Parameters
    ----------
    rows : list of (list of int, list of float)
        Column numbers and values of each row.
    y : list of float
    w : list of float
        d numbers and, with fit_intercept, the intercept; not written.
    state : dict or None
        Slot name -> list of floats; None: the rule's own start. Not written.
    rule, hyper, loss, alpha, sample_weight, fit_intercept, order, batch_size, learning_rates, t0, on_step
        As in `epoch`, with lists for arrays; any loss but "multinomial".

    Returns
    -------
    w, state, t
        New lists, and the steps taken so far.

    References
    ----------
    Bottou, "Stochastic gradient descent tricks", 2012, section 5.1, for w = scale * v.
    """
    row, hyper = _complete(rule, hyper or {})
    dloss = _python_dlog_loss if loss == "log_loss" else _pair(loss)[1]
    n, d = len(rows), len(w) - bool(fit_intercept)
    order = range(n) if order is None else order
    size = len(order) if batch_size == "full" else int(batch_size)
    if sample_weight is not None:
        mean = sum(sample_weight) / n
        sample_weight = [s / mean for s in sample_weight]
    if state is None:
        state = python_init(rule, w, hyper)
    state = {name: list(value) if isinstance(value, list) else value for name, value in state.items()}
    plain = _is_plain(row, hyper)
    shrink = alpha + (hyper["weight_decay"] or 0.0)
    w, b, scale = list(w[:d]), w[d] if fit_intercept else 0.0, 1.0
    t = t0
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        residuals = _python_residuals(rows, y, w, scale, b, dloss, sample_weight, batch)
        t += 1
        lr = (
            decayed(hyper["learning_rate"], t, hyper["decay"]) if learning_rates is None else learning_rates[t - 1 - t0]
        )
        if plain:
            scale *= 1.0 - lr * shrink
            if abs(scale) < 1e-9:  # before w / scale overflows
                w = [scale * wj for wj in w]
                scale = 1.0
            for i, r in zip(batch, residuals, strict=True):  # here, since a call for each row would take 2 % longer
                change = lr * r / scale
                columns, values = rows[i]
                for j, x in zip(columns, values, strict=True):
                    w[j] -= change * x
            if fit_intercept:
                b -= lr * sum(residuals)
        else:
            g = _python_gradient(rows, w, residuals, alpha, batch)
            if fit_intercept:
                w.append(b)
                g.append(sum(residuals))
            _python_step(row, w, g, state, t, lr, hyper, d)
            if fit_intercept:
                b = w.pop()
        if on_step is not None:
            on_step(t, [scale * wj for wj in w] + [b] * bool(fit_intercept), state)
    if scale != 1.0:
        w = [scale * wj for wj in w]
    return w + [b] * bool(fit_intercept), state, t


def _is_plain(rule: Rule, hyper: Hyper) -> bool:
    """Whether a step is ``w -= lr g`` and no more, so that it needs the nonzeros alone."""
    own = hyper.get("momentum") or hyper["clipnorm"] or hyper["clipvalue"] or hyper["ema_momentum"] is not None
    return rule.step in (gd_step, sgd_step) and not own


def _python_residuals(
    rows: list[tuple[list[int], list[float]]], y: list[float], w: list[float], scale: float, b: float,
    dloss: Callable[[float, float], float], sample_weight: list[float] | None, batch: Any,
) -> list[float]:  # fmt: skip
    """Slopes of a batch's losses at the raw predictions ``scale x w + b``, weighted, over the number of rows."""
    residuals = []
    for i in batch:
        columns, values = rows[i]
        z = 0.0
        for j, x in zip(columns, values, strict=True):
            z += w[j] * x
        r = dloss(y[i], scale * z + b) / len(batch)
        residuals.append(r if sample_weight is None else r * sample_weight[i])
    return residuals


def _python_gradient(
    rows: list[tuple[list[int], list[float]]], w: list[float], residuals: list[float], alpha: float, batch: Any
) -> list[float]:  # fmt: skip
    """Of a batch's mean loss and L2, in the coefficients."""
    g = [alpha * wj for wj in w] if alpha else [0.0] * len(w)
    for i, r in zip(batch, residuals, strict=True):
        columns, values = rows[i]
        for j, x in zip(columns, values, strict=True):
            g[j] += r * x
    return g


def python_init(name: str, w: list[float], hyper: Hyper | None = None) -> State:
    """`init` for a list: slots are lists of floats."""
    states = [init(name, wj, **(hyper or {})) for wj in w]
    scalars = RULES[name].scalars
    return {slot: first if slot in scalars else [s[slot] for s in states] for slot, first in states[0].items()}


def _python_step(
    rule: Rule, w: list[float], g: list[float], state: State, t: int, lr: float, hyper: Hyper, d: int
) -> None:
    """One step on lists, w and state in place; the first d coordinates are penalised by weight_decay."""
    if hyper["clipnorm"]:
        factor = hyper["clipnorm"] / max(math.sqrt(sum(gj * gj for gj in g)), hyper["clipnorm"])
        g = [factor * gj for gj in g]
    elif hyper["clipvalue"]:
        g = [clip(gj, clipvalue=hyper["clipvalue"]) for gj in g]
    if hyper["weight_decay"] is not None and rule.step not in _DECAYS_ITSELF:
        for j in range(d):
            w[j] -= lr * hyper["weight_decay"] * w[j]
    if rule.step in _PYTHON_STEPS and not hyper.get("amsgrad") and not hyper.get("centered"):
        _PYTHON_STEPS[rule.step](w, g, state, t, lr, hyper)
    else:
        slots = [slot for slot in state if slot != "ema" and slot not in rule.scalars]
        common = {name: state[name] for name in rule.scalars}
        no_decay = hyper | {"weight_decay": None}
        for j, gj in enumerate(g):
            cell = {slot: state[slot][j] for slot in slots}
            w[j], new = rule.step(w[j], gj, cell | common, t, lr, hyper if j < d else no_decay)
            for slot in slots:
                state[slot][j] = new[slot]
        for name in rule.scalars:
            state[name] = new[name]
    if hyper["ema_momentum"] is not None:
        state["ema"] = [ema(average, wj, t, hyper["ema_momentum"]) for average, wj in zip(state["ema"], w, strict=True)]


def _python_gd(w: list[float], g: list[float], state: State, t: int, lr: float, hyper: Hyper) -> None:
    for j, gj in enumerate(g):
        w[j] -= lr * gj


def _python_sgd(w: list[float], g: list[float], state: State, t: int, lr: float, hyper: Hyper) -> None:
    mu = hyper["momentum"]
    if not mu:
        _python_gd(w, g, state, t, lr, hyper)
        return
    u = state["u"]
    if hyper["nesterov"]:
        for j, gj in enumerate(g):
            u[j] = uj = mu * u[j] - lr * gj
            w[j] += mu * uj - lr * gj
    else:
        for j, gj in enumerate(g):
            u[j] = uj = mu * u[j] - lr * gj
            w[j] += uj


def _python_adagrad(w: list[float], g: list[float], state: State, t: int, lr: float, hyper: Hyper) -> None:
    a, epsilon, sqrt = state["a"], hyper["epsilon"], math.sqrt
    for j, gj in enumerate(g):
        a[j] = aj = a[j] + gj * gj
        w[j] -= lr * gj / sqrt(aj + epsilon)


def _python_rmsprop(w: list[float], g: list[float], state: State, t: int, lr: float, hyper: Hyper) -> None:
    v, rho, epsilon, mu, sqrt = state["v"], hyper["rho"], hyper["epsilon"], hyper["momentum"], math.sqrt
    if mu:
        u = state["u"]
        for j, gj in enumerate(g):
            v[j] = vj = rho * v[j] + (1.0 - rho) * gj * gj
            u[j] = uj = mu * u[j] + lr * gj / sqrt(vj + epsilon)
            w[j] -= uj
    else:
        for j, gj in enumerate(g):
            v[j] = vj = rho * v[j] + (1.0 - rho) * gj * gj
            w[j] -= lr * gj / sqrt(vj + epsilon)


def _python_adam(w: list[float], g: list[float], state: State, t: int, lr: float, hyper: Hyper) -> None:
    m, v, b1, b2, epsilon, sqrt = state["m"], state["v"], hyper["beta_1"], hyper["beta_2"], hyper["epsilon"], math.sqrt
    rate = lr * sqrt(1.0 - b2**t) / (1.0 - b1**t)
    for j, gj in enumerate(g):
        m[j] = mj = b1 * m[j] + (1.0 - b1) * gj
        v[j] = vj = b2 * v[j] + (1.0 - b2) * gj * gj
        w[j] -= rate * mj / (sqrt(vj) + epsilon)


#: Rules for which a program without NumPy would have a loop of its own.
_PYTHON_STEPS: dict[Any, Any] = {
    gd_step: _python_gd,
    sgd_step: _python_sgd,
    adagrad_step: _python_adagrad,
    rmsprop_step: _python_rmsprop,
    adam_step: _python_adam,
}
