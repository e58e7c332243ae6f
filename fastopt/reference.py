"""Every loss, update rule and epoch in plain Python and NumPy.

The compiled code is tested against this module and timed against it: it is the oracle of the tests and the baseline of the benches.
So it imports nothing compiled but NumPy, and says each formula once, in the plainest way that is still the way a good user of NumPy would
write it.

Conventions
-----------
- ``w`` has shape (n_features + fit_intercept, n_outputs). With an intercept the last row is the intercept, which is never penalised.
- Targets of the binary losses are -1.0 and +1.0; of "multinomial", the class numbers 0 .. K-1.
- ``z = X w + b`` is the raw prediction; ``dloss`` is the derivative of the loss with respect to it.
- A rule sees steps ``t = 1, 2, ...``, counted over the whole run.
- The losses and the rules are pure functions that run on arrays and, by the very same lines, on Python floats (one row, one coordinate).
"""

import math
from typing import Callable, NamedTuple

import numpy as np

__all__ = ["LOSSES", "RULES", "COMMON", "Rule", "averaged", "clip", "decayed", "ema", "epoch", "gradient", "init", "objective", "polyak",
           "python_epoch", "step"]


# --- what Python floats and arrays do not share ---------------------------------------------------------------------------------------

def _exp(x):
    """exp that overflows to inf without a word: math.exp raises, numpy.exp warns."""
    if isinstance(x, float):
        try:
            return math.exp(x)
        except OverflowError:
            return math.inf
    with np.errstate(over="ignore"):
        return np.exp(x)


def _log1p(x):
    return math.log1p(x) if isinstance(x, float) else np.log1p(x)


def _square(x):
    """x * x, inf without a word where it is too large for a float."""
    if isinstance(x, float):
        x = float(x)  # numpy.float64 is a float that warns
        return x * x
    with np.errstate(over="ignore"):
        return x * x


def _max(a, b):
    return max(a, b) if isinstance(a, float) and isinstance(b, float) else np.maximum(a, b)


def _sign(x):
    return float((x > 0) - (x < 0)) if isinstance(x, float) else np.sign(x)


def _where(condition, a, b):
    if isinstance(condition, (bool, np.bool_)):
        return a if condition else b
    return np.where(condition, a, b)


def _zeros(w):
    return 0.0 if isinstance(w, float) else np.zeros_like(w)


def _full(w, value):
    return float(value) if isinstance(w, float) else np.full_like(w, value)


def _copy(w):
    return w if isinstance(w, float) else np.array(w)


# --- losses ---------------------------------------------------------------------------------------------------------------------------

def log_loss(y, z):
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
    Maechler, "Accurately computing log(1 - exp(-|a|))", 2012, eq. (10), for log1p(exp(x)).
    """
    m = y * z
    return _max(-m, 0.0) + _log1p(_exp(-abs(m)))


def dlog_loss(y, z):
    """Derivative of `log_loss`: ``-y / (1 + exp(y z))``; an infinite exponential rightly gives zero."""
    return -y / (1.0 + _exp(y * z))


def multinomial(y, z):
    """Softmax cross-entropy ``log(sum_k exp(z_k)) - z_y``.

    Computed as ``(max z - z_y) + log1p(sum over the others of exp(z_k - max z))``: no overflow, and no cancellation where the loss is small.

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


