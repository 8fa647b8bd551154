import os
import resource
import sys

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import keras_variance as kv

MODELS = {"digits": "/models/digits", 'a "b"': "C:\\\\models"}


@pytest.mark.parametrize("versions", ["latest", "all", [3, 7]])
def test_models_config(versions, tmp_path):
    """As the server parses it."""
    path = tmp_path / "models.config"
    kv.serving.write_models_config(path, MODELS, versions)
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(path.read_text(), config)
    parsed = config.model_config_list.config
    assert {each.name: each.base_path for each in parsed} == MODELS
    for each in parsed:
        assert each.model_platform == "tensorflow"
        policy = each.model_version_policy
        kind = policy.WhichOneof("policy_choice")
        assert kind == (versions if isinstance(versions, str) else "specific")
        assert [*policy.specific.versions] == (versions if kind == "specific" else [])


@pytest.mark.parametrize(
    "models, versions, message",
    [
        ({}, "all", r"`models`.*Received: models={}"),
        (MODELS, "some", r"`versions`.*Received: versions='some'"),
        (MODELS, [], r"`versions`.*Received: versions=\[\]"),
        (MODELS, ["1"], r"`versions\[0\]`.*Received: versions\[0\]='1'"),
        (MODELS, [True], r"`versions\[0\]`.*Received: versions\[0\]=True"),
        (MODELS, [-1], r"`versions\[0\]`.*Received: versions\[0\]=-1"),
    ],
)
def test_bad_config(models, versions, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        kv.serving.write_models_config(tmp_path / "c", models, versions)
    assert not any(tmp_path.iterdir())


def test_a_full_disk_leaves_the_file(tmp_path):
    """As far as a limit on the size of files is one."""
    path = tmp_path / "models.config"
    kv.serving.write_models_config(path, MODELS)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            kv.serving.write_models_config(path, MODELS, "all")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["models.config"]


def test_warm_up_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ImportError, match=r"pip install keras_variance\[serving\]"):
        kv.serving.write_warmup(tmp_path, ["serving_default"], {"x": np.ones(1)})
    assert not any(tmp_path.iterdir())
