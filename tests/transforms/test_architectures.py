"""Networks of `keras.applications` through everything, by the example's operations."""

import pytest

from examples import architectures, zoo
from tests.backends import once
from tests.statistics import threshold

# Of float32, after dozens of layers, as a share of the largest output
TOLERANCE = 1e-3
SAME = ("replace", "ensemble", "mc_predict", "draw", "save and load")
LAST = "moments, last layer: largest z"
# What by default is random of them, at least; DenseNet has no layer without a class
TURNED = {"MobileNetV2": 0.9, "ResNet50": 0.99}


@once
@pytest.mark.parametrize("name", TURNED)
def test_architecture(name):
    results = architectures.measure(name, 50, ("turned", *SAME, LAST))
    assert results["turned"] > TURNED[name]
    for operation in SAME:
        assert isinstance(results[operation], float), results[operation]
        assert results[operation] < TOLERANCE, operation
    # Means and variances of some rows and classes
    numbers = 2 * zoo.ROWS * zoo.CLASSES
    assert results[LAST] < threshold(numbers)
