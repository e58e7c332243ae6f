"""The command line: what it prints and writes, its exit codes, and that no input ends in a traceback."""

import doctest
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import dump_svmlight_file, load_breast_cancer, load_svmlight_file
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import scale

import fastopt.data
from fastopt.__main__ import main

PAGE = Path(__file__).resolve().parent.parent / "docs" / "command_line.md"


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X), np.where(y == 1, 1.0, -1.0)


@pytest.fixture
def files(cancer, tmp_path, monkeypatch):
    """train.svm and test.svm, in the working folder."""
    X, y = cancer
    monkeypatch.chdir(tmp_path)
    dump_svmlight_file(X[:400], y[:400], "train.svm", zero_based=False)
    dump_svmlight_file(X[400:], y[400:], "test.svm", zero_based=False)
    return tmp_path


def run(capsys, *argv):
    code = main([str(a) for a in argv])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def entry(out, name):
    return next(line.split(":", 1)[1].strip() for line in out.splitlines() if line.startswith(name + ":"))


def test_train_predict_evaluate(files, cancer, capsys):
    X, y = cancer
    code, out, err = run(capsys, "train", "train.svm", "cancer.model", "--dtype", "float64")
    assert code == 0
    assert "epoch" in err
    assert "epoch " not in out
    expected = fastopt.LogisticRegression().fit(X[:400], y[:400])
    assert float(entry(out, "F")) == pytest.approx(expected.objective_, rel=1e-6)
    assert float(entry(out, "C n F")) == pytest.approx(400 * expected.objective_, rel=1e-6)
    model = fastopt.load("cancer.model")
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-2, atol=1e-3)

    code, out, _ = run(capsys, "predict", "test.svm", "cancer.model")
    assert code == 0
    assert np.array_equal(np.array(out.split(), float), model.predict(X[400:]))
    assert run(capsys, "predict", "test.svm", "cancer.model", "out.txt") == (0, "", "")
    assert Path("out.txt").read_text(encoding="utf-8") == out
    _, out, _ = run(capsys, "predict", "test.svm", "cancer.model", "-b")
    lines = out.splitlines()
    assert lines[0] == "labels -1 1"
    shares = np.array([line.split()[1:] for line in lines[1:]], float)
    np.testing.assert_allclose(shares, model.predict_proba(X[400:]), rtol=1e-6, atol=1e-12)
    _, out, _ = run(capsys, "predict", "test.svm", "cancer.model", "-r")
    np.testing.assert_allclose(np.array(out.split(), float), model.decision_function(X[400:]), rtol=1e-6)

    _, out, _ = run(capsys, "evaluate", "test.svm", "cancer.model")
    p = model.predict_proba(X[400:])
    assert f"accuracy {100 * model.score(X[400:], y[400:]):.4f} %" in out
    assert f"AUC {roc_auc_score(y[400:], p[:, 1]):.6f}" in out
    assert f"log loss {log_loss(y[400:], p):.6f}" in out


def test_a_folder_is_as_good_as_its_file(files, capsys):
    code, out, _ = run(capsys, "convert", "train.svm", "train.data")
    assert code == 0
    assert "400 rows x 30 columns" in out
    _, from_file, _ = run(capsys, "train", "train.svm", "a.model", "--solver", "adam", "--seed", 3, "--epochs", 4, "-q")
    _, from_folder, _ = run(
        capsys, "train", "train.data", "b.model", "--solver", "adam", "--seed", 3, "--epochs", 4, "-q"
    )
    assert entry(from_file, "F") == entry(from_folder, "F")
    assert run(capsys, "evaluate", "train.data", "a.model")[1] == run(capsys, "evaluate", "train.svm", "b.model")[1]
    _, out, _ = run(capsys, "info", "train.data")
    assert "400 x 30, 12,000 entries" in out
    assert "checksums are right" in out
    _, out, _ = run(capsys, "info", "a.model")
    assert "LogisticRegression" in out
    assert "classes:     -1, 1" in out.replace(".0", "")


def test_standard_input(files, capsys, monkeypatch):
    class Input:
        buffer = None

    for argv in (["train", "-", "m.model", "-q"], ["predict", "-", "m.model"], ["evaluate", "-", "m.model"]):
        Input.buffer = io.BytesIO(Path("train.svm").read_bytes())
        monkeypatch.setattr(sys, "stdin", Input)
        code, out, _ = run(capsys, *argv)
        assert code == 0
        assert out
    assert "(395/400)" in out or "accuracy 9" in out