def dmultinomial(y, z):
    """Derivative of `multinomial`: ``softmax(z)_k - [k = y]``, shape (n, K) (Bishop 2006, eq. (4.109))."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(z)), np.asarray(y).astype(np.intp)] -= 1.0
    return p


LOSSES: dict[str, tuple[Callable, Callable]] = {
    "log_loss": (log_loss, dlog_loss),
    "multinomial": (multinomial, dmultinomial),
}


# --- update rules ---------------------------------------------------------------------------------------------------------------------

class Rule(NamedTuple):
    """One row of `RULES`.

    Attributes
    ----------
    slots : tuple of str
        What the state holds beside the parameters, each like w, with the default hyper-parameters. `init` adds the slots of options
        that are switched on.
    defaults : dict
        Hyper-parameters and their defaults; all rules also know those of `COMMON`.
    init : callable
        ``init(w, hyper) -> state``, ``hyper`` complete.
    step : callable
        ``step(w, g, state, t, lr, hyper) -> (w, state)``, ``hyper`` complete; new values, nothing is written in place.
    scalars : tuple of str
        What the state holds that is one float for all coordinates.
    """

    slots: tuple
    defaults: dict
    init: Callable
    step: Callable
    scalars: tuple = ()


def gd_step(w, g, state, t, lr, hyper):
    """Gradient descent: ``w = w - lr g``."""
    return w - lr * g, state


def sgd_init(w, hyper):
    """No state, or the velocity u = 0 where momentum is not zero."""
    return {"u": _zeros(w)} if hyper["momentum"] else {}


def sgd_step(w, g, state, t, lr, hyper):
    """SGD with momentum mu.

    ``u = mu u - lr g``, then ``w = w + u``, or with Nesterov ``w = w + mu u - lr g``. The learning rate is inside the velocity (Keras);
    PyTorch keeps ``u = mu u + g`` and multiplies by lr afterwards, the same iterates only while lr does not change.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", ICML 2013, eqs. (1)-(2); Nesterov:
    eqs. (3)-(4), written for the point where the gradient is taken.
    """
    mu = hyper["momentum"]
    if not mu:
        return w - lr * g, state
    u = mu * state["u"] - lr * g
    return (w + mu * u - lr * g if hyper["nesterov"] else w + u), {"u": u}


def adam_init(w, hyper):
    """m = v = 0; with AMSGrad also v_max = 0."""
    state = {"m": _zeros(w), "v": _zeros(w)}
    if hyper["amsgrad"]:
        state["v_max"] = _zeros(w)
    return state


def adam_step(w, g, state, t, lr, hyper):
    """Adam and AMSGrad.

    ``m = m + (1 - b1) (g - m)``, ``v = v + (1 - b2) (g^2 - v)``, ``w = w - lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)``: eps beside
    the root of the uncorrected v, as in Keras. AMSGrad puts ``v_max = max(v_max, v)`` in v's place and keeps the bias correction.

    References
    ----------
    Kingma, Ba, "Adam: A method for stochastic optimization", ICLR 2015, the form at the end of section 2 ("epsilon hat"), not that of
    Algorithm 1, which has PyTorch's ``sqrt(v / (1 - b2^t)) + eps``. Reddi, Kale, Kumar, "On the convergence of Adam and beyond", ICLR 2018,
    Algorithm 2 (which has no bias correction).
    """
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    m = state["m"] + (1.0 - b1) * (g - state["m"])
    v = state["v"] + (1.0 - b2) * (g * g - state["v"])
    new = {"m": m, "v": v}
    if hyper["amsgrad"]:
        v = new["v_max"] = _max(state["v_max"], v)
    rate = lr * (1.0 - b2**t) ** 0.5 / (1.0 - b1**t)
    return w - rate * m / (v**0.5 + hyper["epsilon"]), new


_ADAM = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "amsgrad": False}
_SGD = {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}

RULES: dict[str, Rule] = {
    "gd": Rule((), {"learning_rate": 0.01}, lambda w, hyper: {}, gd_step),
    "sgd": Rule((), _SGD, sgd_init, sgd_step),
    "momentum": Rule(("u",), _SGD | {"momentum": 0.9}, sgd_init, sgd_step),
    "nesterov": Rule(("u",), _SGD | {"momentum": 0.9, "nesterov": True}, sgd_init, sgd_step),
    "adam": Rule(("m", "v"), _ADAM, adam_init, adam_step),
}

#: What every rule knows beside its own hyper-parameters (None: off).
COMMON = {"decay": 0.0, "weight_decay": None, "clipnorm": None, "clipvalue": None, "ema_momentum": None}


def decayed(learning_rate, t, decay):
    """Learning rate of step t by inverse time: ``learning_rate / (1 + decay (t - 1))`` (Keras's and PyTorch Adagrad's ``decay``)."""
    return learning_rate / (1.0 + decay * (t - 1))


def clip(g, clipnorm=None, clipvalue=None):
    """Gradient clipped as Keras does it.

    ``g clipnorm / max(||g||_2, clipnorm)``, the norm taken over the whole array, or each entry cut to [-clipvalue, clipvalue].

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


def ema(average, w, t, momentum):
    """Exponential moving average of the iterates as in Keras: w itself at t = 1, then ``momentum average + (1 - momentum) w``."""
    return _copy(w) if t == 1 else momentum * average + (1.0 - momentum) * w


def polyak(average, w, t, start=1):
    """Plain average of the iterates from step `start` on: w itself until then, after that ``average + (w - average) / (t - start + 1)``.

    References
    ----------
    Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30(4), 1992, eq. (4).
    """
    return _copy(w) if t <= start else average + (w - average) / (t - start + 1)


def _complete(name, hyper):
    """The rule's row and all its hyper-parameters."""
    if name not in RULES:
        raise ValueError(f"name must be one of {sorted(RULES)}; got {name!r}.")
    known = COMMON | RULES[name].defaults
    for key in hyper:
        if key not in known:
            raise ValueError(f"hyper must hold only parameters of {name!r}; got {key!r}. It has {sorted(known)}.")
    return RULES[name], known | hyper


def init(name, w, **hyper):
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


def step(name, w, g, state, t, lr=None, **hyper):
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


def _step(rule, w, g, state, t, lr, hyper):
    lr = float(lr)  # a numpy.float64 would turn float32 parameters into float64
    g = clip(g, hyper["clipnorm"], hyper["clipvalue"])
    if hyper["weight_decay"] is not None:
        w = w - lr * hyper["weight_decay"] * w
    new, new_state = rule.step(w, g, state, t, lr, hyper)
    if hyper["ema_momentum"] is not None:
        new_state = new_state | {"ema": ema(state["ema"], new, t, hyper["ema_momentum"])}
    return new, new_state


# --- objective and epochs -------------------------------------------------------------------------------------------------------------

