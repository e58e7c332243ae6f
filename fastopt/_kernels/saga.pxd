"""What epochs of SAGA need, whatever the number of outputs."""


cdef class Saga:
    cdef int loss
    cdef double loss_parameter, l1, l2
    cdef const double[::1] y, weights
    cdef public double share, pull
