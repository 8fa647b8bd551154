"""What the package takes for granted of Keras's private names, one by one."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_variance
from keras_variance import _keras
from tests import backends

layers = keras.layers


@pytest.fixture
def model():
    """A nested Sequential model, called twice, and operators."""
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), layers.Dropout(0.5)], name="inner"
    )
    x = keras.Input((4,), name="x")
    h = inner(inner(x, training=False))
    return keras.Model(x, ops.relu(h) + x)


def operation(function, inputs=1):
    """The operation that a function of symbolic tensors makes."""
    output = function(*(keras.Input((4,)) for _ in range(inputs)))
    return output._keras_history.operation


def test_operators():
    for function, kind, inputs in (
        (lambda x, y: x + y, _keras.Add, 2),
        (lambda x, y: x - y, _keras.Subtract, 2),
        (lambda x, y: x * y, _keras.Multiply, 2),
        (lambda x, y: x / y, _keras.TrueDivide, 2),
        (ops.divide, _keras.Divide, 2),
        (lambda *xs: ops.concatenate(xs), _keras.Concatenate, 2),
        (lambda x: -x, _keras.Negative, 1),
        (lambda x: x[:, 1:], _keras.GetItem, 1),
        (lambda x: ops.mean(x, axis=1), _keras.Mean, 1),
        (lambda x: ops.sum(x, axis=1), _keras.Sum, 1),
        (lambda x: ops.reshape(x, (-1, 2)), _keras.Reshape, 1),
        (lambda x: ops.expand_dims(x, 1), _keras.ExpandDims, 1),
        (lambda x: ops.squeeze(x[:, :1], 1), _keras.Squeeze, 1),
        (ops.transpose, _keras.Transpose, 1),
        (ops.exp, _keras.Exp, 1),
        (ops.tanh, _keras.Tanh, 1),
        (ops.maximum, _keras.Maximum, 2),
        (ops.minimum, _keras.Minimum, 2),
        (lambda x, y: ops.einsum("bi,bj->bij", x, y), _keras.Einsum, 2),
        (lambda x, y: x[:, None] @ y[:, :, None], _keras.Matmul, 2),
        (
            lambda *xs: ops.dot_product_attention(*(x[:, None, None] for x in xs)),
            _keras.DotProductAttention,
            3,
        ),
        (ops.relu, _keras.Relu, 1),
        (ops.sigmoid, _keras.Sigmoid, 1),
        (ops.softmax, _keras.Softmax, 1),
        (keras.activations.softmax, _keras.Softmax, 1),
    ):
        assert type(operation(function, inputs)) is kind
    assert operation(lambda x: ops.softmax(x, axis=1)).axis == 1


class WithLoss(_keras.OwnLosses, layers.Dense):
    def own_loss(self):
        return ops.sum(self.bias) + 2.0


def test_own_losses():
    """Asked when losses are read, once for a layer, beside all others."""
    layer = WithLoss(4, kernel_regularizer="l2", activity_regularizer="l2")
    x = keras.Input((3, 4))
    model = keras.Model(x, layers.TimeDistributed(layer)(layer(x)))
    model(np.ones((2, 3, 4)))
    assert model.losses.count(2.0) == 1
    assert len(model.losses) > 2
    layer.trainable = False
    assert [float(each) for each in layer.losses].count(2.0) == 1
    assert _keras.OwnLosses().own_loss() is None


def test_builds_inner():
    """A layer without `build`, in the precision in which it is called."""

    class Own(layers.Layer):
        def __init__(self):
            super().__init__(dtype="mixed_bfloat16")
            self.dense = layers.Dense(4, dtype="mixed_bfloat16")

        def call(self, inputs, other):
            return self.dense(inputs) + other

    class Wrapper(_keras.BuildsInner, layers.Wrapper):
        def build(self):
            assert self.layer.dense.built

        def call(self, inputs, other):
            return self.layer(inputs, other)

    wrapper = Wrapper(Own(), dtype="float32", autocast=False)
    x = np.ones((2, 4), "float32")
    assert backends.dtype(wrapper(x, x)) == "bfloat16"


@pytest.fixture
def scope():
    """A variable with another value in a scope."""
    variable = keras.Variable([1.0, 2.0])
    value = ops.convert_to_tensor([5.0, 6.0])
    return variable, _keras.Substitution([variable], [value])


def test_substitution(scope):
    """Alone: updates are made at once, losses are kept."""
    variable, substitution = scope
    other, unread = keras.Variable([1.0]), keras.Variable([1.0])
    layer = layers.Layer()
    with substitution:
        np.testing.assert_array_equal(variable + 0, [5.0, 6.0])
        other.assign(other + 1)
        np.testing.assert_array_equal(other + 0, [2.0])
        layer.add_loss(ops.sum(variable))
    np.testing.assert_array_equal(variable + 0, [1.0, 2.0])
    np.testing.assert_array_equal(other + 0, [2.0])
    assert [float(loss) for loss in substitution.own_losses] == [11.0]
    assert {id(variable), id(other)} <= substitution.read
    assert id(unread) not in substitution.read


def test_substitution_in_a_scope(scope):
    """What holds outside holds inside, and what is done there is seen outside."""
    variable, substitution = scope
    other, layer = keras.Variable([1.0]), layers.Layer()
    three = ops.convert_to_tensor([3.0])
    with keras.StatelessScope([(other, three)], collect_losses=True) as outer:
        with substitution:
            np.testing.assert_array_equal(variable + other, [8.0, 9.0])
            other.assign(other + 1)
            layer.add_loss(ops.sum(variable))
        np.testing.assert_array_equal(other + 0, [4.0])
        np.testing.assert_array_equal(variable + 0, [1.0, 2.0])
        assert [float(loss) for loss in layer.losses] == [11.0]
    assert len(outer.losses) == 1 and len(substitution.own_losses) == 0
    np.testing.assert_array_equal(other + 0, [1.0])


def test_substitution_of_what_is_assigned(scope):
    variable, substitution = scope
    match = r"is drawn.*Received: value="
    with substitution, pytest.raises(ValueError, match=match):
        variable.assign([0.0, 0.0])


def test_made_trainable():
    """Of the layer alone, frozen or not."""
    layer = layers.BatchNormalization()
    layer.build((None, 4))
    layer.trainable = False
    names = [variable.name for variable in _keras.made_trainable(layer)]
    assert names == ["gamma", "beta"] and layer.trainable_weights == []
    assert _keras.made_trainable(layers.TimeDistributed(layer)) == []


def test_is_functional(model):
    class Other(keras.Model):
        def call(self, inputs):
            return 2 * super().call(inputs)

    x = keras.Input((4,))
    assert _keras.is_functional(model)
    assert _keras.is_functional(keras.Sequential([layers.Dense(2)]))
    assert not _keras.is_functional(Other(x, layers.Dense(2)(x)))
    assert not _keras.is_functional(layers.Dense(2))
    assert not _keras.is_functional("model")


def test_functional(model):
    assert isinstance(model, _keras.Functional)
    assert not isinstance(keras.Sequential(), _keras.Functional)


def test_graph(model):
    assert _keras.graph(model) is model
    inner = model.get_layer("inner")
    graph = _keras.graph(inner)
    assert isinstance(graph, _keras.Functional)
    assert [x.shape for x in graph.inputs] == [(None, 4)]
    assert _keras.graph(keras.Sequential([layers.Dense(2)])) is None


def test_nodes(model):
    """In an order in which they can be run, with all that they were called with."""
    x = np.arange(8.0, dtype="float32").reshape(2, 4)
    values = {id(model.inputs[0]): ops.convert_to_tensor(x)}
    names = []
    for node in _keras.nodes(model):
        args, kwargs = node.arguments.fill_in(values)
        names.append(node.operation.name)
        values[id(node.outputs[0])] = node.operation(*args, **kwargs)
        if len(names) == 1:
            assert kwargs["training"] is False
    assert names[:2] == ["inner", "inner"] and len(names) == 4
    np.testing.assert_allclose(values[id(model.outputs[0])], model(x), rtol=1e-6)


def test_node_of(model):
    node = _keras.node_of(model.outputs[0])
    assert type(node.operation) is _keras.Add
    assert any(x is model.inputs[0] for x in node.input_tensors)
    assert _keras.node_of(model.inputs[0]) is None


def test_input_config():
    """The layer's, which is not the tensor's where neither was given one."""
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(x))
    expected = {"name": model.layers[0].name, "optional": False}
    assert _keras.input_config(x) == expected and x.name != expected["name"]
    named = keras.Input((4,), name="x", optional=True)
    assert _keras.input_config(named) == {"name": "x", "optional": True}


def test_clone():
    """Of a Python function too, which Keras refuses to load from files."""
    layer = _keras.clone(layers.Lambda(lambda x: 2 * x, name="twice"))
    assert layer.name == "twice" and float(layer(ops.ones(()))) == 2
    assert _keras.clone(layers.Dense(2), name="other").name == "other"


def test_accepted():
    given = {"training": True, "mask": None, "other": 1}
    assert _keras.accepted(layers.Dropout(0.5), given) == {"training": True}
    # What a layer's call does not take, Keras takes for it
    layers.Flatten()(ops.ones((1, 2)), **_keras.accepted(layers.Flatten(), given))
    assert _keras.accepted(operation(ops.relu), given) == {}
    assert _keras.accepted(layers.Dropout(0.5), {"training": None}) == {}


def test_standardized():
    """In order, with the dtypes and the ranks of the model's inputs."""
    a, b = keras.Input((1,), name="a"), keras.Input((2,), name="b", dtype="int32")
    model = keras.Model({"b": b, "a": a}, a)
    first, second = _keras.standardized(
        model, {"b": np.ones((3, 2), "int64"), "a": np.ones(3)}
    )
    assert (first.shape, second.shape) == ((3, 1), (3, 2))
    assert backends.dtype(first) == "float32" and backends.dtype(second) == "int32"


