from keras_variance.distributions import noises, posteriors, priors

__all__ = ["noises", "posteriors", "priors"]
