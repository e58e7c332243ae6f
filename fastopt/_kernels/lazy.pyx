"""Lazy epochs on CSR rows: a step costs what the batch's nonzeros cost, whatever the number of columns.

A batch is a small dense problem of its own. What belongs to a column lies together in `records` (one cache line for
most rules): w, the rule's slots, the inverse share of the batches that touch it where a penalty asks for it, and the
number of steps taken, its stamp. The batch's columns, each once, are taken from there into contiguous arrays (`small`),
where they take their idle steps, and where predict, slope, scatter and update run as on dense data; then they are put
back. `pack` fills the records when an epoch begins, `unpack` brings every column up to date when it ends.
"""
from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from fastopt._kernels.block cimport sparse_outputs_axpy, sparse_outputs_dot
from fastopt._kernels.plan cimport (Plan, begin_scores, intercept_gradient, lone_slope, prefetch_coming, scalars,
                                    slopes, step_intercept)
from fastopt._kernels.portable cimport index, prefetch_l2, real
from fastopt._kernels.row cimport LINE, dot, scaled, sparse_axpy, sparse_dot
from fastopt._kernels.rule cimport MAX_SLOTS
from fastopt._kernels.tail cimport catch_up, settle
from fastopt._kernels.update cimport clip_all, update_all

cdef enum:
    # Rows of `small` after w and the slots; OWN are the inverse shares.
    GRADIENT = 4
    OWN = 5
    # Columns that pack and unpack take at once.
    BLOCK = 256


def epoch(Plan plan, const real[::1] values, const index[::1] columns, const index[::1] indptr,
          real[:, ::1] params, real[:, ::1] records, real[:, ::1] small, real[:, ::1] z,
          Py_ssize_t start, Py_ssize_t stop):
    """Steps start .. stop - 1 of the epoch that `plan` has begun and `pack` has prepared."""
    cdef real *p[MAX_SLOTS + 1]
    cdef real *q[MAX_SLOTS + 1]
    cdef real *g = &small[GRADIENT, 0]
    cdef real *intercept = &params[params.shape[0] - 1, 0]
    cdef const real *x = &values[0]
    cdef const index *rows = &indptr[0]
    cdef Py_ssize_t s, step, lo, b, n, k, K = plan.n_outputs, stride = records.shape[1]
    # A row that names no column twice is itself the list of touched columns.
    cdef bint single = plan.batch_size == 1 and plan.distinct and K == 1
    cdef real *own = &small[OWN, 0] if plan.inverse_shares.shape[0] > 0 else NULL
    cdef real strength = <real>plan.alpha
    cdef double l2 = 0 if plan.weighs_l2 else plan.alpha
    point(plan, small, p)
    for s in range(MAX_SLOTS + 1):
        q[s] = &params[plan.slot_rows[s], 0]
    with nogil:
        for step in range(start, stop):
            lo = step * plan.batch_size
            b = min(plan.batch_size, plan.order.shape[0] - lo)
            if single:
                k = rows[plan.order[lo]]
                look_ahead(plan, lo, x, &columns[0], rows, &records[0, 0], stride)
                n = take_row(plan, step, &columns[0], rows, &records[0, 0], stride, p, own)
                catch_up(plan.rule, &plan.hyper[0], &plan.table[0, 0], step, &plan.first[0], n, p)
                begin_scores(plan, q[0], &z[0, 0])
                z[0, 0] = <real>lone_slope(plan, plan.order[lo], z[0, 0] + dot(x + k, p[0], n))
                scaled(z[0, 0], x + k, g, n)
            else:
                n = take_batch(plan, step, b, x, &columns[0], rows, &records[0, 0], stride, p, own)
                catch_up(plan.rule, &plan.hyper[0], &plan.table[0, 0], step, &plan.first[0], n * K, p)
                predict(plan, lo, b, x, rows, q[0], p[0], &z[0, 0])
                slopes(plan, lo, b, b, &z[0, 0])
                memset(g, 0, n * K * sizeof(real))
                scatter(plan, lo, b, x, rows, &z[0, 0], g)
            intercept_gradient(plan, b, &z[0, 0], intercept)
            if plan.weighs_l2:
                for s in range(n * K):
                    g[s] += strength * own[s] * p[0][s]
            if plan.clips:
                clip_all(g, n * K, intercept + plan.n_features * K, K if plan.intercept else <Py_ssize_t>0,
                         plan.clipnorm, plan.clipvalue)
            update_all(plan.rule, &plan.hyper[0], scalars(plan, step), p, g, l2, plan.l1, scalars(plan, step)[0],
                       n * K, own if plan.weighs_l1 else NULL)
            step_intercept(plan, step, q, intercept)
            settle(plan.rule, &plan.hyper[0], &plan.table[0, 0], step + 1, n * K, p)
            put(plan, n, &records[0, 0], stride, p)


