"""Export an ensemble for TF Serving, and query it in a process without Keras.

    python -m examples.serve                          # trains on digits, offline
    python -m examples.serve --model model.keras --rows rows.npz

Writes `models/digits/<version>/`, a SavedModel with warm-up requests, and
`models.config` for `tensorflow_model_server --model_config_file`.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

import keras_variance as kv
from examples import quickstart
from examples.data import load_data

QUERY = Path(__file__).with_name("query.py")


def digits(epochs):
    """A model trained on digits, and 32 rows of test data."""
    keras.utils.set_random_seed(0)
    data, (x, y) = load_data("digits")
    layer = kv.VarianceDense(500, use_bias=False)
    model = quickstart.build_model(x.shape[1:], layer)
    quickstart.train(model, data, (x, y), epochs, batch_size=50)
    return model, {model.inputs[0].name: x[:32]}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a .keras file of logits")
    parser.add_argument("--rows", type=Path, help=".npz, an array for each input")
    parser.add_argument("--epochs", type=int, default=10, help="on digits")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--frozen", action="store_true", help="fixed weight samples")
    parser.add_argument("--output", type=Path, default=Path("models"))
    args = parser.parse_args(arguments)
    if (args.model is None) != (args.rows is None):
        parser.error("--model and --rows go together")

    if args.model:
        model, rows = keras.models.load_model(args.model), dict(np.load(args.rows))
    else:
        model, rows = digits(args.epochs)
    name = args.model.stem if args.model else "digits"
    names = [each.name for each in keras.tree.flatten(model.inputs)]
    folder = kv.export(
        model,
        args.output / name,
        args.samples,
        frozen=args.frozen,
        warmup=[rows[each] for each in names],
    )
    config = args.output / "models.config"
    kv.serving.write_models_config(config, {name: f"/models/{name}"})
    print(f"Exported: {folder}; configuration: {config}", flush=True)

    path = folder.parent / f".rows-{folder.name}.npz"
    np.savez(path, **rows)
    command = [sys.executable, str(QUERY), str(folder), str(path)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, check=True, env=quiet)
    path.unlink()
    return folder


if __name__ == "__main__":
    main()
