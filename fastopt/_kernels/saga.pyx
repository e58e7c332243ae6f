"""SAGA on dense and CSR rows: proximal steps along one row's new slope less its old one, plus the average gradient.

A column's cell holds w, the table's average gradient g, and two step sizes, A and B. Row i's step is, on its columns,
``w = prox_{B l1}(w - A r x - B (g + l2 w))``, then ``g += (new - old) x / n``; new is the row's slope s_i dloss_i,
which replaces the old one in the table, and ``r = (new - old) / (1 + q s_i ddloss_i)`` with q = sum A x^2: the step
along the row is as if the slope were taken at its end, so that no row is too long for it. On CSR B is A times n over
the column's count, which makes a step on the row's columns alone the full step in expectation.

The order of the rows is an input.
"""
from libc.math cimport exp

from fastopt._kernels.loss cimport LOG_LOSS, curvature_of, slope_of, value_of
from fastopt._kernels.portable cimport index, prefetch, real
from fastopt._kernels.row cimport (AHEAD, FAR_AHEAD, axpy, dot, prefetch_coming_row, prefetch_row, sparse_axpy,
                                   sparse_dot)


cdef class Saga:
    """What an epoch needs beside X, the cells, the table of slopes and the order."""
    def __init__(self, int loss, double loss_parameter, double l1, double l2, const double[::1] y,
                 const double[::1] weights):
        """`share` is 1 / n of the rows in the average; `pull` 1, or 0 for steps without the average: plain SGD's."""
        self.loss, self.loss_parameter, self.l1, self.l2 = loss, loss_parameter, l1, l2
        self.y, self.weights = y, weights
        self.share, self.pull = 1.0 / y.shape[0], 1.0


cdef inline real renew(Saga p, Py_ssize_t row, double z, double q, real *slope) noexcept nogil:
    """Writes the row's new slope over the old one and returns r."""
    cdef double s = p.weights[row] if p.weights.shape[0] > 0 else 1.0, y = p.y[row], new, curvature, old = slope[0]
    if p.loss == LOG_LOSS:              # both from one exponential
        new = 1 / (1 + exp(y * z))
        curvature = new * (1 - new)
        new = -y * new
    else:
        new = slope_of(p.loss, p.loss_parameter, y, z)
        curvature = curvature_of(p.loss, p.loss_parameter, y, z)
    slope[0] = <real>(s * new)
    return <real>((slope[0] - old) / (1 + q * s * curvature))


cdef inline real shrunk(real w, real by) noexcept nogil:
    """w moved towards zero by `by`, and no further."""
    if w > by:
        return w - by
    return w + by if w < -by else <real>0


cdef inline void step_cell(real *cell, real rx, real gain, real pull, real l2, real l1) noexcept nogil:
    """A column's step; rx = r x, gain is what its average grows by."""
    cdef real w = cell[0] - cell[2] * rx - cell[3] * (pull * cell[1] + l2 * cell[0])
    cell[0] = shrunk(w, cell[3] * l1) if l1 > 0 else w
    cell[1] += gain


def sparse(Saga p, const real[::1] values, const index[::1] columns, const index[::1] indptr, real[:, ::1] cells,
           real[::1] table, const Py_ssize_t[::1] order, Py_ssize_t start, Py_ssize_t stop):
    """Steps with the rows order[start:stop], which name no column twice; cells[j] is (w, g, A, B), the last one b's."""
    cdef Py_ssize_t i, row, k, first, last, n = order.shape[0]
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    cdef real *c = &cells[0, 0]
    cdef real *b = &cells[cells.shape[0] - 1, 0]
    cdef real *e
    cdef real z0, z1, q0, q1, r, gain, l1 = <real>p.l1, l2 = <real>p.l2, pull = <real>p.pull
    with nogil:
        for i in range(start, stop):
            if i + FAR_AHEAD < n:
                prefetch(&p.y[order[i + FAR_AHEAD]])
                prefetch(&table[order[i + FAR_AHEAD]])
            prefetch_coming_row(&order[0], n, i, x, j, &indptr[0])
            row = order[i]
            first = indptr[row]
            last = indptr[row + 1]
            z0 = z1 = q0 = q1 = 0
            k = first
            while k + 2 <= last:        # two chains: one alone waits for each addition
                e = c + 4 * <Py_ssize_t>j[k]
                z0 += x[k] * e[0]
                q0 += x[k] * x[k] * e[2]
                e = c + 4 * <Py_ssize_t>j[k + 1]
                z1 += x[k + 1] * e[0]
                q1 += x[k + 1] * x[k + 1] * e[2]
                k += 2
            if k < last:
                e = c + 4 * <Py_ssize_t>j[k]
                z0 += x[k] * e[0]
                q0 += x[k] * x[k] * e[2]
            gain = table[row]
            r = renew(p, row, b[0] + (z0 + z1), b[2] + (q0 + q1), &table[row])
            gain = <real>((table[row] - gain) * p.share)
            for k in range(first, last):
                step_cell(c + 4 * <Py_ssize_t>j[k], r * x[k], gain * x[k], pull, l2, l1)
            step_cell(b, r, gain, pull, 0, 0)


