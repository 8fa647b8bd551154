"""The variables of a variance layer in a file: each under its name."""

import itertools
import re

import keras

# Of what only a layer with a prior has. A file and a layer may differ in it.
OPTIONAL = ("kl_weight", "prior_")


def save(layer, store):
    """Write a layer's own variables to a store, a mapping of names to arrays."""
    for name, variable in _variables(layer).items():
        store[name] = variable


def load(layer, store):
    """Assign the arrays of a store to the layer's variables of the same names.

    Those of a prior may be missing on either side; the layer's keep their values then.

    Returns:
        The names of those that are missing in the store.

    Raises:
        ValueError: If names or shapes differ. Nothing is assigned then.
    """
    variables = _variables(layer)
    names = list(store.keys())  # a store of Keras has no iterator
    arrays = {name: store[name] for name in names}
    if "0" in arrays:
        arrays = _from_positions(arrays, list(variables))
    found, expected = _shapes(arrays), _shapes(variables)
    both = found.keys() & expected.keys()
    needed = {x for x in found.keys() ^ expected.keys() if not x.startswith(OPTIONAL)}
    if needed or any(found[name] != expected[name] for name in both):
        state = "" if layer.built else ", which is not built,"
        raise ValueError(
            f"Layer '{layer.name}'{state} must have the variables that are loaded; "
            f"it has {_text(expected)}. Received: variables={_text(found)}"
        )
    for name in both:
        variables[name].assign(arrays[name])
    return expected.keys() - both


def _variables(layer):
    """{name: variable} of the layer's own weights, in Keras's order."""
    positions, named = {}, {}
    keras.Layer.save_own_variables(layer, positions)
    weights = set(map(id, layer.weights))
    for variable in positions.values():
        if id(variable) not in weights:
            continue
        # Keras numbers the variables without a name, over all layers of a process
        name = re.sub(r"^variable_\d+$", "variable", variable.name)
        names = (f"{name}_{k}" if k else name for k in itertools.count())
        named[next(each for each in names if each not in named)] = variable
    return named


def _from_positions(arrays, names):
    """Names for arrays that have positions: in files of stock layers, and in those
    that variance layers wrote at first. A file with a prior has a scalar more."""
    names = [name for name in names if not name.startswith("prior_")]  # none has these
    arrays = [arrays[key] for key in sorted(arrays, key=int)]
    scalars = [k for k, array in enumerate(arrays) if array.ndim == 0]
    more = len(arrays) - len(names)
    if more == 1 and scalars and "kl_weight" not in names:
        names.insert(scalars[-1], "kl_weight")
    elif more == -1 and "kl_weight" in names:
        names.remove("kl_weight")
    if len(names) != len(arrays):
        names = map(str, range(len(arrays)))
    return dict(zip(names, arrays, strict=True))


def _shapes(arrays):
    """{name: shape}, which says of a mask that it is one."""
    shapes = {name: str(tuple(array.shape)) for name, array in arrays.items()}
    masks = [name for name, array in arrays.items() if array.dtype == "bool"]
    return {**shapes, **{name: f"{shapes[name]} of bool" for name in masks}}


def _text(shapes):
    named = [f"{name} {shape}" for name, shape in sorted(shapes.items())]
    return ", ".join(named) or "none"
