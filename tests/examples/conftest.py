import keras
import pytest


@pytest.fixture
def eagerly():
    """No function is traced: for the few steps of a smoke run that takes far longer.

    `test_training.py` and `test_quickstart.py` train and predict with traced ones.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
