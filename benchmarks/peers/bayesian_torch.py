"""bayesian-torch: https://github.com/IntelLabs/bayesian-torch."""

import importlib.metadata
import math

import bayesian_torch.layers
import torch
from bayesian_torch.models.dnn_to_bnn import get_kl_loss

from benchmarks.peers import protocol, pytorch


class BayesianTorch(pytorch.Torch):
    versions = (
        f"{importlib.metadata.version('bayesian-torch')}, torch {torch.__version__}"
    )

    def __init__(self, estimator="Reparameterization"):
        self.kind = getattr(bayesian_torch.layers, f"Linear{estimator}")

    def dense(self, inputs, units):
        layer = self.kind(inputs, units, bias=False)
        layer.dnn_to_bnn_flag = True  # calls return outputs alone
        return layer

    def set(self, layer, mean):
        layer.mu_weight.copy_(mean.T)
        layer.rho_weight.fill_(math.log(math.expm1(protocol.STDDEV)))

    def divergence(self, model):
        return get_kl_loss(model)

    def means(self, layer):
        return layer.mu_weight


peer = BayesianTorch
