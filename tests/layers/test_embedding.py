"""An embedding squares the rows that it reads."""

import keras
import numpy as np
import pytest

import keras_variance as kv


@pytest.mark.parametrize("posterior", kv.posteriors.MEMBERS)
def test_squares_are_of_the_rows_that_are_read(posterior, rng, monkeypatch):
    layer = kv.VarianceEmbedding(50, 3, posterior=posterior)
    layer.build()
    layer.kernel.assign(rng.normal(size=(50, 3)))
    (random,) = layer.random_linears()
    tokens = np.array([[1, 4], [4, 0]])
    expected = np.square(np.asarray(layer.kernel_scale, "float64"))[tokens]
    shapes, square = [], keras.ops.square
    monkeypatch.setattr(
        keras.ops, "square", lambda x: shapes.append(tuple(x.shape)) or square(x)
    )
    stddev = random.stddev(keras.ops.convert_to_tensor(tokens))
    assert shapes == [(2, 2, 3)]
    np.testing.assert_allclose(np.square(np.asarray(stddev)), expected, rtol=1e-5)
