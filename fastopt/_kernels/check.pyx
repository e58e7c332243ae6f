"""Untrusted numbers, before anything is dereferenced through them: CSR arrays in one pass, orders of rows."""
from fastopt._kernels.portable cimport index, offset, real
from fastopt._kernels.sound cimport exponent_of, highest_of, most_of, rising, unsound_columns, word

# What `csr` found, beside where: the first entry of the table in fastopt/_design.py that words it.
cdef enum:
    SOUND, FIRST, FALLS, BEYOND, COLUMN, FINITE

# Rows whose starts are looked at together, and entries of each array that are read in turn: short turns, so that memory
# delivers both at once (2,048 took 1.15 times as long; several parts of the rows in turns were no faster).
cdef enum:
    ROWS = 1024
    BLOCK = 512


def within(const offset[::1] indptr, Py_ssize_t length):
    """Whether rows begin at 0, never fall, and end within `length` entries; nothing else of them is looked at."""
    cdef Py_ssize_t row, n_rows = indptr.shape[0] - 1
    cdef bint falls = False
    with nogil:
        for row in range(n_rows):       # without branches, so that it vectorises
            falls |= indptr[row] > indptr[row + 1]
    return indptr[0] == 0 and not falls and indptr[n_rows] <= length


def rows(const Py_ssize_t[::1] order, Py_ssize_t n):
    """Whether all of these are numbers of n rows."""
    cdef Py_ssize_t i, low = 0, high = -1
    with nogil:
        for i in range(order.shape[0]):
            low = min(low, order[i])
            high = max(high, order[i])
    return low >= 0 and high < n


def csr(const word[::1] values, const index[::1] columns, const offset[::1] indptr, Py_ssize_t n_columns,
        Py_ssize_t begin, Py_ssize_t end):
    """(fault, row, entry, distinct): the first fault of rows begin .. end - 1, 0 if none, and where.

    `distinct` if every row's columns rise. `values` are the floats' bits. `indptr` has more than `end` elements, all
    before `begin` sound. Entries beyond indptr[-1] are not part of the matrix and are not read. By one thread, which
    reads nearly as fast as memory lets one: two took as long.
    """
    cdef Py_ssize_t first, last, row, start, stop, length = min(values.shape[0], columns.shape[0])
    cdef Py_ssize_t falls
    cdef bint distinct = True, sound
    if indptr[0] != 0:
        return FIRST, 0, 0, False
    if n_columns < 1:
        n_columns = 0
    with nogil:
        first = begin
        while first < end:
            last = min(first + <Py_ssize_t>ROWS, end)
            sound = True
            for row in range(first, last):
                sound &= (indptr[row] <= indptr[row + 1]) & (indptr[row + 1] <= length)
            start = indptr[first]
            if sound and start < indptr[last]:
                stop = indptr[last]
                falls = falls_of(&values[0], &columns[0], start, stop, n_columns)
                sound = falls >= 0
                if sound:
                    # Where a row begins its column may be any.
                    for row in range(first + 1, last):
                        if start < indptr[row] < indptr[row + 1]:
                            falls -= columns[indptr[row]] <= columns[indptr[row] - 1]
                    distinct &= falls == 0
            if not sound:
                with gil:
                    return first_fault(values, columns, indptr, n_columns, first, last)
            first = last
    return SOUND, 0, 0, distinct


cdef Py_ssize_t falls_of(const word *values, const index *columns, Py_ssize_t start, Py_ssize_t stop,
                         Py_ssize_t n_columns) noexcept nogil:
    """How many of these entries name no higher column than the one before them; -1 if one is unsound.

    `unsound` over rows' ends, block by block, so that memory is read once.
    """
    cdef Py_ssize_t k, block, end, total = 0
    cdef index highest = highest_of(<index>0, n_columns), most = most_of(<index>0), outside = 0, falls
    cdef word exponent = exponent_of(<word>0), one = exponent & (~exponent + 1), infinite = 0
    block = start
    while block < stop:
        end = min(block + BLOCK, stop)
        falls = 0
        for k in range(max(block, start + 1), end):
            outside |= columns[k] | (highest - (columns[k] & most))  # & most: or the difference could overflow
            falls += columns[k] <= columns[k - 1]
        for k in range(block, end):
            infinite |= (values[k] & exponent) + one
        total += falls
        block = end
    outside |= columns[start] | (highest - (columns[start] & most))
    return -1 if outside < 0 or infinite > (exponent | (one - 1)) else total


cdef first_fault(const word[::1] values, const index[::1] columns, const offset[::1] indptr, Py_ssize_t n_columns,
                 Py_ssize_t begin, Py_ssize_t end):
    """What `csr` returns of rows of which one is known to be unsound."""
    cdef Py_ssize_t row, k, length = min(values.shape[0], columns.shape[0])
    cdef word exponent = exponent_of(<word>0)
    for row in range(begin, end):
        if indptr[row + 1] < indptr[row]:
            return FALLS, row, indptr[row], False
        if indptr[row + 1] > length:
            return BEYOND, row, indptr[row + 1], False
        for k in range(indptr[row], indptr[row + 1]):
            if columns[k] < 0 or columns[k] >= n_columns:
                return COLUMN, row, k, False
        for k in range(indptr[row], indptr[row + 1]):
            if values[k] & exponent == exponent:
                return FINITE, row, k, False
    return SOUND, 0, 0, False


def squares(const real[::1] values, const offset[::1] indptr, double[::1] out):
    """Squared Euclidean length of every CSR row."""
    cdef Py_ssize_t row, k, end
    cdef double total, t1, t2, t3
    with nogil:
        for row in range(out.shape[0]):
            k, end, total, t1, t2, t3 = indptr[row], indptr[row + 1], 0, 0, 0, 0   # four chains, as in `sparse_dot`
            while k + 4 <= end:
                total += <double>values[k] * values[k]
                t1 += <double>values[k + 1] * values[k + 1]
                t2 += <double>values[k + 2] * values[k + 2]
                t3 += <double>values[k + 3] * values[k + 3]
                k += 4
            while k < end:
                total += <double>values[k] * values[k]
                k += 1
            out[row] = (total + t1) + (t2 + t3)


def column_sums(const real[::1] values, const index[::1] columns, const index[::1] indptr, double[:, ::1] sums,
                Py_ssize_t begin, Py_ssize_t end):
    """Adds the entries of rows begin .. end - 1 to their column's (number of entries, sum of their squares).

    Returns whether every row's columns rise; -1 as soon as one is not among those of `sums`, which is looked at before
    it is followed. Values are not looked at: where one is not finite its column's sum is not, either. `indptr` has been
    checked.
    """
    cdef Py_ssize_t row, k, start, stop
    cdef index highest = highest_of(<index>0, sums.shape[0])
    cdef bint distinct = True
    cdef double x
    cdef double *sum_of
    with nogil:
        for row in range(begin, end):
            start, stop = indptr[row], indptr[row + 1]
            if not rising(&columns[0] + start, stop - start, highest):
                distinct = False
                if unsound_columns(&columns[0] + start, stop - start, highest):
                    with gil:
                        return -1
            for k in range(start, stop):
                x = values[k]
                sum_of = &sums[0, 0] + 2 * <Py_ssize_t>columns[k]   # both of a column's in one vector
                sum_of[0] += 1
                sum_of[1] += x * x
    return distinct
