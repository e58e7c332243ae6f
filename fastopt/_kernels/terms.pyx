"""What a pass needs beside X and the parameters; the stages' code is in terms.pxd."""
from fastopt._kernels.block cimport packed_width
from fastopt._kernels.loss cimport MULTINOMIAL

BLOCK = MOST


cdef class Terms:
    """The loss of every row: kind, targets, weights (empty: all one), and the shape of the parameters.

    With several outputs a pointwise loss has a target for each, contiguous by row, and weights for rows or for each.
    """
    def __init__(self, int loss, double loss_parameter, const double[::1] y, const double[::1] weights,
                 n_features, n_outputs, bint intercept):
        self.loss, self.loss_parameter, self.y, self.weights = loss, loss_parameter, y, weights
        self.n_features, self.n_outputs, self.intercept = n_features, n_outputs, intercept
        cdef Py_ssize_t n_rows = y.shape[0] // (1 if loss == MULTINOMIAL else n_outputs), K = n_outputs
        self.n_weights = n_outputs if weights.shape[0] > n_rows else min(weights.shape[0], 1)
        self.width = packed_width(K, sizeof(double)) if K > 1 else 1