def dense(Saga p, const real[:, :] X, real[:, ::1] cells, real[::1] table, const Py_ssize_t[::1] order,
          Py_ssize_t start, Py_ssize_t stop):
    """`sparse` on dense rows: w, g, A and B are the rows of `cells`, and B is A."""
    cdef Py_ssize_t i, j, row, ahead, d = cells.shape[1] - 1, n = order.shape[0]
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x
    cdef real *w = &cells[0, 0]
    cdef real *g = &cells[1, 0]
    cdef const real *A = &cells[2, 0]
    cdef real z, q, r, gain, l1 = <real>p.l1, l2 = <real>p.l2, pull = <real>p.pull
    with nogil:
        for i in range(start, stop):
            ahead = order[min(i + AHEAD, n - 1)]
            prefetch(&p.y[ahead])
            prefetch(&table[ahead])
            prefetch_row(&X[0, 0] + ahead * stride, d)
            row = order[i]
            x = &X[0, 0] + row * stride
            z = w[d]
            q = A[d]
            for j in range(d):
                z += x[j] * w[j]
                q += x[j] * x[j] * A[j]
            gain = table[row]
            r = renew(p, row, z, q, &table[row])
            gain = <real>((table[row] - gain) * p.share)
            if l1 > 0:
                for j in range(d):
                    w[j] = shrunk(w[j] - A[j] * (r * x[j] + pull * g[j] + l2 * w[j]), A[j] * l1)
                    g[j] += gain * x[j]
            else:
                for j in range(d):
                    w[j] -= A[j] * (r * x[j] + pull * g[j] + l2 * w[j])
                    g[j] += gain * x[j]
            w[d] -= A[d] * (r + pull * g[d])
            g[d] += gain


cdef inline double measure(Saga p, Py_ssize_t row, double z, double *slope) noexcept nogil:
    cdef double s = p.weights[row] if p.weights.shape[0] > 0 else 1.0
    slope[0] = s * slope_of(p.loss, p.loss_parameter, p.y[row], z)
    return s * value_of(p.loss, p.loss_parameter, p.y[row], z)


def dense_renew(Saga p, const real[:, :] X, const double[::1] w, double[::1] g, real[::1] table, Py_ssize_t start,
                Py_ssize_t stop):
    """All slopes of rows start .. stop - 1 at w; adds slope times row to g, and returns the sum of losses."""
    cdef Py_ssize_t row, d = w.shape[0] - 1, stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef double total = 0, slope
    cdef const real *x = &X[0, 0]
    with nogil:
        for row in range(start, stop):
            total += measure(p, row, w[d] + dot(x + row * stride, &w[0], d), &slope)
            table[row] = <real>slope
            axpy(slope, x + row * stride, &g[0], d)
            g[d] += slope
    return total


def sparse_renew(Saga p, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                 const double[::1] w, double[::1] g, real[::1] table, Py_ssize_t start, Py_ssize_t stop):
    """`dense_renew` on CSR rows."""
    cdef Py_ssize_t row, k, m, d = w.shape[0] - 1
    cdef double total = 0, slope
    cdef const real *x = &values[0]
    cdef const index *j = &columns[0]
    with nogil:
        for row in range(start, stop):
            k = indptr[row]
            m = indptr[row + 1] - k
            total += measure(p, row, w[d] + sparse_dot(x + k, j + k, m, &w[0]), &slope)
            table[row] = <real>slope
            sparse_axpy(slope, x + k, j + k, m, &g[0])
            g[d] += slope
    return total
