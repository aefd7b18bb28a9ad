"""Explaining a trained classifier: where it looks, whether that can be trusted, and what excites it.

attribution              saliency maps: a new method goes here
regions                  how much of a map lies on eyes, mouth and other parts of the face
faithfulness             evidence for a map: deletion, insertion, randomisation
subjects                 the faces to explain, and whose logit
receptive_field          which pixels a unit of a feature map sees
activation_maximization  the image that excites a filter most, and the data that do

Gradients are TensorFlow's, as Keras has none that works on every backend. Importing the package with another
backend raises UserError.
"""

import math

import keras

from utils.cli import UserError

if keras.backend.backend() != "tensorflow":
    raise UserError("explanations need the gradients of TensorFlow, and KERAS_BACKEND is "
                    f"{keras.backend.backend()}; set KERAS_BACKEND=tensorflow")

PIXELS = 64 * 48 * 48  # in one forward and backward pass, about a batch of training; more is no faster


def batch_size(size):
    """How many images of `size` (height, width) go through one forward and backward pass."""
    return max(1, PIXELS // math.prod(size))
