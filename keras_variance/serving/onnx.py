"""ONNX files of models without noise, each compared with its model."""

import contextlib
import functools
import warnings

import keras
import numpy as np

# Of an answer, and of its largest entry: single precision in another order
TOLERANCE = 1e-4
# Of the comparison: files are traced with one, and must take any number
ROWS = (1, 3)


def packages():
    """The modules `onnx` and `onnxruntime`.

    Raises:
        ImportError: If one of the packages is not installed.
    """
    try:
        import onnx
        import onnxruntime

        if keras.backend.backend() == "tensorflow":
            _register_erfc()
    except ImportError as error:
        raise ImportError(
            "ONNX files need `pip install keras_variance[onnx]`"
        ) from error
    return onnx, onnxruntime


def write(path, model, interface):
    """Write the statistics that a model answers as an ONNX file, by name.

    Args:
        path: The file.
        model: A Keras model without noise that returns what `interface` names.
        interface: The `Interface` of the model that it was made of.

    Raises:
        ValueError: If an input has the name of an output, or the file does not answer
            as the model does.
    """
    batches = [_rows(interface, number) for number in ROWS]
    expected = [_answers(model, interface, rows) for rows in batches]
    names = [*expected[0]]
    same = {*names} & {spec.name for spec in interface.specs}
    if same:
        raise ValueError(
            f"Argument `model` must have inputs with other names than {sorted(same)}, "
            f"which are those of outputs in an ONNX file. Received: model={model}"
        )
    answers = Answers(model, interface)
    answers(list(batches[0].values()))  # builds it
    options = {"input_signature": [interface.specs], "verbose": False}
    try:
        with warnings.catch_warnings(), _without_gradients(answers):
            # That tracing may fix what should not be: the comparison would show it
            warnings.simplefilter("ignore")
            answers.export(str(path), format="onnx", **options)
        _name_outputs(path, names)
        _compare(path, batches, expected)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"Argument `model` can't be written as ONNX: {error}. "
            f"Received: model={model}"
        ) from error


class Answers(keras.Model):
    """The statistics that a server answers, in a list, of a list of inputs."""

    def __init__(self, model, interface):
        super().__init__(name=model.name)
        self.model = model
        self.interface = interface

    def call(self, inputs):
        outputs = self.model(self.interface.pack(inputs))
        return list(self.interface.statistics(outputs).values())


@contextlib.contextmanager
def _without_gradients(model):
    """Let PyTorch trace variables as constants. Keras tells it of one for each name,
    and layers of the members of an ensemble, or of nested models, have the same."""
    values = [each.value for each in model.variables]
    values = [x for x in values if getattr(x, "requires_grad", False)]
    for x in values:
        x.requires_grad_(False)
    try:
        yield
    finally:
        for x in values:
            x.requires_grad_(True)


def _answers(model, interface, rows):
    outputs = interface.statistics(model(interface.pack(list(rows.values()))))
    return {name: keras.ops.convert_to_numpy(x) for name, x in outputs.items()}


def _rows(interface, number):
    """Zeros and ones, which any input takes, in no order: {name: array}."""
    rng = np.random.default_rng(0)

    def rows(spec):
        shape = (number, *(size or 1 for size in spec.shape[1:]))
        return rng.integers(0, 2, shape).astype(spec.dtype)

    return {spec.name: rows(spec) for spec in interface.specs}


def _name_outputs(path, names):
    """Give the outputs of a file their names, and each the same axis of rows."""
    onnx, _ = packages()
    file = onnx.load(path)
    graph = file.graph
    outputs = [*graph.output]
    del graph.output[:]
    for name, value in zip(names, outputs, strict=True):
        graph.node.append(onnx.helper.make_node("Identity", [value.name], [name]))
        value.name = name
        graph.output.append(value)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.checker.check_model(file)
    onnx.save(file, path)


def _compare(path, batches, expected):
    """Raise unless onnxruntime answers as the model did."""
    _, onnxruntime = packages()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows, answers in zip(batches, expected, strict=True):
        written = session.run([*answers], rows)
        for (name, x), y in zip(answers.items(), written, strict=True):
            error = np.max(np.abs(x - y)) if x.shape == y.shape else np.inf
            if not error <= TOLERANCE * max(1, np.max(np.abs(x))):
                raise ValueError(
                    f"'{name}' of {len(x)} rows is wrong by {error:.2g} in {path.name}"
                )


@functools.cache
def _register_erfc():
    """Teach tf2onnx the erfc of TensorFlow's GELU, which it lacks."""
    from tf2onnx import handler, utils

    @handler.tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, graph, node, **kwargs):
            inputs, outputs = node.input, node.output
            types = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
            one = np.ones((), utils.map_onnx_to_numpy_type(node.output_dtypes[0]))
            one = graph.make_const(utils.make_name("one"), one)
            graph.remove_node(node.name)
            erf = graph.make_node("Erf", inputs, **types)
            pair = [one.output[0], erf.output[0]]
            graph.make_node("Sub", pair, outputs=outputs, **types)
