"""Update rules, named and parametrised as in Keras: frozen dataclasses that hold no state.

A rule's formula stands in its docstring, in plain Python in `fastopt.reference`, and compiled in `_kernels/rule.pxd`;
tests hold the three together. Symbols: w parameters, g gradient, t = 1, 2, ... the step, lr its learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastopt._kernels import step as _step
from fastopt._validation import check_bool, check_choice, check_fraction, check_positive, check_real, fail
from fastopt.schedules import Schedule

__all__ = ["OPTIMIZERS", "SGD", "Adam", "GradientDescent", "Optimizer", "get"]

Array = NDArray[Any]
State = dict[str, Any]
#: Learning rate as a function of the steps taken, at any real number of them (None: only at whole numbers).
Rate = Callable[[Any], Any] | None

WIDTH: int = _step.TABLE_WIDTH


@dataclass(frozen=True)
class Optimizer:
    """Base of all update rules.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto"
        Per step. A callable gets the number of steps taken. "auto" is resolved by the solvers, from the data.
    decay : float, keyword only
        The learning rate of step t is divided by ``1 + decay (t - 1)``.
    """

    name: ClassVar[str]

    learning_rate: float | Callable[[int], float] | str = 0.01
    decay: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.learning_rate, str):
            if self.learning_rate != "auto":
                fail("learning_rate", "a number >= 0, a schedule or 'auto'", self.learning_rate)
        elif not callable(self.learning_rate):
            check_real("learning_rate", self.learning_rate, low=0, remedy="Use maximize=True to ascend.")
        check_real("decay", self.decay, low=0)
        self._check()

    def _check(self) -> None:
        """Validates the rule's own parameters."""

    # ------------------------------------------------------------------------------------------- what users call

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state's arrays, each shaped like w."""
        return ()

    def init(self, w: Array) -> State:
        """State before the first step: ``{"t": 0, slot: array like w, ...}``, a plain dict that `numpy.savez` can save.

        Parameters
        ----------
        w : ndarray of float32 or float64
            The parameters; not written.
        """
        w = _parameters(w)
        return {"t": 0} | {slot: np.full_like(w, self._start(slot)) for slot in self.slots}

    def step(self, w: Array, g: Array, state: State) -> None:
        """One step against the gradient g: w and the state are written in place.

        Parameters
        ----------
        w : C-contiguous ndarray of float32 or float64
        g : ndarray of the same shape and dtype
        state : dict
            As `init` gave it.

        Raises
        ------
        ValueError
            If shapes or dtypes disagree, or ``learning_rate="auto"`` was never resolved.
        """
        w = _parameters(w)
        g = _like("g", g, w)
        slots = [_like(f"state[{slot!r}]", state[slot], w, written=True) for slot in self.slots]
        t = state["t"] + 1
        row = np.array(self._columns(t, self.rate(t - 1), state), dtype=np.float64)
        slots += [w[:0]] * (3 - len(slots))
        _step.dense(_step.RULES[self._kernel], self._hyper_array, row, w, g, *slots)
        state["t"] = t

    def rate(self, k: Any) -> Any:
        """Learning rate of the step after k steps (a number or an array), `decay` included."""
        lr: Any = self.learning_rate
        if isinstance(lr, str):
            raise ValueError("learning_rate must be a number or a schedule here; got 'auto'. Only solvers resolve it.")
        if callable(lr):
            if isinstance(lr, Schedule) or np.ndim(k) == 0:
                lr = lr(k)
            else:
                lr = np.array([float(lr(int(i))) for i in k])
        return lr / (1 + self.decay * k) if self.decay else lr

    def with_learning_rate(self, learning_rate: float | Callable[[int], float]) -> Optimizer:
        """The same rule with another learning rate."""
        return replace(self, learning_rate=learning_rate)

    @property
    def smooth(self) -> bool:
        """Whether the learning rate is a smooth function of real step numbers."""
        return not callable(self.learning_rate) or (
            isinstance(self.learning_rate, Schedule) and self.learning_rate.smooth
        )

    # ------------------------------------------------------------------------------- what the kernels need to know

    @property
    def _kernel(self) -> str:
        """The rule's name in `_kernels/step.pyx`."""
        return self.name

    def _start(self, slot: str) -> float:
        """Value of a slot before the first step."""
        return 0.0

    def _hyper(self) -> tuple[float, ...]:
        """Hyperparameters in the order in which `read` and `idle` of the kernel take them."""
        return ()

    @cached_property
    def _hyper_array(self) -> NDArray[np.float64]:
        return np.array([*self._hyper(), 0.0], dtype=np.float64)

    def _columns(self, t: Any, lr: Any, state: State) -> tuple[Any, ...]:
        """This step's scalars as `read` of the kernel takes them, for a step number or an array of them."""
        return (lr,)

    def idles_exactly(self, alpha: float, constant_rate: bool) -> bool:
        """Whether `_kernels` can apply any number of zero-gradient steps at once (with L2 of strength alpha)."""
        return False

    def _fill_idle(self, table: Array, t0: int, alpha: float, rate: Rate) -> NDArray[np.float64]:
        """Completes the table of an epoch that starts after t0 steps with what `idle` needs; returns the hyper array.

        Row s of the table describes step t0 + s; column 0 is filled.
        """
        return self._hyper_array