def test_holdout(files, cancer, capsys):
    X, y = cancer
    code, out, _ = run(capsys, "train", "train.svm", "m", "--holdout", 0.25, "--seed", 5, "--dtype", "float64", "-q")
    assert code == 0
    held_out = np.random.default_rng(5).random(400) < 0.25
    expected = fastopt.LogisticRegression().fit(X[:400][~held_out], y[:400][~held_out])
    score = expected.score(X[:400][held_out], y[:400][held_out])
    assert f"accuracy {100 * score:.4f} % ({round(score * held_out.sum())}/{held_out.sum()})" in entry(out, "held out")
    assert float(entry(out, "F")) == pytest.approx(expected.objective_, rel=1e-6)


def test_alpha_is_that_of_the_rows_trained_on(files, cancer, capsys):
    X, y = cancer
    options = ["--alpha", 0.01, "--holdout", 0.25, "--seed", 5, "--dtype", "float64", "-q"]
    _, out, _ = run(capsys, "train", "train.svm", "m", *options)
    kept = np.random.default_rng(5).random(400) >= 0.25
    expected = fastopt.LogisticRegression(C=1 / (0.01 * kept.sum())).fit(X[:400][kept], y[:400][kept])
    assert float(entry(out, "F")) == pytest.approx(expected.objective_, rel=1e-6)


def test_no_epochs(files, capsys):
    code, out, _ = run(capsys, "train", "train.svm", "m", "--epochs", 0, "-q")
    assert code == 0
    assert " 0 epochs" in entry(out, "solver")


@pytest.mark.parametrize("solver", ["sgd", "lion", "lbfgs", "newton", "newton-cg", "sdca", "saga"])
def test_any_solver(solver, files, capsys):
    code, out, _ = run(capsys, "train", "train.svm", "m", "--solver", solver, "--seed", 0, "-q", "--epochs", 3)
    assert code == 0
    assert entry(out, "solver").startswith(solver)
    assert float(entry(out, "F")) < 0.4


@pytest.mark.parametrize("solver", ["adam", "sdca", "lbfgs"])
def test_checkpoints(solver, files, capsys):
    options = ["--solver", solver, "--seed", 0, "-q", "-e", 0]
    run(capsys, "train", "train.svm", "whole", *options, "--epochs", 6)
    run(capsys, "train", "train.svm", "part", *options, "--epochs", 3, "--checkpoint", "ck")
    _, out, _ = run(capsys, "train", "train.svm", "part", *options, "--epochs", 6, "--checkpoint", "ck")
    assert "6 " in entry(out, "solver")
    assert np.array_equal(fastopt.load("part").coef_, fastopt.load("whole").coef_)
    code, _, err = run(capsys, "train", "test.svm", "part", *options, "--checkpoint", "ck")
    assert code == 1
    assert "of the same data" in err


@pytest.mark.parametrize("loss", ["hinge", "modified_huber", "squared_error", "huber", "poisson"])
def test_other_losses(loss, files, cancer, capsys):
    X, y = cancer
    if loss == "poisson":
        dump_svmlight_file(X[:400], np.maximum(y[:400], 0), "train.svm", zero_based=False)
    options = ["--regression"] if loss == "huber" else []
    code, out, err = run(capsys, "train", "train.svm", "m", "--loss", loss, "--seed", 0, "-q", *options)
    assert code == 0, err
    assert type(fastopt.load("m")).__name__ == (
        "SGDClassifier" if loss in ("hinge", "modified_huber") else "SGDRegressor"
    )
    code, out, _ = run(capsys, "evaluate", "train.svm", "m")
    assert ("R^2" if "SGDReg" in str(fastopt.load("m")) else "accuracy") in out


