"""Data on disk: what is converted is what was there, at bounded memory, whole or not at all; and how it is fitted."""

import bz2
import contextlib
import decimal
import errno
import gzip
import io
import itertools
import json
import lzma
import mmap
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from cases import csr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

import fastopt.data
from fastopt import LogisticRegression, SGDClassifier, _order, objective
from fastopt._design import Design, mapping
from fastopt.data import _convert, _folder, _read

N, D = 500, 60


@pytest.fixture
def table(rng):
    X = scipy.sparse.random_array((N, D), density=0.2, format="lil", rng=rng)
    X[:, 0] = 1.0  # the first and the last column are in use
    X[:, D - 1] = 2.0
    return scipy.sparse.csr_array(X), rng.choice([-1.0, 1.0], N)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_read, "BLOCK", 2000)
    monkeypatch.setattr(_read, "ROWS", 40)


def same(a, b):
    return a.shape == b.shape and (abs(a - b) > 0).nnz == 0


# ---------------------------------------------------------------------------------------------------------- converting


@pytest.mark.parametrize("zero_based", [True, False])
@pytest.mark.parametrize("packed", [None, gzip, bz2, lzma])
def test_svmlight_is_what_scikit_learn_reads(table, zero_based, packed, small_blocks, tmp_path):
    X, y = table
    path = tmp_path / "rows.svm"
    dump_svmlight_file(X, y, str(path), zero_based=zero_based)
    expected = load_svmlight_file(str(path))
    if packed:
        name = {gzip: "gz", bz2: "bz2", lzma: "xz"}[packed]
        path = tmp_path / f"rows.svm.{name}"
        path.write_bytes(packed.compress((tmp_path / "rows.svm").read_bytes()))
    data = fastopt.data.convert(path, tmp_path / "out", dtype="float64")
    assert same(data.X, expected[0])
    assert np.array_equal(data.y, expected[1])
    assert data.X.indices.dtype == data.X.indptr.dtype == np.int32
    for a in (data.X.data, data.X.indices, data.X.indptr, data.y):
        assert mapping(a) is not None
        assert not a.flags.writeable
    again = fastopt.data.open(tmp_path / "out")
    assert same(again.X, expected[0])
    assert data.meta["encoding"]["zero_based"] is zero_based


def test_a_column_0_that_comes_late(small_blocks, tmp_path):
    """The first block looks as if columns were numbered from 1."""
    text = "".join(f"{i % 2} {1 + i % 5}:{i}.5\n" for i in range(1, 900)) + "1 0:7 3:1\n"
    (tmp_path / "late.svm").write_text(text)
    expected, y = load_svmlight_file(str(tmp_path / "late.svm"))
    data = fastopt.data.convert(tmp_path / "late.svm", tmp_path / "out", dtype="float64")
    assert same(fastopt.data.open(tmp_path / "out").X, expected)
    assert np.array_equal(data.y, y)
    with pytest.raises(ValueError, match="zero_based must be True or 'auto'"):
        fastopt.data.convert(tmp_path / "late.svm", tmp_path / "no", zero_based=False)


