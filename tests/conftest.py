import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests run what XLA compiles once or twice: to optimize it takes far longer
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_variance  # noqa: F401

# Two logical devices, for tests with `tf.distribute.MirroredStrategy`
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


def pytest_addoption(parser):
    parser.addoption(
        "--vary-seed",
        action="store_true",
        help="a fresh seed for every test, to measure how often chance fails one",
    )


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
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], reduction)