def test_csv_from_training_to_prediction(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow", reason="CSV is read by pyarrow, which is not installed")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    city, age = rng.choice(["Rome", "Bonn", "Oslo"], 600), rng.integers(18, 80, 600)
    bought = np.where((city == "Rome") | (age > 70), "yes", "no")
    rows = [f"{c},{a},{b}\n" for c, a, b in zip(city, age, bought, strict=True)]
    Path("a.csv").write_text("city,age,bought\n" + "".join(rows))
    Path("new.csv").write_text("age,city\n" + "".join(f"{a},{c}\n" for a, c in zip(age, city, strict=True)))
    code, _, err = run(capsys, "train", "a.csv", "m", "--target", "bought", "--n-hash", 64, "-q")
    assert code == 0, err
    _, out, _ = run(capsys, "predict", "new.csv", "m")
    predicted = np.array(out.split())
    assert (predicted == bought).mean() > 0.8
    _, out, _ = run(capsys, "evaluate", "a.csv", "m")
    assert f"accuracy {100 * (predicted == bought).mean():.4f} %" in out
    code, _, err = run(capsys, "train", "a.csv", "m2", "-q")
    assert code == 1
    assert "target must name a column; got None. There are 'city', 'age', 'bought'." in err
    Path("less.csv").write_text("age\n3\n")
    code, _, err = run(capsys, "predict", "less.csv", "m")
    assert code == 1
    assert "there is no column 'city'" in err


def refused(capsys, folder, message):
    for command in ("predict", "evaluate"):
        code, out, err = run(capsys, command, folder, "m")
        assert (code, out) == (1, "")
        assert f"fastopt: error: {folder}: the columns must be {message}. Convert it with the same options (" in err


def test_a_table_s_folder_must_have_the_model_s_columns(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow", reason="CSV is read by pyarrow, which is not installed")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    a, b, city = rng.normal(size=200), rng.normal(size=200), rng.choice(["Rome", "Bonn", "Oslo"], 200)
    y, z = (a > 0).astype(int), (b > 0).astype(int)
    table = pd.DataFrame({"a": a, "b": b, "city": city, "y": y, "z": z})
    for name, columns in (("train", "a b city y z"), ("test", "city z a y b"), ("swapped", "b a city y z")):
        table[columns.split()].to_csv(f"{name}.csv", index=False)
    train, test = ["--target", "y", "--ignore", "z", "-q"], ["--target", "y", "-q"]
    assert run(capsys, "train", "train.csv", "m", *train, "--n-hash", 64)[0] == 0
    right = run(capsys, "evaluate", "train.csv", "m")

    def convert(name, folder, *options):
        assert run(capsys, "convert", f"{name}.csv", folder, *options)[0] == 0

    convert("test", "same", *train, "--n-hash", 64, "--dtype", "float64", "--missing", "zero")
    assert run(capsys, "evaluate", "same", "m") == run(capsys, "evaluate", "swapped.csv", "m") == right
    trained = ", as where the model was trained; got "
    convert("swapped", "order", *train, "--n-hash", 64)
    refused(capsys, "order", f"'a', 'b', 'city' (hashed to 64){trained}'b', 'a', 'city' (hashed to 64)")
    convert("train", "hash", *train, "--n-hash", 100)
    refused(capsys, "hash", f"'a', 'b', 'city' (hashed to 64){trained}'a', 'b', 'city' (hashed to 100)")
    convert("train", "more", *test, "--n-hash", 64)
    refused(capsys, "more", f"'a', 'b', 'city' (hashed to 64){trained}'a', 'b', 'z', 'city' (hashed to 64)")
    convert("train", "kind", *train, "--n-hash", 64, "--categorical", "b")
    refused(capsys, "kind", f"'a', 'b', 'city' (hashed to 64){trained}'a', 'b' (hashed to 64), 'city' (hashed to 64)")
    Path("a.svm").write_text("1 1:2\n0 1:-2\n")
    run(capsys, "convert", "a.svm", "numbered", "-q")
    refused(capsys, "numbered", f"'a', 'b', 'city' (hashed to 64){trained}numbered from 1")

    convert("train", "target", "--target", "z", "--ignore", "y", "-q", "--n-hash", 64)
    assert run(capsys, "predict", "target", "m")[0] == 0
    code, _, err = run(capsys, "evaluate", "target", "m")
    assert code == 1
    assert "DATA must have a target to compare with, the column that the model was trained on" in err

    assert entry(run(capsys, "info", "hash")[1], "columns") == "'a', 'b', 'city' (hashed to 100)"
    assert entry(run(capsys, "info", "m")[1], "trained on") == "columns 'a', 'b', 'city' (hashed to 64)"


def test_files_of_other_kinds_than_the_model_s(tmp_path, monkeypatch, capsys):
    """Commas, tabs and Parquet tell the same; column numbers tell nothing of a table's columns."""
    pytest.importorskip("pyarrow", reason="CSV is read by pyarrow, which is not installed")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=200), "flag": rng.random(200) > 0.5})
    table["y"] = (table["a"] + table["flag"] > 0.5).astype(int)
    table.to_csv("train.csv", index=False)
    table.to_csv("test.tsv", index=False, sep="\t")
    table.to_parquet("test.parquet")
    Path("test.svm").write_text("1 1:2\n0 1:-2\n")
    assert run(capsys, "train", "train.csv", "m", "--target", "y", "--categorical", "flag", "-q")[0] == 0
    right = run(capsys, "evaluate", "train.csv", "m")
    assert run(capsys, "evaluate", "test.tsv", "m") == run(capsys, "evaluate", "test.parquet", "m") == right
    for command in ("predict", "evaluate"):
        code, out, err = run(capsys, command, "test.svm", "m")
        assert (code, out) == (1, "")
        assert "MODEL must have been trained on LIBSVM's format for such data; got 'm'" in err


