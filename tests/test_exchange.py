"""Fitted models through other libraries' formats, where those are installed: skops files, ONNX graphs."""

import numpy as np
import pytest
import sklearn.linear_model

from fastopt import LogisticRegression, LogisticRegressionCV, SGDClassifier, SGDRegressor
from fastopt.optimizers import Adam

MODELS = [
    LogisticRegression(tol=1e-2), LogisticRegression(solver=Adam(0.05), max_iter=200, tol=1e-1),
    LogisticRegressionCV(Cs=[1.0], cv=2, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False),
    SGDClassifier(loss="log_loss", random_state=0), SGDRegressor(random_state=0),
]  # fmt: skip


def data():
    X = np.random.default_rng(0).standard_normal((60, 4))
    return X, (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_skops(model):
    """Only fastopt's own types are to be trusted, and the model that comes back is the one that went."""
    io = pytest.importorskip("skops.io", reason="skops is not installed")
    X, y = data()
    model.fit(X, y)
    blob = io.dumps(model)
    types = io.get_untrusted_types(data=blob)
    assert types
    assert all(name.startswith("fastopt.") for name in types)
    again = io.loads(blob, trusted=types)
    assert again.coef_.tobytes() == model.coef_.tobytes()
    assert (again.predict(X) == model.predict(X)).all()


def test_onnx():
    """By way of scikit-learn's estimator of the same attributes, which skl2onnx knows."""
    convert = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    X, y = data()
    model = LogisticRegression(tol=1e-2).fit(X, y)
    twin = sklearn.linear_model.LogisticRegression()
    for name in ("coef_", "intercept_", "classes_", "n_iter_", "n_features_in_"):
        setattr(twin, name, getattr(model, name))
    graph = convert.to_onnx(twin, X[:1], options={id(twin): {"zipmap": False}})
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {"X": X})
    assert (labels == model.predict(X)).all()
    np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=1e-6, atol=1e-9)