def test_comments_and_query_numbers(tmp_path):
    (tmp_path / "a.svm").write_text("# of no use\n1 qid:3 2:0.5 7:1e-3 # so it is\n\n-1 1:2\n")
    data = fastopt.data.convert(tmp_path / "a.svm", tmp_path / "out", dtype="float64")
    assert same(data.X, load_svmlight_file(str(tmp_path / "a.svm"))[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 3:x", "line 301: '1 3:x'"),
        ("one 3:1", "line 301"),
        ("1 3:1 2:1", "sorted and unique"),
        ("1 -3:1", "line 301"),
        ("1 3:nan", "finite"),
        ("inf 3:1", "finite"),
        ("1 99999999999:1", "line 301"),
        ("1 99999999999999999999999:1", "line 301"),
        ("1 3:1:2", "line 301"),
        ("\x00\xff", "line 301"),
    ],
)
def test_malformed_lines_are_named(line, message, tmp_path):
    (tmp_path / "bad.svm").write_bytes(b"1 2:1 5:0.25\n" * 300 + line.encode("latin-1") + b"\n" + b"0 1:1\n" * 10)
    with pytest.raises(ValueError, match=message):
        fastopt.data.convert(tmp_path / "bad.svm", tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["bad.svm"]


def test_streams_and_arrays(table, small_blocks, tmp_path, dtype):
    X, y = table
    text = io.BytesIO()
    dump_svmlight_file(X, y, text, zero_based=False)
    text.seek(0)
    a = fastopt.data.convert(text, tmp_path / "a", dtype=dtype)
    b = fastopt.data.convert((X.astype(dtype), np.where(y > 0, "yes", "no")), tmp_path / "b", dtype=dtype)
    c = fastopt.data.convert((X.toarray(), y), tmp_path / "c", dtype=dtype)
    np.testing.assert_allclose(a.X.toarray(), X.toarray(), rtol=1e-15 if dtype == np.float64 else 1e-7)
    assert same(b.X, X.astype(dtype))
    assert b.labels.tolist() == ["no", "yes"]
    assert np.array_equal(b.labels[b.y], np.where(y > 0, "yes", "no"))
    assert np.array_equal(c.X, X.toarray().astype(dtype))
    assert c.X.dtype == dtype


def test_many_entries_take_wide_indices(table, monkeypatch, tmp_path):
    """Where int32 does not number the entries; told by a smaller limit."""
    X, y = table
    real = Design.from_array
    monkeypatch.setattr(_convert, "MOST_NARROW", 100)
    data = fastopt.data.convert((X, y), tmp_path / "out", dtype="float64")
    assert data.X.indices.dtype == data.X.indptr.dtype == np.int64
    assert same(data.X, X)
    design = real(data.X)
    assert mapping(design.indices) is not None


def test_an_empty_source(tmp_path):
    (tmp_path / "empty.svm").write_text("\n\n")
    with pytest.raises(ValueError, match="at least one row"):
        fastopt.data.convert(tmp_path / "empty.svm", tmp_path / "out")
    data = fastopt.data.convert((scipy.sparse.csr_array((3, 4)), [0, 1, 0]), tmp_path / "zeros")
    assert data.X.shape == (3, 4)
    assert fastopt.data.open(tmp_path / "zeros").X.nnz == 0


@pytest.mark.parametrize("at", [0, 1, 5, 12])
def test_an_interrupted_conversion_goes_on(table, at, small_blocks, monkeypatch, tmp_path):
    """Killed behind any block, with more on the disk than the journal knows: the same bytes in the end."""
    X, y = table
    dump_svmlight_file(X, y, str(tmp_path / "rows.svm"))
    whole = fastopt.data.convert(tmp_path / "rows.svm", tmp_path / "whole")
    monkeypatch.setattr(_convert, "CHECKPOINT_SECONDS", 0.0)
    taken, real = [], _convert._Conversion._take

    def take(self, block):
        taken.append(block.position)
        if len(taken) == at + 2:
            monkeypatch.setattr(_folder.Writer, "checkpoint", lambda *_: None)  # what follows is not in the journal
        if len(taken) == at + 3:
            raise KeyboardInterrupt
        real(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(_convert._Conversion, "_take", take)
        with pytest.raises(KeyboardInterrupt):
            fastopt.data.convert(tmp_path / "rows.svm", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    lines = []
    fastopt.data.convert(tmp_path / "rows.svm", tmp_path / "out", verbose=1, printer=lines.append)
    assert lines[0].startswith("going on behind row")
    fastopt.data.open(tmp_path / "out")
    for name in ("values.npy", "indices.npy", "indptr.npy", "y.npy", "meta.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert same(whole.X, fastopt.data.open(tmp_path / "out").X)
    assert not (tmp_path / "out.part").exists()


def test_a_changed_source_begins_anew(table, small_blocks, monkeypatch, tmp_path):
    X, y = table
    dump_svmlight_file(X, y, str(tmp_path / "rows.svm"))
    monkeypatch.setattr(_convert, "CHECKPOINT_SECONDS", 0.0)
    real = _convert._Conversion._finish
    monkeypatch.setattr(_convert._Conversion, "_finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fastopt.data.convert(tmp_path / "rows.svm", tmp_path / "out")
    monkeypatch.setattr(_convert._Conversion, "_finish", real)
    dump_svmlight_file(X[:100], y[:100], str(tmp_path / "rows.svm"))
    assert fastopt.data.convert(tmp_path / "rows.svm", tmp_path / "out").X.shape[0] == 100


def fails(real, at):
    """A function that says at its call of this number that the disk is full."""
    calls = itertools.count()

    def fail(*args, **kwargs):
        if next(calls) == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    return fail


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize(
    ("where", "what"),
    [(_folder.Writer, "finish"), (_folder.Writer, "rewrite"), (_folder.Writer, "_open"), (_folder.Writer, "append"),
     (_folder, "write_json"), (_folder.os, "replace"), (_folder.os, "fsync")],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_conversion_that_fails_at_its_end_goes_on(table, where, what, at, monkeypatch, tmp_path):
    """At whatever call: the next one goes on, to the same bytes, and what was there stays until then."""
    X, y = table
    text = "".join(f"{i % 2} {1 + i % 5}:{i}.5\n" for i in range(1, 300)) + "1 0:7 3:1\n"  # columns are rewritten, too
    (tmp_path / "rows.svm").write_text(text)
    fastopt.data.convert(tmp_path / "rows.svm", tmp_path / "whole")
    fastopt.data.convert((X, y), tmp_path / "out")
    real = _convert._Conversion._finish

    def finish(self):
        self.writer.checkpoint(self._told())
        with monkeypatch.context() as patch:
            patch.setattr(where, what, fails(getattr(where, what), at))
            real(self)

    before = sorted(os.listdir(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(_convert._Conversion, "_finish", finish)
        with contextlib.suppress(OSError):  # not if it has fewer calls
            fastopt.data.convert(tmp_path / "rows.svm", tmp_path / "out", overwrite=True)
    failed, lines = (tmp_path / "out.part").exists(), []
    assert failed or at
    if failed:
        assert sorted(os.listdir(tmp_path)) == sorted([*before, "out.part"])
        assert same(fastopt.data.open(tmp_path / "out").X, X.astype(np.float32))
        fastopt.data.convert(tmp_path / "rows.svm", tmp_path / "out", overwrite=True, verbose=1, printer=lines.append)
        assert lines[0] == "going on behind row 300"
    assert sorted(os.listdir(tmp_path)) == ["out", "rows.svm", "whole"]
    assert sorted(os.listdir(tmp_path / "out")) == sorted(os.listdir(tmp_path / "whole"))
    for name in os.listdir(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    fastopt.data.open(tmp_path / "out")


def test_a_journal_tells_of_no_other_source(table, small_blocks, monkeypatch, tmp_path):
    """One conversion is interrupted, then one of another file to the same place, then the first is begun again."""
    X, y = table
    dump_svmlight_file(X, y, str(tmp_path / "a.svm"))
    dump_svmlight_file(2 * X, y, str(tmp_path / "b.svm"))
    for name, seconds in (("a.svm", 0.0), ("b.svm", 99.0)):
        monkeypatch.setattr(_convert, "CHECKPOINT_SECONDS", seconds)
        with monkeypatch.context() as patch:
            patch.setattr(_convert._Conversion, "_finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                fastopt.data.convert(tmp_path / name, tmp_path / "out")
    fastopt.data.convert(tmp_path / "a.svm", tmp_path / "out", dtype="float32")
    assert same(fastopt.data.open(tmp_path / "out").X, X.astype(np.float32))


@pytest.mark.parametrize("names", [["weights.npy"], ["notes.txt"], ["y.npy"], ["lock", "journal.json", "mine.npy"]])
@pytest.mark.parametrize("sound", [True, False])
def test_a_part_of_the_users_own_stays(table, names, sound, tmp_path):
    (tmp_path / "mine.part").mkdir()
    for name in names:
        (tmp_path / "mine.part" / name).write_text("{}")
    (tmp_path / "bad.svm").write_text("1 1:x\n")
    with pytest.raises(FileExistsError, match=r"path must be .* got .*mine.*rename it"):
        fastopt.data.convert(table if sound else tmp_path / "bad.svm", tmp_path / "mine")
    assert sorted(os.listdir(tmp_path / "mine.part")) == sorted(names)
    assert not (tmp_path / "mine").exists()


@pytest.mark.skipif(not hasattr(os, "kill") or sys.platform == "win32", reason="kills a process with SIGKILL")
def test_a_killed_conversion_goes_on(table, tmp_path):
    X, y = table
    dump_svmlight_file(scipy.sparse.vstack([X] * 8), np.tile(y, 8), str(tmp_path / "rows.svm"))
    code = """if True:
        import os, signal, sys
        from fastopt.data import _convert, _read, convert
        _read.BLOCK, _convert.CHECKPOINT_SECONDS = 5000, 0.0
        real, count = _convert._Conversion._take, [0]
        def take(self, block):
            count[0] += 1
            if count[0] == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, block)
        _convert._Conversion._take = take
        convert(sys.argv[1], sys.argv[2])
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "rows.svm"), str(tmp_path / "out")], timeout=60)
    assert done.returncode == -9
    assert not (tmp_path / "out").exists()
    lines = []
    data = fastopt.data.convert(tmp_path / "rows.svm", tmp_path / "out", verbose=1, printer=lines.append)
    assert lines[0].startswith("going on behind row")
    expected = load_svmlight_file(str(tmp_path / "rows.svm"), dtype=np.float32)[0]
    assert same(fastopt.data.open(tmp_path / "out").X, expected)
    assert len(data.y) == 8 * N


@pytest.mark.skipif(not hasattr(os, "kill") or sys.platform == "win32", reason="kills a process with SIGKILL")
@pytest.mark.parametrize("at", ["replace", "rmtree", "unlink"])
def test_a_conversion_killed_while_it_replaces_leaves_nothing_for_good(table, tmp_path, at):
    """Between its two moves, before what was replaced is removed, or in the midst of that; somebody else's stays."""
    X, y = table
    first = fastopt.data.convert((X, y), tmp_path / "out").X
    others = {".out.0123456789abcdef.old": "meta.json", ".out.0123456789abcdee.old": "mine", ".out.old": "meta.json"}
    for name, file in others.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    code = """if True:
        import os, pathlib, shutil, signal, sys
        import numpy as np
        from fastopt.data import convert
        name, count = sys.argv[2], [0]
        whose, end, times = {
            "replace": (os, ".part", 1), "rmtree": (shutil, ".old", 1), "unlink": (pathlib.Path, ".npy", 2)
        }[name]
        real = getattr(whose, name)
        def dies(path, *others, **options):
            count[0] += str(path).endswith(end)
            if count[0] == times:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(path, *others, **options)
        setattr(whose, name, dies)
        convert((np.eye(4), [0, 1, 1, 0]), sys.argv[1], overwrite=True)
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out"), at], timeout=60)
    assert done.returncode == -9
    assert len([name for name in os.listdir(tmp_path) if name.endswith(".old")]) == 4
    with pytest.raises(FileExistsError, match="overwrite=True"):
        fastopt.data.convert((X, y), tmp_path / "out")
    kept = fastopt.data.open(tmp_path / "out").X
    assert same(kept, first) if at == "replace" else np.array_equal(kept, np.eye(4))
    fastopt.data.convert((X[:50], y[:50]), tmp_path / "out", overwrite=True)
    assert fastopt.data.open(tmp_path / "out").X.shape[0] == 50
    assert sorted(os.listdir(tmp_path)) == sorted(["out", *others])
    for name, file in others.items():
        assert (tmp_path / name / file).read_text() == "{}"


def test_what_is_there_is_not_replaced_unasked(table, tmp_path):
    fastopt.data.convert(table, tmp_path / "out")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        fastopt.data.convert(table, tmp_path / "out")
    assert fastopt.data.convert((table[0][:50], table[1][:50]), tmp_path / "out", overwrite=True).X.shape[0] == 50
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="a folder that convert wrote"):
        fastopt.data.convert(table, tmp_path / "mine", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["mine", "out"]


def test_one_writer_at_a_time(table, tmp_path):
    pytest.importorskip("fcntl", reason="files are locked by fcntl")
    first = _folder.Writer(tmp_path / "out", {})
    with pytest.raises(FileExistsError, match="one process at a time"):
        fastopt.data.convert(table, tmp_path / "out")
    first.close()
    fastopt.data.convert(table, tmp_path / "out")


def test_conversion_at_bounded_memory(tmp_path, monkeypatch):
    """Eight times the rows, the same memory."""
    monkeypatch.setattr(_read, "BLOCK", 1 << 16)
    monkeypatch.setattr(_folder, "CHUNK", 1 << 16)
    rows = b"".join(b"%d 1:0.5 %d:1.25 %d:3\n" % (i % 2, 2 + i % 400, 500 + i % 300) for i in range(8000))
    peaks = []
    for times in (1, 8):
        (tmp_path / f"{times}.svm").write_bytes(rows * times)
        tracemalloc.start()
        fastopt.data.convert(tmp_path / f"{times}.svm", tmp_path / f"out{times}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert os.path.getsize(tmp_path / "1.svm") > 1.5 * _read.BLOCK
    assert peaks[1] < 1.2 * peaks[0]


# -------------------------------------------------------------------------------------------------- tables, by pyarrow


@pytest.fixture
def people(rng):
    pytest.importorskip("pyarrow", reason="CSV and Parquet are read by pyarrow, which is not installed")
    pandas = pytest.importorskip("pandas", reason="writes the tables")
    return pandas.DataFrame({
        "id": np.arange(300), "zip": [f"{i:05d}" for i in rng.integers(0, 30, 300)], "age": rng.integers(18, 80, 300),
        "income": rng.random(300), "city": rng.choice(["Rome", 'Par"is, \n x', "", "Bonn"], 300),
        "label": rng.choice(["no", "yes"], 300),
    })  # fmt: skip


OPTIONS = {"target": "label", "categorical": ["zip"], "ignore": ["id"], "n_hash": 64}


def test_tables_are_hashed_alike(people, small_blocks, tmp_path):
    from sklearn.utils import murmurhash3_32

    people.to_csv(tmp_path / "a.csv", index=False)
    people.to_csv(tmp_path / "b.tsv", index=False, sep="\t")
    people.to_parquet(tmp_path / "c.parquet", row_group_size=90)
    a, b, c = (
        fastopt.data.convert(tmp_path / name, tmp_path / f"{name}.data", dtype="float64", **OPTIONS)
        for name in ("a.csv", "b.tsv", "c.parquet")
    )
    expected = np.zeros((300, 2 + 64))
    expected[:, 0], expected[:, 1] = people["age"], people["income"]
    for name in ("zip", "city"):
        for i, word in enumerate(people[name]):
            expected[i, 2 + murmurhash3_32(f"{name}={word}".encode(), positive=True) % 64] += 1
    for data in (a, b, c):
        np.testing.assert_allclose(data.X.toarray(), expected, rtol=1e-14)
        assert data.labels[data.y].tolist() == people["label"].tolist()
        assert Design.from_array(data.X).distinct


def test_tables_of_numbers_are_dense(people, tmp_path):
    people.to_csv(tmp_path / "a.csv", index=False)
    data = fastopt.data.convert(tmp_path / "a.csv", tmp_path / "out", target="age", ignore=["zip", "city", "label"])
    assert data.feature_names == ["id", "income"]
    assert np.array_equal(data.X[:, 0], people["id"])
    assert np.array_equal(data.y, people["age"])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_interrupted_tables_go_on(people, ending, small_blocks, monkeypatch, tmp_path):
    path = tmp_path / f"a.{ending}"
    people.to_csv(path, index=False) if ending == "csv" else people.to_parquet(path, row_group_size=90)
    whole = fastopt.data.convert(path, tmp_path / "whole", **OPTIONS)
    monkeypatch.setattr(_convert, "CHECKPOINT_SECONDS", 0.0)
    real, count = _convert._Conversion._take, []

    def take(self, block):
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        real(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(_convert._Conversion, "_take", take)
        with pytest.raises(KeyboardInterrupt):
            fastopt.data.convert(path, tmp_path / "out", **OPTIONS)
    lines = []
    data = fastopt.data.convert(path, tmp_path / "out", verbose=1, printer=lines.append, **OPTIONS)
    assert lines[0].startswith("going on behind row")
    assert same(data.X, whole.X)
    assert np.array_equal(data.labels[data.y], people["label"])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", {}, "target must name a column"),
        ("a,b\n1,2\n", {"target": "c"}, "there is no column 'c'. There are 'a', 'b'"),
        ("a,a\n1,2\n", {"target": "a"}, "'a' twice"),
        ("a,b\n1,2\n1\n", {"target": "a"}, "Expected 2 columns"),
        ("a,b\n1,2\n1,\n", {"target": "a"}, "column 'b' must hold a finite number"),
        ("a,b\n1,2\n,1\n", {"target": "a"}, "the target 'a' must have a value"),
        ("a\n1\n", {"target": "a"}, "beside the target"),
    ],
)
def test_malformed_tables(people, text, options, message, tmp_path):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        fastopt.data.convert(tmp_path / "bad.csv", tmp_path / "out", **options)
    (tmp_path / "bad.parquet").write_text(text)
    with pytest.raises(ValueError, match="must be a Parquet file"):
        fastopt.data.convert(tmp_path / "bad.parquet", tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.eye(2) * 1e39, [0, 1], r"got 1e\+39 in row 0, column 0. float32 ends at .* dtype='float64'"),
        (scipy.sparse.csr_array([[0, 0], [2.0, -1e39]]), [0, 1], r"got -1e\+39 in row 1, column 1. float32 ends at"),
        (np.array([[1, 2], [3, np.nan]]), [0, 1], "X must be finite; got nan in row 1, column 1. Impute"),
        (np.vstack([np.zeros((90, 1)), [[np.inf]]]), np.zeros(91), "got inf in row 90, column 0"),
        (scipy.sparse.csr_array([[0, np.nan]]), [0], r"X.data must be finite; got nan in row 0"),
        (np.eye(2), [0, np.nan], "y must be finite; got nan in row 1"),
        (np.zeros((90, 1)), [*range(89), np.inf], "y must be finite; got inf in row 89"),
        (np.eye(2), np.array(["a", None], object), "y must hold a number or a string in each row; got None in row 1"),
        (np.eye(2), np.array([np.nan, "a"], object), "got nan in row 0"),
        (np.eye(2), np.array([b"a", b"\xff"]), "y must be UTF-8 where it holds bytes; got b'.xff' in row 1"),
        (np.eye(2), np.array([1, 2j]), "y must be of real numbers or strings; got .*complex128"),
        (np.eye(2) * 1j, [0, 1], "X must be of real numbers"),
        ([[1j, 2]], [0], "X must be of real numbers"),
    ],
)
def test_arrays_that_no_folder_holds(X, y, message, small_blocks, tmp_path):
    with pytest.raises(ValueError, match=message):
        fastopt.data.convert((X, y), tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_targets_in_any_type(tmp_path):
    for i, y in enumerate((np.array([b"no", b"yes"]), np.array([b"no", "yes"], object), ["no", "yes"])):
        data = fastopt.data.convert((np.eye(2), y), tmp_path / f"{i}")
        assert data.labels.tolist() == ["no", "yes"]
        assert data.y.tolist() == [0, 1]
    assert fastopt.data.convert((np.eye(2), np.array([1, "a"], object)), tmp_path / "m").labels.tolist() == ["1", "a"]
    data = fastopt.data.convert((np.eye(2) * 1e39, [True, False]), tmp_path / "wide", dtype="float64")
    assert fastopt.data.open(tmp_path / "wide").X[0, 0] == 1e39
    assert data.y.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("hashed", [False, True])
def test_numbers_beyond_float32(people, ending, hashed, small_blocks, tmp_path):
    people["income"] = np.where(np.arange(300) == 250, 1e39, people["income"])
    if not hashed:
        people = people[["age", "income", "id"]]
    path = tmp_path / f"a.{ending}"
    people.to_csv(path, index=False) if ending == "csv" else people.to_parquet(path)
    where = "byte" if ending == "csv" else "row 240"
    message = f"begins at {where}.*column 'income' must .* got 1e.39 in row [0-9]+ of its block. .*dtype='float64'"
    with pytest.raises(ValueError, match=message):
        fastopt.data.convert(path, tmp_path / "out", target="age")
    fastopt.data.convert(path, tmp_path / "out", target="age", dtype="float64")
    assert fastopt.data.open(tmp_path / "out").X.max() == 1e39


def test_true_and_false_in_csv(people, small_blocks, tmp_path):
    """As in Parquet: features and targets."""
    people = people[["age"]].assign(flag=people["income"] > 0.5, y=people["income"] > 0.3)
    people.to_csv(tmp_path / "a.csv", index=False)
    people.to_parquet(tmp_path / "b.parquet")
    a, b = (fastopt.data.convert(tmp_path / n, tmp_path / f"{n}.data", target="y") for n in ("a.csv", "b.parquet"))
    assert np.array_equal(a.X, people[["age", "flag"]])
    assert np.array_equal(a.y, people["y"])
    assert np.array_equal(a.X, b.X)
    assert np.array_equal(a.y, b.y)
    how = {"target": "y", "categorical": ["flag"], "n_hash": 64}
    c, d = (fastopt.data.convert(tmp_path / n, tmp_path / f"{n}.hashed", **how) for n in ("a.csv", "b.parquet"))
    assert c.X.shape == (300, 65)
    assert (c.X != d.X).nnz == 0


def test_columns_left_out_are_not_looked_at(people, small_blocks, tmp_path):
    people["id"] = [str(i) if i < 280 else f"A{i}" for i in range(300)]
    people["flag"] = ["True" if i < 280 else "perhaps" for i in range(300)]
    people.to_csv(tmp_path / "a.csv", index=False)
    ignore = ["zip", "city", "label", "id", "flag"]
    data = fastopt.data.convert(tmp_path / "a.csv", tmp_path / "out", target="age", ignore=ignore)
    assert data.feature_names == ["income"]
    np.testing.assert_allclose(data.X[:, 0], people["income"], rtol=1e-6)


def test_decimals_and_long_integers_are_numbers(people, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    price = pa.array([decimal.Decimal("1.25"), decimal.Decimal("-2.50"), None], pa.decimal128(9, 2))
    y = pa.array([decimal.Decimal(i) / 4 for i in range(3)], pa.decimal256(50, 2))
    table = pa.table({"price": price, "long": [2**53 + 1, -(2**62) - 1, 0], "y": y})
    parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(f"price,long,y\n1.25,{2**53 + 1},0\n-2.5,{-(2**62) - 1},.25\n,0,.5\n")
    for name in ("a.parquet", "a.csv"):
        data = fastopt.data.convert(
            tmp_path / name, tmp_path / f"{name}.data", target="y", missing="zero", dtype="float64"
        )
        assert data.feature_names == ["price", "long"]
        assert data.X.tolist() == [[1.25, 2.0**53], [-2.5, -(2.0**62)], [0.0, 0.0]]
        assert data.y.tolist() == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("delimiter", [";;", "", "\n", '"', "é", 3])
def test_delimiters(delimiter, tmp_path):
    (tmp_path / "a.csv").write_text("a;y\n1;2\n")
    with pytest.raises(ValueError, match="delimiter must be one ASCII character"):
        fastopt.data.convert(tmp_path / "a.csv", tmp_path / "out", target="y", delimiter=delimiter)


# ------------------------------------------------------------------------------------------- folders that are not sound


@pytest.fixture
def folder(table, tmp_path):
    fastopt.data.convert(table, tmp_path / "sound")
    return tmp_path / "sound"


def test_every_cut_and_flip_is_seen(folder, tmp_path, rng):
    """Any byte changed in any file, and any file cut: ValueError, and nothing else."""
    for name in sorted(os.listdir(folder)):
        sound = (folder / name).read_bytes()
        places = np.unique(np.concatenate([np.arange(0, 140, 9), rng.integers(0, len(sound), 15)]))
        for place in places[places < len(sound)]:
            damaged = bytearray(sound)
            damaged[place] ^= 1 << int(rng.integers(8))
            (folder / name).write_bytes(damaged)
            with pytest.raises(ValueError, match="path must be a folder"):
                fastopt.data.open(folder)
        for length in (0, 1, 64, len(sound) // 2, len(sound) - 1):
            (folder / name).write_bytes(sound[:length])
            for verify in (True, False):
                with pytest.raises(ValueError, match="path must be a folder"):
                    fastopt.data.open(folder, verify=verify)
        (folder / name).unlink()
        with pytest.raises(ValueError, match="path must be a folder"):
            fastopt.data.open(folder)
        (folder / name).write_bytes(sound)
    fastopt.data.open(folder)


def lie(folder, **changes):
    """meta.json with some entries replaced and the right checksum."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8")) | changes
    meta.pop("crc32")
    meta["crc32"] = zlib.crc32(json.dumps(meta, sort_keys=True).encode())
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [N, 3]}, {"shape": [N + 1, D]}, {"shape": [-1, D]}, {"shape": [N]}, {"shape": "ab"},
        {"shape": [2**60, D]}, {"layout": "dense"}, {"layout": "../x"}, {"version": 99}, {"format": "other"},
        {"arrays": {}}, {"arrays": []}, {"labels": 3}, {"labels": ["a"]}, {"feature_names": ["a"]}, {"layout": None},
        {"encoding": None}, {"encoding": {}}, {"source": 3},
    ],
    ids=str,
)  # fmt: skip
def test_hostile_folders(folder, changes):
    lie(folder, **changes)
    with pytest.raises(ValueError, match="path must be a folder"):
        fastopt.data.open(folder)


def test_hostile_columns_do_not_reach_the_kernels(folder):
    """Without `verify` too: what is fitted and predicted is checked first."""
    lie(folder, shape=[N, 3])
    X, y = fastopt.data.open(folder, verify=False)
    for use in (lambda: LogisticRegression().fit(X, y), lambda: SGDClassifier().partial_fit(X, y, classes=[-1, 1])):
        with pytest.raises(ValueError, match=r"X\.indices must be in"):
            use()


@given(text=st.binary(max_size=60))
def test_any_bytes_as_meta(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    (folder / "meta.json").write_bytes(text)
    with pytest.raises(ValueError, match="path must be a folder"):
        fastopt.data.open(folder)


@given(text=st.text(alphabet="01.5:-+e #q\n", max_size=40))
def test_any_text_is_read_as_scikit_learn_does(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.svm").write_text(text)
    try:
        expected, y = load_svmlight_file(str(folder / "a.svm"))
        sound = len(y) > 0 and np.isfinite(expected.data).all() and np.isfinite(y).all()
    except (ValueError, OverflowError):
        sound = False
    if not sound:
        with pytest.raises(ValueError, match=r"a\.svm"):
            fastopt.data.convert(folder / "a.svm", folder / "out")
        return
    data = fastopt.data.convert(folder / "a.svm", folder / "out", dtype="float64", zero_based=True)
    zero_based, _ = load_svmlight_file(str(folder / "a.svm"), zero_based=True)
    assert same(data.X, zero_based)
    assert np.array_equal(data.y, y)


def test_what_is_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no"):
        fastopt.data.open(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="it is not a folder"):
        fastopt.data.open(tmp_path / "file")
    with pytest.raises(ValueError, match=r"it has no meta\.json"):
        fastopt.data.open(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "meta.json")
        with pytest.raises(ValueError, match="not a regular file"):
            fastopt.data.open(tmp_path)


# ------------------------------------------------------------------------------------------------------- fitting on it


@pytest.fixture
def small_windows(monkeypatch):
    """Blocks of some rows and windows of 16 blocks, so that small files have several."""
    monkeypatch.setattr(_order, "BLOCK_BYTES", 1 << 9)
    monkeypatch.setattr(_order, "WINDOW_BYTES", 1 << 13)


SOLVERS = ["sgd", "adam", "gd", "sdca", "saga", "lbfgs", "newton", "newton-cg", "auto"]


def fitted(solver, X, y, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(solver=solver, max_iter=2, tol=0.0, random_state=0, **how).fit(X, y)


@pytest.mark.parametrize("layout", ["csr", "dense"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_copy_of_mapped_data(layout, solver, tmp_path, monkeypatch):
    """A fit's memory beside the data is some vectors of one number a row, and small blocks."""
    monkeypatch.setattr(objective, "MOST_COPIED", 50_000)
    monkeypatch.setattr(objective, "BLOCK", 20_000)
    rng = np.random.default_rng(0)
    n, d = 5000 if solver in ("newton", "auto") else 10_000, 160
    X = rng.standard_normal((n, d)).astype(np.float32)
    y = (X[:, 0] + rng.standard_normal(n) > 0).astype(float)
    data = fastopt.data.convert((X if layout == "dense" else scipy.sparse.csr_array(X), y), tmp_path / "out")
    del X
    fitted(solver, data.X[:500], y[:500])  # imports
    tracemalloc.start()
    fitted(solver, data.X, data.y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * n * d * 4


#: The rows of the page's table of what a row takes.
TAKES = {
    '"lbfgs"': LogisticRegression(solver="lbfgs"),
    '"gd"': LogisticRegression(solver="gd"),
    '"newton-cg"': LogisticRegression(solver="newton-cg"),
    '"saga"': LogisticRegression(solver="saga"),
    '"newton"': LogisticRegression(solver="newton"),
    "update rules, several rows a step": LogisticRegression(solver="adam"),
    '"sgd", single rows': LogisticRegression(solver="sgd", batch_size=1),
    '"adam" and its kin, single rows': LogisticRegression(solver="adam", batch_size=1),
    '"sdca"': LogisticRegression(solver="sdca"),
    "`SGDClassifier`, single rows": SGDClassifier(),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", TAKES)
def test_a_row_takes_what_the_page_says(name):
    page = (Path(__file__).resolve().parent.parent / "docs" / "larger_than_memory.md").read_text(encoding="utf-8")
    told = [
        int(cell) for cell in re.search(rf"^\| {re.escape(name)} \| (\d+) \| (\d+) \|$", page, re.MULTILINE).groups()
    ]
    model, rng = TAKES[name].set_params(max_iter=3, random_state=0, n_jobs=1), np.random.default_rng(0)
    for n_classes, most in zip((2, 4), told, strict=True):
        X = rng.standard_normal((150_000, 20)).astype(np.float32)
        y = (X[:, :n_classes] + rng.standard_normal((len(X), n_classes))).argmax(axis=1).astype(np.float64)
        peaks = []
        for n in (50_000, 150_000):
            tracemalloc.start()
            model.fit(X[:n], y[:n])
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert most / 2 < (peaks[1] - peaks[0]) / 100_000 <= most


@pytest.mark.parametrize("layout", ["csr", "dense"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_small_mapped_data_are_fitted_as_in_memory(layout, solver, tmp_path, dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 20)).astype(dtype)
    y = (X[:, 0] + rng.standard_normal(1000) > 0).astype(float)
    X = X if layout == "dense" else scipy.sparse.csr_array(X)
    data = fastopt.data.convert((X, y), tmp_path / "out", dtype=dtype)
    assert np.array_equal(fitted(solver, data.X, data.y).coef_, fitted(solver, X, y).coef_)


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
@pytest.mark.parametrize(("n", "height"), [(1, 1), (1000, 7), (1024, 8), (999, 1), (130, 1), (5000, 3)])
def test_windows_hold_every_row_once(make, n, height, small_windows):
    orders = [_order._by_windows(make(seed), n, height) for seed in range(3)]
    for order in orders:
        assert np.array_equal(np.sort(order), np.arange(n))
        assert order.dtype == np.intp
    assert n == 1 or not np.array_equal(orders[0], orders[1])


def test_windows_are_samples_of_a_sorted_file(small_windows):
    """Of 0, ..., 0, 1, ..., 1 each window holds its share to within a block; each row is anywhere as often."""
    n, height, rng = 8192, 8, np.random.default_rng(0)
    window = 16 * height
    places = np.zeros(n)
    for _ in range(200):
        order = _order._by_windows(rng, n, height)
        shares = (order.reshape(-1, window) < 0.3 * n).mean(axis=1)
        assert np.abs(shares - 0.3).max() <= 1 / 16
        places[order] += np.arange(n)
        blocks = order.reshape(-1, window) // height
        assert all(len(np.unique(row)) == 16 for row in blocks)  # whole blocks: what the disk reads in one go
    spread = places / 200 - (n - 1) / 2
    assert np.abs(spread).max() < 5 * n / np.sqrt(12 * 200)


def mapped_rows(X, y, path):
    return fastopt.data.convert((X, y), path, dtype=X.dtype)


def test_as_good_as_a_full_shuffle_on_a_sorted_file(small_windows, tmp_path):
    """Epochs over a label-sorted file: F falls as over shuffled rows in memory, unlike in the file's order."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4096, 20))
    y = np.sign(X @ rng.standard_normal(20) + 2 * rng.standard_normal(4096))
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    data = mapped_rows(X, y, tmp_path / "out")

    def reached(X, seed, **how):
        model = SGDClassifier("log_loss", alpha=1e-3, max_iter=2, tol=None, random_state=seed, eta0=0.02, **how)
        return model.set_params(learning_rate="constant").fit(X, y).objective_

    best = LogisticRegression(C=1 / (1e-3 * 4096), tol=1e-9, max_iter=500).fit(X, y).objective_
    on_disk = np.array([reached(data.X, seed) for seed in range(12)]) - best
    in_memory = np.array([reached(X, seed) for seed in range(12)]) - best
    unshuffled = reached(X, 0, shuffle=False) - best
    noise = np.hypot(on_disk.std(), in_memory.std()) / np.sqrt(12)
    assert abs(on_disk.mean() - in_memory.mean()) < 4 * noise
    assert unshuffled > 5 * in_memory.max()


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_resume_over_windows_is_exact(solver, small_windows, tmp_path, rng):
    X = scipy.sparse.random_array((3000, 50), density=0.2, format="csr", rng=rng)
    y = rng.choice([0.0, 1.0], 3000)
    data = mapped_rows(X, y, tmp_path / "out")
    assert _order._height(Design.from_array(data.X)) * 16 < 3000  # several windows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = LogisticRegression(solver=solver, max_iter=6, tol=0.0, random_state=0).fit(data.X, data.y)
        part = LogisticRegression(solver=solver, max_iter=2, tol=0.0, random_state=0, warm_start=True)
        for _ in range(3):
            fastopt.save(part.fit(data.X, data.y), tmp_path / "model")
            part = fastopt.load(tmp_path / "model")
        other = LogisticRegression(solver=solver, max_iter=6, tol=0.0, random_state=0).fit(X, y)
    assert np.array_equal(whole.coef_, part.coef_)
    assert not np.array_equal(whole.coef_, other.coef_)  # in memory the order is another one


def test_held_out_rows_stay_out(small_windows, tmp_path, rng):
    X = rng.standard_normal((3000, 8))
    data = mapped_rows(X, (X[:, 0] > 0).astype(float), tmp_path / "out")
    design, rows = Design.from_array(data.X), np.flatnonzero(rng.random(3000) < 0.7)
    order = _order.epoch_order(rng, design, rows)
    assert np.array_equal(np.sort(order), rows)
    model = SGDClassifier("log_loss", early_stopping=True, random_state=0).fit(data.X, data.y)
    assert model.score(data.X, data.y) > 0.95


@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_the_thread_reads_what_comes_next(layout, small_windows, tmp_path, rng, monkeypatch):
    """It touches each block of the order, in the order's turn, never more than a window and a half ahead; and ends."""
    X = rng.standard_normal((3000, 16))
    X = X if layout == "dense" else scipy.sparse.csr_array(X)
    design = Design.from_array(mapped_rows(X, np.tile([0.0, 1.0], 1500), tmp_path / "out").X)
    order, seen = _order.epoch_order(rng, design), []
    reader = _order._Reader(design, order)
    monkeypatch.setattr(reader, "_resident", lambda rows: False)
    monkeypatch.setattr(reader, "_parts", lambda start, stop: seen.extend(range(start, stop)) or [])
    with reader:
        for start in range(0, 3000, reader.step):
            reader.working_at(start)
            while not set(order[start : start + reader.step]) <= set(seen):  # until pytest's timeout
                time.sleep(1e-3)
            assert len(set(seen)) <= start + 5 * reader.step  # a window and a half, and the kernel's own
    assert set(seen) == set(range(3000))
    assert not reader.thread.is_alive()


@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_the_thread_spares_what_the_page_cache_holds(layout, small_windows, tmp_path, rng, monkeypatch):
    """It reads where looking at some places waited for the disk, and where that cannot be known."""
    X = rng.standard_normal((3000, 16)) * (rng.random((3000, 1)) < 0.5)
    X[-1] = 0
    X = X if layout == "dense" else scipy.sparse.csr_array(X)
    design = Design.from_array(mapped_rows(X, np.tile([0.0, 1.0], 1500), tmp_path / "out").X)
    order, count = _order.epoch_order(rng, design), iter(range(10**6))

    def read(major_faults):
        seen = set()
        monkeypatch.setattr(_order, "major_faults", major_faults)
        reader = _order._Reader(design, order)
        monkeypatch.setattr(reader, "_parts", lambda start, stop: seen.update(range(start, stop)) or [])
        reader.working_at(len(order) - reader.step)  # so that it may read to the end; it is not late for the last rows
        with reader:
            reader.thread.join()
        return seen

    last = set(order[-_order._Reader(design, order).step :])
    assert read(lambda: 7) == set()
    assert last <= read(lambda: next(count))
    assert last <= read(lambda: None)


def test_major_faults_are_counted():
    before = _order.major_faults()
    assert before is None or 0 <= before <= _order.major_faults()


def test_the_thread_ends_with_an_error(small_windows, tmp_path, rng):
    data = mapped_rows(rng.standard_normal((3000, 16)), np.tile([0.0, 1.0], 1500), tmp_path / "out")
    design = Design.from_array(data.X)

    def work():
        for _ in _order.ahead(design, np.arange(3000), range(0, 3000, 10)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not any(thread.name == "fastopt read-ahead" for thread in threading.enumerate())


def test_will_need_asks_within_the_file(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10_000.0))
    a = np.load(tmp_path / "a.npy", mmap_mode="r")
    for part in (a, a[5:], a[:7], a[9_999:], a[5:5]):
        _order.will_need(part)
    assert isinstance(mapping(a[3:]), mmap.mmap)
    assert mapping(np.arange(3)) is None
    _order.will_need(np.arange(3))


def test_memory_maps_of_numpy_too(table, tmp_path):
    """A user's own maps, whose CSR arrays scipy holds."""
    X, y = table
    for name, a in (("v", X.data), ("i", X.indices), ("p", X.indptr)):
        np.save(tmp_path / f"{name}.npy", a)
    v, i, p = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "vip")
    for mapped in (csr(v, i, p, X.shape), scipy.sparse.csr_array((v, i, p), shape=X.shape)):
        design = Design.from_array(mapped)
        assert design.mapped
        assert all(mapping(a) is not None for a in design.arrays)
        a, b = (SGDClassifier(random_state=0, max_iter=5, tol=None).fit(rows, y).coef_ for rows in (X, mapped))
        assert np.array_equal(a, b)


def test_verify_reads_nothing_that_it_need_not(folder, monkeypatch):
    def refuse(*_):
        raise AssertionError("read")

    monkeypatch.setattr(_folder, "_crc", refuse)
    monkeypatch.setattr(_folder, "check_csr", refuse)
    assert fastopt.data.open(folder, verify=False).X.shape == (N, D)
    shutil.rmtree(folder)