def _parameters(w: Array) -> Array:
    if not isinstance(w, np.ndarray) or w.dtype not in (np.float32, np.float64) or not w.dtype.isnative:
        got = getattr(w, "dtype", type(w).__name__)
        raise TypeError(f"w must be a NumPy array of float32 or float64; got {got!s}. Use numpy.asarray(w, dtype=float).")
    if not w.flags.c_contiguous or not w.flags.writeable:
        raise ValueError("w must be C-contiguous and writeable; got an array that is not. Use numpy.array(w, order='C').")
    return w.reshape(-1)


def _like(name: str, a: Array, w: Array, *, written: bool = False) -> Array:
    if not isinstance(a, np.ndarray) or a.size != w.size or a.dtype != w.dtype:
        got = f"{a.dtype} of {a.size}" if isinstance(a, np.ndarray) else type(a).__name__
        raise ValueError(f"{name} must be an array like w ({w.dtype} of {w.size} elements); got {got}.")
    if written and not (a.flags.c_contiguous and a.flags.writeable):
        raise ValueError(f"{name} must be C-contiguous and writeable; got an array that is not.")
    return np.ascontiguousarray(a).reshape(-1)


@dataclass(frozen=True)
class GradientDescent(Optimizer):
    """Gradient descent on all the data: ``w -= lr g``.

    In the solvers it is SGD with ``batch_size="full"``.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.01
    decay : float, default 0.0

    References
    ----------
    Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées", 1847.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0]), GradientDescent(learning_rate=0.25)
    >>> rule.step(w, 2 * w, state := rule.init(w))
    >>> w, state
    (array([0.5]), {'t': 1})
    """

    name: ClassVar[str] = "gd"

    @property
    def _kernel(self) -> str:
        return "sgd"

    def idles_exactly(self, alpha: float, constant_rate: bool) -> bool:
        """Plain steps never wait: w is kept as scale times v."""
        return False


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum mu ``u = mu u - lr g; w += u``, Nesterov's ``w += mu u - lr g``.

    The learning rate is inside the velocity (Keras). PyTorch multiplies by it afterwards (``u = mu u + g; w -= lr u``):
    the same iterates only while the learning rate does not change.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.01
    momentum : float in [0, 1), default 0.0
    nesterov : bool, default False
    decay : float, default 0.0

    Notes
    -----
    On CSR data a step costs O(nonzeros) and the iterates are those of the dense algorithm: without momentum L2 scales all
    coordinates at once; with momentum a coordinate that waited k steps takes the k-th power of its 2x2 recurrence (with
    L2 for a learning rate that is constant within an epoch; otherwise every coordinate steps).

    References
    ----------
    Robbins, Monro, "A stochastic approximation method", 1951. Polyak, "Some methods of speeding up the convergence of
    iteration methods", 1964, eq. (9). Sutskever et al., "On the importance of initialization and momentum in deep
    learning", ICML 2013, eqs. (1)-(4). Bottou, "Stochastic gradient descent tricks", 2012, section 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0]), SGD(learning_rate=0.1, momentum=0.5)
    >>> state = rule.init(w)
    >>> for _ in range(2):
    ...     rule.step(w, 2 * w, state)
    >>> w.round(6), state["u"].round(6)
    (array([0.54]), array([-0.26]))
    """

    name: ClassVar[str] = "sgd"
    momentum: float = 0.0
    nesterov: bool = False

    def _check(self) -> None:
        check_fraction("momentum", self.momentum)
        check_bool("nesterov", self.nesterov)

    @property
    def slots(self) -> tuple[str, ...]:
        """``("u",)`` with momentum."""
        return ("u",) if self.momentum else ()

    @property
    def _kernel(self) -> str:
        if not self.momentum:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    def _hyper(self) -> tuple[float, ...]:
        return (self.momentum,)

    def idles_exactly(self, alpha: float, constant_rate: bool) -> bool:
        """With momentum, by powers of a matrix: it is one and the same only if L2 or the rate do not change it."""
        return bool(self.momentum) and (alpha == 0 or constant_rate)

    def _fill_idle(self, table: Array, t0: int, alpha: float, rate: Rate) -> NDArray[np.float64]:
        """Columns 1-4 of row k: the k-th power of the matrix that takes (w, u) through a step without a gradient."""
        mu = self.momentum
        shrink = alpha * float(table[-1, 0])
        if self.nesterov:
            matrix = np.array([[1 - shrink - mu * shrink, mu * mu], [-shrink, mu]])
        else:
            matrix = np.array([[1 - shrink, mu], [-shrink, mu]])
        table[:, 1:5] = matrix_powers(matrix, len(table)).reshape(-1, 4)
        return self._hyper_array


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: ``m += (1 - b1)(g - m); v += (1 - b2)(g^2 - v); w -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)``.

    eps stands beside the root of the uncorrected v (Keras; the paper's "epsilon hat"). PyTorch and the paper's
    Algorithm 1 have ``sqrt(v / (1 - b2^t)) + eps``.

    Parameters
    ----------
    learning_rate : float, Schedule, callable or "auto", default 0.001
    beta_1, beta_2 : float in [0, 1), defaults 0.9 and 0.999
    epsilon : float > 0, default 1e-8
    decay : float, default 0.0

    Notes
    -----
    On CSR data a step costs O(nonzeros). Without a penalty the iterates are those of the dense algorithm: a coordinate
    that waited k steps moves by a sum with geometric weights beta_1^j, taken step by step while t < 25 / (1 - beta_1) and
    by 3-node Gauss quadrature after (relative error under 1e-7 of the motion). With L2 the touched coordinates alone
    are shrunk, each with alpha over the share of batches that touch it: the expected step is the gradient of F, the
    minimiser is the same, the iterates are not those of the dense algorithm.

    References
    ----------
    Kingma, Ba, "Adam: A method for stochastic optimization", ICLR 2015, end of section 2.

    Examples
    --------
    >>> import numpy as np
    >>> w, rule = np.array([1.0, -2.0]), Adam(learning_rate=0.1)
    >>> state = rule.init(w)
    >>> rule.step(w, np.array([0.5, -30.0]), state)
    >>> w.round(6)
    array([ 0.9, -1.9])
    """

    name: ClassVar[str] = "adam"
    learning_rate: float | Callable[[int], float] | str = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def _check(self) -> None:
        check_fraction("beta_1", self.beta_1)
        check_fraction("beta_2", self.beta_2)
        check_positive("epsilon", self.epsilon)

    @property
    def slots(self) -> tuple[str, ...]:
        """``("m", "v")``."""
        return ("m", "v")

    def _hyper(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon)

    def _columns(self, t: Any, lr: Any, state: State) -> tuple[Any, ...]:
        return (lr * (1 - power(self.beta_2, t)) ** 0.5 / (1 - power(self.beta_1, t)),)

    def idles_exactly(self, alpha: float, constant_rate: bool) -> bool:
        """Always; what L2 means on CSR is in the Notes."""
        return True

    def _fill_idle(self, table: Array, t0: int, alpha: float, rate: Rate) -> NDArray[np.float64]:
        """Columns 1-3 of row s: weight times gain at the quadrature's nodes after step t0 + s; 4, 5: beta_1^s, beta_2^s."""
        b1, b2 = self.beta_1, self.beta_2
        rows = np.arange(len(table), dtype=np.float64)
        t = t0 + rows
        table[:, 4] = power(b1, rows)
        table[:, 5] = power(b2, rows)
        nodes, weights = geometric_quadrature(b1)
        # f(j) = b2^(-j/2) must be smooth on the scale 1 / (1 - b1) on which the weight b1^j falls off.
        first = 25 / (1 - b1) - t0
        # And the kernel multiplies three denominators of at least eps each.
        if rate is None or (1 - b2) > 0.05 * (1 - b1) or self.epsilon < 1e-80:
            first = np.inf
        else:
            for i in range(3):
                later = t + nodes[i]
                table[:, 1 + i] = weights[i] * self._columns(later, rate(later - 1), {})[0]
        longest = np.ceil(np.log(1e-18) / np.log(b1)) if b1 > 0 else 1.0
        return np.array([b1, b2, self.epsilon, *b2 ** (nodes / 2), first, longest])


