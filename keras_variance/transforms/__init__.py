from keras_variance.transforms.deterministic import from_deterministic
from keras_variance.transforms.draw import draw
from keras_variance.transforms.ensemble import ensemble
from keras_variance.transforms.means import propagate_mean, zero_mean

__all__ = ["draw", "ensemble", "from_deterministic", "propagate_mean", "zero_mean"]
