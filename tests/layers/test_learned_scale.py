import keras
import numpy as np
import pytest

import keras_variance as kv


def test_learns_the_noise(rng):
    """The log variance of each output's residuals."""
    x = rng.normal(size=(512, 3)).astype("float32")
    noise = rng.normal(size=(512, 2)) * [0.5, 2.0]
    y = x[:, :2] + noise
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), kv.LearnedScale(3.0)]
    )
    initial = np.asarray(model(x[:1]))[0, 2:]
    np.testing.assert_allclose(initial, 2 * np.log(3.0), rtol=1e-6)
    model.compile(keras.optimizers.Adam(0.05), kv.losses.GaussianNLL())
    model.fit(x, y, batch_size=128, epochs=60, verbose=0)
    outputs = model.predict(x, verbose=0)
    residuals = np.mean((y - outputs[:, :2]) ** 2, axis=0)
    np.testing.assert_allclose(np.exp(outputs[:, 2:]), [residuals] * 512, rtol=0.1)


@pytest.mark.parametrize("shape", [(3,), (4, 3)])
def test_moments(shape, rng):
    """The scale is known, the means are not."""
    dense = kv.VarianceDense(2, posterior="layer_alpha")
    model = keras.Sequential([keras.Input(shape), dense, kv.LearnedScale()])
    model.layers[-1].log_variance.assign([0.5, -1.0])
    x = rng.normal(size=(5, *shape)).astype("float32")
    moments = kv.transforms.propagate_moments(model, likelihood=None, statistics=True)
    statistics = moments(x)
    mean = x @ np.asarray(dense.kernel)
    variance = x**2 @ np.asarray(dense.kernel_scale) ** 2
    np.testing.assert_allclose(statistics["mean"][..., :2], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics["variance"][..., :2], variance, rtol=1e-4)
    known = np.broadcast_to([0.5, -1.0], mean.shape)
    np.testing.assert_allclose(statistics["mean"][..., 2:], known)
    np.testing.assert_array_equal(statistics["variance"][..., 2:], 0)


def test_saving(tmp_path, rng):
    model = keras.Sequential([keras.Input((3,)), kv.LearnedScale(0.2, name="scale")])
    model.layers[0].log_variance.assign([1.0, 2.0, 3.0])
    x = rng.normal(size=(2, 3)).astype("float32")
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.layers[0].initial_scale == 0.2
    assert kv.LearnedScale().compute_output_shape((None, 4, 3)) == (None, 4, 6)


def test_half_precision(rng):
    layer = kv.LearnedScale(dtype="mixed_float16")
    outputs = layer(rng.normal(size=(2, 3)))
    assert outputs.dtype == "float16" or "float16" in str(outputs.dtype)
    assert layer.log_variance.dtype == "float32"


def test_bad_scale():
    for scale in (0, -1.0, np.nan, "a", None):
        with pytest.raises(ValueError, match=r"`initial_scale`.*Received: initial_sca"):
            kv.LearnedScale(scale)
