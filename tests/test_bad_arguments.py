"""Bad arguments of everything public: a ValueError that names the argument and ends
with what it got; nothing changed, no file left.

What is public are the `__all__` lists. Each callable has a row in `ROWS`, and each of
its arguments bad values: in the row, or else in `BAD`, by its name.
"""

import functools
import inspect
import math
import types
from collections.abc import Callable
from operator import attrgetter

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.transforms.moments.rules import RULES
from tests.backends import tensorflow_only

NAN, INF, HUGE = math.nan, math.inf, 10**400
X, Y = np.ones((6, 4), "float32"), np.arange(6) % 3


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.layer = kv.VarianceDense(3)

    def call(self, inputs):
        return self.layer(inputs)


# Models are made for each test, when it asks for them
@functools.cache
def model():
    layers = [
        kv.VarianceDense(5, posterior="additive", prior="ard", train_size=6, name="a"),
        keras.layers.Dense(3, "softmax", name="b"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@functools.cache
def members():
    return [model(), plain()]


@functools.cache
def plain():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])


@functools.cache
def unbuilt():
    return keras.Sequential([kv.VarianceDense(3, activation="softmax")])


@functools.cache
def subclassed():
    return Subclassed()


@functools.cache
def layer():
    return model().layers[0]


@functools.cache
def stock_layer():
    return keras.layers.Dense(3)


@functools.cache
def unbuilt_layer():
    return kv.VarianceDense(3)


