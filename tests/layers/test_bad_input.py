"""Errors name the argument, say what was expected and end with what they got."""

import numpy as np
import pytest

import keras_variance as kv
from tests.layers.cases import CASES


@pytest.mark.parametrize("value", ["nope", 3, None, kv.VarianceDense])
@pytest.mark.parametrize(
    "family, names",
    [
        ("posterior", kv.posteriors.MEMBERS),
        ("noise", kv.noises.MEMBERS),
        ("estimator", kv.estimators.MEMBERS),
        ("prior", kv.priors.MEMBERS),
    ],
)
def test_unknown_member(family, names, value):
    if value is None and family in ("estimator", "prior"):
        return  # the default
    with pytest.raises(ValueError) as error:
        kv.VarianceDense(3, **{family: value})
    message = str(error.value)
    assert message.startswith(f"Argument `{family}` must be one of ")
    assert all(f"'{name}'" in message for name in names)
    assert message.endswith(f"Received: {family}={value!r}")


def test_member_of_another_family():
    with pytest.raises(ValueError, match=r"Received: noise=ZeroMean\(\)"):
        kv.VarianceDense(3, noise=kv.posteriors.ZeroMean())


@pytest.mark.parametrize("noise", ["bernoulli", "uniform"])
def test_local_reparameterization_needs_gaussian_noise(noise):
    with pytest.raises(
        ValueError, match=r"'moment_matching'.*Received: noise=\w+\(\)$"
    ):
        kv.VarianceDense(3, noise=noise, estimator="local_reparameterization")


@pytest.mark.parametrize("noise", ["bernoulli", "uniform"])
@pytest.mark.parametrize("prior", kv.priors.MEMBERS)
def test_prior_needs_gaussian_noise(noise, prior):
    with pytest.raises(ValueError, match=r"Gaussian noise.*Received: .*noise=\w+\(\)$"):
        kv.VarianceDense(3, noise=noise, prior=prior, train_size=10)


def test_prior_centered_at_means_needs_means():
    prior = kv.priors.Normal(mean="initial")
    with pytest.raises(ValueError, match=r"has means.*Received: .*=ZeroMean\(\)$"):
        kv.VarianceDense(3, prior=prior)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, "60000", True])
def test_bad_train_size(value):
    match = (
        rf"`train_size` must be a finite number > 0. Received: train_size={value!r}$"
    )
    with pytest.raises(ValueError, match=match):
        kv.VarianceDense(3, prior="ard", train_size=value)


@pytest.mark.parametrize("value", [-1, np.nan, np.inf, "1", None])
def test_bad_kl_weight(value):
    match = rf"`kl_weight` must be a finite number ≥ 0. Received: kl_weight={value!r}$"
    with pytest.raises(ValueError, match=match):
        kv.VarianceDense(3, kl_weight=value)


@pytest.mark.parametrize("name", sorted({*CASES} - {"embedding"}))
def test_shapes_that_cannot_be_built(name):
    case = CASES[name]
    layer = case.layer(**case.arguments)
    unknown = [None, *case.input_shape]
    unknown[layer.channel_axes[0][-1]] = None
    for shape in (tuple(unknown), (3,)):
        with pytest.raises(ValueError, match=r"Received: input_shape="):
            layer.build(shape)
    layer.build((None, *case.input_shape))  # nothing is half-built
    assert layer(np.ones((1, *case.input_shape))).shape[0] == 1


@pytest.mark.parametrize(
    "equation, rank",
    [("ab,bc->ca", 2), ("ab,ac->ac", 2), ("...ab,abc->...c", 2), ("abc,cd->bad", 3)],
)
def test_equations_without_a_batch(equation, rank):
    """It has to be the first axis of inputs and of outputs, and none of the kernel."""
    layer = kv.VarianceEinsumDense(equation, (3,) * (rank - 1))
    with pytest.raises(ValueError, match=r"`equation` must be .*Received: equation="):
        layer.build((3,) * rank)


def test_an_equation_of_another_rank():
    layer = kv.VarianceEinsumDense("abc,cd->abd", (None, 3))
    with pytest.raises(ValueError, match=r"of 3 axes.*Received: input_shape=\(2, 4\)"):
        layer.build((2, 4))
    with pytest.raises(ValueError, match=r"of 3 axes.*Received: input_shape="):
        layer.build((2, 4, 4, 4))


@pytest.mark.parametrize("mask", [np.ones((5, 3), bool), np.ones((4, 3)), None])
def test_a_mask_that_does_not_fit_leaves_nothing(mask):
    layer = kv.VarianceDense(3)
    layer.build((None, 4))
    weights = layer.get_weights()
    with pytest.raises(ValueError, match=r"`mask` .*\(4, 3\). Received: mask="):
        layer.keep(mask)
    assert layer.mask is None and not layer.pruned and not layer.get_config()["pruned"]
    np.testing.assert_equal(layer.get_weights(), weights)
