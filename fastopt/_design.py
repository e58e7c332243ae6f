"""X as the kernels read it, never copied where its layout is one they know; all validation of its structure."""

from __future__ import annotations

import mmap
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fastopt._kernels import check, lasso

__all__ = ["Design", "check_csr", "mapping"]

#: Elements of X that one call of a kernel works through: some 10 ms, so that Ctrl-C is seen in time.
WORK = 4_000_000
#: Elements that a thread takes at least: some 1 ms, beside which handing them over costs little.
SHARE = 500_000
#: Share of entries stored from which a copy of some columns is dense: passes over it are faster then.
DENSE = 0.1

# The faults that `check.csr` numbers.
_FAULTS = (
    "",
    "X.indptr must start at 0; got {value}.",
    "X.indptr must never fall; got a fall at row {row}.",
    "X.indptr must end within X.data and X.indices; got {value} at row {row}.",
    "X.indices must be in [0, {n_columns}); got {value} in row {row}, entry {entry}.",
    "X.data must be finite; got {value} in row {row}, entry {entry}. Impute or drop such entries first.",
)


def check_csr(values: Any, indices: Any, indptr: Any, shape: tuple[int, int], names: str = "row") -> bool:
    """Validates untrusted CSR arrays in one pass; True if no row names a column twice.

    Raises
    ------
    ValueError
        Naming the first bad row and entry. With ``names="column"`` the arrays are those of a CSC matrix, transposed.
    """
    _check_layout(values, indices, indptr, shape, names)
    n_rows, n_columns = shape
    values, indices, indptr = contiguous(values), contiguous(indices), contiguous(indptr)
    bits = values.view(f"u{values.itemsize}")
    distinct, n_pieces = True, 1 + len(values) // (8 * WORK)
    for piece in range(n_pieces):
        begin, end = (n_rows * k // n_pieces for k in (piece, piece + 1))
        fault, row, entry, rising = check.csr(bits, indices, indptr, n_columns, begin, end)
        distinct &= rising
        if fault:
            break
    if fault:
        found: Any = (indptr, indptr, indptr, indptr, indices, values)[fault]
        value = found[(0, 0, 0, row + 1, entry, entry)[fault]]
        text = _FAULTS[fault].format(value=value, row=row, entry=entry, n_columns=n_columns)
        raise ValueError(text.replace("row", names) if names != "row" else text)
    return bool(distinct)


def _check_layout(values: Any, indices: Any, indptr: Any, shape: tuple[int, int], names: str) -> None:
    """Refuses arrays of other types and lengths than CSR has."""
    for name, a in (("data", values), ("indices", indices), ("indptr", indptr)):
        if not isinstance(a, np.ndarray) or a.ndim != 1:
            raise ValueError(f"X.{name} must be a one-dimensional array; got {getattr(a, 'shape', type(a).__name__)}.")
    for name, a in (("indices", indices), ("indptr", indptr)):
        if a.dtype != np.int32 and a.dtype != np.int64:
            raise ValueError(f"X.{name} must be int32 or int64; got {a.dtype}.")
    if values.dtype not in (np.float32, np.float64):
        raise ValueError(f"X.data must be float32 or float64; got {values.dtype}.")
    _check_shape(shape)
    if len(indptr) != shape[0] + 1:
        raise ValueError(f"X.indptr must have one element more than X has {names}s ({shape[0]}); got {len(indptr)}.")


def contiguous(a: Any) -> NDArray[Any]:
    """An array that is contiguous and aligned: this one if it is, or else a copy."""
    fits = isinstance(a, np.ndarray) and a.flags.c_contiguous and a.flags.aligned
    return a if fits else np.require(a, requirements=["C", "A"])


def mapping(a: Any) -> mmap.mmap | None:
    """The mapped file that an array lies in, or None."""
    while isinstance(a, np.ndarray):
        a = a.base
    return a if isinstance(a, mmap.mmap) else None


class Design:
    """The rows of X: dense (`values` two-dimensional) or CSR.

    Parameters
    ----------
    values : ndarray of float32 or float64, (n_samples, n_features) or (n_stored,)
    indices, indptr : ndarray of int32 or int64 (both the same), or None if dense
    shape : (n_samples, n_features)
    distinct : bool or None
        Whether no row names a column twice; None where nobody has looked yet.
    sound : bool
        Whether the entries may be followed. If not, whatever reads `values` or `indices` first has them checked.
    """

    def __init__(
        self, values: NDArray[Any], indices: NDArray[Any] | None, indptr: NDArray[Any] | None, shape: tuple[int, int],
        distinct: bool | None = True, *, sound: bool = True,
    ) -> None:  # fmt: skip
        self._values, self._indices, self.indptr, self.shape = values, indices, indptr, shape
        self._distinct, self.sound = distinct, sound

    def check(self) -> None:
        """Checks the entries, unless that was done.

        Raises
        ------
        ValueError
            Naming the first bad row and entry.
        """
        if not self.sound:
            self._distinct = check_csr(self._values, self._indices, self.indptr, self.shape)
            self.sound = True

    def checked(self, distinct: bool | None) -> None:
        """Takes note that what read all entries has checked them, and of whether it found repeated columns."""
        self.sound, self._distinct = True, distinct

    @property
    def settled(self) -> bool:
        """Whether the entries are known to be sound, and whether a row names a column twice is known, too."""
        return self.sound and self._distinct is not None

    def rises(self) -> None:
        """Takes note that every row's columns were found to rise: none names a column twice."""
        self._distinct = True

    def refuse(self) -> NoReturn:
        """The end of what met an entry that may not be followed: raises the error that `check` does."""
        self.check()
        raise ValueError("X must not be written to during a call; an entry that was unsound has become sound.")

    @property
    def values(self) -> NDArray[Any]:
        """The entries' numbers, or dense rows."""
        self.check()
        return self._values

    @property
    def indices(self) -> NDArray[Any] | None:
        """The entries' columns, None if dense."""
        self.check()
        return self._indices

    @property
    def distinct(self) -> bool:
        """Whether no row names a column twice."""
        self.check()
        if self._distinct is None:  # the entries were checked by a pass, which did not look at that
            self._distinct = check_csr(self._values, self._indices, self.indptr, self.shape)
        return self._distinct

    @classmethod
    def from_array(cls, X: Any, *, later: bool = False) -> Design:
        """Design of an array or a scipy sparse matrix.

        No copy of float32 or float64 rows that are contiguous, nor of CSR with int32 or int64 indices; anything else is
        converted once. Sparse arrays are validated before anything is read through them; dense ones are not searched
        for NaN (scikit-learn's `check_array` does that, or the objective shows it).

        With ``later=True`` entries that need no conversion are left to whatever reads them first: a pass over all rows
        checks them at next to no cost (`Objective`), where a check of its own waits for memory.

        Raises
        ------
        ValueError
            If the structure is unsound or a stored value is not finite.
        """
        sparse = hasattr(X, "indptr") or hasattr(X, "tocsr")
        X = X if sparse else np.asarray(X)
        if X.ndim != 2:
            remedy = "Use X.reshape(-1, 1) for one feature."
            dimensions = "1 dimension" if X.ndim == 1 else f"{X.ndim} dimensions"
            raise ValueError(f"X must be two-dimensional; got {dimensions}. {remedy}")
        if sparse:
            return cls._from_sparse(X, later)
        kept = X.dtype in (np.float32, np.float64)
        scattered = X.shape[1] > 1 and X.strides[1] != X.itemsize
        if not kept or not X.dtype.isnative or scattered or X.strides[0] % X.itemsize or not X.flags.aligned:
            rows = np.empty(X.shape, X.dtype.newbyteorder("=") if kept else np.float64)
            for start, stop in Design(rows, None, None, X.shape).pieces():  # NumPy's own loops do not see Ctrl-C
                rows[start:stop] = X[start:stop]
            X = rows
        return cls(X, None, None, X.shape)

    @classmethod
    def _from_sparse(cls, X: Any, later: bool) -> Design:
        X = checked_csr(X)
        values, indices, indptr = X.data, X.indices, X.indptr
        if values.dtype.char not in "fd" or not values.dtype.isnative:
            values = values.astype(np.float64)
        values, indices, indptr = contiguous(values), contiguous(indices), contiguous(indptr)
        distinct = None
        if later:
            _check_layout(values, indices, indptr, X.shape, "row")
            later = check.within(indptr, min(len(values), len(indices)))
        if not later:
            distinct = check_csr(values, indices, indptr, X.shape)
        if indptr.dtype != indices.dtype:
            narrow = indices.dtype == np.int32 and len(values) <= np.iinfo(np.int32).max
            indices = indices if narrow else indices.astype(np.int64, copy=False)
            indptr = indptr.astype(indices.dtype)
        if len(values) == 0:  # the kernels take the address of the first element
            values, indices = np.zeros(1, values.dtype), np.zeros(1, indices.dtype)
        return cls(values, indices, indptr, (int(X.shape[0]), int(X.shape[1])), distinct, sound=not later)

    @property
    def finite(self) -> bool:
        """Whether no stored value is NaN or infinite."""
        if self.indptr is not None:  # `check_csr` has seen to it
            return True
        for start, stop in self.pieces():
            piece = self.values[start:stop]
            with np.errstate(over="ignore", invalid="ignore"):
                # BLAS: as fast as memory. Where finite values overflow it, they are looked at one by one.
                total = np.vdot(piece, piece) if piece.flags.c_contiguous else piece.sum(dtype=np.float64)
                if not np.isfinite(total) and not np.isfinite(piece).all():
                    return False
        return True

    @property
    def sparse(self) -> bool:
        """CSR?"""
        return self.indptr is not None

    @cached_property
    def mapped(self) -> bool:
        """Whether the entries lie in a file that is mapped into memory."""
        return mapping(self._values) is not None

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._values.dtype

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The arguments that stand for X in a kernel's call."""
        self.check()
        return self.unchecked

    @property
    def unchecked(self) -> tuple[NDArray[Any], ...]:
        """`arrays` as they are: for what checks entries itself before it follows them."""
        if self._indices is None or self.indptr is None:
            return (self._values,)
        return (self._values, self._indices, self.indptr)

    @property
    def n_stored(self) -> int:
        """Elements that a pass reads."""
        return int(self.indptr[-1]) if self.indptr is not None else self.shape[0] * self.shape[1]

    def rows(self, rows: NDArray[np.intp]) -> Design:
        """The design of some rows alone (copied), which are checked if all are not."""
        if self._indices is None or self.indptr is None:
            return Design(self.values.take(rows, axis=0), None, None, (len(rows), self.shape[1]))
        lengths = (self.indptr[rows + 1] - self.indptr[rows]).astype(np.int64)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        entries = np.repeat(self.indptr[rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
        entries = entries if len(entries) else np.zeros(1, np.int64)
        arrays = self._values[entries], self._indices[entries], indptr.astype(self._indices.dtype)
        part = Design(*arrays, (len(rows), self.shape[1]), self._distinct, sound=self.sound)
        try:
            part.check()
        except ValueError:
            self.refuse()
        return part

    def columns(self, columns: NDArray[np.intp]) -> Design:
        """The design of some columns alone, each once (copied; dense where a tenth of them is stored)."""
        n, d = self.shape
        if self.indices is None or self.indptr is None:
            return Design(np.ascontiguousarray(self.values[:, columns]), None, None, (n, len(columns)))
        places = np.full(d, -1, np.int32)
        places[columns] = np.arange(len(columns), dtype=np.int32)
        pieces, arrays = self.pieces(), (self.values, self.indices, self.indptr)
        n_kept = sum(lasso.kept(self.indices, self.indptr, places, *piece) for piece in pieces)
        values, indices = np.zeros(max(n_kept, 1), self.dtype), np.zeros(max(n_kept, 1), self.indices.dtype)
        indptr = np.zeros(n + 1, self.indptr.dtype)
        for piece in pieces:
            lasso.copy(*arrays, places, values, indices, indptr, *piece)
        if n_kept >= DENSE * n * len(columns):
            part = csr_array((values[:n_kept], indices[:n_kept], indptr), shape=(n, len(columns)))
            return Design(part.toarray(), None, None, part.shape)
        return Design(values, indices, indptr, (n, len(columns)), self._distinct or None)

    def of_its_columns(self) -> tuple[Design, NDArray[Any]]:
        """The same CSR rows without the columns that none of them names, and which those are that are left."""
        assert self.indices is not None
        named = self.indices[: self.n_stored] if self.n_stored else np.zeros(1, self.indices.dtype)
        columns, places = np.unique(named, return_inverse=True)
        places = places.astype(self.indices.dtype, copy=False)
        return Design(self.values, places, self.indptr, (self.shape[0], len(columns)), self._distinct), columns

    def by_columns(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """A copy of X for what goes through columns: values, rows and starts of CSC; all values if X is dense."""
        if self.indices is None or self.indptr is None:
            none = np.empty(0, np.int32)
            return np.ascontiguousarray(self.values.T).reshape(-1), none, none
        entries = slice(self.n_stored)
        X = csr_array((self.values[entries], self.indices[entries], self.indptr), shape=self.shape).tocsc()
        X.sum_duplicates()
        if not X.nnz:  # the kernels take the address of the first element, and indices of one type
            return np.zeros(1, self.dtype), np.zeros(1, X.indptr.dtype), X.indptr
        return X.data, X.indices, X.indptr

    def pieces(self, n_outputs: int = 1, rows: tuple[int, int] | None = None) -> list[tuple[int, int]]:
        """Ranges of rows (of all, or of ``rows``), each some 10 ms of work."""
        start, stop = rows or (0, self.shape[0])
        if self.n_stored * n_outputs <= WORK:
            return [(start, stop)]
        return self._cut(start, stop, -(-self._stored(start, stop) * n_outputs // WORK))

    def shares(self, n_outputs: int = 1, n_sums: int = 0) -> list[tuple[int, int]]:
        """Ranges of rows that threads take, by X's shape alone: a millisecond of work or more each.

        Each has `n_sums` numbers of its own that are added up at last: they are to cost little beside the work.
        """
        count = self.n_stored * n_outputs // max(SHARE, 16 * n_sums)
        if count <= 1:
            return [(0, self.shape[0])]
        return self._cut(0, self.shape[0], count // 2 * 2 if count > 2 else count)

    def _stored(self, start: int, stop: int) -> int:
        if self.indptr is None:
            return (stop - start) * self.shape[1]
        return int(self.indptr[stop]) - int(self.indptr[start])

    def _cut(self, start: int, stop: int, count: int) -> list[tuple[int, int]]:
        """Rows start .. stop - 1 in at most `count` ranges of about equally many elements, none empty."""
        count = min(stop - start, count)
        if count <= 1:
            return [(start, stop)]
        parts = np.linspace(0, 1, count + 1)
        if self.indptr is None:
            cuts = start + np.rint((stop - start) * parts).astype(np.int64)
        else:
            first = int(self.indptr[start])
            places = first + self._stored(start, stop) * parts
            cuts = start + np.searchsorted(self.indptr[start : stop + 1], places)
            cuts[0], cuts[-1] = start, stop
        cuts = np.unique(cuts)
        return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))

    @cached_property
    def column_counts(self) -> NDArray[np.int64]:
        """In how many rows each column has an entry, (n_features,)."""
        n, d = self.shape
        if self.indptr is None:
            return np.full(d, n)
        if self._distinct is not False:
            sums = self._column_sums  # which tells whether columns are distinct, if that was not known
            if self.distinct:
                return sums[:, 0].astype(np.int64)
        assert self.indices is not None
        counts = np.zeros(d, dtype=np.int64)
        for start, stop in self.pieces(16):
            lo, hi = int(self.indptr[start]), int(self.indptr[stop])
            columns = self.indices[lo:hi].astype(np.int64, copy=False)
            rows = np.repeat(np.arange(stop - start), np.diff(self.indptr[start : stop + 1]))
            places = np.sort(rows * d + columns)  # np.unique's hash table took seconds for millions
            columns = places[np.diff(places, prepend=-1) != 0] % d
            counts += np.bincount(columns, minlength=d)
        return counts

    @cached_property
    def column_squares(self) -> NDArray[np.float64]:
        """Sum of each column's squares, (n_features,) (duplicate entries taken as they stand)."""
        if self.indptr is None:
            squares: NDArray[np.float64] = np.einsum("ij,ij->j", self.values, self.values, dtype=np.float64)
            return squares
        return self._column_sums[:, 1]

    @cached_property
    def _column_sums(self) -> NDArray[np.float64]:
        """Each column's entries of a CSR matrix and the sum of their squares, in one pass, which may be the check."""
        assert self._indices is not None
        assert self.indptr is not None
        sums, distinct = np.zeros((self.shape[1], 2)), True
        for piece in self.pieces():
            found = check.column_sums(self._values, self._indices, self.indptr, sums, *piece)
            if found < 0:
                self.refuse()
            distinct &= found > 0
        if np.isfinite(sums).all():
            self.checked(distinct)
        self.check()
        return sums

    def transposed_product(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """``X' r``, (n_features,), summed in float64."""
        out = np.zeros(self.shape[1])
        for start, stop in self.pieces():
            if self.indices is None or self.indptr is None:
                out += np.einsum("ij,i->j", self.values[start:stop], r[start:stop], dtype=np.float64)
                continue
            piece = slice(int(self.indptr[start]), int(self.indptr[stop]))
            entries = self.values[piece] * np.repeat(r[start:stop], np.diff(self.indptr[start : stop + 1]))
            out += np.bincount(self.indices[piece], entries, minlength=self.shape[1])
        return out

    def merged(self) -> Design:
        """The same matrix with each row's repeated columns summed: a copy, for what needs rows' true lengths."""
        if self.distinct:
            return self
        X = csr_array((self.values, self.indices, self.indptr), shape=self.shape, copy=True)
        X.sum_duplicates()
        return Design.from_array(X)

    @cached_property
    def row_norms_squared(self) -> NDArray[np.float64]:
        """Squared Euclidean length of each row, (n_samples,) (duplicate entries taken as they stand).

        Of CSR rows they tell whether values are finite: where one is not, or is too large to tell, all entries are
        checked. Columns are not looked at.
        """
        if self.indptr is None:
            squares = np.empty(self.shape[0])
            for start, stop in self.pieces():
                rows = self.values[start:stop]
                np.einsum("ij,ij->i", rows, rows, dtype=np.float64, out=squares[start:stop])
            return squares
        out = np.empty(self.shape[0])
        check.squares(self._values, self.indptr, out)
        if not np.isfinite(out).all():
            self.check()
        return out


def checked_csr(X: Any) -> Any:
    """X in CSR form; what is to be converted is validated first, since scipy dereferences it unchecked."""
    _check_shape(X.shape)
    if X.format == "csr":
        if X.dtype.kind not in "biuf":  # not for `Design`, which looks at the others itself
            check_csr(_numbers(X.data), X.indices, X.indptr, X.shape)
        return X
    if X.format == "csc":
        check_csr(_numbers(X.data), X.indices, X.indptr, (X.shape[1], X.shape[0]), names="column")
    elif X.format == "coo":
        for name, a, size in (("row", X.row, X.shape[0]), ("col", X.col, X.shape[1])):
            if len(a) != len(X.data):
                raise ValueError(f"X.{name} must have as many elements as X.data ({len(X.data)}); got {len(a)}.")
            if a.dtype.kind not in "iu":  # NaN lies within every range
                raise ValueError(f"X.{name} must be integers; got {a.dtype}.")
            bad = np.flatnonzero((a < 0) | (a >= size))
            if len(bad):
                raise ValueError(f"X.{name} must be in [0, {size}); got {a[bad[0]]} in entry {bad[0]}.")
    elif X.format == "bsr":
        block = X.data.shape[1:] if X.data.ndim == 3 else (1, 1)
        shape = (X.shape[0] // max(1, block[0]), X.shape[1] // max(1, block[1]))
        check_csr(np.zeros(len(X.data)), X.indices, X.indptr, shape, names="block row")
    return X.tocsr()


def _check_shape(shape: tuple[int, ...]) -> None:
    """Refuses what attributes set by hand can hold; by -1 rows scipy's conversions write until they crash."""
    if min(shape) < 0:
        raise ValueError(f"X.shape must be of numbers >= 0; got {tuple(shape)}.")


def _numbers(data: Any) -> Any:
    """The stored values if they are floats, else zeros that stand for them in the structure's check."""
    return data if data.dtype in (np.float32, np.float64) else np.zeros(len(data))
