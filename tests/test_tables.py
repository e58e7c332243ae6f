"""One table per concept: names, defaults and docstrings agree between Python, kernels and reference."""

import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from itertools import pairwise

import numpy as np
import pytest
from cases import options_of

import fastopt
from fastopt import losses, objective, optimizers, penalties, reference, schedules
from fastopt._kernels import step
from fastopt.linear_model import LogisticRegression
from fastopt.losses import LOSSES
from fastopt.optimizers import OPTIMIZERS, Ftrl
from fastopt.penalties import PENALTIES
from fastopt.schedules import SCHEDULES

NAMES = pytest.mark.parametrize("name", OPTIMIZERS)


def fields(instance):
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


# --- names and defaults ---------------------------------------------------------------------------------------------


def test_names_of_losses_agree():
    assert set(LOSSES) == set(objective.KERNEL_LOSSES)
    assert set(LOSSES) <= set(reference.LOSSES)
    assert all(LOSSES[name].name == name for name in LOSSES)
    assert sorted(objective.KERNEL_LOSSES.values()) == list(range(len(LOSSES)))


def test_names_of_rules_agree():
    assert set(OPTIMIZERS) <= set(reference.RULES)
    kernels = {OPTIMIZERS[name]()._kernel for name in OPTIMIZERS}
    assert kernels | {Ftrl(learning_rate_power=-0.7)._kernel} == set(step.RULES)
    assert sorted(step.RULES.values()) == list(range(len(step.RULES)))


def test_names_of_penalties_and_schedules():
    assert all(PENALTIES[name].name == name for name in PENALTIES)
    public = {schedules.__dict__[name] for name in schedules.__all__ if inspect.isclass(schedules.__dict__[name])}
    assert set(SCHEDULES.values()) | {schedules.Schedule} == public


def test_every_public_class_is_in_its_table():
    for module, table, base in (
        (optimizers, OPTIMIZERS, optimizers.Optimizer),
        (losses, LOSSES, losses.Loss),
        (penalties, PENALTIES, penalties.Penalty),
    ):
        classes = {c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, base)} - {base}
        classes = {c for c in classes if not c.__name__.startswith("_")}
        assert {type(make()) for make in table.values()} == classes
        assert {c.__name__ for c in classes} | {base.__name__} <= set(module.__all__)


@NAMES
def test_defaults_and_slots_are_the_references(name):
    optimizer, rule = OPTIMIZERS[name](), reference.RULES[name]
    known = reference.COMMON | rule.defaults
    ours = fields(optimizer)
    assert ours == {key: known[key] for key in ours if key in known} | {k: v for k, v in ours.items() if k not in known}
    for key in ours.keys() - known.keys():  # SGD serves three names, gd one option less
        assert key in reference.RULES["sgd"].defaults, f"{name} has {key}, the reference has not"
    assert set(optimizer.slots) == set(rule.slots)
    assert optimizer.name in OPTIMIZERS


@NAMES
def test_slots_of_every_option(name):
    for options in options_of(name):
        state = reference.init(name, np.zeros(3), **options)
        arrays = {key for key, value in state.items() if isinstance(value, np.ndarray)} - {"ema"}
        assert set(OPTIMIZERS[name](**options).slots) == arrays


@pytest.mark.parametrize("name", LOSSES)
def test_parameters_of_losses_are_the_references(name):
    for key, value in fields(LOSSES[name]()).items():
        assert inspect.signature(reference.LOSSES[name][0]).parameters[key].default == value


@pytest.mark.parametrize("name", LOSSES)
def test_max_curvature(name):
    """Largest slope of dloss, by finite differences of the reference."""
    if LOSSES[name].targets == "multiclass":
        z = np.random.default_rng(0).standard_normal((2000, 3))
        z[:500, 2] = -50  # two classes share everything: the largest curvature there is
        z[:500, :2] *= 1e-2
        dloss, h = reference.LOSSES[name][1], 1e-5
        u = np.where(np.arange(2000)[:, None] < 500, np.array([1.0, -1.0, 0.0]) / 2**0.5, z)
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        y = np.zeros(2000)
        largest = np.linalg.norm(dloss(y, z + h * u) - dloss(y, z - h * u), axis=1).max() / (2 * h)
    else:
        largest = largest_slope(name, 20001)
    if np.isfinite(LOSSES[name].max_curvature):
        assert largest == pytest.approx(LOSSES[name].max_curvature, rel=2e-3)
    else:  # a kink: the finer the differences the steeper; or an exponential: the farther
        assert largest_slope(name, 80001) > 3 * largest or largest_slope(name, 40001, 10) > 100 * largest


@pytest.mark.parametrize("name", LOSSES)
def test_bounded_slopes(name):
    """Those of the reference at large raw predictions, which grow with these or do not."""
    dloss, largest = reference.LOSSES[name][1], []
    for size in (100.0, 200.0):
        z = np.array([-size, size])
        if LOSSES[name].targets == "multiclass":
            z = np.array([[-size, size, 0.0], [size, -size, 0.0]])
        largest.append(max(np.abs(dloss(np.full(2, y), z)).max() for y in (1.0, 2.0)))
    assert LOSSES[name].bounded_slope == (largest[1] <= largest[0])


def largest_slope(name, n, reach=5):
    z = np.linspace(-reach, reach, n)
    targets = [y for y in (-1.0, 1.0) if y >= LOSSES[name].lowest]
    return max(np.diff(reference.LOSSES[name][1](y, z)).max() for y in targets) * (n - 1) / (2 * reach)


# --- instances ------------------------------------------------------------------------------------------------------

