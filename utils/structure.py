"""Take a Keras network apart: copy it layer by layer, remove its softmax, count its work."""

import math

import keras
import numpy as np
from keras import layers

from utils.data import SIZE

SQUASHING = {"Softmax", "Sigmoid", "HardSigmoid"}  # layers, operations and activations
PASSING = (layers.Flatten, layers.Reshape, layers.Dropout, layers.Identity)  # may follow one of these


def flat_copy(model, **changes):
    """A copy of `model` in stock layers with every nested model unfolded: a functional keras.Model.

    Weights are copied, `changes` go into each layer's configuration (dtype="float32" for a network to save).
    Names stay; where a nested layer's name is taken it gets the nested model's name in front. A height or
    width that is open becomes that of a face.
    """
    copies, taken = {}, {layer.name for layer in model.layers}

    def run(part, inputs, outer):
        def call(operation, *args, **kwargs):
            if isinstance(operation, keras.Model):
                return run(operation, args[0], operation.name)
            if not isinstance(operation, layers.Layer):  # without state, such as keras.ops.relu
                return operation(*args, **kwargs)
            if operation not in copies:
                name = operation.name
                while outer and name in taken:
                    name = f"{outer}_{name}"
                taken.add(name)
                copies[operation] = stock_copy(operation, name=name, **changes)
            return copies[operation](*args, **kwargs)

        outputs = keras.Model(part.inputs, part.outputs)._run_through_graph(inputs, call_fn=call)
        return outputs[0] if len(outputs) == 1 else outputs

    # A float input: whole numbers have no gradient.
    shapes = [[*(side or SIZE for side in x.shape[1:-1]), x.shape[-1] or 1] for x in model.inputs]
    inputs = [keras.Input(shape, name=x.name) for shape, x in zip(shapes, model.inputs)]
    flat = keras.Model(inputs, run(model, inputs, ""), name=model.name)
    for original, copy in copies.items():
        copy.set_weights(original.get_weights())
    return flat


def stock_copy(layer, **changes):
    """A new layer like `layer`, of its nearest class in Keras, with `changes` to its configuration: a layer
    of our own becomes the stock layer that it extends. Weights are not copied."""
    stock = next(kind for kind in type(layer).__mro__ if kind.__module__.split(".")[0] == "keras")
    if stock is layers.Layer:
        raise TypeError(f"{type(layer).__name__} extends no layer of Keras that could stand for it")
    return stock.from_config(stock.get_config(layer) | changes)


def logits_model(model):
    """A copy of a classifier that ends in logits: images as `model` takes them -> float32 (n, classes).

    A model that ends in logits stays as it is. A binary classifier's single logit z becomes two, -z/2 and
    z/2, whose softmax is the sigmoid of z, so that each class has a gradient. Unfolded as by `flat_copy`.
    """
    flat = flat_copy(model)
    logits, _ = without_softmax(flat.outputs[0])
    if logits.shape[-1] == 1:
        halves = {"minus_half_logit": -0.5, "half_logit": 0.5}
        logits = layers.Concatenate(name="both_logits")(
            [layers.Rescaling(half, name=name)(logits) for name, half in halves.items()])
    return keras.Model(flat.inputs, logits, name=model.name)


def softmax_model(model):
    """`model` where it ends in a softmax, else that of its logits, or of what its sigmoids are taken of: the
    one rule for probabilities, of which a binary classifier gets two. Averages of softmaxes and such stay."""
    _, kind = without_softmax(model.outputs[0])
    if kind == "Softmax":
        return model
    logits = logits_model(model)
    noise = np.random.default_rng(0).uniform(0, 255, (8, *logits.input_shape[1:])).astype(np.float32)
    on_noise, outputs = logits.predict_on_batch(noise), logits.outputs[0]
    if not kind and (on_noise >= 0).all() and (np.abs(on_noise.sum(axis=1) - 1) < 0.02).all():
        outputs = keras.ops.log(keras.ops.maximum(outputs, 1e-7))
    return keras.Model(logits.inputs, layers.Softmax(name="probabilities")(outputs), name=model.name)


def without_softmax(tensor):
    """The symbolic output `tensor` before the softmax or sigmoid that ends its graph, and which of SQUASHING
    that is; itself and "" without one."""
    operation, node, _ = tensor._keras_history
    before = operation._inbound_nodes[node].input_tensors
    kind, activation = type(operation).__name__, getattr(operation, "activation", None)
    if kind in SQUASHING:
        return before[0], kind
    is_linear = kind == "Activation" and activation is keras.activations.linear
    if is_linear or isinstance(operation, PASSING):
        logits, kind = without_softmax(before[0])
        return (stock_copy(operation)(logits), kind) if kind else (tensor, "")
    kind = getattr(activation, "__name__", "").title().replace("_", "")  # hard_sigmoid: HardSigmoid
    if kind not in SQUASHING:
        return tensor, ""
    linear = stock_copy(operation, activation="linear")
    logits = linear(before[0])
    linear.set_weights(operation.get_weights())
    return logits, kind


def nodes(model):
    """Every step of a model without nested ones, from input to output: Keras' Node, with its `operation`."""
    by_depth = keras.Model(model.inputs, model.outputs)._nodes_by_depth  # 0: the output
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def largest_output(model):
    """Values of the largest output of any step of a model without nested ones, for one image: int."""
    return max(math.prod(size or SIZE for size in output.shape[1:])
               for node in nodes(model) for output in node.output_tensors)


def multiply_adds(model):
    """Multiply-adds of one forward pass on one image: convolutions and dense layers, an int."""
    return sum(math.prod(node.output_tensors[0].shape[1:-1]) * math.prod(node.operation.kernel.shape)
               for node in nodes(model)
               if isinstance(node.operation, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)))
