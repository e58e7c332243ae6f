"""The command `fastopt`: convert, train, predict, evaluate, info."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from fastopt import __version__, data, linear_model, model_file, optimizers
from fastopt._validation import check_integer, check_positive, check_real
from fastopt.data._read import Source, find
from fastopt.linear_model.sgd import CLASSIFIER_LOSSES, REGRESSOR_LOSSES
from fastopt.solvers.table import SOLVERS

__all__ = ["main"]

Array = NDArray[Any]

#: Options, by the names that errors have for what they set.
OPTIONS = {
    name: "--" + name.replace("_", "-")
    for name in (
        "C", "alpha", "batch_size", "checkpoint", "class_weight", "delimiter", "dtype", "format", "l1_ratio",
        "learning_rate", "loss", "missing", "n_features", "n_hash", "overwrite", "solver", "target", "tol",
        "zero_based",
    )
} | {
    "eta0": "--learning-rate", "max_iter": "--epochs", "optimizer": "--solver", "seconds": "--checkpoint-seconds",
}  # fmt: skip

#: Rows of a folder at once.
ROWS = 1 << 14

DESCRIPTION = """\
Large linear models from the command line.

  fastopt train heart_scale heart.model          a file in LIBSVM's format
  fastopt predict heart_scale.t heart.model out  one prediction per line
  fastopt evaluate heart_scale.t heart.model

and for data larger than memory, once, before any number of trainings:

  fastopt convert big.svm.gz big.data
  fastopt train big.data big.model --solver sdca --holdout 0.1
"""
EXIT_CODES = """\
exit codes: 0 done (where a fit did not reach tol, a warning says so), 1 bad data, file or option value, 2 bad command
line, 130 interrupted (train has then written the model so far, and convert goes on when it is called again)
"""

CONVERT = """\
examples:
  fastopt convert train.svm train.data
  xzcat train.svm.xz | fastopt convert - train.data
  fastopt convert clicks.csv clicks.data --target clicked --categorical zip,hour --ignore id
  fastopt convert clicks.parquet clicks.data --target clicked --missing zero
"""
TRAIN = """\
examples:
  fastopt train heart_scale heart.model                    logistic regression, C = 1, to |gradient F| <= 1e-4
  fastopt train heart_scale --no-intercept -c 4            LIBLINEAR's train -s 0 -c 4
  fastopt train big.data big.model --solver adam --epochs 20 --checkpoint big.ckpt --holdout 0.1
  fastopt train big.data svm.model --loss hinge --alpha 1e-5
  fastopt train houses.csv --target price --loss squared_error
  zcat train.svm.gz | fastopt train - train.model

F is the mean loss plus alpha (|w|^2 (1 - l1_ratio) / 2 + |w|_1 l1_ratio), with alpha = 1 / (C n) for the logistic loss:
LIBLINEAR's objective is C n F, without intercept.
"""
PREDICT = """\
examples:
  fastopt predict test.svm heart.model                     labels, one per line, to standard output
  fastopt predict test.svm heart.model out.txt --probabilities
  cat new.svm | fastopt predict - heart.model --raw
