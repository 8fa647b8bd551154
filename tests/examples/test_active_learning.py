import numpy as np

import keras_variance as kv
from examples import active_learning
from examples.active_learning import Learner, labels_needed, needed, shifted
from tests.backends import once


@once
def test_smoke(tmp_path):
    arguments = ["--smoke", "--work", tmp_path, "--results", tmp_path]
    active_learning.main([*map(str, arguments)])
    page = (tmp_path / "active_learning.md").read_text()
    for title in active_learning.ACQUISITIONS.values():
        assert f"| {title} |" in page


def test_training_anew_forgets():
    x = np.random.default_rng(0).random((40, 8, 8, 1), "float32")
    y = np.arange(40) % 10
    learner = Learner(x.shape[1:], steps=5)

    def trained():
        with kv.random.seeded(learner.model, 1):
            learner.fit(x, y, seed=0)
        return learner.model.get_weights()

    first = trained()
    learner.fit(x[:10], y[:10], seed=2)
    for weights, again in zip(first, trained(), strict=True):
        np.testing.assert_allclose(again, weights, rtol=1e-4, atol=1e-5)


def test_shifted_by_up_to_two_pixels():
    images = np.zeros((400, 9, 9, 1))
    images[:, 4, 4] = 1
    random = np.random.default_rng(0)
    found = {tuple(np.argwhere(x[:, :, 0])[0]) for x in shifted(images, random)}
    assert found == {(i, j) for i in range(2, 7) for j in range(2, 7)}


def test_needed():
    log = {"labels": [20, 40, 60], "accuracy": [90.0, 95.0, 94.0]}
    assert needed(log, 95) == 40 and needed(log, 97) is None
    assert labels_needed([log, log], 95) == "40 (40, 40)"
    assert labels_needed([log], 97) == "not reached"
