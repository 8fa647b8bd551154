"""Types of arguments that many functions share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from keras_variance.likelihoods import Likelihood

# Arrays in the structure of a model's inputs or outputs
Arrays: TypeAlias = ArrayLike | Mapping[str, Any] | Sequence[Any]
# Also a `tf.data.Dataset` or a `keras.utils.PyDataset`, of which the first is not
# imported
Data: TypeAlias = Any
# Or one for each output of a model, in a list or a dict
OneLikelihood: TypeAlias = "str | Likelihood | Mapping[str, Any] | None"
AnyLikelihood: TypeAlias = "OneLikelihood | Sequence[OneLikelihood]"
AnyLayers: TypeAlias = keras.Layer | str | Sequence[keras.Layer | str] | None
DType: TypeAlias = str | keras.DTypePolicy | None
Verbose: TypeAlias = str | int | bool
# Matplotlib's, which is not imported
Axes: TypeAlias = Any
