"""Training that is killed at any moment ends as if it had not been."""

import argparse
import dataclasses
import json
import os
from functools import partial

import keras
import numpy as np
import pytest

import keras_variance as kv
from examples.data import flip_and_shift
from examples.paper import cifar, common, training
from examples.paper.follow import PREDICTORS, Follow, followed

EPOCHS = 3


def network(units=5):
    """A network with each kind of chance: a variance layer's noise, and dropout."""
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(units),
            keras.layers.Dropout(0.2),
            kv.VarianceDense(
                units, posterior="layer_alpha", prior="ard", train_size=40, name="v"
            ),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(3),
        ]
    )


@pytest.fixture(autouse=True)
def backup_of_each_epoch(monkeypatch):
    monkeypatch.setattr(training, "BACKUP_SHARE", 1.0)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.random((40, 4, 4, 1), "float32"), np.arange(40) % 3


@pytest.fixture(scope="module")
def recipe(data):
    return training.Recipe(
        "tiny",
        partial(network, units=5),
        training.described(data),
        epochs=EPOCHS,
        seed=1,
        batch_size=16,
        augment=partial(flip_and_shift, pixels=1),
    )


def trained(recipe, data, work, callbacks=()):
    """What training comes to: weights, and the log but for times."""
    model = training.train(recipe, data, work, callbacks=callbacks)
    rows = training.read_log(training.log_path(recipe, work))
    for row in rows:
        for name in training.TIMES:
            del row[name]
    assert [row["epoch"] for row in rows] == [str(x) for x in range(EPOCHS)]
    return model.get_weights(), rows


@pytest.fixture(scope="module")
def undisturbed(recipe, data, tmp_path_factory):
    return trained(recipe, data, tmp_path_factory.mktemp("undisturbed"))


def assert_equal(result, expected):
    (weights, rows), (expected_weights, expected_rows) = result, expected
    for one, another in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(one, another)
    assert rows == expected_rows


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


# Each epoch renames its log and its backup; then come the report and the model
@pytest.mark.parametrize("renamed", range(2 * EPOCHS + 2))
def test_interrupted_by_each_write(
    renamed, recipe, data, undisturbed, tmp_path, monkeypatch
):
    rename, count = os.replace, iter(range(1000))

    def killed(source, target):
        if next(count) == renamed:
            raise Killed
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", killed)
        trained(recipe, data, tmp_path)
    assert_equal(trained(recipe, data, tmp_path), undisturbed)
    assert sorted(x.suffix for x in tmp_path.iterdir()) == [".csv", ".json", ".keras"]


@pytest.mark.parametrize(("share", "epochs"), [(0.5, 5), (0.4, 3), (0.1, 1)])
def test_backups_take_a_share_of_the_time(share, epochs, tmp_path, monkeypatch):
    """An epoch takes 2 seconds, and a backup as long."""
    clock = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    model = network()

    def save(path):
        clock[0] += 2
        path.write_bytes(b"")
        saved.append(path)

    saved = []
    monkeypatch.setattr(model, "save_weights", save)
    backup = training.Backup(tmp_path, share)
    backup.set_model(model)
    for epoch in range(5):
        clock[0] += 2
        backup.on_epoch_end(epoch)
    assert len(saved) == epochs


