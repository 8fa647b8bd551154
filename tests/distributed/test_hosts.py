"""`keras.distribution.initialize` on JAX: two processes compute what one does."""

import socket

import numpy as np
import pytest

from tests.distributed.hosts import BATCH, own
from tests.portability.processes import finish, interpreters, start

pytestmark = pytest.mark.skipif(
    "jax" not in interpreters(),
    reason="no Python with JAX: see tests/portability/processes.py",
)
KINDS = ("data", "model")


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{kind: what each process wrote}; kind "one" has one process."""
    folder, python = tmp_path_factory.mktemp("hosts"), interpreters()["jax"]

    def run(path, kind, *arguments):
        return start(
            python,
            "jax",
            "tests.distributed.hosts",
            path,
            kind,
            *arguments,
            JAX_NUM_CPU_DEVICES="1" if kind == "one" else "2",
            JAX_PLATFORMS="cpu",
        )

    finish([run(folder / "one-0.npz", "one")])
    for kind in KINDS:
        port = free_port()
        finish([run(folder / f"{kind}-{k}.npz", kind, k, port) for k in (0, 1)])
    return {
        kind: [dict(np.load(path)) for path in sorted(folder.glob(f"{kind}-*"))]
        for kind in ("one", *KINDS)
    }


def half(rows, process):
    """The predictions for the examples of a process, of those for all."""
    whole, last = np.split(rows, [len(rows) // BATCH * BATCH])
    return np.concatenate([own(whole, process), np.split(last, 2)[process]])


@pytest.mark.parametrize("process", (0, 1))
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_equal_those_of_one_process(kind, process, results):
    """Training, evaluation and pruning are of all examples, predictions of those that
    the process gave."""
    (expected,), found = results["one"], results[kind][process]
    assert len(expected["rows: mc_predict"]) == 3 * BATCH + 8
    for name, value in expected.items():
        value = half(value, process) if name.startswith("rows: ") else value
        np.testing.assert_allclose(
            found[name], value, rtol=1e-5, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("name", ("elbo", "sparsity_curve", "MCPredict"))
def test_what_needs_all_predictions_is_refused(name, results):
    for process in results["data"]:
        assert process[name] == (
            f"`{name}` works in one process: save the model and load it there. "
            "Received: a distribution over 2 processes"
        )
