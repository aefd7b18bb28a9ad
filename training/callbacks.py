"""Keras callbacks: evaluate averaged weights, stop what is not finite, let runs resume."""

import hashlib
import importlib.util
import json
import math
import time
import zipfile
import zlib

import keras
import numpy as np
from keras import ops

from training.model import averaged_weights
from utils import models
from utils.cli import UserError
from utils.files import relative_path, replacing


class DivergedError(UserError):
    """Loss or weights of a run are no longer finite."""


class EvaluateAverages(keras.callbacks.Callback):
    """Validate the averaged weights after each epoch and remember the weights that will be saved.

    Raises DivergedError when loss, weights or validation loss are not finite.

    keep: "best", the epoch with the highest validation accuracy, or "last"
    best: {"epoch", "val_accuracy", "weights"} of the epoch kept, None before the first
    history: a list of dicts, one per epoch, the columns of NAME_history.csv
    """

    def __init__(self, network, batches, validation, keep):
        super().__init__()
        self.network, self.batches, self.validation, self.keep = network, batches, validation, keep
        self.evaluation_network = keras.models.clone_model(network)
        self.history, self.best, self.last_loss = [], None, math.nan

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start_epoch(epoch)
        self.started = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            self.stop(f"the loss became {logs['loss']} in step {batch + 1}")
        self.last_loss = float(logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        weights = averaged_weights(self.network, self.model.optimizer)
        if not all(np.isfinite(weight).all() for weight in [*weights, *self.network.get_weights()]):
            self.stop("the weights became infinite or NaN")
        self.evaluation_network.set_weights(weights)
        val_loss, val_accuracy = evaluate(self.evaluation_network, self.validation)
        if len(self.validation) and not math.isfinite(val_loss):
            self.stop(f"the validation loss became {val_loss}")
        logs |= {"val_loss": val_loss, "val_accuracy": val_accuracy}  # for Keras' progress lines
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.history.append({
            "epoch": epoch + 1, "learning_rate": rate,
            **{key: float(logs[key]) for key in ("loss", "accuracy", "val_loss", "val_accuracy")},
            "seconds": time.monotonic() - self.started})
        if self.best is None or self.keep == "last" or not val_accuracy <= self.best["val_accuracy"]:
            self.best = {"epoch": epoch + 1, "val_accuracy": val_accuracy, "weights": weights}

    def is_over(self, patience):
        """Whether the accuracy has not risen for `patience` epochs (None: any number)."""
        accuracies = [row["val_accuracy"] for row in self.history]
        return bool(patience and accuracies) and len(accuracies) - 1 - int(np.argmax(accuracies)) >= patience

    def stop(self, reason):
        raise DivergedError(f"in epoch {len(self.history) + 1} {reason} (loss before: "
                            f"{self.last_loss:.3g}): the run diverged")


def from_keras(options, history):
    """Keras' own callbacks that the options ask for; `history`: the epochs of a run that is resumed."""
    chosen = []
    if options.early_stopping:
        chosen.append(keras.callbacks.EarlyStopping(
            "val_accuracy", patience=options.early_stopping, mode="max"))
    if options.reduce_lr:
        chosen.append(keras.callbacks.ReduceLROnPlateau("val_loss", patience=options.reduce_lr, mode="min"))
    chosen.append(Replay(chosen[:], history, options))
    if options.tensorboard:
        if keras.backend.backend() != "tensorflow" or not importlib.util.find_spec("tensorboard"):
            raise UserError("--tensorboard needs KERAS_BACKEND=tensorflow and TensorBoard: "
                            "python -m pip install tensorboard")
        chosen.append(keras.callbacks.TensorBoard(str(options.tensorboard), write_graph=False))
    return chosen


class Replay(keras.callbacks.Callback):
    """Show the epochs of a resumed run to Keras' callbacks, so that they count on from where they were."""

    def __init__(self, others, history, options):
        super().__init__()
        self.others, self.epochs, self.options = others, history[:], options

    def on_train_begin(self, logs=None):
        if self.options.reduce_lr:  # the callback lowers it again
            self.model.optimizer.learning_rate = self.options.learning_rate
        for row in self.epochs:
            for callback in self.others:
                callback.on_epoch_end(row["epoch"] - 1, dict(row))


class Checkpoint(keras.callbacks.Callback):
    """The state after each epoch in one file, from which a stopped run continues as if it had not been.

    (keras.callbacks.BackupAndRestore keeps neither the best weights nor the history, nor notices other data.)

    path: models/NAME.checkpoint.npz; evaluation: EvaluateAverages; key: see `run_key`; epochs: in the file
    """

    def __init__(self, path, evaluation, key):
        super().__init__()
        self.path, self.evaluation, self.key, self.epochs = path, evaluation, key, 0

    def on_epoch_end(self, epoch, logs=None):
        best = self.evaluation.best
        arrays = {f"state/{i}": ops.convert_to_numpy(array) for i, array in enumerate(state(self.model))}
        arrays |= {f"best/{i}": weight for i, weight in enumerate(best["weights"])}
        about = {"key": self.key, "history": self.evaluation.history, "best": best | {"weights": None}}
        with replacing(self.path) as temporary:
            np.savez(temporary, about=json.dumps(about), **arrays)
        self.epochs = epoch + 1

    @property
    def how_to_continue(self):
        return (f"the same command with --resume continues after epoch {self.epochs}" if self.epochs
                else "no epoch was finished")

    def restore(self, model):
        """Set weights, optimiser, history and best epoch from the file; returns the number of epochs done.
        Raises UserError where there is no checkpoint, where it is damaged, not finite or of another run."""
        name, weights = relative_path(self.path), self.evaluation.network.weights
        damaged = UserError(f"{name} is damaged or of another network; run without --resume")
        try:
            with np.load(self.path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                restored = [file[f"state/{i}"] for i in range(len(state(model)))]
                best = about["best"] | {"weights": [file[f"best/{i}"] for i in range(len(weights))]}
            key, history = about["key"], about["history"]
        except FileNotFoundError as error:
            raise UserError(f"nothing to resume at {name}; run without --resume") from error
        except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise damaged from error
        self.check_key(key, name)
        if [array.shape for array in [*restored, *best["weights"]]] != [
                tuple(variable.shape) for variable in [*state(model), *weights]]:
            raise damaged
        models.assert_finite([*restored, *best["weights"]], name)
        for variable, array in zip(state(model), restored):
            variable.assign(array)
        self.evaluation.history.extend(history)
        self.evaluation.best = best
        self.epochs = len(history)
        return self.epochs

    def check_key(self, key, name):
        """Raise UserError, naming the first difference, when the checkpoint `name` has another run's key."""
        for part in sorted({*key, *self.key}):
            old, new = key.get(part), self.key.get(part)
            if old != new:
                is_content = part in ("training_data", "validation_data", "teachers", "initial_weights")
                what = part.replace("_", " ") if is_content else f"options: {part} was {old} and is {new}"
                raise UserError(f"{name} was made with other {what}; give the same, or run without --resume")


def state(model):
    """The variables on which the next step of a compiled model depends, in a fixed order."""
    return [*model.variables, *model.optimizer.variables]


def run_key(options, policy, training, validation):
    """What must be equal for --resume: the options, and what the data, teachers and initial weights hold.
    Paths are left out: the same files under another name give the same run. `epochs` counts only where the
    learning rate or the mixing depends on it."""
    def digest(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    paths = ("distill", "start_from", "labels_from", "validation_labels", "limit", "validation")
    key = {option: value for option, value in options.as_json().items() if option not in paths}
    if options.schedule == "constant" and not (options.mix and options.mix_until < 1):
        del key["epochs"]
    return key | {
        "precision": policy,
        "training_data": training.fingerprint(),
        "validation_data": validation.fingerprint(),
        "teachers": [digest(path) for path in options.distill],
        "initial_weights": digest(options.start_from) if options.start_from else None,
    }


def evaluate(network, faces):
    """Mean cross-entropy (nats) and accuracy (0-1) of a network on labelled faces; nan for no faces."""
    if not len(faces):
        return math.nan, math.nan
    probabilities = models.predict(network, faces.images)
    own = probabilities[np.arange(len(faces)), faces.labels]
    right = probabilities.argmax(axis=1) == faces.labels
    return float(-np.log(np.maximum(own, 1e-7)).mean()), float(right.mean())
