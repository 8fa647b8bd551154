import warnings

import keras
import pytest

from examples import networks


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


@pytest.fixture(scope="session", autouse=True)
def toolbox():
    """Imports the Adversarial Robustness Toolbox before any test captures output: it
    configures logging, which closes the stream that absl writes to then."""
    if keras.backend.backend() == "tensorflow":
        with warnings.catch_warnings():  # that PyTorch is not there
            warnings.simplefilter("ignore")
            import art.attacks.evasion  # noqa: F401
    yield


@pytest.fixture
def shallow(monkeypatch):
    """The network with 7 of its 13 convolutions; `test_networks.py` has all of it."""
    stock = tuple((filters, ()) for filters, _ in networks.VGG_GROUPS[:-1])
    monkeypatch.setattr(networks, "VGG_GROUPS", (*stock, networks.VGG_GROUPS[-1]))