"""


class Trouble(Exception):
    """One line for the user; no traceback."""


def main(argv: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: _say(f"warning: {_with_options(str(message))}")
            warnings.simplefilter("always")
            arguments.run(arguments)
            sys.stdout.flush()
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:  # head has seen enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Trouble, ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        if isinstance(error, OSError) and error.strerror:
            error = Trouble(f"{error.filename or ''}: {error.strerror}".removeprefix(": "))
        text = " ".join(str(error).split()) or type(error).__name__
        name, must, rest = _with_options(text).partition(" must be ")
        _say("error: " + OPTIONS.get(name, name) + must + rest)
        return 1
    return 0


def _with_options(text: str) -> str:
    """Remedies such as "Give overwrite=True" and "use solver='auto'" as they are typed here."""
    text = re.sub(r"(\b[Gg]ive |\b[Uu]se |\()(\w+)=('?)([\w+-]+(?:\.[\w+-]+)*)\3", _as_option, text)
    return re.sub(r"\bincreasing max_iter\b", "increasing --epochs", text)  # scikit-learn's words


def _as_option(remedy: re.Match[str]) -> str:
    before, name, _, value = remedy.groups()
    if name not in OPTIONS:
        return remedy[0]
    return before + OPTIONS[name] + (f" {value}" if value != "True" else "")


def _say(text: str) -> None:
    """To standard error: standard output is for results."""
    print(f"fastopt: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    form: Any = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("fastopt", description=DESCRIPTION, epilog=EXIT_CODES, formatter_class=form)
    parser.add_argument("--version", action="version", version=f"fastopt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, help: str, examples: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help, epilog=examples, formatter_class=form)
        made.set_defaults(run=run)
        return made

    one = command("convert", _convert, "Writes a folder of arrays that are mapped, not read into memory.", CONVERT)
    one.add_argument(
        "source", metavar="SOURCE", help="LIBSVM text, CSV or Parquet, also .gz, .bz2, .xz; - is standard input"
    )
    one.add_argument("folder", metavar="FOLDER", help="to be made")
    _reading(one)
    one.add_argument("--overwrite", action="store_true", help="replace FOLDER")

    one = command("train", _train, "Fits a linear model.", TRAIN)
    one.add_argument("data", metavar="DATA", help="a folder of convert's, or a file; - is standard input")
    one.add_argument("model", metavar="MODEL", nargs="?", help="file to be written; default DATA.model")
    losses = [*CLASSIFIER_LOSSES, *(loss for loss in REGRESSOR_LOSSES if loss not in CLASSIFIER_LOSSES)]
    one.add_argument("--loss", default="log_loss", choices=losses, metavar="LOSS", help=_listed("log_loss", losses))
    one.add_argument("--regression", action="store_true", help="the target is a number, also for huber and the like")
    one.add_argument("--solver", default="auto", choices=["auto", *SOLVERS, *optimizers.OPTIMIZERS], metavar="SOLVER",
                     help=_listed("auto", ["auto", *SOLVERS, *optimizers.OPTIMIZERS]))  # fmt: skip
    strength = one.add_mutually_exclusive_group()
    strength.add_argument("-c", "--C", type=float, help="inverse strength of the penalty; default 1 (log_loss only)")
    strength.add_argument("--alpha", type=float, help="strength of the penalty; default 1e-4 for other losses")
    one.add_argument("--l1-ratio", type=float, default=0.0, help="share of L1 in the penalty; default 0")
    one.add_argument("--no-intercept", action="store_true", help="no intercept (LIBLINEAR's default)")
    one.add_argument("--class-weight", choices=["balanced"], help="classes count the same")
    one.add_argument("-e", "--tol", type=float, default=1e-4, help="gradient norm at which it ends; default 1e-4")
    one.add_argument("--epochs", type=int, default=100, help="at most; default 100")
    one.add_argument("--learning-rate", type=_rate, default="auto", help="of update rules; default auto")
    one.add_argument(
        "--batch-size", type=_size, default="auto", help="rows per step of update rules, or full; default auto"
    )
    one.add_argument("--seed", type=int, help="the same seed gives the same model")
    one.add_argument(
        "--holdout", type=float, default=0.0, metavar="SHARE", help="hold out this share of the rows, and score on them"
    )
    one.add_argument("--checkpoint", metavar="FILE", help="kept up to date; the same command goes on from it")
    one.add_argument("--checkpoint-seconds", type=float, default=60.0, help="between two writings; default 60")
    _reading(one)

    one = command("predict", _predict, "Predicts, row by row.", PREDICT)
    one.add_argument("data", metavar="DATA", help="as in train; labels in it are not looked at")
    one.add_argument("model", metavar="MODEL", help="written by train, or by fastopt.save")
    one.add_argument("output", metavar="OUTPUT", nargs="?", default="-", help="default - is standard output")
    kind = one.add_mutually_exclusive_group()
    kind.add_argument("-b", "--probabilities", action="store_true", help="of each class, behind the label")
    kind.add_argument("-r", "--raw", action="store_true", help="raw predictions x.w + b")
    _format(one)

    one = command("evaluate", _evaluate, "Scores a model on data with labels.")
    one.add_argument("data", metavar="DATA", help="as in train")
    one.add_argument("model", metavar="MODEL")
    _format(one)

    one = command("info", _info, "Tells what a data folder or a model file holds, and whether it is sound.")
    one.add_argument("path", metavar="PATH")
    return parser


def _listed(default: str, names: list[str]) -> str:
    return f"default {default}; one of {', '.join(names)}"


def _rate(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number >= 0 or auto; got {text!r}") from None


def _size(text: str) -> int | str:
    try:
        return text if text in ("auto", "full") else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, full or auto; got {text!r}") from None


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _format(group: Any) -> None:
    group.add_argument("--format", default="auto", help="svmlight, csv or parquet; default by the name's ending")


def _reading(parser: argparse.ArgumentParser) -> None:
    """Options that say how a file is read."""
    group = parser.add_argument_group("reading files")
    _format(group)
    group.add_argument(
        "--dtype", default="float32", choices=["float32", "float64"], help="of the values; default float32"
    )
    group.add_argument("--n-features", type=int, help="columns of LIBSVM's format; default the largest number")
    group.add_argument(
        "--zero-based", choices=["auto", "yes", "no"], default="auto", help="columns are numbered from 0"
    )
    group.add_argument("--target", metavar="COLUMN", help="what is to be predicted, in CSV and Parquet")
    group.add_argument(
        "--categorical", type=_names, default=[], metavar="A,B", help="hash these columns, as strings are"
    )
    group.add_argument("--ignore", type=_names, default=[], metavar="A,B", help="leave these columns out")
    group.add_argument(
        "--n-hash", type=int, default=2**18, metavar="N", help="columns for what is hashed; default 262144"
    )
    group.add_argument("--missing", choices=["error", "zero"], default="error", help="what a missing number is")
    group.add_argument("--delimiter", help="of CSV; default a comma, or tab")
    group.add_argument("-q", "--quiet", action="store_true", help="tell of results and trouble only")


# ------------------------------------------------------------------------------------------------------------ commands


def _convert(arguments: argparse.Namespace) -> None:
    try:
        made = _converted(arguments, arguments.source, arguments.folder, overwrite=arguments.overwrite)
    except KeyboardInterrupt:
        if Path(arguments.folder + ".part", "journal.json").exists():
            _say("the same command goes on where it was")
        raise
    print(made)


def _converted(arguments: argparse.Namespace, source: Any, folder: str, *, overwrite: bool = False) -> data.Data:
    zero_based: dict[str, bool | str] = {"auto": "auto", "yes": True, "no": False}
    return data.convert(
        source, folder, format=arguments.format, dtype=arguments.dtype, n_features=arguments.n_features,
        zero_based=zero_based[arguments.zero_based], target=arguments.target,
        categorical=arguments.categorical, ignore=arguments.ignore, n_hash=arguments.n_hash, missing=arguments.missing,
        delimiter=arguments.delimiter, overwrite=overwrite, verbose=0 if arguments.quiet else 1 + sys.stderr.isatty(),
        printer=_say,
    )  # fmt: skip


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[data.Data]:
    """The data of a command: a folder, or a file that is converted for the while."""
    if os.path.isdir(arguments.data):
        yield data.open(arguments.data)
        return
    with tempfile.TemporaryDirectory(prefix="fastopt-") as folder:
        yield _converted(arguments, arguments.data, os.path.join(folder, "data"))


def _train(arguments: argparse.Namespace) -> None:
    path = arguments.model or (None if arguments.data == "-" else arguments.data.rstrip("/\\") + ".model")
    if path is None:
        raise Trouble("MODEL must be named where DATA is standard input")
    for name, goal in (("MODEL", path), ("--checkpoint", arguments.checkpoint)):
        other = goal and os.path.exists(goal) and not os.path.isfile(goal)  # a folder, device or pipe
        if other or (goal and not os.path.isdir(os.path.dirname(goal) or ".")):
            raise Trouble(f"{name} must be a regular file in a folder that is there; got {goal!r}")
    check_real("--holdout", arguments.holdout, low=0, high=0.99)
    if arguments.seed is not None:
        check_integer("--seed", arguments.seed, low=0, high=2**32 - 1)
    check_positive("--checkpoint-seconds", arguments.checkpoint_seconds)
    _model(arguments, 1)._check_parameters()  # before the data are read, which may take long
    with _opened(arguments) as found:
        X, y = found
        weights, held_out = None, None
        if arguments.holdout:
            draws = np.random.default_rng(arguments.seed).random(len(y))
            held_out = draws < arguments.holdout
            if held_out.all() or not held_out.any():
                raise Trouble(f"--holdout must leave rows on both sides; got {arguments.holdout} of {len(y)} rows")
            weights = np.where(held_out, 0.0, 1.0)
        rows = len(y) if held_out is None else int((~held_out).sum())
        model = _model(arguments, rows)
        began, interrupted = time.perf_counter(), False
        try:
            with contextlib.redirect_stdout(sys.stderr):  # its lines for each epoch
                if arguments.checkpoint:
                    seconds = arguments.checkpoint_seconds
                    model_file.fit(model, X, y, weights, checkpoint=arguments.checkpoint, seconds=seconds)
                else:
                    model.fit(X, y, sample_weight=weights)
        except KeyboardInterrupt:
            if not hasattr(model, "coef_"):
                raise
            interrupted = True
        seconds = time.perf_counter() - began
        if found.labels is not None and hasattr(model, "classes_"):
            model.classes_ = found.labels[model.classes_]
        model.data_encoding_ = found.meta["encoding"]
        model_file.save(model, path)
        _tell(model, rows, seconds, arguments)
        if held_out is not None:
            print("held out:    " + _scores(model, _held_out(found, model, held_out)))
        print(f"model:       {path}")
    if interrupted:
        raise KeyboardInterrupt


def _model(arguments: argparse.Namespace, rows: int) -> Any:
    """The estimator that the options ask for, to be fitted to so many rows."""
    a = arguments
    common: dict[str, Any] = {
        "l1_ratio": a.l1_ratio, "fit_intercept": not a.no_intercept, "tol": a.tol, "max_iter": a.epochs,
        "random_state": a.seed, "verbose": 0 if a.quiet else 1,
    }  # fmt: skip
    if a.loss == "log_loss" and not a.regression:
        if a.alpha is not None:
            check_real("--alpha", a.alpha, low=0)
        C = a.C if a.C is not None else 1.0 if a.alpha is None else 1 / (a.alpha * rows) if a.alpha else float("inf")
        return linear_model.LogisticRegression(
            C=C, solver=a.solver, learning_rate=a.learning_rate, batch_size=a.batch_size, class_weight=a.class_weight,
            **common,
        )  # fmt: skip
    if a.C is not None:
        raise Trouble("-c is for the loss log_loss; give --alpha")
    if a.solver in SOLVERS:
        raise Trouble(f"--solver must be an update rule for the loss {a.loss}; got {a.solver}")
    common |= {
        "loss": a.loss, "alpha": 1e-4 if a.alpha is None else a.alpha, "penalty": "elasticnet",
        "optimizer": "sgd" if a.solver == "auto" else a.solver,
        "batch_size": 1 if a.batch_size == "auto" else a.batch_size,
    }  # fmt: skip
    regression = a.regression or a.loss not in CLASSIFIER_LOSSES or a.loss == "squared_error"
    if a.learning_rate != "auto" or a.solver != "auto":
        common["learning_rate"] = a.learning_rate
    if regression:
        if a.loss not in REGRESSOR_LOSSES:
            raise Trouble(f"--loss must be one of {', '.join(REGRESSOR_LOSSES)} with --regression; got {a.loss}")
        if a.class_weight is not None:
            raise Trouble(f"--class-weight must be left out where the target is a number; got {a.class_weight}")
        return linear_model.SGDRegressor(**common)
    return linear_model.SGDClassifier(class_weight=a.class_weight, **common)


def _tell(model: Any, n: int, seconds: float, arguments: argparse.Namespace) -> None:
    """What came of a training."""
    solver = getattr(model, "solver_", getattr(model, "optimizer", ""))
    print(f"rows:        {n:,} x {model.n_features_in_:,}")
    print(f"solver:      {solver}, {int(np.max(model.n_iter_))} epochs, {seconds:.2f} s, {model.stop_reason_}")
    print(f"F:           {model.objective_:.10g}")
    print(f"|gradient|:  {model.grad_norm_:.3g}")
    if hasattr(model, "C") and np.isfinite(model.C) and not arguments.class_weight:
        print(f"C n F:       {model.C * n * model.objective_:.10g}")


def _predict(arguments: argparse.Namespace) -> None:
    model = _loaded(arguments.model)
    if arguments.probabilities and not hasattr(model, "predict_proba"):
        raise Trouble(f"-b must be left out for a {type(model).__name__} of the loss {getattr(model, 'loss', '')}")
    with contextlib.ExitStack() as stack:
        out: Any = sys.stdout if arguments.output == "-" else _standard(arguments.output)
        if out is None:
            other = os.path.exists(arguments.output) and not os.path.isfile(arguments.output)
            opened = open(arguments.output, "wb") if other else model_file._replacing(arguments.output)  # noqa: SIM115
            file = stack.enter_context(opened)
            out = stack.enter_context(contextlib.closing(_Text(file)))
        if arguments.probabilities:
            out.write("labels " + " ".join(map(_label, model.classes_)) + "\n")
        for X, _ in _rows(arguments, model, targets=False):
            if arguments.raw:
                raw = _raw(model, X)
                lines = [" ".join(f"{value:.9g}" for value in row) for row in raw.reshape(len(raw), -1).tolist()]
            else:
                lines = [_label(value) for value in model.predict(X)]
            if arguments.probabilities:
                shares = model.predict_proba(X).tolist()
                lines = [" ".join([line, *(f"{p:.9g}" for p in row)]) for line, row in zip(lines, shares, strict=True)]
            out.write("".join(f"{line}\n" for line in lines))


def _standard(path: str) -> Any:
    """The stream that goes to this file, as to /dev/stdout: what others write there is neither replaced nor cut."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if os.path.samestat(os.stat(path), os.fstat(stream.fileno())):
                return stream
    return None