def _pair(loss):
    """(loss, dloss) from a name of `LOSSES`, or such a pair itself."""
    if not isinstance(loss, str):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {sorted(LOSSES)} or a pair of functions; got {loss!r}.")
    return LOSSES[loss]


def _raw_prediction(X, w, fit_intercept):
    z = X @ (w[:-1] if fit_intercept else w)
    return z + w[-1] if fit_intercept else z


def _pointwise(function, y, z):
    """A loss or dloss on raw predictions of shape (n, n_outputs)."""
    return function(y, z) if z.shape[1] > 1 else function(y, z[:, 0])


def objective(X, y, w, *, loss="log_loss", alpha=0.0, sample_weight=None, fit_intercept=True):
    """``F(w) = sum_i s_i loss(y_i, z_i) / sum_i s_i + alpha / 2 ||w||^2``, the intercept not penalised, all sums in float64.

    Parameters
    ----------
    X : (n, d) ndarray or scipy CSR
    y : (n,) array
    w : (d + fit_intercept, n_outputs) array
    loss : str or pair of functions
        A key of `LOSSES`, or (loss, dloss) themselves, so that functools.partial can set a loss's parameter.
    alpha : float
        Strength of the L2 penalty.
    sample_weight : (n,) array or None
    fit_intercept : bool
        Whether the last row of w is the intercept.

    Returns
    -------
    float
    """
    w = np.asarray(w, dtype=np.float64)
    losses = _pointwise(_pair(loss)[0], y, _raw_prediction(X, w, fit_intercept))
    penalised = w[:-1] if fit_intercept else w
    return float(np.average(losses, weights=sample_weight) + 0.5 * alpha * np.sum(penalised * penalised))


def gradient(X, y, w, *, loss="log_loss", alpha=0.0, sample_weight=None, fit_intercept=True):
    """Gradient of `objective`, shape of w, float64. Parameters as there."""
    w = np.asarray(w, dtype=np.float64)
    r = _pointwise(_pair(loss)[1], y, _raw_prediction(X, w, fit_intercept)).reshape(X.shape[0], -1)
    s = np.ones(X.shape[0]) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    r = r * (s / s.sum())[:, None]
    if not fit_intercept:
        return X.T @ r + alpha * w
    return np.vstack([X.T @ r + alpha * w[:-1], r.sum(axis=0)])


def epoch(X, y, w, state, *, rule, hyper=None, loss="log_loss", alpha=0.0, sample_weight=None, fit_intercept=True, order=None,
          batch_size=1, learning_rates=None, t0=0, on_step=None):
    """One pass of minibatch steps, each of which moves every coordinate, on dense and on CSR data alike.

    The gradient of a batch of b rows is ``1/b sum_i s'_i dloss_i x_i + alpha w`` with ``s' = s / mean(s)``; the last batch may be shorter.

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

    Returns
    -------
    w, state, t
        New values, and the steps taken so far.
    """
    rule_name, (rule, hyper) = rule, _complete(rule, hyper or {})
    n, d = X.shape
    sparse = hasattr(X, "indptr")
    dloss = _pair(loss)[1]
    y = np.asarray(y)
    s = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64) / np.mean(sample_weight)
    in_order = order is None
    order = np.arange(n) if order is None else np.asarray(order)
    size = len(order) if batch_size == "full" else batch_size
    # A full batch needs no copy of X in another order of rows.
    in_order = in_order or (size >= n == len(order) and bool(np.bincount(order, minlength=n).all()))
    if hyper["weight_decay"] is not None and fit_intercept:
        mask = np.full((len(w), 1), hyper["weight_decay"], dtype=w.dtype)
        mask[-1] = 0.0
        hyper = hyper | {"weight_decay": mask}
    if state is None:
        state = init(rule_name, w, **hyper)
    t = t0
    for start in range(0, len(order), size):
        stop = min(start + size, len(order))
        rows = slice(start, stop) if in_order else order[start:stop]
        if stop - start == 1:  # a slice is a view, a list of one row is not
            rows = slice(order[start], order[start] + 1)
        b = stop - start
        if sparse and b == 1:  # scipy's X[i] costs far more than its few numbers
            entries = slice(X.indptr[rows.start], X.indptr[rows.stop])
            columns, values = X.indices[entries], X.data[entries]
            z = (values @ w[columns])[None, :]
        else:
            Xb = X if b == n and in_order else X[rows]
            z = Xb @ w[:d]
        if fit_intercept:
            z = z + w[d]
        r = _pointwise(dloss, y[rows], z).reshape(b, -1) / b
        if s is not None:
            r *= s[rows, None]
        r = r.astype(w.dtype, copy=False)
        g = np.zeros_like(w)
        if sparse and b == 1:
            np.add.at(g, columns, values[:, None] * r)
        else:
            g[:d] = Xb.T @ r
        if alpha:
            g[:d] += alpha * w[:d]
        if fit_intercept:
            g[d] = r.sum(axis=0)
        t += 1
        lr = decayed(hyper["learning_rate"], t, hyper["decay"]) if learning_rates is None else learning_rates[t - 1 - t0]
        w, state = _step(rule, w, g, state, t, lr, hyper)
        if on_step is not None:
            on_step(t, w, state)
    return w, state, t
