"""blitz-bayesian-pytorch: https://github.com/piEsposito/blitz-bayesian-deep-learning."""

import importlib.metadata
import math

import torch
from blitz.losses import kl_divergence_from_nn
from blitz.modules import BayesianLinear

from benchmarks.peers import protocol, pytorch

NAME = "blitz-bayesian-pytorch"


class Blitz(pytorch.Torch):
    versions = f"{importlib.metadata.version(NAME)}, torch {torch.__version__}"

    def dense(self, inputs, units):
        return BayesianLinear(
            inputs, units, bias=False, prior_sigma_1=protocol.PRIOR_STDDEV, prior_pi=1
        )

    def set(self, layer, mean):
        layer.weight_mu.copy_(mean.T)
        layer.weight_rho.fill_(math.log(math.expm1(protocol.STDDEV)))

    def divergence(self, model):
        return kl_divergence_from_nn(model)

    def means(self, layer):
        return layer.weight_mu


peer = Blitz
