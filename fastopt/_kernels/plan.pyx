"""What an epoch needs beside X and the parameters; the stages' code is in plan.pxd."""
from libc.math cimport INFINITY

from fastopt._kernels.loss cimport (EPSILON_INSENSITIVE, GAMMA, HINGE, HUBER, LOG_LOSS, MODIFIED_HUBER, MULTINOMIAL,
                                    PERCEPTRON, POISSON, QUANTILE, SQUARED_EPSILON_INSENSITIVE, SQUARED_ERROR,
                                    SQUARED_HINGE)

LOSSES = {"log_loss": LOG_LOSS, "multinomial": MULTINOMIAL, "squared_error": SQUARED_ERROR,
          "squared_hinge": SQUARED_HINGE, "huber": HUBER, "hinge": HINGE, "perceptron": PERCEPTRON,
          "modified_huber": MODIFIED_HUBER, "epsilon_insensitive": EPSILON_INSENSITIVE,
          "squared_epsilon_insensitive": SQUARED_EPSILON_INSENSITIVE, "poisson": POISSON, "gamma": GAMMA,
          "quantile": QUANTILE}


cdef class Plan:
    """Who is minimised, in which order, with which steps."""
    def __init__(self, int loss, double loss_parameter, double alpha, const double[::1] y,
                 const double[::1] weights, n_features, n_outputs, bint intercept, batch_size, touched, first,
                 local, bint distinct):
        self.loss, self.loss_parameter, self.alpha = loss, loss_parameter, alpha
        self.y, self.weights = y, weights
        self.n_features, self.n_outputs, self.intercept = n_features, n_outputs, intercept
        self.n_targets = 1 if loss == MULTINOMIAL else n_outputs
        self.n_weights = n_outputs if weights.shape[0] > y.shape[0] // self.n_targets else min(weights.shape[0], 1)
        self.batch_size = batch_size
        self.touched, self.first, self.local = touched, first, local
        self.distinct = distinct
        self.scale = 1.0

    def begin(self, const Py_ssize_t[::1] order, const double[:, ::1] table, const double[::1] hyper,
              Py_ssize_t first_step):
        """A new epoch: rows in this order; `table[1 + s]` holds the scalars of its step s, or one row those of all."""
        self.order, self.table, self.hyper = order, table, hyper
        self.width = table.shape[1] if table.shape[0] > 1 else 0
        self.first_step = first_step

    def use(self, int rule, const double[::1] intercept_hyper, const Py_ssize_t[::1] slot_rows, bint eager,
            double clipnorm, double clipvalue, Py_ssize_t ema_row, double ema_momentum):
        """The update rule; infinite clipping bounds and an ema_row of 0 are off."""
        self.rule, self.intercept_hyper, self.slot_rows, self.eager = rule, intercept_hyper, slot_rows, eager
        self.clipnorm, self.clipvalue, self.ema_row, self.ema_momentum = clipnorm, clipvalue, ema_row, ema_momentum
        self.clips = clipnorm < INFINITY or clipvalue < INFINITY

    def shrink_by(self, double l1, const double[::1] inverse_shares, bint weighs_l2, bint weighs_l1):
        """L1 of the rule's proximal steps; and which penalties of waiting columns act when a batch touches them, times
        the inverse share of such batches (no such numbers where neither does)."""
        self.l1, self.inverse_shares, self.weighs_l2, self.weighs_l1 = l1, inverse_shares, weighs_l2, weighs_l1

    def vary(self, Py_ssize_t scale_row, bint own_l1):
        """Steps of all columns are taken in the variables u of ``(w, b + means.w) = scales u``, scales and means being
        rows of the parameters' array from this one on; `own_l1` where the rule's own formulas have L1."""
        self.scale_row, self.own_l1 = scale_row, own_l1

    def reset(self):
        """Forgets an epoch that was left half-way: the parameters are to be put back by the caller."""
        self.scale = 1.0
