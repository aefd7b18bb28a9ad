"""The networks: the report's CNN and DNN to the letter, the matched DNN, and modern residual networks.

Every builder returns an uncompiled functional keras.Model: raw grey faces (n, 48, 48, 1) with values 0-255
in, rescaled inside, so that no normalisation file can be lost; class probabilities (n, 7) out; the layer
before the softmax is called `logits`. The layer classes below exist for training only:
`utils.structure.flat_copy` replaces them by the stock layers with the same weights.

For a --network of your own: a function here, its name in CNNS below, its recipe in training/recipes.py.
"""

import math

import keras
from keras import layers

from utils.data import CLASSES, SIZE

DENSE_UNITS = 1028  # the report's hidden layer, in its DNN (149,060 parameters) and in its CNN


def classifier(face, x, name, regularizer=None, initializer="glorot_uniform"):
    """Close a network with the logits and their softmax, both in float32 whatever the layers before use."""
    x = layers.Dense(len(CLASSES), name="logits", dtype="float32", kernel_regularizer=regularizer,
                     kernel_initializer=initializer)(x)
    return keras.Model(face, layers.Softmax(name="probabilities", dtype="float32")(x), name=name)


def dense_block(x, units, name, dropout, dropconnect, regularizer):
    """A dense layer, with DropConnect where `dropconnect` is above 0, relu and dropout (None: 0.5)."""
    if dropconnect:
        x = DropConnectDense(units, dropconnect, name=name, kernel_regularizer=regularizer)(x)
    else:
        x = layers.Dense(units, name=name, kernel_regularizer=regularizer)(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    return layers.Dropout(0.5 if dropout is None else dropout, name=f"{name}_dropout")(x)


def report_cnn(dropout=None, l2=0.0, dropconnect=0.0, extra_conv=0):
    """The CNN of question 1: conv 32, conv 32, pool, conv 64, pool, dense 1028; 6,615,495 parameters. Without
    `dropout`, a rate, its layers have 0.25 after each pooling and 0.5 before the logits."""
    rate = 0.25 if dropout is None else dropout
    regularizer = keras.regularizers.L2(l2) if l2 else None
    face = keras.Input((SIZE, SIZE, 1), name="face")
    x = layers.Rescaling(1 / 255, name="rescaling")(face)
    x = layers.Conv2D(32, 3, name="conv1", kernel_regularizer=regularizer)(x)
    x = layers.Conv2D(32, 3, name="conv2", kernel_regularizer=regularizer)(x)
    x = layers.ReLU(name="conv2_relu")(x)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Dropout(rate, name="pool1_dropout")(x)
    x = layers.Conv2D(64, 3, name="conv3", kernel_regularizer=regularizer)(x)
    x = layers.ReLU(name="conv3_relu")(x)
    for i in range(4, 4 + extra_conv):
        x = layers.Conv2D(64, 3, padding="same", name=f"conv{i}", kernel_regularizer=regularizer)(x)
        x = layers.ReLU(name=f"conv{i}_relu")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Dropout(rate, name="pool2_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = dense_block(x, DENSE_UNITS, "dense", dropout, dropconnect, regularizer)
    return classifier(face, x, "report_cnn", regularizer)


def report_dnn(dropout=None, l2=0.0, dropconnect=0.0):
    """The DNN of question 2 as the report has it: two poolings, dense 1028; 156,263 parameters."""
    rate = 0.25 if dropout is None else dropout
    regularizer = keras.regularizers.L2(l2) if l2 else None
    face = keras.Input((SIZE, SIZE, 1), name="face")
    x = layers.Rescaling(1 / 255, name="rescaling")(face)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Dropout(rate, name="pool1_dropout")(x)
    x = layers.ReLU(name="pool1_relu")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Dropout(rate, name="pool2_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = dense_block(x, DENSE_UNITS, "dense", dropout, dropconnect, regularizer)
    return classifier(face, x, "report_dnn", regularizer)


def matched_dnn(parameters, dropout=None, l2=0.0, dropconnect=0.0):
    """The DNN of question 2, with as many parameters as the CNN: two hidden layers of one width."""
    regularizer = keras.regularizers.L2(l2) if l2 else None
    half = (SIZE * SIZE + 2 + len(CLASSES)) / 2  # parameters = width^2 + 2 half width + 7
    width = max(round(math.sqrt(half**2 + parameters - len(CLASSES)) - half), 1)
    face = keras.Input((SIZE, SIZE, 1), name="face")
    x = layers.Rescaling(1 / 255, name="rescaling")(face)
    x = layers.Flatten(name="flatten")(x)
    for name in ("dense1", "dense2"):
        x = dense_block(x, width, name, dropout, dropconnect, regularizer)
    return classifier(face, x, "matched_dnn", regularizer)


def compact_cnn(dropout=None):
    """1.95M parameters for two CPU cores: a 40 px crop, three stages with a residual block each. The first
    convolution, whose maps are the largest, has no normalisation of its own, and the second is normalised
    after pooling, on a quarter of the values: normalisation is a large part of a CPU step."""
    face = keras.Input((SIZE, SIZE, 1), name="face")
    x = layers.Cropping2D(4, name="crop")(face)
    x = layers.Rescaling(1 / 64, offset=-2, name="rescaling")(x)
    x = layers.Conv2D(32, 3, padding="same", kernel_initializer="he_normal", name="stem_conv1")(x)
    x = layers.ReLU(name="stem_relu1")(x)
    x = convolution(x, 32, "stem_conv2", pool=True)
    x = layers.ReLU(name="stem_relu2")(x)
    for stage, width in enumerate((64, 128, 256), start=1):
        if stage > 1:
            x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        x = convolution(x, width, f"stage{stage}_conv1")
        x = shortcut = layers.ReLU(name=f"stage{stage}_relu1")(x)
        x = convolution(x, width, f"stage{stage}_conv2")
        x = layers.ReLU(name=f"stage{stage}_relu2")(x)
        x = convolution(x, width, f"stage{stage}_conv3", gamma="zeros")
        x = layers.Add(name=f"stage{stage}_add")([shortcut, x])
        x = layers.ReLU(name=f"stage{stage}_relu3")(x)
    x = layers.Concatenate(name="pooled")([layers.GlobalAveragePooling2D(name="average")(x),
                                           layers.GlobalMaxPooling2D(name="maximum")(x)])
    # Large features would make a rate of 0.1 diverge in the logits
    x = layers.Rescaling(1 / 8, name="logit_scale")(x)
    x = layers.Dropout(0.3 if dropout is None else dropout, name="dropout")(x)
    return classifier(face, x, "compact_cnn", initializer=keras.initializers.RandomNormal(stddev=0.01))


def convolution(x, width, name, pool=False, gamma="ones"):
    """3x3 convolution without bias, max-pooling where asked, batch normalisation. gamma "zeros" starts a
    residual block as the identity (Goyal et al. 2017); else the first epochs are lost."""
    x = SmallMapConv2D(width, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
    if pool:
        x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    return FusedBatchNormalization(momentum=0.9, epsilon=1e-4, gamma_initializer=gamma,
                                   name=f"{name}_norm")(x)


class SmallMapConv2D(layers.Conv2D):
    """A convolution whose weight gradient is, on small maps in bfloat16, a sum of matrix products.

    For 3x3 kernels with "same" padding, stride 1 and no bias: each of the nine weights sees the map shifted
    by a pixel: nine products of (channels, pixels) with (pixels, filters). At 5x5 they take 0.5 to 0.7 of
    TensorFlow's time; larger maps gain nothing, float32 loses (python -m benchmarks.weight_gradient).
    """

    def call(self, inputs):
        is_small = inputs.dtype == "bfloat16" and max(inputs.shape[1:3]) <= 5
        if keras.backend.backend() != "tensorflow" or not is_small:
            return super().call(inputs)
        import tensorflow as tf

        @tf.custom_gradient
        def convolve(maps, kernel):
            def gradient(upstream):
                to_maps = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(maps), filter=kernel, out_backprop=upstream, strides=[1] * 4,
                    padding="SAME")
                return to_maps, shifted_products(maps, upstream)
            return tf.nn.conv2d(maps, kernel, 1, "SAME"), gradient

        return self.activation(convolve(inputs, keras.ops.cast(self.kernel, inputs.dtype)))


def shifted_products(maps, upstream):
    """The gradient of a kernel, (3, 3, channels, filters), from maps (n, h, w, channels) and the gradient of
    what it makes of them (n, h, w, filters)."""
    import tensorflow as tf

    _, height, width, channels = maps.shape
    filters = upstream.shape[-1]
    padded = tf.pad(maps, [[0, 0], [1, 1], [1, 1], [0, 0]])
    shifted = [tf.reshape(padded[:, y:y + height, x:x + width], (-1, channels))
               for y in range(3) for x in range(3)]
    upstream = tf.reshape(upstream, (-1, filters))
    products = [tf.matmul(pixels, upstream, transpose_a=True) for pixels in shifted]
    return tf.reshape(tf.stack(products), (3, 3, channels, filters))


class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation in TensorFlow's fused kernel while it trains: several times faster in bfloat16 than
    the stock layer's float32 operations, which other backends fuse themselves."""

    def call(self, inputs, training=None, mask=None):
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        from tensorflow.compat.v1.nn import fused_batch_norm

        gamma, beta = map(keras.ops.convert_to_tensor, (self.gamma, self.beta))
        outputs, mean, variance = fused_batch_norm(
            inputs, gamma, beta, epsilon=self.epsilon, is_training=True)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs


class DropConnectDense(layers.Dense):
    """A dense layer that drops single weights instead of units while it trains (Wan et al. 2013): each with
    probability `dropconnect`, in [0, 1); the others are scaled by 1 / (1 - dropconnect). One mask a step."""

    def __init__(self, units, dropconnect, **kwargs):
        super().__init__(units, **kwargs)
        self.drop = layers.Dropout(dropconnect)

    def call(self, inputs, training=None):
        kernel = self.drop(keras.ops.cast(self.kernel, inputs.dtype), training=training)
        return self.activation(keras.ops.matmul(inputs, kernel) + keras.ops.cast(self.bias, inputs.dtype))

    def get_config(self):
        return super().get_config() | {"dropconnect": self.drop.rate}


CNNS = {"report": report_cnn, "compact": compact_cnn}  # by the name that --network gives them


def build_cnn(options):
    """The CNN that `options` (TrainingOptions) ask for, with new weights."""
    if options.network == "report":
        return report_cnn(options.dropout, options.l2, options.dropconnect, options.extra_conv)
    return CNNS[options.network](options.dropout)


def build_dnn(options, parameters):
    """The DNN that they ask for; the matched one has about as many `parameters` (int)."""
    if options.network == "report":
        return report_dnn(options.dropout, options.l2, options.dropconnect)
    return matched_dnn(parameters, options.dropout, options.l2, options.dropconnect)
