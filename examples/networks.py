"""Networks of the examples: LeNet-5-Caffe and a VGG-like network for CIFAR."""

from functools import partial

import keras

import keras_variance as kv

# Units of the layers, and dropout rates after each convolution but the last of a group
VGG_GROUPS = (
    (64, (0.3,)),
    (128, (0.4,)),
    (256, (0.4, 0.4)),
    (512, (0.4, 0.4)),
    (512, (0.4, 0.4)),
)
VGG_DENSE, VGG_DENSE_DROPOUT = 512, 0.5


def lenet(
    input_shape,
    *layers,
    activation=keras.layers.ReLU,
    biases=True,
    dropout=0.0,
    momentum=0.99,
):
    """LeNet-5-Caffe, with BatchNorm after each linear layer but the last.

    Args:
        input_shape: (height, width, channels); small images get 3×3 convolutions.
        *layers: Two convolutions and two dense layers: classes, or functions with
            the arguments of these.
        activation: Function that makes the layer after each BatchNorm.
        biases: Whether BatchNorm has its scale and shift, and the last layer a bias.
        dropout: Rate before the first dense layer; 0 for no such layer.
        momentum: Of BatchNorm's moving averages.
    """
    small = input_shape[0] < 28
    size, padding = (3, "same") if small else (5, "valid")
    convolution = {"kernel_size": size, "padding": padding, "use_bias": False}
    first, second, dense, last = layers

    def normalization():
        return keras.layers.BatchNormalization(
            momentum=momentum, center=biases, scale=biases
        )

    return keras.Sequential(
        [
            keras.Input(input_shape),
            first(20, **convolution),
            normalization(),
            activation(),
            keras.layers.MaxPooling2D(),
            second(50, **convolution),
            normalization(),
            activation(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            *([keras.layers.Dropout(dropout)] if dropout else []),
            dense(500, use_bias=False),
            normalization(),
            activation(),
            last(10, use_bias=biases),
        ]
    )


def vgg(
    input_shape,
    classes,
    width=1.0,
    dropout=0.0,
    momentum=0.99,
    convolution=keras.layers.Conv2D,
    dense=keras.layers.Dense,
):
    """The VGG-like network for CIFAR: 13 convolutions and 2 dense layers.

    Each convolution is followed by BatchNorm and ReLU, each group of convolutions by
    max pooling, which leaves one pixel of a 32×32 image.

    Args:
        input_shape: (height, width, channels), at least 32×32.
        classes: Number of outputs, which are logits.
        width: Factor of the numbers of filters and hidden units.
        dropout: Factor of the reference's dropout rates (0.3 to 0.5): 1 for the
            reference's network, 0 for no dropout.
        momentum: Of BatchNorm's moving averages.
        convolution: Makes the last group's convolutions: a class, or a function with
            its arguments.
        dense: Makes the first dense layer, likewise.

    Reference: 92.45% on CIFAR-10 in Torch
    (https://torch.ch/blog/2015/07/30/cifar.html).
    """
    *stock_groups, last_group = VGG_GROUPS
    layers = [keras.Input(input_shape)]
    for number, group in enumerate(stock_groups, 1):
        layers += _group(number, group, width, dropout, momentum, keras.layers.Conv2D)
    number = len(VGG_GROUPS)
    layers += _group(number, last_group, width, dropout, momentum, convolution)
    layers += [
        keras.layers.Flatten(),
        *_dropout(VGG_DENSE_DROPOUT * dropout),
        dense(_scaled(VGG_DENSE, width), use_bias=False, name="dense1"),
        keras.layers.BatchNormalization(momentum=momentum),
        keras.layers.ReLU(),
        *_dropout(VGG_DENSE_DROPOUT * dropout),
        keras.layers.Dense(classes, name="dense2"),
    ]
    return keras.Sequential(layers)


def _group(number, group, width, dropout, momentum, convolution):
    """Layers of a group of convolutions: (filters, dropout rates)."""
    filters, rates = group
    options = {"kernel_size": 3, "padding": "same", "use_bias": False}
    layers = []
    for position, rate in enumerate((*rates, 0), 1):
        name = f"conv{number}_{position}"
        layers += [
            convolution(_scaled(filters, width), name=name, **options),
            keras.layers.BatchNormalization(momentum=momentum),
            keras.layers.ReLU(),
            *_dropout(rate * dropout),
        ]
    return [*layers, keras.layers.MaxPooling2D()]


def _scaled(units, width):
    return max(1, round(units * width))


def _dropout(rate):
    return [keras.layers.Dropout(rate)] if rate else []


def variance_vgg(
    input_shape,
    classes,
    width=1.0,
    momentum=0.99,
    posterior="layer_alpha",
    log_alpha=0.0,
    prior="log_uniform",
    train_size=None,
):
    """As `vgg`, with the last three convolutions and the first dense layer stochastic.

    Args:
        posterior: `"layer_alpha"`, `"neuron_alpha"`, `"weight_alpha"`, or
            `"zero_mean"`, which has no α.
        log_alpha: Where log α starts.
        prior: `"log_uniform"`, `"ard"`, `"student_t"` (its KL divergence estimated
            by one sample, as in the paper), or None.
        train_size: Number of training examples; required with a prior.

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), section 5.
    """
    if posterior != "zero_mean":
        posterior = kv.posteriors.MEMBERS[posterior](log_alpha)
    if prior == "student_t":
        prior = kv.priors.StudentT(method="monte_carlo")
    config = {"posterior": posterior, "prior": prior, "train_size": train_size}
    return vgg(
        input_shape,
        classes,
        width,
        momentum=momentum,
        convolution=partial(kv.VarianceConv2D, **config),
        dense=partial(kv.VarianceDense, **config),
    )
