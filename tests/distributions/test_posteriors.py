import numpy as np
import pytest
from keras import ops

from keras_variance import posteriors

THETA = np.float32([[0.5, -2.0, 0.0], [1.5, 1e-20, -1.0]])
PHI = {
    "zero_mean": None,
    "layer_alpha": np.float32([[-1.0]]),
    "neuron_alpha": np.float32([[-1.0, 0.5, 2.0]]),
    "weight_alpha": np.float32([[-1.0, 0.5, 2.0], [0.0, -3.0, 1.0]]),
    "additive": np.float32([[-1.0, 0.5, 2.0], [0.0, -3.0, 1.0]]),
}


def tensors(theta, phi):
    return [None if x is None else ops.convert_to_tensor(x) for x in (theta, phi)]


@pytest.mark.parametrize("name", posteriors.MEMBERS)
def test_moments(name):
    posterior, phi = posteriors.get(name), PHI[name]
    theta_and_phi = tensors(THETA, phi)
    if name == "zero_mean":
        assert posterior.mean(*theta_and_phi) is None
        variance = THETA**2
    else:
        np.testing.assert_array_equal(posterior.mean(*theta_and_phi), THETA)
        variance = np.exp(phi) * (1 if name == "additive" else THETA**2)
    scale = np.asarray(posterior.scale(*theta_and_phi))
    np.testing.assert_allclose(scale**2, variance, rtol=1e-5)


@pytest.mark.parametrize("name", posteriors.MEMBERS)
def test_log_alpha(name):
    theta, phi = THETA[:, :2], PHI[name]
    phi = phi if phi is None else phi[..., :2]
    posterior = posteriors.get(name)
    theta_and_phi = tensors(theta, phi)
    log_alpha = np.broadcast_to(posterior.log_alpha(*theta_and_phi), theta.shape)
    if name == "zero_mean":
        assert np.all(log_alpha == np.inf)
    else:
        variance = np.square(np.float64(posterior.scale(*theta_and_phi)))
        expected = np.log(variance[0]) - np.log(np.float64(theta[0]) ** 2)
        np.testing.assert_allclose(log_alpha[0], expected, rtol=1e-5)


def test_additive_log_alpha_is_finite_at_zero_mean():
    log_alpha = posteriors.Additive().log_alpha(ops.zeros(2), ops.zeros(2))
    assert np.all(np.isfinite(log_alpha))


@pytest.mark.parametrize(
    "name, shape",
    [
        ("zero_mean", None),
        ("layer_alpha", (1, 1, 1, 1)),
        ("neuron_alpha", (1, 1, 4, 5)),
        ("weight_alpha", (2, 3, 4, 5)),
        ("additive", (2, 3, 4, 5)),
    ],
)
def test_phi_shape(name, shape):
    assert posteriors.get(name).phi_shape((2, 3, 4, 5), (-2, -1)) == shape


@pytest.mark.parametrize("value", ["-5", np.inf, np.nan, True])
@pytest.mark.parametrize(
    "argument, posterior",
    [
        ("initial_log_alpha", posteriors.LayerAlpha),
        ("initial_log_variance", posteriors.Additive),
    ],
)
def test_bad_initial_value(argument, posterior, value):
    with pytest.raises(ValueError, match=rf"`{argument}`.*Received: {argument}="):
        posterior(value)
