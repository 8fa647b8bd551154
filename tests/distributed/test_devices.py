"""`keras.distribution` on JAX: four devices compute what one does."""

import numpy as np
import pytest

from tests.portability.processes import finish, interpreters, start

pytestmark = pytest.mark.skipif(
    "jax" not in interpreters(),
    reason="no Python with JAX: see tests/portability/processes.py",
)
DEVICES = {"one": 1, "data": 4, "model": 4}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the script wrote, for each distribution, in processes side by side."""
    folder, python = tmp_path_factory.mktemp("devices"), interpreters()["jax"]
    finish(
        [
            start(
                python,
                "jax",
                "tests.distributed.devices",
                kind,
                folder / f"{kind}.npz",
                JAX_NUM_CPU_DEVICES=str(count),
                JAX_PLATFORMS="cpu",
            )
            for kind, count in DEVICES.items()
        ]
    )
    return {kind: dict(np.load(folder / f"{kind}.npz")) for kind in DEVICES}


@pytest.mark.parametrize("kind", ["data", "model"])
def test_numbers_equal_those_of_one_device(kind, results):
    """Losses, KL divergences, gradients, training, predictions and pruning: noise is
    that of the whole batch, however it is sharded."""
    expected, found = results["one"], results[kind]
    assert list(found) == list(expected)
    for name, value in expected.items():
        if not name.startswith(("shards", "refusals")):
            np.testing.assert_allclose(
                found[name], value, rtol=1e-5, atol=1e-5, err_msg=name
            )


def test_what_is_compared_is_there(results):
    one = results["one"]
    gradients = [np.abs(v).max() for k, v in one.items() if k.startswith("gradient")]
    assert len(gradients) == 9 and min(gradients) > 1e-3
    assert one["sparsity after fit"] == 0.5
    np.testing.assert_array_equal(one["fit: kl_weight"], [0.5, 1, 1])
    np.testing.assert_array_equal(*one["held"])


@pytest.mark.parametrize("kind", ["data", "model"])
def test_equal_rows_on_shards_draw_different_noise(kind, results):
    rows = {k: v for k, v in results[kind].items() if k.startswith("rows: ")}
    one_weight = rows.pop("rows: weight_sampling")  # one sample for the whole batch
    np.testing.assert_array_equal(one_weight, one_weight[:1].repeat(16, axis=0))
    assert len(rows) == 3
    for name, outputs in rows.items():
        assert len(np.unique(outputs, axis=0)) == 16, name


@pytest.mark.parametrize("kind, parts", [("one", 1), ("data", 1), ("model", 2)])
def test_variables_stay_sharded(kind, parts, results):
    """Kernels, φ and masks, after training and pruning, and loaded from a file."""
    for name in ("shards", "shards of loaded"):
        assert results[kind][name].tolist() == [parts] * 8


@pytest.mark.parametrize("kind, devices", [("data", 4), ("model", 2)])
def test_batches_that_devices_cannot_share(kind, devices, results):
    """They are refused before Keras takes the model's weights away."""
    expected = (
        f"Argument `batch_size` must give batches for {devices} devices to share, the "
        f"last one too: multiples of {devices} examples. "
        "Received: batch_size=16, with 63 examples"
    )
    assert results[kind]["refusals"].tolist() == [expected] * 4
