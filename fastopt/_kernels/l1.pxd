"""L1 and averages around plain SGD steps.

Without a gradient either kind of L1 takes lr l1 from |w_j| in each step, so that on CSR a column can wait until a row
touches it: |v_j| then loses the sum of lr l1 / scale, or is zero from the step on at which that sum exceeds it. For
proximal steps alone that sum when it was last touched is all that a column needs (`seen`). For averages alone a step
adds to the sum of iterates only what it takes from those before it (Xu 2011; Bottou 2012). Truncated steps, and
averages with L1, are in places.pxd.
"""
from fastopt._kernels.plain cimport ASKED, COLUMNS, OWED, SCALE, SUM, SUM_ASKED, Extras, changed
from fastopt._kernels.plan cimport Plan
from fastopt._kernels.portable cimport index, real
from fastopt._kernels.rule cimport towards_zero


cdef inline void settle_dense(Plan plan, Extras e, double asked, bint averaged, real[:, ::1] params) noexcept nogil:
    cdef Py_ssize_t j, size = plan.n_features * plan.n_outputs
    cdef real *w = &params[0, 0]
    cdef real *total = &params[e.average_row, 0]
    cdef real by = <real>(asked / plan.scale), left, scale = <real>plan.scale
    if e.truncated:
        for j in range(size):
            pay(plan, e, w + j, &params[e.paid_row, j])
    elif by > 0:
        for j in range(size):
            left = (w[j] if w[j] > 0 else -w[j]) - by
            left = left if left > 0 else <real>0
            w[j] = left if w[j] > 0 else -left
    if e.average_row > 0 and averaged:
        for j in range(size):
            total[j] += scale * w[j]


cdef inline void pay(Plan plan, Extras e, real *w, real *paid) noexcept nogil:
    cdef double before = plan.scale * w[0], after = before
    if before > 0:
        after = max(0.0, before - (e.owed + paid[0]))
    elif before < 0:
        after = min(0.0, before + (e.owed - paid[0]))
    paid[0] += <real>(after - before)
    w[0] = <real>(after / plan.scale)


cdef inline void record(Plan plan, Extras e, Py_ssize_t step, double lr) noexcept nogil:
    """What the columns that wait must know of the step."""
    e.owed += lr * e.l1
    e.asked += lr * e.l1 / plan.scale
    if step >= e.first_averaged:
        e.scales += plan.scale
        e.products += plan.scale * e.asked
    if e.history.shape[0] > 1:
        record_history(plan, e, step)


cdef inline void record_history(Plan plan, Extras e, Py_ssize_t step) noexcept nogil:
    cdef double *h = &e.history[step + 1, 0]
    h[ASKED] = e.asked
    h[SUM] = e.scales
    h[SUM_ASKED] = e.products
    h[SCALE] = plan.scale
    h[OWED] = e.owed


cdef inline void threshold(Plan plan, Extras e, Py_ssize_t j, real *w) noexcept nogil:
    """Column j takes the L1 part of the steps that it waited for: of none, if it did not wait."""
    cdef Py_ssize_t c, K = plan.n_outputs
    cdef real before, by = <real>(e.asked - e.seen[j])
    e.seen[j] = e.asked
    for c in range(j * K, (j + 1) * K):
        before = w[c]
        w[c] = towards_zero(before, by)
        if e.measures:
            changed(e, c - j * K, before, w[c])


cdef inline real settled_dot(Extras e, const real *x, const index *columns, Py_ssize_t n, real *w) noexcept nogil:
    """`threshold` of a row's columns, of one output, and their product with the row."""
    cdef Py_ssize_t k = 0, i, j
    cdef double asked = e.asked
    cdef double *seen = &e.seen[0]
    cdef real u, v, first = 0, second = 0
    while k + 2 <= n:
        i, j = columns[k], columns[k + 1]
        u = towards_zero(w[i], <real>(asked - seen[i]))
        seen[i] = asked
        w[i] = u
        v = towards_zero(w[j], <real>(asked - seen[j]))     # after the store: it may be the same column
        seen[j] = asked
        w[j] = v
        first += x[k] * u
        second += x[k + 1] * v
        k += 2
    if k < n:
        i = columns[k]
        u = towards_zero(w[i], <real>(asked - seen[i]))
        seen[i] = asked
        w[i] = u
        first += x[k] * u
    return first + second


cdef inline void wait_anew(Extras e, Py_ssize_t step, real[:, ::1] params) noexcept nogil:
    """The start of an epoch: no column has waited. What L1 has asked of w goes on where it is not paid at once."""
    cdef Py_ssize_t j
    cdef double *h = &e.history[step if e.history.shape[0] > 1 else 0, 0]
    e.owed = e.owed if e.truncated else 0
    e.asked = e.scales = e.products = 0
    e.settled = step
    h[ASKED] = h[SUM] = h[SUM_ASKED] = 0
    h[SCALE], h[OWED] = 1, e.owed
    for j in range(e.seen.shape[0]):    # of columns that are zero, what they have paid
        e.seen[j] = params[e.paid_row, j] if e.truncated and params[0, j] == 0 else 0
    e.joined[:] = 0


cdef inline Py_ssize_t within(double guess, Py_ssize_t n) noexcept nogil:
    """A whole number from 1 to n - 1, whatever the guess."""
    return 1 if not guess > 1 else (n - 1 if guess > n - 1 else <Py_ssize_t>guess)


cdef inline const double *last_before(const double *then, const double *now, double size) noexcept nogil:
    """The last step before what was asked since `then` reached `size`; at `now` it has.

    Steps ask for nearly the same each: it is looked for near where it were if they did, and by bisection of what is
    left.
    """
    cdef Py_ssize_t n = (now - then) // COLUMNS, low = 0, high = n, gap = 1, middle
    cdef double asked = then[ASKED] + size, slope
    middle = within(size / (now[ASKED] - then[ASKED]) * n, n)
    if n > 1:                           # and a step of Newton's
        slope = then[COLUMNS * middle + ASKED] - then[COLUMNS * (middle - 1) + ASKED]
        if slope > 0:
            middle = within(middle + (asked - then[COLUMNS * middle + ASKED]) / slope, n)
    if n > 1 and then[COLUMNS * middle + ASKED] >= asked:
        high = middle
        while high - gap > 0 and then[COLUMNS * (high - gap) + ASKED] >= asked:
            high -= gap
            gap *= 2
        low = max(<Py_ssize_t>0, high - gap)
    elif n > 1:
        low = middle
        while low + gap < n and then[COLUMNS * (low + gap) + ASKED] < asked:
            low += gap
            gap *= 2
        high = min(n, low + gap)
    while high - low > 1:
        middle = (low + high) // 2
        if then[COLUMNS * middle + ASKED] >= asked:
            high = middle
        else:
            low = middle
    return then + COLUMNS * low