def pack(Plan plan, const real[:, ::1] params, real[:, ::1] records, real[:, ::1] small):
    """Every column's w and slots into its record, no steps taken."""
    cdef Py_ssize_t start = 0, n, s, t, K = plan.n_outputs, stride = records.shape[1]
    cdef real *p[MAX_SLOTS + 1]
    cdef real *record
    cdef int32_t none = 0
    point(plan, small, p)
    with nogil:
        while start < plan.n_features:
            n = min(BLOCK, plan.n_features - start)
            record = &records[start, 0]
            for s in range(MAX_SLOTS + 1):
                if s == 0 or plan.slot_rows[s] > 0:
                    memcpy(p[s], &params[plan.slot_rows[s], start * K], n * K * sizeof(real))
            settle(plan.rule, &plan.hyper[0], &plan.table[0, 0], 0, n * K, p)
            for s in range(MAX_SLOTS + 1):
                if s == 0 or plan.slot_rows[s] > 0:
                    spread(p[s], n, K, record, stride)
                    record += K
            record = &records[start, stride - 1]
            for t in range(n):
                memcpy(record + t * stride, &none, sizeof(int32_t))
            if plan.inverse_shares.shape[0] > 0:
                for t in range(n):
                    records[start + t, stride - 2] = <real>plan.inverse_shares[start + t]
            start += n


def unpack(Plan plan, real[:, ::1] params, real[:, ::1] records, real[:, ::1] small, Py_ssize_t steps):
    """Every column takes its idle steps up to `steps` and goes back to `params`."""
    cdef Py_ssize_t start = 0, n, s, t, c, K = plan.n_outputs, stride = records.shape[1]
    cdef real *p[MAX_SLOTS + 1]
    cdef const real *record
    cdef int32_t *first = &plan.first[0]
    cdef int32_t stamp
    point(plan, small, p)
    with nogil:
        while start < plan.n_features:
            n = min(BLOCK, plan.n_features - start)
            record = &records[start, stride - 1]
            for t in range(n):
                memcpy(&stamp, record + t * stride, sizeof(int32_t))
                for c in range(K):
                    first[t * K + c] = stamp
            record = &records[start, 0]
            for s in range(MAX_SLOTS + 1):
                if s == 0 or plan.slot_rows[s] > 0:
                    collect(record, n, K, stride, p[s])
                    record += K
            catch_up(plan.rule, &plan.hyper[0], &plan.table[0, 0], steps, first, n * K, p)
            for s in range(MAX_SLOTS + 1):
                if s == 0 or plan.slot_rows[s] > 0:
                    memcpy(&params[plan.slot_rows[s], start * K], p[s], n * K * sizeof(real))
            start += n


cdef inline void spread(const real *slot, Py_ssize_t n, Py_ssize_t K, real *record, Py_ssize_t stride) noexcept nogil:
    """A slot of n columns into their records."""
    cdef Py_ssize_t t, c
    if K == 1:
        for t in range(n):
            record[t * stride] = slot[t]
        return
    for t in range(n):
        for c in range(K):
            record[t * stride + c] = slot[t * K + c]


cdef inline void collect(const real *record, Py_ssize_t n, Py_ssize_t K, Py_ssize_t stride, real *slot) noexcept nogil:
    """A slot of n columns from their records."""
    cdef Py_ssize_t t, c
    if K == 1:
        for t in range(n):
            slot[t] = record[t * stride]
        return
    for t in range(n):
        for c in range(K):
            slot[t * K + c] = record[t * stride + c]


cdef inline void point(Plan plan, real[:, ::1] small, real **p) noexcept nogil:
    """Where w and the slots lie in `small`; an unused slot aliases w."""
    cdef Py_ssize_t s
    for s in range(MAX_SLOTS + 1):
        p[s] = &small[s if plan.slot_rows[s] > 0 else 0, 0]