def power(base: float, exponent: Any) -> Any:
    """``base**exponent`` for 0 <= base < 1; at an array's underflow, where NumPy's own is 20 times slower, about 1e-304."""
    if np.ndim(exponent) == 0 or base == 0:
        return base**exponent
    return np.exp(np.maximum(exponent * np.log(base), -700.0))


def matrix_powers(matrix: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The powers 0 .. n - 1 of a matrix, (n, 2, 2), by doubling."""
    powers = np.empty((n, *matrix.shape))
    powers[0] = np.eye(len(matrix))
    done = 1
    while done < n:
        more = min(done, n - done)
        powers[done : done + more] = powers[:more] @ (powers[done - 1] @ matrix)
        done += more
    return powers


def geometric_quadrature(c: float, n: int = 3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes x_i and weights with ``sum_{j >= 1} c^j f(j) = sum_i weights_i f(x_i)``, exact for polynomials below degree 2n.

    Gauss quadrature of the Meixner polynomials with beta = 1 (Golub, Welsch 1969; NIST DLMF 18.19, 18.22): eigenvalues and
    first components of the Jacobi matrix; the sum starts at 1, hence one factor c and nodes moved by 1.
    """
    i = np.arange(n)
    side = i[1:] * np.sqrt(c) / (1 - c)
    x, V = np.linalg.eigh(np.diag((i + c * (i + 1)) / (1 - c)) + np.diag(side, 1) + np.diag(side, -1))
    return x + 1, c * V[0] ** 2 / (1 - c)


#: Every rule by name; "momentum" and "nesterov" are SGD with the textbook's momentum of 0.9.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "gd": GradientDescent,
    "sgd": SGD,
    "momentum": lambda **kw: SGD(**{"momentum": 0.9} | kw),
    "nesterov": lambda **kw: SGD(**{"momentum": 0.9, "nesterov": True} | kw),
    "adam": Adam,
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """The rule of this name with its defaults, or the instance itself.

    Examples
    --------
    >>> get("momentum")
    SGD(learning_rate=0.01, momentum=0.9, nesterov=False, decay=0.0)
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    check_choice("optimizer", optimizer, OPTIMIZERS, "Or give an instance, such as Adam(learning_rate=0.01).")
    return OPTIMIZERS[optimizer]()
