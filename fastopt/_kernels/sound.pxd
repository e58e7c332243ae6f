"""Whether entries of untrusted CSR arrays may be followed: columns in range, values finite."""
from libc.stdint cimport INT32_MAX, INT64_MAX, uint32_t, uint64_t

from fastopt._kernels.portable cimport index

# The bits of a float.
ctypedef fused word:
    uint32_t
    uint64_t


cdef inline bint unsound(const word *values, const index *columns, Py_ssize_t start, Py_ssize_t stop,
                         Py_ssize_t n_columns) noexcept nogil:
    """Whether one of the entries start .. stop - 1 names a column that there is not, or is not finite.

    Without branches, so that it vectorises. What is unsound sets the sign bit of what is collected: integer operations
    that every vector level has, in the entries' own width, since a wider one would halve the vectors.
    """
    cdef Py_ssize_t k
    cdef index highest = highest_of(<index>0, n_columns), most = most_of(<index>0), outside = 0
    cdef word exponent = exponent_of(<word>0), one = exponent & (~exponent + 1), infinite = 0
    for k in range(start, stop):
        outside |= columns[k] | (highest - (columns[k] & most))  # & most: or the difference could overflow
        infinite |= (values[k] & exponent) + one
    return outside < 0 or infinite > (exponent | (one - 1))


cdef inline word exponent_of(word kind) noexcept nogil:
    """The exponent's bits of a float of this width: all are set in infinities and NaN only."""
    if sizeof(word) == 4:
        return <word>0x7F800000
    else:
        return <word>0x7FF0000000000000


cdef inline index most_of(index kind) noexcept nogil:
    """The largest number of this type."""
    return <index>INT32_MAX if sizeof(index) == 4 else <index>INT64_MAX


cdef inline index highest_of(index kind, Py_ssize_t n_columns) noexcept nogil:
    """The highest sound column, in the entries' type, which may hold less than there are columns."""
    if sizeof(index) == 4:
        return <index>min(n_columns - 1, <Py_ssize_t>INT32_MAX)
    else:
        return <index>(n_columns - 1)