cdef inline void take(Plan plan, Py_ssize_t t, real *record, Py_ssize_t stride, Py_ssize_t step,
                      real **p) noexcept nogil:
    """A record becomes the t-th touched column; its stamp becomes `step`."""
    cdef Py_ssize_t s, c, K = plan.n_outputs
    cdef int32_t first, now = <int32_t>step
    memcpy(&first, record + stride - 1, sizeof(int32_t))
    memcpy(record + stride - 1, &now, sizeof(int32_t))
    for s in range(MAX_SLOTS + 1):
        if s == 0 or plan.slot_rows[s] > 0:
            for c in range(K):
                p[s][t * K + c] = record[c]
            record += K
    for c in range(K):
        plan.first[t * K + c] = first


cdef void put(Plan plan, Py_ssize_t n, real *records, Py_ssize_t stride, real **p) noexcept nogil:
    """The n touched columns go back to their records."""
    cdef Py_ssize_t t, s, o, K = plan.n_outputs
    cdef real *record
    cdef const Py_ssize_t *touched = &plan.touched[0]
    cdef bint has_a = plan.slot_rows[1] > 0, has_b = plan.slot_rows[2] > 0, has_c = plan.slot_rows[3] > 0
    cdef const real *w = p[0]
    cdef const real *a = p[1]
    cdef const real *b = p[2]
    cdef const real *c = p[3]
    if K == 1:
        for t in range(n):
            record = records + touched[t] * stride
            record[0] = w[t]
            if has_a:
                record += 1
                record[0] = a[t]
            if has_b:
                record += 1
                record[0] = b[t]
            if has_c:
                record += 1
                record[0] = c[t]
    else:
        for t in range(n):
            record = records + touched[t] * stride
            for s in range(MAX_SLOTS + 1):
                if s == 0 or plan.slot_rows[s] > 0:
                    for o in range(K):
                        record[o] = p[s][t * K + o]
                    record += K


cdef Py_ssize_t take_row(Plan plan, Py_ssize_t step, const index *columns, const index *rows, real *records,
                         Py_ssize_t stride, real **p, real *own) noexcept nogil:
    """The columns of a batch of one row, all different; returns how many they are."""
    cdef Py_ssize_t row = plan.order[step], k = rows[row], n = rows[row + 1] - k, t
    cdef real *record
    cdef Py_ssize_t *touched = &plan.touched[0]
    cdef int32_t *first = &plan.first[0]
    cdef int32_t now = <int32_t>(step + 1)
    cdef bint has_a = plan.slot_rows[1] > 0, has_b = plan.slot_rows[2] > 0, has_c = plan.slot_rows[3] > 0
    cdef real *w = p[0]
    cdef real *a = p[1]
    cdef real *b = p[2]
    cdef real *c = p[3]
    for t in range(n):
        touched[t] = columns[k + t]
        record = records + touched[t] * stride
        memcpy(first + t, record + stride - 1, sizeof(int32_t))
        memcpy(record + stride - 1, &now, sizeof(int32_t))
        if own != NULL:
            own[t] = record[stride - 2]
        w[t] = record[0]
        if has_a:
            record += 1
            a[t] = record[0]
        if has_b:
            record += 1
            b[t] = record[0]
        if has_c:
            record += 1
            c[t] = record[0]
    return n


cdef Py_ssize_t take_batch(Plan plan, Py_ssize_t step, Py_ssize_t b, const real *x, const index *columns,
                           const index *rows, real *records, Py_ssize_t stride, real **p, real *own) noexcept nogil:
    """The columns of a batch, each once; `local` says for each entry which of them it is. Returns their number."""
    cdef Py_ssize_t i, m, k, n = 0, lo = step * plan.batch_size
    cdef int32_t *local = &plan.local[0]
    for i in range(lo, lo + b):
        look_ahead(plan, i, x, columns, rows, records, stride)
        k = rows[plan.order[i]]
        m = rows[plan.order[i] + 1] - k
        if plan.n_outputs == 1:
            n = take_entries(plan, step, columns + k, m, n, local, records, stride, p, own)
        else:
            n = take_outputs(plan, step, columns + k, m, n, local, records, stride, p, own)
        local += m
    return n


