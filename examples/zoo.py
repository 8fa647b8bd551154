"""Small networks of every architecture that `keras.applications` and KerasHub have."""

import importlib.util
import inspect

import keras
import numpy as np

from keras_variance.transforms.walk import operations

CLASSES = 3
SIZES = (32, 71, 75)  # of images: the smallest that a network takes
WIDTHS = {"MobileNet": 0.25, "MobileNetV2": 0.35}
NARROW = 0.35  # of what else has an argument `alpha`
ROWS, CALIBRATION_ROWS = 2, 8
TOKENS, VOCABULARY = 6, 20
TEXT = {
    "vocabulary_size": VOCABULARY,
    "num_layers": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}
ENCODER = {**TEXT, "num_heads": 2, "max_sequence_length": TOKENS}
DECODER = {**TEXT, "num_query_heads": 2, "num_key_value_heads": 1}
HUB = {
    "BERT": {"class": "BertBackbone", **ENCODER},
    "GPT-2": {"class": "GPT2Backbone", **ENCODER},
    "ViT": {
        "class": "ViTBackbone",
        "image_shape": (16, 16, 3),
        "patch_size": 8,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 8,
        "mlp_dim": 16,
    },
    "Gemma": {"class": "GemmaBackbone", **DECODER, "head_dim": 4},
    "Qwen": {"class": "QwenBackbone", **DECODER},
    "ResNet": {
        "class": "ResNetBackbone",
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [3],
        "stackwise_num_filters": [64, 64],
        "stackwise_num_blocks": [1, 1],
        "stackwise_num_strides": [1, 2],
        "block_type": "basic_block",
        "image_shape": (16, 16, 3),
    },
}


def applications():
    """The functions of `keras.applications` that make networks, by name."""
    every = vars(keras.applications).items()
    return {k: f for k, f in every if k[0].isupper() and callable(f)}


def names():
    """Of all architectures that can be made here."""
    hub = HUB if importlib.util.find_spec("keras_hub") else ()
    return [*applications(), *hub]


def build(name, seed=0):
    """A network whose outputs are logits, and a few inputs for it."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = _hub(name) if name in HUB else _application(name)
    inputs = model.input if isinstance(model.input, dict) else {"": model.input}
    x = {key: _rows(rng, spec, name) for key, spec in inputs.items()}
    x = x if isinstance(model.input, dict) else x[""]
    calibrate(model, x)
    return model, keras.tree.map_structure(lambda each: each[:ROWS], x)


def _application(name):
    make = applications()[name]
    arguments = {"weights": None, "classes": CLASSES, "classifier_activation": None}
    if "alpha" in inspect.signature(make).parameters:
        arguments["alpha"] = WIDTHS.get(name, NARROW)
    for size in SIZES:
        try:
            return make(input_shape=(size, size, 3), **arguments)
        except ValueError as error:
            if size == SIZES[-1] or "at least" not in str(error):
                raise


def _hub(name):
    import keras_hub

    config = dict(HUB[name])
    backbone = getattr(keras_hub.models, config.pop("class"))(**config)
    x = backbone.output
    if isinstance(x, dict):
        x = x["pooled_output"]
    elif len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    elif len(x.shape) == 3:
        x = x[:, 0] if name == "ViT" else x[:, -1]
    return keras.Model(backbone.input, keras.layers.Dense(CLASSES, name="logits")(x))


def _rows(rng, spec, name):
    shape = (CALIBRATION_ROWS, *[TOKENS if n is None else n for n in spec.shape[1:]])
    if "int" in spec.dtype:
        last = 2 if "mask" in spec.name or "segment" in spec.name else VOCABULARY
        x = rng.integers(0, last, shape)
        return np.ones_like(x) if "mask" in spec.name else x
    rescales = name not in HUB and (
        "include_preprocessing" in inspect.signature(applications()[name]).parameters
    )
    return rng.uniform(-1, 1, shape).astype("float32") * (255 if rescales else 1)


def calibrate(model, x):
    """Give BatchNorm the statistics of these inputs, as training would."""
    kind = keras.layers.BatchNormalization
    every = [layer for layer in operations(model) if isinstance(layer, kind)]
    before = [layer.momentum for layer in every]
    for layer in every:
        layer.momentum = 0.0
    model(x, training=True)
    for layer, momentum in zip(every, before, strict=True):
        layer.momentum = momentum
