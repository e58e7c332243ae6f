"""Full passes over rows start .. stop - 1: raw predictions; loss and gradient; Hessian product.

Parameters and sums are double whatever the data's type; the caller cuts the rows into pieces. With several outputs the
parameters of a feature take `Terms.width` numbers, K and zeros. Rows go by blocks through the stages, so that a
block is still in the first-level cache when it is read again; `work` is the caller's room for a block's raw predictions
and losses, two rows of BLOCK width numbers.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from fastopt._kernels.exponential cimport exp, log1p
from fastopt._kernels.portable cimport index, prefetch_l2, real
from fastopt._kernels.row cimport is_far
from fastopt._kernels.sound cimport highest_of, unsound, unsound_columns
from fastopt._kernels.terms cimport (MOST, Terms, curve, dense_add, dense_scores, height, losses, sparse_add,
                                     sparse_scores)

cdef enum:
    # Rows that are checked together, just before they are followed: so few that the processor does both at the same
    # time, so many that the loop over their entries ends seldom. Of rows of more than LONG entries as many as have
    # MANY: they have to be waited for unless they were asked for so far ahead, and fewer are no stream (3 times the
    # cost).
    FEW = 8
    LONG = 32
    MANY = 8192


def dense_loss(Terms t, const real[:, :] X, const double[::1] w, double[:, ::1] raw, bint known, double[::1] g,
               double[:, ::1] work, Py_ssize_t start, Py_ssize_t stop):
    """Weighted sum of losses; the weighted sum of gradients is added to g unless g is empty.

    `raw` has all rows' raw predictions at w, if they are `known`; else it takes them, unless it is empty.
    """
    cdef Py_ssize_t row = start, b, stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef double total = 0
    cdef double *z
    cdef const real *x = &X[0, 0]
    cdef Py_ssize_t block = height(t.n_features * sizeof(real))
    with nogil:
        while row < stop:
            b = min(block, stop - row)
            z = &raw[row, 0] if raw.shape[0] > 0 else &work[0, 0]
            if not known:
                dense_scores(t, x + row * stride, stride, b, &w[0], z)
            if raw.shape[0] > 0:
                memcpy(&work[0, 0], z, b * t.width * sizeof(double))
            total += losses(t, row, b, &work[0, 0], &work[1, 0], g.shape[0] > 0)
            if g.shape[0] > 0:
                dense_add(t, x + row * stride, stride, b, &work[0, 0], &g[0])
            row += b
    return total


def sparse_loss(Terms t, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                const double[::1] w, double[:, ::1] raw, bint known, double[::1] g, double[:, ::1] work,
                Py_ssize_t start, Py_ssize_t stop, bint sound):
    """`dense_loss` on CSR rows.

    Unless their entries are known to be `sound`, rows are checked, some at a time, just before they are followed, and
    one that fails ends it with ValueError. With g their columns alone are checked: a value that is not finite makes its
    element of g such, which is for the caller to see.
    """
    cdef Py_ssize_t row = start, b
    cdef double total = 0
    cdef double *z
    cdef bint slopes = g.shape[0] > 0, bad = False, far = is_far(values.shape[0], sizeof(real) + sizeof(index))
    with nogil:
        while row < stop:
            b = min(MOST, stop - row)
            z = &raw[row, 0] if raw.shape[0] > 0 else &work[0, 0]
            if not known:
                bad = checked_scores(t, &values[0], &columns[0], &indptr[row], b, &w[0], z, sound, not slopes,
                                     far)
            elif not slopes and not sound:
                bad = bad_rows(&values[0], &columns[0], &indptr[row], b, t.n_features, True)
            if bad:
                break
            if raw.shape[0] > 0:
                memcpy(&work[0, 0], z, b * t.width * sizeof(double))
            total += losses(t, row, b, &work[0, 0], &work[1, 0], slopes)
            if slopes and checked_add(t, &values[0], &columns[0], &indptr[row], b, &work[0, 0], &g[0],
                                      sound or not known, far and known):
                break
            row += b
    if row < stop:
        raise ValueError("X must not be written to during a call; an entry that was unsound has become sound.")
    return total


cdef inline bint bad_rows(const real *x, const index *columns, const index *indptr, Py_ssize_t b, Py_ssize_t n_columns,
                          bint values) noexcept nogil:
    """Whether an entry of b rows names a column that there is not, or if `values` is not finite."""
    if not values:
        return unsound_columns(columns + indptr[0], indptr[b] - indptr[0], highest_of(<index>0, n_columns))
    if real is float:
        return unsound(<const uint32_t *>x, columns, indptr[0], indptr[b], n_columns)
    else:
        return unsound(<const uint64_t *>x, columns, indptr[0], indptr[b], n_columns)


cdef inline Py_ssize_t few_rows(const index *indptr, Py_ssize_t b) noexcept nogil:
    """How many of b rows are checked together."""
    cdef Py_ssize_t entries = indptr[b] - indptr[0]
    return max(<Py_ssize_t>1, MANY * b // entries) if entries > LONG * b else FEW


cdef inline void coming(const index *columns, Py_ssize_t n) noexcept nogil:
    """Asks for what is checked next, of which as much as was checked now: a check runs through entries faster than
    memory streams on its own. Beyond the matrix it is asked for in vain, which does no harm."""
    cdef Py_ssize_t k = 0, most = min(n, <Py_ssize_t>MANY)
    while k < most:
        prefetch_l2(columns + k)
        k += 64 // <Py_ssize_t>sizeof(index)


cdef inline bint checked_scores(Terms t, const real *x, const index *columns, const index *indptr, Py_ssize_t b,
                                const double *w, double *z, bint sound, bint values,
                                bint far) noexcept nogil:
    """`sparse_scores` of rows that are checked first unless they are `sound`; whether one is not."""
    cdef Py_ssize_t i = 0, n = b if sound else few_rows(indptr, b)
    while i < b:
        n = min(n, b - i)
        if not sound:
            if bad_rows(x, columns, indptr + i, n, t.n_features, values):
                return True
            coming(columns + indptr[i + n], <Py_ssize_t>indptr[i + n] - <Py_ssize_t>indptr[i])
        sparse_scores(t, x, columns, indptr + i, n, w, z + i * t.width, far)
        i += n
    return False


cdef inline bint checked_add(Terms t, const real *x, const index *columns, const index *indptr, Py_ssize_t b,
                             const double *z, double *g, bint sound, bint far) noexcept nogil:
    """`sparse_add` of rows whose columns are checked first unless they are `sound`; whether one is not."""
    cdef Py_ssize_t i = 0, n = b if sound else few_rows(indptr, b)
    while i < b:
        n = min(n, b - i)
        if not sound and bad_rows(x, columns, indptr + i, n, t.n_features, False):
            return True
        sparse_add(t, x, columns, indptr + i, n, z + i * t.width, g, far)
        i += n
    return False


def dense_hessian(Terms t, const real[:, :] X, const double[::1] w, const double[::1] v, double[::1] product,
                  double[:, ::1] work, Py_ssize_t start, Py_ssize_t stop):
    """The weighted sum of loss Hessians at w, times v, is added to `product`."""
    cdef Py_ssize_t row = start, b, stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    cdef const real *x = &X[0, 0]
    cdef Py_ssize_t block = height(t.n_features * sizeof(real))
    with nogil:
        while row < stop:
            b = min(block, stop - row)
            dense_scores(t, x + row * stride, stride, b, &w[0], &work[0, 0])
            dense_scores(t, x + row * stride, stride, b, &v[0], &work[1, 0])
            curve(t, row, b, &work[0, 0], &work[1, 0])
            dense_add(t, x + row * stride, stride, b, &work[1, 0], &product[0])
            row += b


def sparse_hessian(Terms t, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                   const double[::1] w, const double[::1] v, double[::1] product, double[:, ::1] work,
                   Py_ssize_t start, Py_ssize_t stop):
    """`dense_hessian` on CSR rows."""
    cdef Py_ssize_t row = start, b
    cdef bint far = is_far(values.shape[0], sizeof(real) + sizeof(index))
    with nogil:
        while row < stop:
            b = min(MOST, stop - row)
            sparse_scores(t, &values[0], &columns[0], &indptr[row], b, &w[0], &work[0, 0], far)
            sparse_scores(t, &values[0], &columns[0], &indptr[row], b, &v[0], &work[1, 0], False)
            curve(t, row, b, &work[0, 0], &work[1, 0])
            sparse_add(t, &values[0], &columns[0], &indptr[row], b, &work[1, 0], &product[0], False)
            row += b


def dense_predict(Terms t, const real[:, :] X, const double[::1] w, double[:, ::1] scores,
                  Py_ssize_t start, Py_ssize_t stop):
    """Raw predictions of rows start .. stop - 1 into the same rows of `scores`, `width` numbers each."""
    cdef Py_ssize_t stride = X.strides[0] // <Py_ssize_t>sizeof(real)
    with nogil:
        if start < stop:
            dense_scores(t, &X[0, 0] + start * stride, stride, stop - start, &w[0], &scores[start, 0])


def sparse_predict(Terms t, const real[::1] values, const index[::1] columns, const index[::1] indptr,
                   const double[::1] w, double[:, ::1] scores, Py_ssize_t start, Py_ssize_t stop):
    """`dense_predict` on CSR rows."""
    cdef bint far = is_far(values.shape[0], sizeof(real) + sizeof(index))
    with nogil:
        if start < stop:
            sparse_scores(t, &values[0], &columns[0], &indptr[start], stop - start, &w[0], &scores[start, 0], far)


def exponential(real[::1] x):
    """x becomes exp(x), by the kernels' own exp: for its tests."""
    cdef Py_ssize_t k
    for k in range(x.shape[0]):
        x[k] = exp(x[k])


def logarithm(double[::1] x):
    """x becomes log1p(x), by the kernels' own log1p: for its tests."""
    cdef Py_ssize_t k
    for k in range(x.shape[0]):
        x[k] = log1p(x[k])


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
