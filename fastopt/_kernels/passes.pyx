"""Full passes over rows start .. stop - 1: raw predictions; loss and gradient; Hessian product.

Parameters and sums are double whatever the data's type; the caller cuts the rows into pieces. `z` and `zu` are the
caller's buffers for the raw predictions of one row.
"""
from fastopt._kernels.exponential cimport exp
from fastopt._kernels.loss cimport MULTINOMIAL, curvature_of, slope_of, softmax, value_of
from fastopt._kernels.portable cimport index, real
from fastopt._kernels.row cimport (axpy, dot, outputs_axpy, outputs_dot, sparse_axpy, sparse_dot,
                                   sparse_outputs_axpy, sparse_outputs_dot)


cdef class Terms:
    """The loss of every row: kind, targets, weights (empty: all one), and the shape of the parameters.

    With several outputs a pointwise loss has a target for each, contiguous by row, and weights for rows or for each.
    """
    cdef int loss
    cdef double loss_parameter
    cdef const double[::1] y, weights
    cdef Py_ssize_t n_features, n_outputs, n_weights
    cdef bint intercept

    def __init__(self, int loss, double loss_parameter, const double[::1] y, const double[::1] weights,
                 n_features, n_outputs, bint intercept):
        self.loss, self.loss_parameter, self.y, self.weights = loss, loss_parameter, y, weights
        self.n_features, self.n_outputs, self.intercept = n_features, n_outputs, intercept
        cdef Py_ssize_t n_rows = y.shape[0] // (1 if loss == MULTINOMIAL else n_outputs)
        self.n_weights = n_outputs if weights.shape[0] > n_rows else min(weights.shape[0], 1)


cdef inline double loss_of(Terms t, Py_ssize_t row, double *z) noexcept nogil:
    """Weighted loss of a row; its raw predictions z become the weighted slopes."""
    cdef Py_ssize_t c, K = t.n_outputs
    cdef double s = t.weights[row] if t.n_weights == 1 else 1.0, loss = 0
    if t.loss == MULTINOMIAL:
        loss = softmax(z, t.n_outputs, <Py_ssize_t>t.y[row])
        for c in range(t.n_outputs):
            z[c] *= s
        return s * loss
    for c in range(K):
        if t.n_weights > 1:
            s = t.weights[row * K + c]
        loss += s * value_of(t.loss, t.loss_parameter, t.y[row * K + c], z[c])
        z[c] = s * slope_of(t.loss, t.loss_parameter, t.y[row * K + c], z[c])
    return loss


cdef inline void curve(Terms t, Py_ssize_t row, double *z, double *u) noexcept nogil:
    """u = x.V becomes the row's weighted loss Hessian in z, times u."""
    cdef Py_ssize_t c, K = t.n_outputs
    cdef double s = t.weights[row] if t.n_weights == 1 else 1.0, mean = 0
    if t.loss == MULTINOMIAL:           # (diag(p) - p p') u
        softmax(z, t.n_outputs, 0)
        z[0] += 1
        for c in range(t.n_outputs):
            mean += z[c] * u[c]
        for c in range(t.n_outputs):
            u[c] = s * z[c] * (u[c] - mean)
    else:
        for c in range(K):
            if t.n_weights > 1:
                s = t.weights[row * K + c]
            u[c] *= s * curvature_of(t.loss, t.loss_parameter, t.y[row * K + c], z[c])


cdef inline void begin(Terms t, const double *w, double *z) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(t.n_outputs):
        z[c] = w[t.n_features * t.n_outputs + c] if t.intercept else 0.0


cdef inline void add_intercept(Terms t, const double *z, double *g) noexcept nogil:
    cdef Py_ssize_t c
    if t.intercept:
        for c in range(t.n_outputs):
            g[t.n_features * t.n_outputs + c] += z[c]


cdef inline void dense_scores(Terms t, const real *x, const double *w, double *z) noexcept nogil:
    begin(t, w, z)
    if t.n_outputs == 1:
        z[0] += dot(x, w, t.n_features)
    else:
        outputs_dot(x, w, t.n_features, t.n_outputs, <double>1, z)


cdef inline void dense_add(Terms t, const real *x, const double *z, double *g) noexcept nogil:
    add_intercept(t, z, g)
    if t.n_outputs == 1:
        axpy(z[0], x, g, t.n_features)
    else:
        outputs_axpy(<double>1, z, x, g, t.n_features, t.n_outputs)


cdef inline void sparse_scores(Terms t, const real *x, const index *columns, Py_ssize_t n, const double *w,
                               double *z) noexcept nogil:
    begin(t, w, z)
    if t.n_outputs == 1:
        z[0] += sparse_dot(x, columns, n, w)
    else:
        sparse_outputs_dot(x, columns, n, w, t.n_outputs, <double>1, z)


cdef inline void sparse_add(Terms t, const real *x, const index *columns, Py_ssize_t n, const double *z,
                            double *g) noexcept nogil:
    add_intercept(t, z, g)
    if t.n_outputs == 1:
        sparse_axpy(z[0], x, columns, n, g)
    else:
        sparse_outputs_axpy(<double>1, z, x, columns, n, g, t.n_outputs)


def dense_loss(Terms t, const real[:, :] X, const double[::1] w, double[::1] g, double[::1] z,
               Py_ssize_t start, Py_ssize_t stop):
    """Weighted sum of losses; the weighted sum of gradients is added to g unless g is empty."""
    cdef Py_ssize_t row, stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef double total = 0
    cdef const real *x = &X[0, 0]
    with nogil:
        for row in range(start, stop):
            dense_scores(t, x + row * stride, &w[0], &z[0])
            total += loss_of(t, row, &z[0])
            if g.shape[0] > 0:
                dense_add(t, x + row * stride, &z[0], &g[0])
    return total