def test_a_difference_among_many_columns_is_shown(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow", reason="CSV is read by pyarrow, which is not installed")
    monkeypatch.chdir(tmp_path)
    names = [f"x{j}" for j in range(50)]
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 50)), columns=names)
    table["y"] = (table["x0"] > 0).astype(int)
    table.to_csv("a.csv", index=False)
    table.drop(columns="x40").to_csv("b.csv", index=False)
    run(capsys, "train", "a.csv", "m", "--target", "y", "-q")
    run(capsys, "convert", "b.csv", "b", "--target", "y", "-q")
    first, second = (", ".join(map(repr, found[38:46])) for found in (names, names[:40] + names[41:]))
    refused(capsys, "b", f"{first}, ..., as where the model was trained; got {second}, ...")


@pytest.mark.parametrize("base", [0, 1])
def test_a_folder_s_columns_are_numbered_as_the_model_s(base, files, capsys):
    texts = {b: f"1 {b}:1 {b + 1}:-1\n-1 {b}:-1 {b + 1}:0.5\n" for b in (0, 1)}
    Path("a.svm").write_text(texts[base])
    Path("b.svm").write_text(texts[1 - base])
    Path("none.svm").write_text("1\n-1\n")
    assert run(capsys, "train", "a.svm", "m", "-q")[0] == 0
    for name in ("a", "b", "none"):
        run(capsys, "convert", f"{name}.svm", name, "-q")
    refused(capsys, "b", f"numbered from {base}, as where the model was trained; got numbered from {1 - base}")
    assert run(capsys, "evaluate", "a", "m") == run(capsys, "evaluate", "a.svm", "m")
    assert run(capsys, "predict", "none", "m") == run(capsys, "predict", "none.svm", "m")
    assert entry(run(capsys, "info", "b")[1], "columns") == f"numbered from {1 - base}"
    X, y = np.array([[1.0, -1.0], [-1.0, 0.5]]), np.array([1.0, -1.0])
    fastopt.data.convert((X, y), "arrays")  # nobody has numbered these
    assert run(capsys, "evaluate", "arrays", "m") == run(capsys, "evaluate", "a.svm", "m")
    fastopt.save(fastopt.LogisticRegression().fit(X, y), "m")
    assert run(capsys, "evaluate", "b", "m")[0] == 0


def test_columns_that_the_model_has_not_seen(files, capsys):
    run(capsys, "train", "train.svm", "m", "-q")
    Path("wide.svm").write_text("1 1:0.5 2:1 999:5\n-1 3:1\n1\n")
    Path("narrow.svm").write_text("1 1:0.5 2:1\n-1 3:1\n1\n")
    wide, narrow = (run(capsys, "predict", f"{name}.svm", "m", "-r") for name in ("wide", "narrow"))
    assert wide == narrow
    assert wide[0] == 0


