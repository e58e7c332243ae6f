"""What the README's table of learning rates promises."""

import re
import warnings
from pathlib import Path
from statistics import median

import pytest

from bench import problems
from fastopt import LogisticRegression

README = Path(__file__).resolve().parent.parent / "README.md"
PROBLEMS = ("breast_cancer", "text_like")  # the table's columns


def advice(rule):
    """The row of a rule: problem -> (learning_rate, batch_size), or None where the table says no."""
    row = re.search(rf'^\| "{rule}" \|(.*)\|$', README.read_text(encoding="utf-8"), re.MULTILINE)[1]
    cells = [re.match(r" *([\d.e-]+), (\d+|full) \(", cell) for cell in row.split("|")]
    assert len(cells) == len(PROBLEMS)
    return dict(zip(PROBLEMS, [cell and (float(cell[1]), cell[2]) for cell in cells], strict=True))


@pytest.mark.parametrize("name", ["breast_cancer", "text_like"])
def test_adam_reaches_a_gap_of_1e_2_in_a_few_epochs(name):
    problem = problems.get(name)
    C = 1 / (problem.alpha * len(problem.y))
    learning_rate, batch_size = advice("adam")[name]
    best = LogisticRegression(C=C, tol=1e-4, max_iter=1000).fit(problem.X, problem.y).objective_
    settings = {"C": C, "solver": "adam", "learning_rate": learning_rate, "batch_size": int(batch_size), "tol": 0.0}

    epochs = 30 if name == "breast_cancer" else 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # max_iter ends it
        models = [LogisticRegression(max_iter=epochs, random_state=k, **settings) for k in range(3)]
        reached = [model.fit(problem.X, problem.y).objective_ for model in models]
    assert median(reached) / best - 1 <= 1e-2  # where a cloud begins that has the size of the rate
