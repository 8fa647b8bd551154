"""Attacks on Keras models, by the Adversarial Robustness Toolbox, on TensorFlow.

https://github.com/Trusted-AI/adversarial-robustness-toolbox
"""

import warnings

import keras
import numpy as np
from keras import ops

BATCH_SIZE = 100


def negative_log_likelihood(labels, p):
    """Of one-hot labels. Keras's loss clips p, and so has no gradient near 0 and 1."""
    return -ops.sum(labels * ops.log(ops.maximum(p, 1e-30)))


class Attacked:
    """A classifier as the toolbox sees it: pixels from 0 to 1, class probabilities.

    Args:
        model: A Keras model, which may draw noise in each call.
    """

    def __init__(self, model):
        import tensorflow as tf

        with warnings.catch_warnings():  # that PyTorch is not there
            warnings.simplefilter("ignore")
            from art.attacks import evasion
            from art.estimators.classification import TensorFlowV2Classifier

        self.evasion = evasion
        self.classifier = TensorFlowV2Classifier(
            tf.function(model, reduce_retracing=True),
            nb_classes=model.output_shape[-1],
            input_shape=model.input_shape[1:],
            loss_object=negative_log_likelihood,
            clip_values=(0.0, 1.0),
        )

    def classes(self, x):
        """Predicted classes of images."""
        parts = range(0, len(x), BATCH_SIZE)
        p = [self.classifier.predict(x[k : k + BATCH_SIZE]) for k in parts]
        return np.concatenate(p).argmax(axis=-1)

    def step(self, x, goals, size):
        """Images moved by `size` along the gradient's sign, towards the goals."""
        attack = self.evasion.FastGradientMethod(
            self.classifier, eps=size, targeted=True, batch_size=BATCH_SIZE
        )
        return attack.generate(x, goals)

    def descent(self, x, labels, epsilon, steps):
        """Images within `epsilon`, away from their labels: projected gradient descent
        from a random start (Madry et al., https://arxiv.org/abs/1706.06083)."""
        attack = self.evasion.ProjectedGradientDescent(
            self.classifier,
            eps=epsilon,
            eps_step=2.5 * epsilon / steps,
            max_iter=steps,
            num_random_init=1,
            batch_size=BATCH_SIZE,
            verbose=False,
        )
        return attack.generate(x, labels)

    def square(self, x, labels, epsilon, queries):
        """Images within `epsilon`, found without gradients: the Square Attack
        (Andriushchenko et al., https://arxiv.org/abs/1912.00049)."""
        attack = self.evasion.SquareAttack(
            self.classifier,
            eps=epsilon,
            max_iter=queries,
            batch_size=BATCH_SIZE,
            verbose=False,
        )
        return attack.generate(x, keras.utils.to_categorical(labels, self.count))

    @property
    def count(self):
        return self.classifier.nb_classes