@pytest.mark.parametrize(
    "labels",
    [("2147483646", "2147483647"), ("1234567890123", "1234567890124"), ("-1", "1")],
)
def test_labels_are_printed_with_all_their_digits(labels, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.svm").write_text("".join(f"{labels[i % 2]} 1:{i % 2}\n" for i in range(20)))
    run(capsys, "train", "a.svm", "m", "-q")
    _, out, _ = run(capsys, "predict", "a.svm", "m")
    assert out.split() == [*labels] * 10
    _, out, _ = run(capsys, "predict", "a.svm", "m", "-b")
    assert out.splitlines()[0] == "labels " + " ".join(labels)
    run(capsys, "convert", "a.svm", "folder", "-q")
    for path, name in (("folder", "targets"), ("m", "classes")):
        assert entry(run(capsys, "info", path)[1], name) == ", ".join(labels)


def test_info_tells_how_far_targets_go(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.svm").write_text("".join(f"{2147483647 + i} 1:{i}\n" for i in range(30)))
    run(capsys, "convert", "a.svm", "folder", "-q")
    assert entry(run(capsys, "info", "folder")[1], "targets") == "2147483647 to 2147483676"


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.float32, np.float64])
def test_labels_that_are_no_classes_count_as_wrong(dtype, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1], dtype)
    fastopt.save(fastopt.LogisticRegression().fit(X, y), "m")
    Path("no.svm").write_text("0.7 1:-2\n0.2 1:-1\n1.9 1:1\n1.5 1:2\n")
    assert run(capsys, "evaluate", "no.svm", "m") == (0, "accuracy 0.0000 % (0/4)\n", "")
    Path("some.svm").write_text("0 1:-2\n0.2 1:-1\n1 1:1\n257 1:2\n")
    _, out, _ = run(capsys, "evaluate", "some.svm", "m")
    assert out.startswith("accuracy 50.0000 % (2/4)  AUC 1.000000  log loss")
    Path("all.svm").write_text("0 1:-2\n0 1:-1\n1 1:1\n1 1:2\n")
    assert "accuracy 100.0000 % (4/4)" in run(capsys, "evaluate", "all.svm", "m")[1]


