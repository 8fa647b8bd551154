"""What the libraries on PyTorch share: LeNet-5, and a train step of it."""

import numpy as np
import torch

from benchmarks.peers import protocol

torch.set_num_threads(1)


def lenet(dense):
    nn = torch.nn
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), dense, nn.ReLU(), nn.Linear(500, 10)),
    )


def images(number):
    x, y = protocol.images(number)
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy()), torch.from_numpy(y)


class Torch(protocol.Peer):
    """A library on PyTorch: it makes a layer, and computes its KL divergence."""

    def dense(self, inputs, units):
        raise NotImplementedError

    def set(self, layer, mean):
        """Set the means of a layer to (inputs, units), its deviations to STDDEV."""
        raise NotImplementedError

    def divergence(self, model):
        """The KL divergence of a model or a layer, after a call."""
        raise NotImplementedError

    def means(self, layer):
        raise NotImplementedError

    def network(self):
        return lenet(self.dense(800, 500))

    def step(self, stochastic):
        model = self.network() if stochastic else lenet(torch.nn.Linear(800, 500))
        optimizer = torch.optim.Adam(model.parameters())
        x, y = images(protocol.BATCH)

        def step():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            if stochastic:
                loss = loss + self.divergence(model) / 60_000
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    def predict(self, samples):
        model = self.network() if samples else lenet(torch.nn.Linear(800, 500))
        model.eval()
        x, _ = images(protocol.IMAGES)

        @torch.no_grad()
        def predict():
            passes = [model(x) for _ in range(samples or 1)]
            return torch.stack(passes).numpy()

        return predict

    def layer(self, mean):
        layer = self.dense(*mean.shape)
        with torch.no_grad():
            self.set(layer, torch.from_numpy(mean))
        return layer

    @torch.no_grad()
    def draws(self, x, mean, number):
        layer, x = self.layer(mean), torch.from_numpy(x)
        return torch.stack([layer(x) for _ in range(number)]).numpy()

    @torch.no_grad()
    def kl(self, mean):
        layer, total = self.layer(mean), 0.0
        for _ in range(protocol.ESTIMATES):  # some libraries draw it
            layer(torch.zeros(1, len(mean)))
            total += self.divergence(layer).item()
        return total / protocol.ESTIMATES

    @torch.no_grad()
    def half(self, x, mean):
        return self.layer(mean).half()(torch.from_numpy(x).half()).numpy()

    def reloaded(self, folder):
        first, second = self.network(), self.network()
        torch.save(first.state_dict(), folder / "weights.pt")
        second.load_state_dict(torch.load(folder / "weights.pt"))
        return tuple(self.means(each[7]).detach().numpy() for each in (first, second))