class _Text:
    """Lines to a file of bytes, which stays open."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, text: str) -> None:
        """In UTF-8."""
        self.file.write(text.encode())

    def close(self) -> None:
        """Nothing: the file is closed by who opened it."""


def _raw(model: Any, X: Any) -> Array:
    return np.asarray(model.decision_function(X) if hasattr(model, "decision_function") else model._raw_prediction(X))


def _label(value: Any) -> str:
    """All digits that tell it from its neighbours; whole numbers without a point, as LIBSVM writes them."""
    text = str(value)  # an exponent only from 1e16 on, where float64 has no odd numbers any more
    return text.removesuffix(".0") if isinstance(value, float | np.floating) else text


def _evaluate(arguments: argparse.Namespace) -> None:
    model = _loaded(arguments.model)

    def rows() -> Iterator[tuple[Any, Array, slice]]:
        for X, y in _rows(arguments, model):
            if y is None:
                raise Trouble("DATA must have a target to compare with, the column that the model was trained on")
            yield X, y, slice(None)

    print(_scores(model, rows()))


def _info(arguments: argparse.Namespace) -> None:
    if os.path.isdir(arguments.path):
        found = data.open(arguments.path)
        n, d = found.X.shape
        size = sum(file.stat().st_size for file in Path(arguments.path).iterdir())
        stored = found.X.nnz if issparse(found.X) else n * d
        print(f"data:        {found.meta['layout']}, {found.X.dtype}, {size / 1e6:,.1f} MB; checksums are right")
        print(f"rows:        {n:,} x {d:,}, {stored:,} entries, {stored / max(1, n):.1f} a row")
        labels = np.unique(found.y)
        if found.labels is not None:
            print(f"classes:     {_listing(found.labels.tolist())}")
        elif len(labels) <= 20:
            print(f"targets:     {', '.join(map(_label, labels))}")
        else:
            print(f"targets:     {_label(labels[0])} to {_label(labels[-1])}")
        if columns := _columns(found.meta["encoding"]):
            print(f"columns:     {_listing(columns)}")
        print(f"source:      {found.meta['source']}, {found.meta['encoding']['format']}")
        return
    model = _loaded(arguments.path)
    print(f"model:       {textwrap.shorten(' '.join(repr(model).split()), 200)}")
    if not hasattr(model, "coef_"):
        print("not fitted")
        return
    print(f"columns:     {model.n_features_in_:,}, {np.count_nonzero(model.coef_):,} coefficients that are not zero")
    if hasattr(model, "classes_"):
        print(f"classes:     {_listing(list(map(_label, model.classes_)))}")
    if columns := _columns(getattr(model, "data_encoding_", None)):
        print(f"trained on:  columns {_listing(columns)}")
    print(f"F:           {model.objective_:.10g}, |gradient| {model.grad_norm_:.3g}, {model.stop_reason_}")


def _loaded(path: str) -> Any:
    if os.path.isdir(path):
        raise Trouble(f"MODEL must be a file; got the folder {path!r}")
    return model_file.load(path)


# ---------------------------------------------------------------------------------------------------------------- rows


def _pieces(found: data.Data, model: Any) -> Iterator[tuple[int, Any, Array]]:
    """Rows of a folder, some at once, views of the mapped ones; the targets as the model knows them."""
    X, n = found.X, len(found.y)
    for start in range(0, n, ROWS):
        stop, rows = min(start + ROWS, n), X
        if issparse(X):
            lo, hi = int(X.indptr[start]), int(X.indptr[stop])
            rows = csr_array(
                (X.data[lo:hi], X.indices[lo:hi], X.indptr[start : stop + 1] - lo), (stop - start, X.shape[1])
            )
        else:
            rows = X[start:stop]
        y = np.asarray(found.y[start:stop])
        yield start, _fitting(rows, model.n_features_in_), y if found.labels is None else found.labels[y]


def _held_out(found: data.Data, model: Any, held_out: Array) -> Iterator[tuple[Any, Array, Array]]:
    """The pieces for `_scores`."""
    for start, X, y in _pieces(found, model):
        keep = held_out[start : start + len(y)]
        yield X, y[keep], keep


def _rows(arguments: argparse.Namespace, model: Any, *, targets: bool = True) -> Iterator[tuple[Any, Array | None]]:
    """Rows to predict and their targets, if wanted: of a folder, or read from a file as the model's data were."""
    if os.path.isdir(arguments.data):
        found = data.open(arguments.data)
        comparable = _fits(found, model)
        for _, X, y in _pieces(found, model):
            yield X, y if comparable else None
        return
    encoding = getattr(model, "data_encoding_", None)
    options: dict[str, Any] = {
        "dtype": "float64", "target": None, "categorical": [], "ignore": [], "n_hash": 2**18, "missing": "error",
        "delimiter": None, "zero_based": False,
    }  # fmt: skip
    if isinstance(encoding, dict):
        options |= encoding | {"names": None}
        if options["delimiter"] in (",", "\t"):  # of the two each file's first line tells
            options["delimiter"] = None
        if isinstance(encoding.get("names"), list) and isinstance(encoding.get("kinds"), list):
            options["known"] = dict(zip(encoding["names"], encoding["kinds"], strict=False))
    if not targets:
        options |= {"target": None, "labels": False}
    source = find(arguments.data, arguments.format, options)
    tables = source.format in ("csv", "parquet")
    if tables != ("known" in options):
        kind = "CSV or Parquet" if tables else "LIBSVM's format"
        raise Trouble(f"MODEL must have been trained on {kind} for such data; got {arguments.model!r}")
    for block in source.blocks():
        X = block.X
        if source.format == "svmlight" and not options["zero_based"]:
            if X.indices.min(initial=1) < 1:
                raise Trouble(f"{source.name}: columns must be numbered from 1, as where the model was trained; got 0")
            X = csr_array((X.data, X.indices - 1, X.indptr), shape=(X.shape[0], max(1, X.shape[1] - 1)))
        yield _fitting(X, model.n_features_in_), _targets(source, block.y)