@functools.cache
def biased():
    """As sure of the first class of three as 4 of 6 labels are, more or less."""
    layer = kv.VarianceDense(
        3,
        "softmax",
        posterior=kv.posteriors.Additive(-10.0),
        kernel_initializer="zeros",
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.bias.assign([1.0, 0.0, 0.0])
    return model


MAKE = (model, members, plain, unbuilt, subclassed, layer, stock_layer)
MAKE += (unbuilt_layer, biased)


def made(value):
    return value() if any(value is make for make in MAKE) else value


# What is no number, no integer, no integer ≥ 1, …
NUMBERS = [None, "1", NAN, INF, HUGE, 1e300, True, 1j, [1], np.ones(2), np.True_]
INTEGERS = [*NUMBERS, 2.5, 2.0, np.float32(2), "", {}]
COUNTS = [*INTEGERS, 0, -1, np.int64(0)]
POSITIVE = [*NUMBERS, 0, -1, np.float32(-1)]
NOT_NEGATIVE = [*NUMBERS, -1, -1e-9]
SHARES = [*NOT_NEGATIVE, 1, 98]
LOGS = [*NUMBERS, 88, 1e4]
SEEDS = [x for x in INTEGERS if x is not None] + [-1, 2**31, 2**63, -(2**64)]
FLAGS = [None, "yes", "", 1, 0.0, [True], np.ones(2), NAN]
NAMES = ["nope", "", 3, True, ["scale"], NAN, X, {}, print]
MEMBERS = [*NAMES, kv.VarianceDense, {"a": 1}, kv.metrics.BrierScore]
LISTS = [None, "sample", ["nope"], ["sample", 1], [], (), 3, [[1]], NAN, X]
LAYERS = ["nope", ["nope"], ["a", "nope"], [], [None], 3, NAN, X, stock_layer]

NO_MODELS = [None, "model", 3, NAN, X, [], [1], print, keras.Sequential, stock_layer]
NO_LAYERS = NO_MODELS[:-1]
GRAPHS = [*NO_MODELS, unbuilt, subclassed]
VARIANCE = [*NO_MODELS, plain, layer]
BUILT = [*VARIANCE, unbuilt]
RANDOM = [*NO_MODELS, plain]

NO_ARRAYS = [3, "x", NAN, [], {}, [1, 2], X[:0], X[0, 0], [X, X[:2]], print, True]
INPUTS = [None, *NO_ARRAYS, X[:, :2], X[0], X[None], [X, X], X.astype(str), {"q": X}]
SHAPES = [None, *NO_ARRAYS, X[:, :2], Y[:3], [Y, Y, Y], Y[None]]
LABELS = [*SHAPES, Y.astype(str), Y + NAN, Y - 1, Y + 1, Y + 0.5, Y + INF]
LIKELIHOODS = [*MEMBERS, ["categorical"] * 2]
PATHS = [None, 3, NAN, [], X, "", b"served"]
WIDE = keras.InputSpec("float32", (None, 5), name="x")
UNNAMED = keras.InputSpec("float32", (None, 4))

VECTORS = [
    None,
    3,
    "x",
    [],
    {},
    [NAN],
    [INF],
    ["a"],
    [[[1.0]]],
    print,
    X[:0],
    [10**400],
]
AXES = [3, "ax", [], X]

BAD = {
    "batch_size": [x for x in COUNTS if x is not None],
    "by": NAMES,
    "chunk_size": COUNTS,
    "dropout": FLAGS,
    "estimator": MEMBERS,
    "fallback_samples": [x for x in COUNTS if x is not None] + [2, 5],
    "from_logits": FLAGS,
    "granularity": NAMES,
    "head": [None, *MEMBERS],
    "identifier": [None, *MEMBERS],
    "initial_log_alpha": LOGS,
    "initial_log_variance": [x for x in LOGS if x is not None],
    "integrate_last": FLAGS,
    "kl_weight": NOT_NEGATIVE,
    "layers": LAYERS,
    "likelihood": LIKELIHOODS,
    "model": BUILT,
    "noise": [None, *MEMBERS],
    "posterior": [None, *MEMBERS],
    "prior": MEMBERS,
    "pruned": FLAGS,
    "return_samples": FLAGS,
    "samples": COUNTS,
    "seed": SEEDS,
    "shared_noise": FLAGS,
    "sparsity": SHARES,
    "statistics": FLAGS,
    "train_size": [x for x in POSITIVE if x is not None],
    "verbose": [None, "yes", 3, -1, NAN, [1], X],
    "x": INPUTS,
    "y": LABELS,
}
# Those of Keras, of Matplotlib, and names
FREE = {"args", "kwargs", "name", "dtype", "activation"}


class Row:
    """How a public callable is called, and what it must refuse.

    Args:
        bad: For arguments of `kwargs`, and where those of `BAD` are not right.
        call: What to call in its place.
        **valid: Arguments with which the call succeeds.
    """

    def __init__(self, bad: dict | None = None, call: Callable | None = None, **valid):
        self.bad, self.call, self.valid = bad or {}, call, valid

    def __repr__(self):
        return "row"


def function(name):
    return ROWS[name].call or attrgetter(name)(kv)


def run(name, **arguments):
    """Call, and go on to where arguments are used."""
    values = {**ROWS[name].valid, **arguments}
    result = function(name)(**{key: made(value) for key, value in values.items()})
    if isinstance(result, keras.callbacks.Callback):
        result.set_model(model())
        result.set_params({"steps": 1})
        result.on_train_begin()


def bad_arguments(name):
    """{argument: bad values} of a callable, by its row, or else its signature."""
    parameters = inspect.signature(function(name)).parameters
    others = [x for x in parameters if x not in FREE and x not in ROWS[name].bad]
    return {**ROWS[name].bad, **{argument: BAD[argument] for argument in others}}


def keep(mask):
    layer().keep(mask)


def kl_divergence(seed):
    layer().kl_divergence(seed)


def moment_rule(operations, rule):
    kv.moments.moment_rule(*operations)(rule)


def held(model):
    with kv.random.held(model):
        pass


def shrink_rule(operations, rule):
    kv.transforms.shrink_rule(*operations)(rule)


def seeded(model, seed):
    with kv.random.seeded(model, seed):
        pass


DATA = {"model": model, "x": X}
PRUNING = {name: BAD[name] for name in ("by", "granularity", "layers")}
ADDED = inspect.signature(kv.VarianceLayer).parameters
LAYER = {name: BAD[name] for name in ADDED if name not in FREE}
DF = [*POSITIVE, 1e-300]
SCALE = POSITIVE[1:]
DRAWN = [*BUILT, subclassed]

CHOICES = [*LAYERS, int, (int, str), print]
REPLACE = Row(
    {**LAYER, "model": GRAPHS, "layers": CHOICES, "strict": FLAGS, "fresh": FLAGS},
    model=plain,
)
ROWS = {
    # Layers
    "VarianceDense": Row(LAYER, units=3),
    "VarianceConv1D": Row(LAYER, filters=3, kernel_size=2),
    "VarianceConv1DTranspose": Row(LAYER, filters=3, kernel_size=2),
    "VarianceConv2D": Row(LAYER, filters=3, kernel_size=2),
    "VarianceConv2DTranspose": Row(LAYER, filters=3, kernel_size=2),
    "VarianceConv3D": Row(LAYER, filters=3, kernel_size=2),
    "VarianceConv3DTranspose": Row(LAYER, filters=3, kernel_size=2),
    "VarianceDepthwiseConv1D": Row(LAYER, kernel_size=2),
    "VarianceDepthwiseConv2D": Row(LAYER, kernel_size=2),
    "VarianceEinsumDense": Row(LAYER, equation="ab,bc->ac", output_shape=3),
    "VarianceEmbedding": Row(
        {**LAYER, "weights": [3, "x", NAN, [], {}, X, [X], print]},
        input_dim=4,
        output_dim=3,
    ),
    "VarianceSeparableConv1D": Row(LAYER, filters=3, kernel_size=2),
    "VarianceSeparableConv2D": Row(LAYER, filters=3, kernel_size=2),
    "VarianceWrapper": Row(
        {
            "layer": [None, "a", 3, X, [], layer, model, keras.layers.Dense],
            "weights": [-1, "", [], ["kernel", -1], "(", NAN, X, {}, True],
        },
        layer=stock_layer,
    ),
    "VarianceLayer.keep": Row(
        {"mask": [None, "no", 3, NAN, [], np.ones((4, 5)), np.ones((5, 4), bool)]},
        keep,
        mask=np.ones(5, bool),
    ),
    "VarianceLayer.kl_divergence": Row(
        {"seed": [x for x in NAMES if x is not None]}, kl_divergence, seed=None
    ),
    # Families
    "estimators.get": Row(identifier="flipout"),
    "likelihoods.get": Row(identifier="bernoulli"),
    "moments.heads.get": Row(identifier="mean_field"),
    "noises.get": Row(identifier="uniform"),
    "posteriors.get": Row(identifier="additive"),
    "priors.get": Row(identifier="ard"),
    "likelihoods.Bernoulli": Row(),
    "likelihoods.Categorical": Row(),
    "likelihoods.Classification": Row(),
    "likelihoods.Gaussian": Row({"scale": SCALE}),
    "likelihoods.Likelihood": Row(),
    "likelihoods.Regression": Row({"scale": SCALE}),
    "likelihoods.StudentT": Row({"df": POSITIVE, "scale": SCALE}, df=3),
    "moments.heads.QuasiMonteCarlo": Row({"points": [*COUNTS, 2, 6]}),
    "posteriors.Additive": Row(),
    "posteriors.LayerAlpha": Row(),
    "posteriors.NeuronAlpha": Row(),
    "posteriors.WeightAlpha": Row(),
    "priors.Normal": Row(
        {"scale": DF, "mean": [*NUMBERS, "prior"], "learnable": FLAGS}
    ),
    "priors.ScaleMixture": Row(
        {
            "scales": [None, 1, "1", NAN, True, [], [1, 0], [1, NAN], ["1"], X],
            "weights": [1, "1", [], [1], [0.5, 0.6], [1, 0], [1.5, -0.5], [NAN, 1], X],
            "method": [None, *NAMES],
        }
    ),
    "priors.StudentT": Row({"df": DF, "scale": DF, "method": [None, *NAMES]}),
    "set_train_size": Row(
        {"model": VARIANCE, "train_size": POSITIVE}, model=model, train_size=6
    ),
    "LearnedScale": Row({"initial_scale": POSITIVE}),
    "layers.layer_paths": Row({"model": NO_LAYERS}, model=model),
    "layers.variance_layers": Row({"model": NO_LAYERS}, model=model),
    # Losses
    "losses.ExpectedGaussianNLL": Row({"scale": SCALE, "reduction": NAMES[:2]}),
    "losses.GaussianNLL": Row(
        {"beta": NOT_NEGATIVE, "scale": SCALE, "reduction": NAMES[:2]}
    ),
    "losses.StudentTNLL": Row(
        {"df": POSITIVE, "scale": SCALE, "reduction": NAMES[:2]}, df=3
    ),
    # Inference
    "elbo": Row({"likelihood": [None, *LIKELIHOODS]}, **DATA, y=Y),
    "layer_statistics": Row(
        {"layer": [None, "a", 3, X, [], model, stock_layer, unbuilt_layer]},
        layer=layer,
    ),
    "log_likelihood": Row({"likelihood": [None, *LIKELIHOODS]}, **DATA, y=Y),
    "mc_predict": Row(**DATA),
    "moment_predict": Row({"model": [*GRAPHS, plain]}, **DATA),
    "evaluate": Row(
        {
            "model": [*GRAPHS, plain],
            "likelihood": [None, *LIKELIHOODS],
            "ood": [x for x in INPUTS if x is not None],
            "calibration": [X, [X], (X, Y, Y), 3, "x"],
            "predictors": LISTS,
        },
        **DATA,
        y=Y,
    ),
    "sparsity_curve": Row(
        {
            **PRUNING,
            "model": DRAWN,
            "likelihood": [None, *LIKELIHOODS],
            "sparsities": [None, 0.5, "0.5", [], ["a"], [0.5, 1], [NAN], [True], model],
        },
        **DATA,
        y=Y,
        sparsities=[0.5],
    ),
    "summary": Row(
        {"print_fn": [3, "print", []], "line_length": [*BAD["batch_size"], 75]},
        model=model,
    ),
    # Callbacks and metrics
    "callbacks.CheckTrainSize": Row(),
    "callbacks.GradualPruning": Row(
        {
            **PRUNING,
            "begin": NOT_NEGATIVE,
            "end": POSITIVE,
            "initial_sparsity": [*SHARES, 0.9],
            "frequency": COUNTS,
        },
        sparsity=0.5,
    ),
    "callbacks.KLAnnealing": Row(
        {
            "epochs": POSITIVE,
            "initial": NOT_NEGATIVE,
            "final": NOT_NEGATIVE,
            "start": NOT_NEGATIVE,
        },
        epochs=2,
    ),
    "callbacks.MCPredict": Row(
        {
            "predictors": LISTS,
            "metrics": LISTS[1:],
            "every": COUNTS,
            "likelihood": [None, *LIKELIHOODS],
        },
        x=X,
        y=Y,
    ),
    "metrics.BrierDecomposition": Row(
        {"classes": [*COUNTS, 1], "bins": COUNTS}, classes=3
    ),
    "metrics.BrierScore": Row(),
    "metrics.ClasswiseCalibrationError": Row(
        {"classes": [*COUNTS, 1], "bins": COUNTS}, classes=3
    ),
    "metrics.EnsembleCRPS": Row({"fair": FLAGS}),
    "metrics.ExpectedCalibrationError": Row({"bins": COUNTS}),
    "metrics.GaussianCRPS": Row(),
    "metrics.IntervalCoverage": Row(),
    "metrics.IntervalWidth": Row(),
    "metrics.accuracy_at_coverage": Row(
        {"correct": VECTORS, "uncertainty": VECTORS, "coverage": [*POSITIVE, 1.5]},
        correct=[1, 0],
        uncertainty=[0.1, 0.2],
    ),
    "metrics.adaptive_calibration_error": Row(
        {"y_true": [*VECTORS, [1]], "y_pred": [*VECTORS, [1.0, 0.0]], "bins": COUNTS},
        y_true=[0, 1],
        y_pred=np.ones((2, 2)) / 2,
    ),
    "metrics.ensemble_pit": Row(
        {"y": VECTORS, "samples": [*VECTORS, [1.0]]}, y=[1.0], samples=[[1.0, 2.0]]
    ),
    "metrics.gaussian_pit": Row(
        {
            "y": VECTORS,
            "mean": [*VECTORS, [1.0, 2.0]],
            "stddev": [*VECTORS, [0.0], [-1.0], [1.0, 2.0]],
        },
        y=[1.0],
        mean=[1.0],
        stddev=[1.0],
    ),
    "metrics.ood_metrics": Row(
        {"scores_in": VECTORS, "scores_out": VECTORS}, scores_in=[0.1], scores_out=[1.0]
    ),
    "metrics.quantile_calibration": Row(
        {"pit": [*VECTORS, [1.5]], "levels": [*VECTORS, [0.0], [1.0]]}, pit=[0.5]
    ),
    "metrics.risk_coverage": Row(
        {"losses": VECTORS, "uncertainty": [*VECTORS, [1.0]]},
        losses=[1, 0],
        uncertainty=[0.1, 0.2],
    ),
    # Calibration
    "calibration.conformal": Row(
        {
            "model": GRAPHS,
            "likelihood": [None, *LIKELIHOODS],
            "alpha": [*NUMBERS, 0, 1, -0.1, 0.1],
            "method": NAMES,
            "penalty": NOT_NEGATIVE,
            "free_classes": [*INTEGERS, -1],
        },
        **DATA,
        y=Y,
        alpha=0.2,
    ),
    "calibration.conformal of numbers": Row(
        {"y": [None, "x", [], [NAN] * 6, Y[:3], Y.astype(str), np.ones((6, 2))]},
        lambda y: kv.calibration.conformal(plain(), X, y, 0.2, "absolute_residual"),
        y=np.ones((6, 3)),
    ),
    "calibration.ood_score": Row(
        {
            "model": [*GRAPHS, plain],
            "likelihood": [None, *LIKELIHOODS],
            "score": NAMES,
        },
        model=model,
    ),
    "calibration.temperature_scaling": Row(
        {
            "model": [*GRAPHS, plain],
            "likelihood": [None, *LIKELIHOODS],
            "averaged": NAMES,
            "y": [*LABELS, Y * 0],
        },
        model=biased,
        x=X,
        y=np.array([0, 0, 0, 0, 1, 2]),
    ),
    # Transforms
    "transforms.average": Row(model=model),
    "transforms.deep_ensemble": Row(
        {"models": [*GRAPHS, [None], [3]], "moments": FLAGS}, models=members
    ),
    "transforms.draw": Row({"model": DRAWN}, model=model),
    "transforms.ensemble": Row(model=model),
    "transforms.predictive": Row(model=model),
    "transforms.propagate_mean": Row({"model": DRAWN}, model=model),
    "transforms.propagate_moments": Row({"model": [*GRAPHS, plain]}, model=model),
    "transforms.from_deterministic": REPLACE,
    "transforms.replace": REPLACE,
    "transforms.replace_report": Row({"model": GRAPHS, "layers": CHOICES}, model=plain),
    "transforms.shrink": Row({"model": GRAPHS}, model=model),
    "transforms.shrink_report": Row({"model": GRAPHS}, model=model),
    "transforms.shrink_rule": Row(
        {
            "operations": [(), ("relu",), (None,), (3,), (print,)],
            "rule": [None, "relu", 3, print, Subclassed],
        },
        shrink_rule,
        operations=(Subclassed,),
        rule=kv.transforms.ChannelwiseStep,
    ),
    "transforms.zero_mean": Row({"model": DRAWN}, model=model),
    "moments.find_rule": Row(
        {"operation": [None, "relu", 3, [], keras.layers.LSTM]},
        operation=keras.activations.relu,
    ),
    "moments.moment_rule": Row(
        {"operations": [(), ("relu",), (None,), (3,)], "rule": [None, "relu", 3]},
        moment_rule,
        operations=(Subclassed,),
        rule=print,
    ),
    "moments.quadrature": Row(
        {"operation": [None, "relu", 3, []], "x": [None, 3, X]},
        operation=keras.activations.gelu,
        x=kv.moments.Moments(keras.ops.zeros((2, 3)), keras.ops.ones((2, 3))),
    ),
    "moments.supported": Row(),
    # Pruning
    "plots.activations_by_class": Row(
        {"stddev": VECTORS, "y": [*VECTORS, [1]], "ax": AXES},
        stddev=[0.1, 0.2],
        y=[0, 1],
    ),
    "plots.entropy_histogram": Row(
        {
            "entropy_in": VECTORS,
            "entropy_out": [x for x in VECTORS if x is not None],
            "bins": COUNTS,
            "ax": AXES,
        },
        entropy_in=[0.1, 0.2],
    ),
    "plots.phase_transition": Row(
        {"history": [None, 3, [], {}, {"loss": [1.0]}, X], "ax": AXES},
        history={"mean_accuracy": [0.5]},
    ),
    "plots.predictive_band": Row(
        {
            "x": VECTORS,
            "mean": [*VECTORS, [1.0]],
            "stddev": [*VECTORS, [1.0], [-1.0, 1.0]],
            "y": [*(x for x in VECTORS if x is not None), [1.0]],
            "width": POSITIVE,
            "ax": AXES,
        },
        x=[0.0, 1.0],
        mean=[0.0, 1.0],
        stddev=[0.1, 0.1],
    ),
    "plots.reliability_diagram": Row(
        {
            "y_true": [*VECTORS, [1]],
            "y_pred": [*VECTORS, [1.0, 0.0]],
            "bins": COUNTS,
            "ax": AXES,
        },
        y_true=[0, 1],
        y_pred=np.ones((2, 2)) / 2,
    ),
    "plots.risk_coverage": Row(
        {"curve": [None, 3, [], X, (X, X, 1.0)], "ax": AXES},
        curve=kv.metrics.risk_coverage([0, 1], [0.1, 0.2]),
    ),
    "plots.sparsity_curve": Row(
        {
            "points": [None, [], 3, "points", [1], [(0, 1)], X, {}],
            "ax": AXES,
        },
        points=[kv.inference.Point(0.5, 0.9, 0.1)],
    ),
    "prune": Row(
        {"sparsity": [x for x in SHARES if x is not None], "threshold": [0.1]},
        model=model,
        sparsity=0.5,
    ),
    "prune by threshold": Row(
        {"threshold": NUMBERS},
        lambda threshold: kv.prune(model(), None, threshold),
        threshold=0.1,
    ),
    "sparsity": Row(model=model),
    "sparsity_report": Row(model=model),
    # Serving
    "export": Row(
        {
            "path": PATHS,
            "version": [x for x in COUNTS if x is not None],
            "input_signature": [3, "x", X, [], UNNAMED, WIDE, [WIDE, WIDE]],
            "frozen": [x for x in FLAGS if x is not None],
            "format": NAMES,
            "warmup": [x for x in INPUTS if x is not None],
        },
        model=model,
        path="served",
        samples=2,
    ),
    "serving.write_models_config": Row(
        {
            "path": PATHS,
            "models": [None, {}, [], "digits", 3, {"digits": 3}, {3: "digits"}],
            "versions": [None, "new", [], 3, [0], [-1], [True], ["1"], [1.5], NAN, X],
        },
        path="models.config",
        models={"digits": "/models/digits"},
    ),
    "serving.write_warmup": Row(
        {
            "folder": PATHS,
            "signatures": [None, "serving_default", [], [3], 3],
            "inputs": [None, [], {}, X, 3, {3: X}, {"x": None}, {"x": model}],
        },
        folder="served",
        signatures=["serving_seeded"],
        inputs={"x": X},
    ),
    # Noise
    "random.SeedGenerator": Row(),
    "random.held": Row({"model": RANDOM}, held, model=model),
    "random.seeded": Row(
        {"model": RANDOM, "seed": [None, *SEEDS]}, seeded, model=model, seed=1
    ),
}
# Results, and bases and members of families without arguments
WITHOUT = {
    "ELBO",
    "Evaluation",
    "LayerStatistics",
    "Prediction",
    "SparsityReport",
    "VarianceLayer",
    "estimators.RandomLinear",
    "metrics.OODMetrics",
    "metrics.QuantileCalibration",
    "metrics.RiskCoverage",
    "moments.Moments",
    *(
        f"{family}.{name}"
        for family, names in {
            "estimators": "Estimator Flipout LocalReparameterization MomentMatching "
            "WeightSampling",
            "moments.heads": "Head MeanField",
            "noises": "Bernoulli Gaussian Noise Uniform",
            "posteriors": "Posterior ZeroMean",
            "priors": "ARD LogUniform Prior",
            "transforms": "ChannelwiseStep ShrinkStep",
        }.items()
        for name in names.split()
    ),
}


@pytest.fixture(autouse=True)
def new_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rules = dict(RULES)
    for make in MAKE:
        make.cache_clear()
    yield
    RULES.clear()
    RULES.update(rules)


def state():
    """What a call that is refused must not change."""
    variables = [*model().variables, layer().seed_generator.state]
    values = [np.asarray(variable).tolist() for variable in variables]
    return values, layer().pruned, layer().mask is None, len(RULES)


def public(module, prefix=""):
    """Names of all public callables, from the `__all__` lists."""
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            yield from public(value, f"{prefix}{name}.")
        elif callable(value):
            yield f"{prefix}{name}"


def test_the_table_has_everything_public():
    names = {name.replace("transforms.moments.", "moments.") for name in public(kv)}
    names -= {f"layers.{name}" for name in kv.__all__}  # which are there, too
    named = {name for name in ROWS if " " not in name and name in names}
    assert names == named | WITHOUT and not named & WITHOUT
    for name in WITHOUT - {"VarianceLayer", "Evaluation"}:  # made by `evaluate` alone
        cls = attrgetter(name)(kv)
        assert hasattr(cls, "_fields") or not {*inspect.signature(cls).parameters} & {
            *BAD
        }


def row(name, *more):
    """A case of a test; what TensorFlow alone has is marked."""
    alone = name in ("export", "serving.write_warmup")
    return pytest.param(name, *more, marks=[tensorflow_only] if alone else [])


@pytest.mark.parametrize("name", [row(name) for name in ROWS])
def test_valid_arguments(name):
    run(name)


CASES = [row(name, argument) for name in ROWS for argument in bad_arguments(name)]


@pytest.mark.parametrize("name, argument", CASES)
def test_bad_arguments(name, argument, tmp_path):
    before = state()
    wrong = []
    for value in bad_arguments(name)[argument]:
        try:
            run(name, **{argument: value})
            wrong.append((value, "was accepted"))
        except Exception as error:
            message = str(error)
            received = message.rpartition(" Received: ")[2]
            named = f"`{argument}`" in message or argument in received
            named = named or argument == "identifier"  # by what it stands for
            if not isinstance(error, ValueError) or not received or not named:
                wrong.append((value, f"{type(error).__name__}: {message[:300]}"))
        if state() != before:
            wrong.append((value, "changed"))
            before = state()
    assert not wrong, "\n" + "\n".join(f"{made(x)!r}: {what}" for x, what in wrong)
    assert not [*tmp_path.iterdir()]
