import keras
import numpy as np
import pytest

import keras_variance as kv
from examples import networks

SHAPE = (32, 32, 3)


def test_vgg_is_the_network_of_the_reference():
    model = networks.vgg(SHAPE, 10, dropout=1.0)
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    filters = [*2 * [64], *2 * [128], *3 * [256], *6 * [512]]
    assert [x.filters for x in convolutions] == filters
    dense = [x for x in model.layers if isinstance(x, keras.layers.Dense)]
    assert [x.units for x in dense] == [512, 10]
    # Without biases before BatchNorm
    shapes = [(3, 3, 3, 64), (3, 3, 64, 64)]
    assert [tuple(x.kernel.shape) for x in convolutions[:2]] == shapes
    assert all(x.bias is None for x in (*convolutions, dense[0]))
    rates = [x.rate for x in model.layers if isinstance(x, keras.layers.Dropout)]
    assert rates == [0.3, *[0.4] * 7, 0.5, 0.5]
    assert model.get_layer("conv5_3").output.shape[1:3] == (2, 2)


def test_vgg_width():
    model = networks.vgg(SHAPE, 100, width=0.25)
    assert model.get_layer("conv5_1").filters == 128
    assert model.get_layer("dense1").units == 128
    assert model.output_shape == (None, 100)
    assert not any(isinstance(x, keras.layers.Dropout) for x in model.layers)


@pytest.mark.parametrize("prior", ["log_uniform", "student_t", "ard", None])
def test_variance_vgg(prior):
    model = networks.variance_vgg(
        SHAPE, 10, width=0.04, log_alpha=0.5, prior=prior, train_size=100
    )
    layers = kv.layers.variance_layers(model)
    names = ["conv5_1", "conv5_2", "conv5_3", "dense1"]
    assert [each.name for each in layers] == names
    for layer in layers:
        np.testing.assert_array_equal(np.ravel(layer.log_alpha), [0.5])
    model(np.zeros((2, *SHAPE)))
    assert len(model.losses) == (4 if prior else 0)


def test_variance_vgg_zero_mean():
    model = networks.variance_vgg(
        SHAPE, 10, width=0.04, posterior="zero_mean", prior=None
    )
    for layer in kv.layers.variance_layers(model):
        assert isinstance(layer.posterior, kv.posteriors.ZeroMean)


def test_lenet_momentum():
    model = networks.lenet(
        (8, 8, 1), *[keras.layers.Conv2D] * 2, *[keras.layers.Dense] * 2, momentum=0.5
    )
    normalizations = [
        x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)
    ]
    assert [x.momentum for x in normalizations] == [0.5] * 3