def test_masks():
    x = ops.ones((2, 3))
    assert _keras.get_mask(x) is None
    assert _keras.set_mask(x) is x and _keras.get_mask(x) is None
    mask = ops.ones((2,), "bool")
    assert _keras.set_mask(x, mask) is x
    assert _keras.get_mask(x) is mask
    assert _keras.get_mask({"a": x, "b": ops.ones(2)})["a"] is mask
    # It is what Keras itself reads
    tokens = layers.Embedding(3, 2, mask_zero=True)(np.array([[1, 0]]))
    np.testing.assert_array_equal(_keras.get_mask(tokens), [[True, False]])
    pooled = layers.GlobalAveragePooling1D()(
        _keras.set_mask(ops.convert_to_tensor([[[1.0], [3.0]]]), [[True, False]])
    )
    np.testing.assert_array_equal(pooled, [[1.0]])


def test_sublayers(model):
    """Those directly inside, in order, of models and of other layers."""
    inner = model.get_layer("inner")
    assert inner in _keras.sublayers(model)
    names = [type(each).__name__ for each in _keras.sublayers(inner)]
    assert names[-2:] == ["Dense", "Dropout"]
    dense = layers.Dense(2)
    assert [*_keras.sublayers(layers.TimeDistributed(dense))] == [dense]
    assert [*_keras.sublayers(dense)] == []