INSTANCES = [
    *(make() for make in OPTIMIZERS.values()),
    *(make(learning_rate=0.5, decay=0.125) for make in OPTIMIZERS.values()),
    *(make(learning_rate=schedules.InverseTime(0.5, decay=0.25)) for make in OPTIMIZERS.values()),
    *(make(learning_rate="auto") for make in OPTIMIZERS.values()),
    *(make() for make in [*LOSSES.values(), *PENALTIES.values(), *SCHEDULES.values()]),
    losses.Huber(epsilon=1.35),
    losses.EpsilonInsensitive(epsilon=0.5),
    losses.Quantile(quantile=0.9),
    penalties.L2(0.5),
    penalties.ElasticNet(0.5, l1_ratio=0.25),
    schedules.Cosine(0.5, decay_steps=10, warmup_steps=3, restarts=True),
]
INSTANCE = pytest.mark.parametrize("instance", INSTANCES, ids=repr)


@INSTANCE
def test_repr_can_be_typed_back(instance):
    names = vars(optimizers) | vars(losses) | vars(penalties) | vars(schedules)
    copy = eval(repr(instance), {key: names[key] for key in names if inspect.isclass(names[key])})
    assert type(copy) is type(instance)
    assert copy == instance
    assert repr(copy) == repr(instance)


@INSTANCE
def test_instances_pickle_hash_and_compare(instance):
    if isinstance(instance, optimizers.Optimizer):
        before = pickle.dumps(dataclasses.replace(instance))
        if instance.learning_rate != "auto":
            instance.step(np.zeros(2), np.zeros(2), instance.init(np.zeros(2)))
        assert pickle.dumps(instance) == before  # caches stay out of it, and out of the comparison
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(instance, protocol))
        assert copy == instance
        assert hash(copy) == hash(instance)
    assert instance != 1
    assert sum(instance == other for other in INSTANCES) in (1, 2)  # get("gd") and the like may be there twice
    for key, value in fields(instance).items():
        if isinstance(value, float) and 0 < value < 1:
            assert dataclasses.replace(instance, **{key: value / 2}) != instance


@INSTANCE
def test_instances_are_frozen(instance):
    for key in fields(instance):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(instance, key, 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        instance.nothing_of_the_kind = 1


# --- public names and their docstrings ------------------------------------------------------------------------------


def modules():
    for info in pkgutil.walk_packages(fastopt.__path__, "fastopt."):
        if "._kernels" not in info.name and not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def public_objects():
    seen = set()
    for module in modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if (inspect.isclass(thing) or inspect.isroutine(thing)) and id(thing) not in seen:
                seen.add(id(thing))
                yield pytest.param(thing, id=f"{thing.__module__}.{name}")


PUBLIC = list(public_objects())


def test_all_names_exist():
    for module in [fastopt, *modules()]:
        assert module.__doc__, module.__name__
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.{name}"


@pytest.mark.parametrize("thing", PUBLIC)
def test_docstrings(thing):
    """A first paragraph that ends as a sentence; public methods have one too."""
    assert inspect.getdoc(thing).partition("\n\n")[0].rstrip().endswith((".", ":")), inspect.getdoc(thing)
    if inspect.isclass(thing):
        assert not thing.__doc__.startswith(f"{thing.__name__}("), "dataclass's own docstring"
        for name, member in vars(thing).items():
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{thing.__name__}.{name}"


def sections(text):
    lines = text.splitlines()
    return [line.strip() for line, under in pairwise(lines) if under.strip() and set(under.strip()) == {"-"}]


def documented(text, section):
    """Names that a numpydoc section lists, ``a, b : type`` giving both; those with no type stand on a line alone."""
    lines = inspect.cleandoc(text).splitlines()
    start = lines.index(section) + 2
    names = []
    for line, under in pairwise([*lines[start:], ""]):
        if under and set(under) == {"-"}:
            break
        if line and not line.startswith(" "):
            names += [name.strip() for name in line.split(" : ")[0].split(",")]
    return names


@pytest.mark.parametrize("cls", sorted({type(make()) for make in OPTIMIZERS.values()}, key=lambda c: c.__name__))
def test_docstrings_of_rules(cls):
    assert {"Parameters", "References", "Examples"} <= set(sections(cls.__doc__))
    assert "``" in cls.__doc__.split("Parameters\n")[0], "the formula stands before the parameters"
    names = list(inspect.signature(cls).parameters)
    own = documented(cls.__doc__, "Parameters")
    assert own == [name for name in names if name in own], "in the constructor's order"
    assert set(names) - set(own) <= set(documented(optimizers.Optimizer.__doc__, "Parameters")), (
        "the base tells the rest"
    )


def test_docstring_of_the_estimator():
    names = sections(LogisticRegression.__doc__)
    assert {"Parameters", "Attributes", "Raises", "Warns", "Examples"} <= set(names)
    assert set(documented(LogisticRegression.__doc__, "Parameters")) == set(LogisticRegression().get_params())
    for name in OPTIMIZERS:
        assert f'"{name}"' in LogisticRegression.__doc__


def test_the_estimators_parameters_are_those_of_the_design():
    expected = {
        "penalty": "deprecated", "C": 1.0, "l1_ratio": 0.0, "dual": False, "tol": 1e-4, "fit_intercept": True,
        "intercept_scaling": 1, "class_weight": None, "random_state": None,
        "solver": "auto", "learning_rate": "auto", "batch_size": "auto", "max_iter": 100, "verbose": 0,
        "warm_start": False, "n_jobs": None,
    }  # fmt: skip
    parameters = inspect.signature(LogisticRegression).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == expected
    assert [name for name, value in parameters.items() if value.kind is not value.KEYWORD_ONLY] == ["penalty"]
