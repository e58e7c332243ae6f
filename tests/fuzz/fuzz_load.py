"""Coverage-guided fuzzing of `fastopt.load` with atheris: python tests/fuzz/fuzz_load.py [corpus] [libFuzzer options].

Needs `pip install atheris` in an environment where fastopt is built; no part of `make test`. Each input is the bytes of
a file, with the checksum put right in every other one, so that what lies behind it is reached. Anything but a model or
a ValueError is a finding, and so is a load that takes over 64 MB or a second beyond what the file's length explains.
"""

import hashlib
import os
import sys
import tempfile
import time
import tracemalloc
import zlib

import atheris

with atheris.instrument_imports(include=["fastopt.model_file", "fastopt.solvers.resume", "zipfile", "json"]):
    import numpy as np

    from fastopt import LogisticRegression, load, save
    from fastopt.model_file import MARK
    from fastopt.optimizers import Adam
    from fastopt.schedules import Cosine

PATH = os.path.join(tempfile.mkdtemp(), "model.npz")


def signed(data):
    """The data with a right checksum, and members with the right CRC-32, so that what lies behind these is reached."""
    data = bytearray(data[:-64] if data[-64 - len(MARK) : -64] == MARK else data + MARK)
    entry = data.find(b"PK\x01\x02")
    while entry >= 0:

        def number(at, size):
            return int.from_bytes(data[at : at + size], "little")

        length, local = number(entry + 20, 4), number(entry + 42, 4)
        start = local + 30 + number(local + 26, 2) + number(local + 28, 2)
        if start + length <= entry:
            data[entry + 16 : entry + 20] = data[local + 14 : local + 18] = zlib.crc32(
                data[start : start + length]
            ).to_bytes(4, "little")
        entry = data.find(b"PK\x01\x02", entry + 46)
    return bytes(data) + hashlib.sha256(data).hexdigest().encode()


def one_input(data):
    if len(data) % 2:
        data = signed(data)
    with open(PATH, "wb") as file:
        file.write(data)
    tracemalloc.start()
    start = time.process_time()
    try:
        model = load(PATH)
    except ValueError:
        model = None
    seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (64 << 20) + 100 * len(data), f"{peak} bytes for a file of {len(data)}"
    assert seconds < 5 + len(data) / 1e6, f"{seconds} s for a file of {len(data)} bytes"
    if model is None:
        return
    try:  # what was loaded may be nonsense, but not kill
        model.predict(np.zeros((3, 2)))
        X, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["a", "b", "a"]
        model.set_params(max_iter=1, warm_start=True, verbose=0).fit(X, y)
    except Exception:
        return


def corpus(folder):
    """A few files to start from."""
    os.makedirs(folder, exist_ok=True)
    X, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 2.0]], np.array(["a", "b", "a", "b"], dtype=object)
    models = [LogisticRegression(), LogisticRegression(C=np.inf, class_weight={"a": 2.0, "b": 1.0}, solver="sgd")]
    models.append(LogisticRegression(solver=Adam(Cosine(0.1)), random_state=np.random.default_rng(0), max_iter=2))
    for i, model in enumerate([*models, *(m.__class__(**m.get_params()).fit(X, y) for m in models)]):
        save(model, os.path.join(folder, f"{i}.npz"))
    save(models[0].fit(X, y).sparsify(), os.path.join(folder, "sparse.npz"))


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        corpus(sys.argv[1])
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