def sparse_loss(Terms t, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                const double[::1] w, double[::1] g, double[::1] z, Py_ssize_t start, Py_ssize_t stop):
    """`dense_loss` on CSR rows."""
    cdef Py_ssize_t row, k
    cdef double total = 0
    with nogil:
        for row in range(start, stop):
            k = indptr[row]
            sparse_scores(t, &values[0] + k, &columns[0] + k, indptr[row + 1] - k, &w[0], &z[0])
            total += loss_of(t, row, &z[0])
            if g.shape[0] > 0:
                sparse_add(t, &values[0] + k, &columns[0] + k, indptr[row + 1] - k, &z[0], &g[0])
    return total


def dense_hessian(Terms t, const real[:, :] X, const double[::1] w, const double[::1] v, double[::1] product,
                  double[:, ::1] zu, Py_ssize_t start, Py_ssize_t stop):
    """The weighted sum of loss Hessians at w, times v, is added to `product`."""
    cdef Py_ssize_t row, stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x = &X[0, 0]
    with nogil:
        for row in range(start, stop):
            dense_scores(t, x + row * stride, &w[0], &zu[0, 0])
            dense_scores(t, x + row * stride, &v[0], &zu[1, 0])
            curve(t, row, &zu[0, 0], &zu[1, 0])
            dense_add(t, x + row * stride, &zu[1, 0], &product[0])


def sparse_hessian(Terms t, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                   const double[::1] w, const double[::1] v, double[::1] product, double[:, ::1] zu,
                   Py_ssize_t start, Py_ssize_t stop):
    """`dense_hessian` on CSR rows."""
    cdef Py_ssize_t row, k, n
    with nogil:
        for row in range(start, stop):
            k = indptr[row]
            n = indptr[row + 1] - k
            sparse_scores(t, &values[0] + k, &columns[0] + k, n, &w[0], &zu[0, 0])
            sparse_scores(t, &values[0] + k, &columns[0] + k, n, &v[0], &zu[1, 0])
            curve(t, row, &zu[0, 0], &zu[1, 0])
            sparse_add(t, &values[0] + k, &columns[0] + k, n, &zu[1, 0], &product[0])


def dense_predict(Terms t, const real[:, :] X, const double[::1] w, double[:, ::1] scores,
                  Py_ssize_t start, Py_ssize_t stop):
    """Raw predictions of rows start .. stop - 1 into the same rows of `scores`."""
    cdef Py_ssize_t row, stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x = &X[0, 0]
    with nogil:
        for row in range(start, stop):
            dense_scores(t, x + row * stride, &w[0], &scores[row, 0])


def sparse_predict(Terms t, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                   const double[::1] w, double[:, ::1] scores, Py_ssize_t start, Py_ssize_t stop):
    """`dense_predict` on CSR rows."""
    cdef Py_ssize_t row, k
    with nogil:
        for row in range(start, stop):
            k = indptr[row]
            sparse_scores(t, &values[0] + k, &columns[0] + k, indptr[row + 1] - k, &w[0], &scores[row, 0])


def curvatures(Terms t, double[:, ::1] z, Py_ssize_t start, Py_ssize_t stop):
    """Raw predictions become the weighted second derivatives of the losses; with softmax, the probabilities."""
    cdef Py_ssize_t row, c, K = t.n_outputs
    cdef double s
    with nogil:
        for row in range(start, stop):
            if t.loss == MULTINOMIAL:
                softmax(&z[row, 0], K, 0)
                z[row, 0] += 1
                continue
            s = t.weights[row] if t.n_weights == 1 else 1.0
            for c in range(K):
                if t.n_weights > 1:
                    s = t.weights[row * K + c]
                z[row, c] = s * curvature_of(t.loss, t.loss_parameter, t.y[row * K + c], z[row, c])


def dense_moments(Terms t, const real[:, :] X, double[:, ::1] moments, Py_ssize_t start, Py_ssize_t stop):
    """Each column's weighted sum, and its weighted sum of squares, are added to `moments`."""
    cdef Py_ssize_t row, j, stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x
    cdef double *first = &moments[0, 0]
    cdef double *second = &moments[1, 0]
    cdef double s
    with nogil:
        for row in range(start, stop):
            x = &X[0, 0] + row * stride
            s = t.weights[row] if t.n_weights == 1 else 1.0
            for j in range(t.n_features):
                first[j] += s * x[j]
                second[j] += s * x[j] * x[j]


def sparse_moments(Terms t, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                   double[:, ::1] moments, Py_ssize_t start, Py_ssize_t stop):
    """`dense_moments` on CSR rows, entries that name a column twice taken as they stand."""
    cdef Py_ssize_t row, k
    cdef double s
    with nogil:
        for row in range(start, stop):
            s = t.weights[row] if t.n_weights == 1 else 1.0
            for k in range(indptr[row], indptr[row + 1]):
                moments[0, columns[k]] += s * values[k]
                moments[1, columns[k]] += s * values[k] * values[k]


def exponential(real[::1] x):
    """x becomes exp(x), by the kernels' own exp: for its tests."""
    cdef Py_ssize_t k
    for k in range(x.shape[0]):
        x[k] = exp(x[k])