def test_predicted_numbers_are_read_back_as_they_were(files, cancer, capsys):
    X, _ = cancer
    dump_svmlight_file(X[:400], X[:400, 0] + 1e6, "train.svm", zero_based=False)
    for dtype in ("float32", "float64"):
        run(capsys, "train", "train.svm", "m", "--loss", "squared_error", "--seed", 0, "-q", "--dtype", dtype)
        _, out, _ = run(capsys, "predict", "test.svm", "m")
        predicted = fastopt.load("m").predict(load_svmlight_file("test.svm", dtype=dtype)[0])
        assert np.array_equal(np.array(out.split(), dtype), predicted)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "none.svm"], "none.svm: No such file or directory"),
        (["train", "bad.svm"], "bad.svm, line 2: 'one 1:x'"),
        (["train", "empty.svm"], "must hold at least one row"),
        (["train", "one.svm"], "at least 2 classes"),
        (["train", "train.svm", "no/where.model"], "a folder that is there"),
        (["train", "train.svm", "m", "-c", "-1"], "C must be a number > 0; got -1.0."),
        (["train", "train.svm", "m", "--holdout", "2"], "--holdout must be a number in [0, 0.99]"),
        (["train", "train.svm", "m", "--solver", "sdca", "--l1-ratio", "1"], "solver must be one that can minimise"),
        (["train", "train.svm", "m", "--loss", "hinge", "-c", "1"], "give --alpha"),
        (["train", "train.svm", "m", "--seed", "-1"], "--seed must be an integer in [0, 4294967295]; got -1."),
        (["train", "none.svm", "m", "--seed", "4294967296"], "--seed must be an integer in [0, 4294967295]; got 4294"),
        (["train", "none.svm", "m", "--epochs", "-1"], "--epochs must be an integer >= 0; got -1."),
        (["train", "none.svm", "m", "--loss", "hinge", "--epochs", "0"], "--epochs must be an integer >= 1; got 0."),
        (["train", "none.svm", "m", "--checkpoint-seconds", "0"], "--checkpoint-seconds must be a finite number > 0"),
        (["train", "none.svm", "m", "--l1-ratio", "2"], "--l1-ratio must be a number in [0, 1]; got 2.0."),
        (["train", "none.svm", "m", "--learning-rate", "-1"], "--learning-rate must be a finite number >= 0; got"),
        (["train", "train.svm", "m", "--batch-size", "999"], "--batch-size must be an integer in [1, n_samples] or"),
        (["train", "none.svm", "m", "--loss", "poisson", "--class-weight", "balanced"], "--class-weight must be left"),
        (
            ["train", "none.svm", "--regression", "--loss", "huber", "--class-weight", "balanced"],
            "--class-weight must be left out where the target is a number; got balanced",
        ),
        (["train", "train.svm", "m", "--format", "xml"], "format must be one of"),
        (["train", "train.svm", "m", "--checkpoint", "no/file"], "--checkpoint must be a regular file in a folder"),
        (["train", "-"], "MODEL must be named"),
        (["train", "."], "it has no meta.json"),
        (["predict", "train.svm", "none"], "none: No such file or directory"),
        (["predict", "train.svm", "train.svm"], "must be a file that fastopt.save wrote"),
        (["predict", "train.svm", "."], "MODEL must be a file"),
        (["predict", "none.svm", "sound"], "none.svm: No such file or directory"),
        (["predict", "bad.svm", "sound"], "bad.svm, line 2"),
        (["predict", "zero.svm", "sound"], "numbered from 1"),
        (["predict", "train.svm", "hinge", "-b"], "-b must be left out"),
        (["predict", "train.svm", "sound", "."], "error: .: Is a directory\n"),
        (["predict", "train.svm", "sound", "no/where"], "error: no/where: No such file or directory\n"),
        (["evaluate", "empty.svm", "sound"], "there must be rows"),
        (["convert", "train.svm", "folder"], "Give --overwrite to replace it."),
        (["train", "train.svm", "m", "--target", "y"], "--target must be left out for LIBSVM's format; got 'y'."),
        (["convert", "train.parquet", "x"], "No such file"),
        (["info", "train.svm"], "must be a file that fastopt.save wrote"),
        (["info", "none"], "none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_trouble_is_one_line(argv, message, files, capsys):
    run(capsys, "train", "train.svm", "sound", "-q")
    run(capsys, "train", "train.svm", "hinge", "-q", "--loss", "hinge", "--seed", 0)
    run(capsys, "convert", "train.svm", "folder", "-q")
    Path("bad.svm").write_text("1 1:2\none 1:x\n")
    Path("empty.svm").write_text("")
    Path("one.svm").write_text("1 1:2\n1 1:3\n")
    Path("zero.svm").write_text("1 0:2\n")
    before = sorted(os.listdir())
    code, _, err = run(capsys, *argv)
    assert code == 1
    assert message in err
    assert err.splitlines()[-1].startswith("fastopt: error: ")
    assert sum("error" in line for line in err.splitlines()) == 1
    assert sorted(os.listdir()) == before


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, f"fastopt {fastopt.__version__}\n")


def test_remedies_name_options(files, capsys):
    pytest.importorskip("pyarrow", reason="CSV is read by pyarrow, which is not installed")
    Path("gap.csv").write_text("x,y\n1,0\n,1\n")
    code, _, err = run(capsys, "convert", "gap.csv", "gap.data", "--target", "y")
    assert code == 1
    assert "Give --missing zero, which takes" in err


def test_labels_are_not_looked_at(files, capsys):
    """By predict; evaluate compares with them."""
    assert run(capsys, "train", "train.svm", "m", "-q")[0] == 0
    lines = Path("test.svm").read_text(encoding="utf-8").splitlines()[:6]
    Path("known.svm").write_text("\n".join(lines) + "\n")
    rows = [line.split(" ", 1)[1] for line in lines]
    labels = ["?", "nan", "spam", "1,2", "\t-inf", "1e999"]
    Path("new.svm").write_text("# of no use\n" + "\n".join(map(" ".join, zip(labels, rows, strict=True))))
    assert run(capsys, "predict", "new.svm", "m", "-r") == run(capsys, "predict", "known.svm", "m", "-r")
    assert run(capsys, "evaluate", "new.svm", "m")[0] == 1
    Path("none.svm").write_text(rows[0] + "\n")  # its first column is none
    code, _, err = run(capsys, "predict", "none.svm", "m")
    assert code == 1
    assert "none.svm, line 1" in err