cdef Py_ssize_t take_entries(Plan plan, Py_ssize_t step, const index *columns, Py_ssize_t m, Py_ssize_t n,
                             int32_t *local, real *records, Py_ssize_t stride, real **p, real *own) noexcept nogil:
    """Entries of one row, n columns being there already; returns how many are then.

    Without a branch, which would be guessed wrong at every fifth entry: each record is copied to where the next new
    column goes, whether it is one or not.
    """
    cdef Py_ssize_t k
    cdef real *record
    cdef Py_ssize_t *touched = &plan.touched[0]
    cdef int32_t *first = &plan.first[0]
    cdef int32_t stamp, t, now = <int32_t>(step + 1)
    cdef bint has_a = plan.slot_rows[1] > 0, has_b = plan.slot_rows[2] > 0, has_c = plan.slot_rows[3] > 0, new
    cdef real *w = p[0]
    cdef real *a = p[1]
    cdef real *b = p[2]
    cdef real *c = p[3]
    for k in range(m):
        record = records + columns[k] * stride
        memcpy(&stamp, record + stride - 1, sizeof(int32_t))
        memcpy(record + stride - 1, &now, sizeof(int32_t))
        memcpy(&t, record, sizeof(int32_t))
        new = stamp != now
        t = <int32_t>n if new else t
        local[k] = t
        w[n] = record[0]
        memcpy(record, &t, sizeof(int32_t))     # w's place is free until the column is put back
        touched[n] = columns[k]
        first[n] = stamp
        if own != NULL:
            own[n] = record[stride - 2]
        if has_a:
            record += 1
            a[n] = record[0]
        if has_b:
            record += 1
            b[n] = record[0]
        if has_c:
            record += 1
            c[n] = record[0]
        n += new
    return n


cdef Py_ssize_t take_outputs(Plan plan, Py_ssize_t step, const index *columns, Py_ssize_t m, Py_ssize_t n,
                             int32_t *local, real *records, Py_ssize_t stride, real **p, real *own) noexcept nogil:
    """`take_entries` with several outputs."""
    cdef Py_ssize_t k, c, K = plan.n_outputs
    cdef int32_t stamp, now = <int32_t>(step + 1), t
    cdef real *record
    for k in range(m):
        record = records + columns[k] * stride
        memcpy(&stamp, record + stride - 1, sizeof(int32_t))
        if stamp != now:
            take(plan, n, record, stride, now, p)
            if own != NULL:
                for c in range(K):
                    own[n * K + c] = record[stride - 2]
            plan.touched[n] = columns[k]
            t = <int32_t>n
            memcpy(record, &t, sizeof(int32_t))
            n += 1
        memcpy(local + k, record, sizeof(int32_t))
    return n


cdef void look_ahead(Plan plan, Py_ssize_t i, const real *x, const index *columns, const index *rows,
                     const real *records, Py_ssize_t stride) noexcept nogil:
    """Asks for what later rows will need: their entries are in the second-level cache before their records are."""
    cdef Py_ssize_t row, k, size = stride * sizeof(real)
    cdef const char *record
    prefetch_coming(plan, i, x, columns, rows)
    if i + 2 < plan.order.shape[0]:
        row = plan.order[i + 2]
        for k in range(rows[row], rows[row + 1]):
            record = <const char *>(records + columns[k] * stride)
            prefetch_l2(record)
            if size > LINE:
                prefetch_l2(record + size - 1)


cdef void predict(Plan plan, Py_ssize_t lo, Py_ssize_t b, const real *x, const index *rows, const real *intercept,
                  const real *w, real *z) noexcept nogil:
    cdef Py_ssize_t i, k, n, K = plan.n_outputs
    cdef const int32_t *local = &plan.local[0]
    for i in range(lo, lo + b):
        k = rows[plan.order[i]]
        n = rows[plan.order[i] + 1] - k
        begin_scores(plan, intercept, z)
        if K == 1:
            z[0] += sparse_dot(x + k, local, n, w)
        else:
            sparse_outputs_dot(x + k, local, n, w, K, <real>1, z)
        local += n
        z += K


cdef void scatter(Plan plan, Py_ssize_t lo, Py_ssize_t b, const real *x, const index *rows, const real *z,
                  real *g) noexcept nogil:
    """g += sum over the batch of slope times row."""
    cdef Py_ssize_t i, k, n, K = plan.n_outputs
    cdef const int32_t *local = &plan.local[0]
    for i in range(lo, lo + b):
        k = rows[plan.order[i]]
        n = rows[plan.order[i] + 1] - k
        if K == 1:
            sparse_axpy(z[0], x + k, local, n, g)
        else:
            sparse_outputs_axpy(x + k, local, n, g, K, <real>1, z)
        local += n
        z += K
