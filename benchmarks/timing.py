"""What the benchmarks share: functions compiled on any backend, timed in turn.

`KERAS_BACKEND` chooses the backend. XLA compiles on JAX, and where a GPU is visible on
TensorFlow; PyTorch runs without compilation, as Keras's default is there.
"""

import time

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()


def environment():
    """Versions, backend and device, in a line."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        version, devices = tf.__version__, tf.config.list_physical_devices()
        device = devices[-1].device_type
    elif BACKEND == "jax":
        import jax

        version, device = jax.__version__, jax.devices()[0].device_kind
    else:
        import torch

        version, device = torch.__version__, ops.zeros(()).device
    return f"Keras {keras.__version__}, {BACKEND} {version}, {device}"


def compiled(model, calls=1):
    """A function of images that runs the model `calls` times, as in inference."""
    run = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[BACKEND](model)

    def function(x):
        for _ in range(calls):
            outputs = run(x)
        return ops.convert_to_numpy(outputs)

    return function


def _tensorflow(model):
    import tensorflow as tf

    xla = bool(tf.config.list_physical_devices("GPU"))
    return tf.function(lambda x: model(x, training=False), jit_compile=xla)


def _jax(model):
    import jax

    @jax.jit
    def step(weights, state, x):
        return model.stateless_call(weights, state, x, training=False)

    weights = [each.value for each in model.trainable_variables]
    state = [each.value for each in model.non_trainable_variables]

    def run(x):
        nonlocal state
        outputs, state = step(weights, state, x)
        return outputs

    return run


def _torch(model):
    import torch

    def run(x):
        with torch.no_grad():
            return model(x, training=False)

    return run


def measure(functions, repeats, *args):
    """Median seconds of each function, all timed in turn."""
    times = {name: [] for name in functions}
    for repeat in range(repeats + 3):
        for name, function in functions.items():
            start = time.perf_counter()
            function(*args)
            if repeat >= 3:
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def report(title, functions, repeats, *args):
    """Print what `measure` returns, and the ratios to the first."""
    times = measure(functions, repeats, *args)
    first, *_ = times.values()
    print(f"\n{title}")
    for name, seconds in times.items():
        print(f"  {name:<42}{1e3 * seconds:8.2f} ms {seconds / first:6.2f} ×")
