"""What `fit` trains: augmentation, then the network's logits; its loss, its optimiser and its precision."""

import keras
from keras import ops

from training import augmentation
from training.muon import Muon
from utils import machine, structure
from utils.cli import UserError
from utils.data import CLASSES, SIZE


class TrainingModel(keras.Model):
    """Augmentation in front of a network's logits. Never saved; the network inside is.

    network: keras.Model that takes faces (n, 48, 48, 1), 0-255, and has a layer called `logits`
    teachers: classifiers whose probabilities are learnt beside the labels (Hinton 2015), one a step in turn:
        on average over the steps the gradient is that of their averaged probabilities
    weight: share of the loss, 0-1, that follows the teachers; temperature: softens both sides, above 0
    """

    def __init__(self, network, teachers=(), weight=0.7, temperature=2.0):
        # float32: Keras would cast the transform parameters to the precision of the layers
        super().__init__(name="training_model", dtype="float32")
        self.logits = keras.Model(network.inputs[0], network.get_layer("logits").output)
        self.teachers = [as_teacher(teacher) for teacher in teachers]
        self.weight, self.temperature = weight, temperature

    def augmented(self, x):
        """The faces of a batch of `Batches`, float32 (n, 48, 48, 1), 0-255, as the network sees them."""
        images = ops.cast(x["image"], "float32")
        if "transforms" in x:
            images = augmentation.transform(images, x["transforms"])
        return augmentation.mix(images, x["mixing"]) if "mixing" in x else images

    def call(self, x, training=None):
        return self.logits(self.augmented(x), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not self.teachers:
            return loss
        # The graph optimiser merges this with the one of call()
        faces, t = self.augmented(x), self.temperature
        teachers = [lambda teacher=teacher: ops.cast(teacher(faces, training=False), "float32")
                    for teacher in self.teachers]
        probabilities = ops.switch(self.optimizer.iterations % len(teachers), teachers)
        targets = ops.softmax(ops.log(ops.maximum(probabilities, 1e-7)) / t)
        divergence = keras.losses.kl_divergence(ops.stop_gradient(targets), ops.softmax(y_pred / t))
        return (1 - self.weight) * loss + self.weight * t**2 * ops.mean(divergence)


def as_teacher(model):
    """A copy of a classifier in the student's precision: faces (n, 48, 48, 1) -> probabilities (n, 7)."""
    if model.output_shape[-1] != len(CLASSES) or model.input_shape[1:] != (SIZE, SIZE, 1):
        raise UserError(f"teacher {model.name} maps {model.input_shape} to {model.output_shape}; "
                        "expected 48x48x1 to 7")
    copy = structure.flat_copy(model, dtype=keras.config.dtype_policy().name)
    copy.trainable = False
    return copy


def make_optimizer(recipe, steps, scale_loss=False):
    """The optimiser of a recipe (training.recipes.Recipe) for a run of `steps` steps, with weight decay on
    kernels and averaged weights; scale_loss: for float16, whose range is too small for some gradients."""
    rate = recipe.learning_rate
    if recipe.schedule == "cosine":
        warmup = max(round(recipe.warmup * steps), 1)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(steps - warmup, 1), warmup_target=recipe.learning_rate, warmup_steps=warmup)
    common = {"learning_rate": rate, "weight_decay": recipe.weight_decay or None,
              "use_ema": recipe.ema > 0, "ema_momentum": recipe.ema or 0.99}
    if recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(**common)
    else:
        kind = {"sgd": keras.optimizers.SGD, "muon": Muon}[recipe.optimizer]
        optimizer = kind(momentum=0.9, nesterov=True, **common)
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if scale_loss:
        return keras.optimizers.LossScaleOptimizer(optimizer)
    if keras.backend.backend() == "tensorflow" and not machine.accelerators():  # some GPUs have no XLA
        import tensorflow as tf

        # A few passes over the weights instead of one for each product and sum; JAX does it by itself
        update = tf.function(optimizer.apply, jit_compile=True)
        optimizer.apply = lambda gradients, _: update(list(gradients))
    return optimizer


def averaged_weights(network, optimizer):
    """The network's weights as NumPy arrays, those that are averaged (EMA) replaced by their averages."""
    averages, optimizer = {}, getattr(optimizer, "inner_optimizer", optimizer)
    if optimizer.use_ema:
        pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average)
        averages = {id(variable): average for variable, average in pairs}
    # a copy, since convert_to_numpy may give a view of memory that the next step overwrites
    return [ops.convert_to_numpy(averages.get(id(weight), weight)).copy() for weight in network.weights]


def recompute_batch_norm(network, batches, model, count=200):
    """Recompute batch-norm statistics for averaged weights: means over `count` augmented training batches,
    unmixed like the faces that will be classified; mixed ones would make the probabilities too low."""
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    logits = keras.Model(network.inputs[0], network.get_layer("logits").output)
    for step in range(min(count, len(batches))):
        for layer in norms:
            layer.momentum = step / (step + 1)
        x = {key: ops.convert_to_tensor(value) for key, value in batches[step][0].items() if key != "mixing"}
        logits(model.augmented(x), training=True)
    for layer, momentum in zip(norms, momenta):
        layer.momentum = momentum