def test_targets_of_tables_are_not_looked_at(files, capsys):
    pytest.importorskip("pyarrow", reason="CSV and Parquet are read by pyarrow, which is not installed")
    Path("a.csv").write_text("a,flag,y\n1,True,1\n2,False,0\n3,True,1\n4,False,1\n")
    assert run(capsys, "train", "a.csv", "m", "--target", "y", "-q")[0] == 0
    expected = run(capsys, "predict", "a.csv", "m", "-r")
    assert len(expected[1].split()) == 4
    for text in (
        "a,flag,y\n1,True,\n2,False,\n3,True,\n4,False,\n", "a,flag,y\n1,1,x\n2,0,\n3,1,foo\n4,0,1e999\n",
        "flag,a\nTrue,1\nFalse,2\nTrue,3\nFalse,4\n",
    ):  # fmt: skip
        Path("b.csv").write_text(text)
        assert run(capsys, "predict", "b.csv", "m", "-r") == expected
    assert run(capsys, "evaluate", "b.csv", "m")[0] == 1
    Path("b.csv").write_text("a,flag,y\n")  # a line of names alone is as good as nothing
    for option in ([], ["-b"], ["-r"]):
        names = run(capsys, "predict", "b.csv", "m", *option)
        Path("empty.csv").write_text("")
        assert names == run(capsys, "predict", "empty.csv", "m", *option)
        assert names[0] == 0


@pytest.mark.parametrize(
    "argv", [[], ["fly"], ["train"], ["train", "a", "b", "--loss", "x"], ["train", "a", "-c", "x"]]
)
def test_usage(argv, capsys):
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert "usage: fastopt" in err


def test_values_that_are_no_numbers(capsys):
    """The rule, not the name of what reads them."""
    for argv, message in (
        (["--batch-size", "x"], "argument --batch-size: must be an integer >= 1, full or auto; got 'x'"),
        (["--batch-size", "1.5"], "argument --batch-size: must be an integer >= 1, full or auto; got '1.5'"),
        (["--learning-rate", "x"], "argument --learning-rate: must be a number >= 0 or auto; got 'x'"),
    ):
        code, _, err = run(capsys, "train", "a", *argv)
        assert code == 2
        assert message in err


@pytest.mark.parametrize("command", [[], ["convert"], ["train"], ["predict"], ["evaluate"], ["info"]])
def test_help(command, capsys):
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert "usage: fastopt" in out
    if not command or command[0] in ("convert", "train", "predict"):
        assert "\n  fastopt " in out  # examples
    if not command:
        assert "exit codes" in out


def test_not_converged_is_a_warning(files, capsys):
    code, out, err = run(capsys, "train", "train.svm", "m", "--solver", "gd", "--epochs", 2, "-q")
    assert code == 0
    assert "fastopt: warning: gd " in err
    assert "(--epochs 2) or tol" in err
    assert "or use --solver auto." in err
    assert "max_iter" in entry(out, "solver")
    code, _, err = run(capsys, "train", "train.svm", "m", "--loss", "hinge", "--epochs", 2, "-q")
    assert code == 0
    assert "Consider increasing --epochs to" in err


def test_rates_that_run_away_are_told_as_an_option(files, capsys):
    with open("long.svm", "w") as file:
        file.writelines(f"{k % 7} 1:{1000 + k} 2:{k * k % 97}000\n" for k in range(300))
    argv = ["train", "long.svm", "m", "--loss", "squared_error", "-q"]
    told = []
    while (found := run(capsys, *argv))[0] == 0 and "ran away" in found[2]:
        rate = found[2].partition("or give --learning-rate ")[2].strip().removesuffix(".")
        told.append(float(rate))
        argv = [*argv[:6], "--learning-rate", rate]
    assert 1 <= len(told) <= 3  # a constant rate may have to be smaller than one that falls
    assert told == sorted(told, reverse=True)
    assert found[0] == 0


def process(*argv, **how):
    how = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    return subprocess.Popen([sys.executable, "-m", "fastopt", *argv], **how)