def test_seed_generators(model):
    """Of nested layers too, each once."""
    dropout = model.get_layer("inner").layers[-1]
    assert _keras.seed_generators(model) == [dropout.seed_generator]
    assert _keras.seed_generators(layers.Dense(2)) == []


def test_obeyed():
    """Dropout without a seed repeats its noise with its generator's state in there."""
    dropout, x = layers.Dropout(0.5), np.ones((4, 50), "float32")
    generator = dropout.seed_generator
    assert generator._initial_seed is None
    start = np.array(generator.state)

    def drop():
        generator.state.assign(start)
        return keras.ops.convert_to_numpy(dropout(x, training=True))

    with _keras.obeyed([generator]):
        np.testing.assert_array_equal(drop(), drop())
    assert generator._initial_seed is None


def test_output_spec():
    """Of a subclassed model inside of `predict`, where its variables have no value but
    in a scope."""

    class Doubled(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return 2 * self.dense(inputs)

    class Asking(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, inputs):
            spec = keras.KerasTensor(inputs.shape, inputs.dtype)
            assert _keras.output_spec(self.inner, spec).shape[1:] == (3,)
            return self.inner(inputs)

    x = np.ones((2, 4), "float32")
    inner = Doubled()
    inner(x)
    assert Asking(inner).predict(x, verbose=0).shape == (2, 3)


def test_trace():
    """Errors as they are, and nothing left behind."""

    def fail(x):
        raise ValueError(f"Received: shape={tuple(x.shape)}")

    x, layer = keras.Input((4,)), layers.Dense(2)
    with pytest.raises(ValueError, match=r"^Received: shape="):
        _keras.trace(fail, x)
    layer.build((None, 4))
    assert tuple(_keras.trace(layer, x).shape) == (None, 2)
    assert len(layer._inbound_nodes) == 0


def test_traced():
    """The calls inside of a layer, which keep no nodes; None for one that assigns."""

    class Twice(layers.Layer):
        def __init__(self, assigns):
            super().__init__()
            self.dense, self.assigns = layers.Dense(4), assigns

        def build(self, shape):
            self.dense.build(shape)
            self.count = self.add_weight(shape=(), initializer="zeros")

        def call(self, inputs):
            if self.assigns:
                self.count.assign_add(1.0)
            return self.dense(self.dense(inputs)) + self.count

    for assigns in False, True:
        x, layer = keras.Input((4,)), Twice(assigns)
        layer.build((None, 4))
        graph = _keras.traced(layer, [x], (x,), {})
        assert (graph is None) == assigns
        assert float(layer.count) == 0
        assert layer.dense._inbound_nodes == layer.dense._outbound_nodes == []
        if graph is not None:
            found = [node.operation for node in _keras.nodes(graph)]
            assert found[:2] == [layer.dense, layer.dense]
            assert isinstance(found[2], _keras.Add)


def test_unlock_and_lock():
    layer = layers.Dense(2)
    layer.build((None, 4))
    with pytest.raises(ValueError, match="cannot add"):
        layer.add_weight(shape=(1,))
    _keras.unlock(layer)
    layer.add_weight(shape=(1,), name="more")
    _keras.lock(layer)
    assert layer.weights[-1].name == "more"
    with pytest.raises(ValueError, match="cannot add"):
        layer.add_weight(shape=(1,))


def test_constant():
    """The variable, as what was traced sees later values; on JAX its value."""
    variable = keras.Variable([1.0, 2.0])
    if backends.BACKEND == "jax":
        assert isinstance(_keras.constant(variable), np.ndarray)
        return
    assert _keras.constant(variable) is variable
    read = backends.compiled(lambda: _keras.constant(variable) * 1)
    read()
    variable.assign([3.0, 4.0])
    np.testing.assert_array_equal(read(), [3.0, 4.0])


def test_autograph():
    """AutoGraph, which Keras traces with, warns users of what it cannot transform:
    assignments in expressions."""
    for path in Path(keras_variance.__file__).parent.rglob("*.py"):
        if "shrinking" in path.parts:  # never traced
            continue
        tree = ast.parse(path.read_text())
        found = [x.lineno for x in ast.walk(tree) if isinstance(x, ast.NamedExpr)]
        assert not found, f"{path}: {found}"
