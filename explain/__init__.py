"""Explaining a trained classifier: where it looks, whether that can be trusted, and what excites it.

attribution              saliency maps: a new method goes here
faithfulness             evidence for a map: deletion, insertion, randomisation
receptive_field          which pixels a unit of a feature map sees
activation_maximization  the image that excites a filter most, and the data that do
adversarial              the smallest change of a face that turns its class

Gradients are TensorFlow's, as Keras has none that works on every backend; nothing is compiled with XLA, which
is slower here on a processor. Importing the package with another backend raises UserError.
"""

import math

import keras

from utils.cli import UserError

if keras.backend.backend() != "tensorflow":
    raise UserError("explanations need the gradients of TensorFlow, and KERAS_BACKEND is "
                    f"{keras.backend.backend()}; set KERAS_BACKEND=tensorflow")

MEMORY = 2 ** 30  # bytes that one forward and backward pass may hold


def batch_limit(network, count):
    """How many of `count` images fit in MEMORY in a forward and backward pass, each layer's output thrice in
    float32."""
    values = sum(math.prod(n or 1 for n in layer.output.shape[1:]) for layer in network.layers
                 if isinstance(getattr(layer, "output", None), keras.KerasTensor))
    return max(1, min(count, MEMORY // (12 * max(values, 1))))
