"""torch-uncertainty: https://github.com/torch-uncertainty/torch-uncertainty."""

import importlib.metadata
import math

import torch
from torch_uncertainty.layers.bayesian import BayesLinear
from torch_uncertainty.losses.bayesian import KLDiv

from benchmarks.peers import protocol, pytorch

NAME = "torch-uncertainty"


class TorchUncertainty(pytorch.Torch):
    versions = f"{importlib.metadata.version(NAME)}, torch {torch.__version__}"

    def dense(self, inputs, units):
        return BayesLinear(
            inputs, units, bias=False, prior_sigma_1=protocol.PRIOR_STDDEV, prior_pi=1.0
        )

    def set(self, layer, mean):
        layer.weight_mu.copy_(mean.T)
        layer.weight_sigma.fill_(math.log(math.expm1(protocol.STDDEV)))

    def divergence(self, model):
        return KLDiv(model)()[0]

    def means(self, layer):
        return layer.weight_mu


peer = TorchUncertainty
