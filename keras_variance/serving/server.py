"""What TF Serving reads beside a SavedModel: warm-up requests, a configuration."""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from numpy.typing import ArrayLike

from keras_variance import checks
from keras_variance.serving.versions import local_path

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
# The endpoint that takes a seed.
SEEDED = "serving_seeded"
POLICIES = {"latest": "latest { num_versions: 1 }", "all": "all {}"}


def write_warmup(
    folder: str | PathLike,
    signatures: Sequence[str],
    inputs: Mapping[str, ArrayLike],
    seed: int = 0,
) -> None:
    """Write requests that a server runs when it loads a version.

    Args:
        folder: Of the version.
        signatures: Names of the endpoints, one request each.
        inputs: {name: array} for each input.
        seed: Integer, the seed of `serving_seeded`.

    Raises:
        ValueError: For arguments that are none of these. No file is written then.
        ImportError: If TensorFlow or TensorFlow Serving's protocol is not installed.

    Reference: https://www.tensorflow.org/tfx/serving/saved_model_warmup
    """
    checks.names("signatures", signatures)
    named = isinstance(inputs, dict) and inputs
    known = named and all(
        isinstance(x, str) and hasattr(inputs[x], "shape") for x in inputs
    )
    checks.require(known, "inputs", "a dict of names and arrays", inputs)
    seed = checks.fixed_seed(seed)
    predict_pb2, prediction_log_pb2 = protos()
    import tensorflow as tf

    path = checks.path("folder", folder) / WARMUP
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature
            for name, array in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            if signature == SEEDED:
                proto = tf.make_tensor_proto(seed, dtype=tf.int64)
                request.inputs["seed"].CopyFrom(proto)
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())


def protos():
    """The modules `predict_pb2` and `prediction_log_pb2` of TF Serving.

    Raises:
        ImportError: If they are not installed.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "Warm-up requests need `pip install keras_variance[serving]`"
        ) from error
    return predict_pb2, prediction_log_pb2


def write_models_config(
    path: str | PathLike, models: dict, versions: str | Sequence[int] = "latest"
) -> None:
    """Write a configuration file of TF Serving, for `--model_config_file`.

    Args:
        path: The file, which is replaced as a whole or, if that fails, not at all.
        models: {name: folder of versions}, folders as the server sees them.
        versions: `"latest"`, `"all"`, or a list of integers ≥ 1: which to serve.

    Raises:
        ValueError: If there is no model, `versions` is none of these, or `path` is not
            a local path.
        OSError: If the file can't be written.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "models.config"
    >>> write_models_config(path, {"digits": "/models/digits"}, versions="all")
    >>> print(path.read_text())
    model_config_list {
      config {
        name: "digits"
        base_path: "/models/digits"
        model_platform: "tensorflow"
        model_version_policy { all {} }
      }
    }
    <BLANKLINE>

    Reference: https://www.tensorflow.org/tfx/serving/serving_config
    """
    known = isinstance(models, dict) and models
    known = known and all(
        isinstance(name, str) and isinstance(folder, str | os.PathLike)
        for name, folder in models.items()
    )
    checks.require(known, "models", "a dict of names and folders, one at least", models)
    path, policy = local_path(path), _policy(versions)
    lines = ["model_config_list {"]
    for name, folder in models.items():
        lines += [
            "  config {",
            f"    name: {json.dumps(str(name))}",
            f"    base_path: {json.dumps(str(folder))}",
            '    model_platform: "tensorflow"',
            f"    model_version_policy {{ {policy} }}",
            "  }",
        ]
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        temporary.write_text("\n".join([*lines, "}", ""]), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _policy(versions):
    if isinstance(versions, str) and versions in POLICIES:
        return POLICIES[versions]
    several = isinstance(versions, list | tuple) and versions
    expected = "'latest', 'all' or a list of integers ≥ 1"
    checks.require(several, "versions", expected, versions)
    numbers = [
        checks.integer(f"versions[{k}]", each, minimum=1)
        for k, each in enumerate(versions)
    ]
    return f"specific {{ {' '.join(f'versions: {each}' for each in numbers)} }}"