def _columns(encoding: Any) -> list[str]:
    """What columns stand for, in order: a folder fits a model if both say the same."""
    if not isinstance(encoding, dict):
        return []
    if encoding.get("format") == "svmlight":
        return [f"numbered from {0 if encoding.get('zero_based') else 1}"]
    hashed = [f"{name!r} (hashed to {encoding.get('n_hash')})" for name in sorted(encoding.get("hashed", ()))]
    return [*map(repr, encoding.get("numeric", ())), *hashed]


def _fits(found: data.Data, model: Any) -> bool:
    """Refuses a folder with other columns than the model's; returns whether its target is the model's, too.

    A file needs none of this: it is read as the model's data were.
    """
    ours: Any = getattr(model, "data_encoding_", None)
    theirs: Any = found.meta.get("encoding")
    expected, got = _columns(ours), _columns(theirs)
    if not expected or not got:  # of a model made in Python, or a folder of arrays, nobody knows
        return True
    if expected != got and not (issparse(found.X) and not found.X.nnz):  # of no entries nobody knows, either
        pairs = enumerate(zip(expected, got, strict=False))
        first = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(got)))
        told = [_listing(names[max(0, first - 2) :], 8) for names in (expected, got)]
        raise Trouble(
            f"{found.path}: the columns must be {told[0]}, as where the model was trained; got {told[1]}. Convert it "
            "with the same options (--n-hash, --categorical, --ignore, --zero-based), or pass the file itself."
        )
    return bool(ours.get("target") == theirs.get("target"))


