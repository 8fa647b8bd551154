"""Class probabilities: from logits, and how uncertain they are."""

from keras import ops


def probabilities(logits):
    """Softmax over the last axis, or the sigmoid where that has one entry."""
    return ops.softmax(logits) if logits.shape[-1] > 1 else ops.sigmoid(logits)


def entropy(p):
    """Entropy in nats over the last axis; of one entry, that of a binary variable."""
    p = ops.concatenate([p, 1 - p], axis=-1) if p.shape[-1] == 1 else p
    return -ops.sum(p * ops.log(ops.maximum(p, 1e-30)), axis=-1)