class Fault(keras.callbacks.Callback):
    """Stops training in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.fatal = epoch == self.epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.fatal and batch == 1:
            raise Killed


@pytest.fixture
def interrupted(recipe, data, tmp_path):
    """A work folder, and the backups in it, of training stopped in its last epoch."""
    with pytest.raises(Killed):
        training.train(recipe, data, tmp_path, callbacks=[Fault(2)])
    backups = sorted((tmp_path / recipe.stem).iterdir())
    assert len(backups) == 2
    return tmp_path, backups


def test_resumes_with_equal_numbers(interrupted, recipe, data, undisturbed, capfd):
    work, _ = interrupted
    capfd.readouterr()
    assert_equal(trained(recipe, data, work), undisturbed)
    assert capfd.readouterr().out.count("Epoch") == 1


def test_a_broken_backup_gives_way_to_the_one_before(
    interrupted, recipe, data, undisturbed
):
    work, (_, newest) = interrupted
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is broken, and ignored"):
        assert_equal(trained(recipe, data, work), undisturbed)


def test_broken_backups_start_over(interrupted, recipe, data, undisturbed):
    work, backups = interrupted
    for path in backups:
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="is broken, and ignored"),
        pytest.warns(UserWarning, match="Training starts over"),
    ):
        assert_equal(trained(recipe, data, work), undisturbed)


def test_a_found_model_draws_as_one_just_trained(recipe, data, tmp_path):
    first, second = (
        np.array(training.train(recipe, data, tmp_path)(data[0])) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"network": partial(network, units=6)},
        {"network": network},
        {"data": "other"},
        {"epochs": 4},
        {"seed": 2},
        {"batch_size": 17},
        {"optimizer": keras.optimizers.SGD},
        {"optimizer": partial(keras.optimizers.Adam, beta_2=0.98)},
        {"rate": 2e-3},
        {"power": 0.5},
        {"loss": keras.losses.SparseCategoricalCrossentropy},
        {"augment": None},
        {"augment": partial(flip_and_shift, pixels=2)},
        {"callbacks": (partial(kv.callbacks.KLAnnealing, 5),)},
        {"precision": "mixed_bfloat16"},
    ],
)
def test_each_part_of_a_recipe_is_in_its_key(changed, recipe):
    assert dataclasses.replace(recipe, **changed).stem != recipe.stem
    assert dataclasses.replace(recipe).stem == recipe.stem


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="part of the key")
def test_keys_of_the_long_trainings_stay():
    """If they change, models that took hours are trained again."""
    parser = argparse.ArgumentParser()
    cifar.add_arguments(parser)
    args = parser.parse_args([])
    vars(args).update(smoke=False, epochs=None)
    data = np.zeros((2, 32, 32, 3), "float32"), np.zeros(2, "int64")
    stems = [cifar.recipe(each, data, args, seed=0).stem for each in cifar.NETWORKS]
    assert [stem[-8:] for stem in stems] == [
        "96f44029",
        "66ec1708",
        "16c43337",
        "4e9f91b3",
    ]


def test_plain():
    described = training.plain(
        partial(network, 3, layer=kv.posteriors.LayerAlpha(-1.0), rate=(1, 2))
    )
    assert described == {
        "make": "network",
        "0": 3,
        "layer": {"make": "LayerAlpha", "initial_log_alpha": -1.0},
        "rate": [1, 2],
    }
    assert json.loads(json.dumps(described)) == described


def test_plain_refuses_a_lambda():
    with pytest.raises(ValueError, match=r"Received: <function"):
        training.plain({"network": lambda: None})


def test_plain_of_a_model_is_its_weights():
    keras.utils.set_random_seed(0)
    one, other = network(), network()
    assert training.plain(one) != training.plain(other)
    other.set_weights(one.get_weights())
    assert training.plain(one) == training.plain(other)


def test_precision(recipe):
    model = dataclasses.replace(recipe, precision="mixed_bfloat16").compiled(1)
    assert model.layers[1].compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_noted_reports(recipe, data, tmp_path):
    with training.noted() as reports:
        training.train(recipe, data, tmp_path)
        training.train(recipe, data, tmp_path)
    (report,) = reports
    assert report["network"] == {"make": "network", "units": 5}
    assert report["seconds"] >= 0 and report["device"].startswith("cpu")


def test_load_changes_no_arguments():
    for module in (common, cifar):
        args = argparse.Namespace(smoke=True, epochs=None, seeds=3, dataset="cifar10")
        before = vars(args).copy()
        module.load(args)
        assert vars(args) == before


def test_follow(recipe, data, tmp_path):
    """Its logs are complete, and those of an interrupted training are equal."""
    _, rows = trained(recipe, data, tmp_path / "one", [Follow(*data)])
    log = followed(rows)
    assert len(log["log_alpha"]) == EPOCHS
    for name in PREDICTORS:
        assert all(0 <= x <= 100 for x in log[f"{name}_accuracy"])
        assert all(0 < x < 10 for x in log[f"{name}_nll"])
    assert log["sample_nll"] != log["ensemble_nll"] != log["mean_nll"]

    work = tmp_path / "two"
    with pytest.raises(Killed):
        training.train(recipe, data, work, callbacks=[Follow(*data), Fault(2)])
    _, resumed = trained(recipe, data, work, [Follow(*data)])
    assert resumed == rows