def _listing(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _targets(source: Source, y: Array | None) -> Array | None:
    return np.array(source.labels)[y] if y is not None and source.labels else y


def _fitting(X: Any, d: int) -> Any:
    """X with the model's number of columns: what it has not seen counts nothing, as in LIBLINEAR."""
    if X.shape[1] == d:
        return X
    if not issparse(X):
        raise Trouble(f"the rows must have the model's {d:,} columns; got {X.shape[1]:,}")
    kept = X.indices < d
    if kept.all():
        return csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], d))
    ends = np.concatenate([[0], np.cumsum(kept)])[X.indptr]
    return csr_array((X.data[kept], X.indices[kept], ends), shape=(X.shape[0], d))


def _scores(model: Any, rows: Iterator[tuple[Any, Array, Any]]) -> str:
    """How a model does on rows: of each piece those in the third place."""
    count, right, loss = 0, 0, 0.0
    targets, scores = [], []
    for X, y, keep in rows:
        count += len(y)
        if hasattr(model, "classes_"):
            right += int(_same(model.predict(X)[keep], y).sum())
            if len(model.classes_) == 2:
                positive = _same(model.classes_[1:], y)
                known = positive | _same(model.classes_[:1], y)
                targets.append(positive[known])
                scores.append(model.decision_function(X)[keep][known])
        else:
            targets.append(y)
            scores.append(model.predict(X)[keep])
    if not count:
        raise Trouble("there must be rows to score; got none")
    if not hasattr(model, "classes_"):
        t, z = np.concatenate(targets), np.concatenate(scores)
        squares, spread = float(np.mean((t - z) ** 2)), float(np.var(t))
        r2 = f"R^2 {1 - squares / spread:.6f}  " if spread else ""
        return (
            f"{r2}mean squared error {squares:.6g}  mean absolute error {np.mean(np.abs(t - z)):.6g}  ({count:,} rows)"
        )
    text = f"accuracy {100 * right / count:.4f} % ({right:,}/{count:,})"
    if scores:
        t, z = np.concatenate(targets), np.concatenate(scores).astype(np.float64)
        if t.any() and not t.all():
            text += f"  AUC {_auc(t, z):.6f}"
        if len(t) and hasattr(model, "predict_proba") and getattr(model, "loss", "log_loss") == "log_loss":
            loss = float(np.mean(np.logaddexp(0, np.where(t, -z, z))))
            text += f"  log loss {loss:.6f}"
    return text


def _same(classes: Array, y: Array) -> Any:
    """Where targets are these classes: numbers by their value, all else as it is written."""
    if classes.dtype.kind in "fiub" and y.dtype.kind in "fiub":
        return classes == y
    return classes.astype(str) == y.astype(str)


def _auc(positive: Array, z: Array) -> float:
    """The share of pairs that the scores put in order; ties count half."""
    _, places, counts = np.unique(z, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    p = int(positive.sum())
    return float((ranks[places][positive].sum() - p * (p + 1) / 2) / (p * (len(z) - p)))


if __name__ == "__main__":
    sys.exit(main())