def test_a_pipe_that_closes_early(files):
    with process("predict", "train.svm", "none") as done:
        assert done.wait(60) == 1
        assert done.stderr.read() == "fastopt: error: none: No such file or directory\n"
    main(["train", "train.svm", "m", "-q"])
    Path("long.svm").write_text(Path("train.svm").read_text(encoding="utf-8") * 20)
    with process("predict", "long.svm", "m", "-r") as running:
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(60) == 1
        assert running.stderr.read() == ""


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="there is no /dev/stdout")
def test_pipes_are_written_to_and_not_replaced(files, capsys):
    main(["train", "train.svm", "m", "-q"])
    main(["predict", "test.svm", "m", "out"])
    expected = Path("out").read_text(encoding="utf-8")
    with process("predict", "test.svm", "m", "/dev/stdout") as running:
        assert running.communicate(timeout=60) == (expected, "")
    for stream in ("stdout", "stderr"):
        with open("log", "w", encoding="utf-8") as log:  # in turn with what others write there
            log.write("before\n")
            log.flush()
            with process("predict", "test.svm", "m", f"/dev/{stream}", **{stream: log}) as running:
                assert running.wait(60) == 0
            log.write("behind\n")
        assert Path("log").read_text(encoding="utf-8") == f"before\n{expected}behind\n"
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert main(["predict", "test.svm", "m", "pipe"]) == 0
    assert Path("pipe").is_fifo()
    assert os.read(reader, 1 << 16).decode() == expected
    os.close(reader)
    for argv in (["pipe"], ["m2", "--checkpoint", "pipe"]):
        code, _, err = run(capsys, "train", "train.svm", *argv)
        assert code == 1
        assert " must be a regular file in a folder that is there; got 'pipe'" in err
    read, write = os.pipe()  # as the shell's >(sort)
    with process("predict", "test.svm", "m", f"/dev/fd/{write}", pass_fds=[write]) as running:
        os.close(write)
        with open(read, encoding="utf-8") as file:
            assert file.read() == expected
        assert running.communicate(timeout=60) == ("", "")
    assert sorted(os.listdir()) == ["log", "m", "out", "pipe", "test.svm", "train.svm"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupted_training_keeps_the_model(files):
    with process("train", "train.svm", "m", "--solver", "sgd", "-e", "0", "--epochs", "1000000") as running:
        for line in running.stderr:
            if line.startswith("epoch    9"):
                running.send_signal(signal.SIGINT)
                break
        out, err = running.communicate(timeout=60)
        assert running.returncode == 130
    assert err.splitlines()[-1] == "fastopt: interrupted"
    assert "interrupted" in entry(out, "solver")
    assert fastopt.load("m").n_iter_[0] >= 8  # the ninth had been told of, no more


# ------------------------------------------------------------------------------------------------------------ the page


def test_the_walk_through_of_the_page(files, capsys, monkeypatch):
    """Every command of docs/command_line.md, in turn, on files of dump_svmlight_file; all that it prints, too."""
    os.rename("train.svm", "cancer.svm")
    os.rename("test.svm", "cancer.t.svm")
    blocks = PAGE.read_text(encoding="utf-8").split("```console\n")[1:]
    commands = 0
    for block in blocks:
        for part in block.split("```")[0].split("$ ")[1:]:
            command, _, shown = part.partition("\n")
            if not command.startswith("fastopt ") or "|" in command or "clicks" in command:  # those are for the eye
                continue
            commands += 1
            code, out, err = run(capsys, *command.split()[1:])
            assert code == 0, (command, err)
            assert doctest.OutputChecker().check_output(shown, out, doctest.ELLIPSIS), (command, shown, out)
    assert commands >= 8


def test_liblinear_finds_the_same_objective(files, cancer, capsys):
    """Its ``train -s 0 -c 2 -e 1e-6`` on the same file: C n F to 1e-4."""
    module = pytest.importorskip(
        "liblinear.liblinearutil", reason="LIBLINEAR is not installed: pip install liblinear-official"
    )
    y, x = module.svm_read_problem("train.svm")
    found = module.train(y, x, "-s 0 -c 2 -e 1e-6 -q")
    w = np.array([found.get_decfun_coef(j) for j in range(1, 31)]) * found.get_labels()[0]
    X, signs = cancer[0][:400], cancer[1][:400]
    theirs = 0.5 * w @ w + 2 * np.logaddexp(0, -signs * (X @ w)).sum()
    code, out, _ = run(capsys, "train", "train.svm", "m", "--no-intercept", "-c", 2, "-e", 1e-6, "-q")
    assert code == 0
    assert float(entry(out, "C n F")) == pytest.approx(theirs, rel=1e-4)
