"""Random orders of rows, every one as likely: xoshiro256++ (Blackman, Vigna, "Scrambled linear pseudorandom number
generators", 2021), whose seed NumPy's generators draw.

Few rows are shuffled where they lie (Fisher, Yates). Of many each draws a bucket, and the buckets are shuffled, one
after the other (Sandelius, "A simple randomization procedure", 1962): a shuffle that jumps about in more than the cache
waits for memory at each row.
"""
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint32_t, uint64_t

import numpy

cdef enum:
    # Rows that are shuffled where they lie, which buckets have at the most, on average; and bits of a bucket's number.
    AT_ONCE = 65536
    BITS = 16
    # Rows between two looks for Ctrl-C, some ms.
    PIECE = 1048576


cdef struct Random:
    uint64_t s[4]
    uint64_t kept                       # bits that are not used up
    int left


cdef inline uint64_t rotated(uint64_t x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))


cdef inline uint64_t following(Random *r) noexcept nogil:
    cdef uint64_t result = rotated(r.s[0] + r.s[3], 23) + r.s[0], t = r.s[1] << 17
    r.s[2] ^= r.s[0]
    r.s[3] ^= r.s[1]
    r.s[1] ^= r.s[2]
    r.s[0] ^= r.s[3]
    r.s[2] ^= t
    r.s[3] = rotated(r.s[3], 45)
    return result


cdef inline uint64_t bits(Random *r, int n) noexcept nogil:
    """The next n <= 32 random bits."""
    cdef uint64_t result
    if r.left < n:
        r.kept, r.left = following(r), 64
    result = r.kept & ((<uint64_t>1 << n) - 1)
    r.kept >>= n
    r.left -= n
    return result


cdef inline uint64_t below(Random *r, uint64_t n) noexcept nogil:
    """A number below n <= 2^32, every one as likely (Lemire, "Fast random integer generation in an interval", 2019)."""
    cdef uint64_t product = bits(r, 32) * n, least
    if <uint32_t>product < n:
        least = ((<uint64_t>1 << 32) - n) % n
        while <uint32_t>product < least:
            product = bits(r, 32) * n
    return product >> 32


cdef inline uint64_t mixed(uint64_t x) noexcept nogil:
    """Every bit of x in every bit of the result (Stafford's thirteenth mix)."""
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef void fisher_yates(Random *r, Py_ssize_t *rows, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j, row
    for i in range(n - 1, 0, -1):
        j = <Py_ssize_t>below(r, <uint64_t>i + 1)
        row = rows[i]
        rows[i] = rows[j]
        rows[j] = row


def shuffled(const uint64_t[::1] seed, Py_ssize_t n, Py_ssize_t at_once=AT_ONCE):
    """The rows 0 .. n - 1 in a random order, as four words of `seed` have it; some of their bits are to be random.

    Up to `at_once` rows are shuffled where they lie.
    """
    cdef Random r, again
    cdef Py_ssize_t i, k, b, first, last, _draw
    cdef int width = 0
    order = numpy.empty(n, numpy.intp)
    cdef Py_ssize_t[::1] rows = order
    cdef Py_ssize_t[::1] ends
    if seed.shape[0] != 4:
        raise ValueError("seed must have four words")
    for k in range(4):
        r.s[k] = mixed(seed[k] + <uint64_t>0x9E3779B97F4A7C15 * (k + 1))    # not zeros, whatever the seed
    r.kept = r.left = 0
    if n == 0:
        return order
    while width < BITS and n > at_once << width:
        width += 1
    if width == 0:
        with nogil:
            for i in range(n):
                rows[i] = i
            fisher_yates(&r, &rows[0], n)
        return order
    # The draws are made twice: to count them, then to place the rows.
    again = r
    ends = numpy.zeros((1 << width) + 1, numpy.intp)
    for first in range(0, n, PIECE):
        with nogil:
            for _draw in range(first, min(n, first + PIECE)):
                ends[<Py_ssize_t>bits(&again, width) + 1] += 1
        PyErr_CheckSignals()
    for b in range(1 << width):
        ends[b + 1] += ends[b]
    for first in range(0, n, PIECE):
        with nogil:
            for i in range(first, min(n, first + PIECE)):
                b = <Py_ssize_t>bits(&r, width)
                rows[ends[b]] = i
                ends[b] += 1            # its beginning becomes its end
        PyErr_CheckSignals()
    k = first = 0
    for b in range(1 << width):
        last = ends[b]
        with nogil:
            if last > first:
                fisher_yates(&r, &rows[first], last - first)
        first = last
        if first - k > PIECE:
            PyErr_CheckSignals()
            k = first
    return order
