import collections
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests run what XLA compiles once or twice: to optimize it takes far longer
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# Tests compile the same steps over and over: JAX keeps them in files
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath("build/jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import keras
import numpy as np
import pytest

import keras_variance  # noqa: F401
from tests import backends

BACKEND = backends.BACKEND

if BACKEND == "tensorflow":
    import tensorflow as tf

    # Two logical devices, for tests with `tf.distribute.MirroredStrategy`
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
elif BACKEND == "torch":
    import torch

    torch.set_num_threads(1)  # a process of tests for each core
    to_array = torch.Tensor.__array__

    def detached(tensor, dtype=None, copy=None):
        """NumPy takes tensors with a gradient, and of half precision, too."""
        tensor = tensor.detach()
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        array = to_array(tensor)
        return array.copy() if copy else array if dtype is None else array.astype(dtype)

    torch.Tensor.__array__ = detached
    # NumPy's functions of tensors return arrays
    torch.Tensor.__array_wrap__ = lambda tensor, array, *_: array


def pytest_addoption(parser):
    parser.addoption(
        "--vary-seed",
        action="store_true",
        help="a fresh seed for every test, to measure how often chance fails one",
    )
    parser.addoption(
        "--whole-grids",
        action="store_true",
        help="all tests of every grid, on any backend",
    )


def pytest_collection_modifyitems(config, items):
    """So many tests of a grid that each two arguments meet in all their values, on
    other backends than TensorFlow that each value of an argument is there; of those
    marked `whole_grid` all, and each two values.

    On other backends docstrings with TensorFlow are left out.
    """
    first = BACKEND == "tensorflow"
    grids = collections.defaultdict(dict)
    for item in items:
        if hasattr(item, "callspec"):
            whole = item.get_closest_marker("whole_grid") is not None
            cell = tuple(map(id, item.callspec.params.values()))
            grids[item.parent, item.function, first + whole + 1][cell] = item
    left_out = set()
    if not config.getoption("--whole-grids"):
        for (*_, together), cells in grids.items():
            if together < min(3, len(next(iter(cells)))):
                kept = backends.covering(cells, together)
                left_out |= {item for cell, item in cells.items() if cell not in kept}
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items if not first else ():
        test = getattr(item, "dtest", None)
        if test and any("tensorflow" in each.source for each in test.examples):
            item.add_marker(pytest.mark.skip(reason="an example with TensorFlow"))


def pytest_collection_finish():
    """What is imported by now is no garbage: not to search it saves much time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed(request):
    """Seeds Keras, NumPy and Python; returns the seed."""
    vary = request.config.getoption("--vary-seed")
    value = np.random.SeedSequence().entropy % 2**31 if vary else 0
    print(f"seed {value}")  # pytest shows it where a test fails
    keras.utils.set_random_seed(value)
    yield value
    keras.config.set_dtype_policy("float32")
    # Python collects garbage when there is some: after each test it took half the time
    keras.backend.clear_session(free_memory=False)


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


@pytest.fixture
def strategy():
    """Two replicas on the CPU.

    They reduce without collective operations, whose keys strategies of one
    process would share.
    """
    if BACKEND != "tensorflow":
        pytest.skip("strategies are TensorFlow's")
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], reduction)
