"""One training run, from its options to the files that it leaves; every script that trains calls this."""

import datetime
import math
import shlex
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from sklearn.utils.class_weight import compute_class_weight

from training import callbacks, figures
from training.batches import Batches, rows_to_copy
from training.model import TrainingModel, make_optimizer, recompute_batch_norm
from utils import cli, data, files, machine, models, structure
from utils.cli import UserError
from utils.evaluation import probabilities

RESERVED = ("sweep", "claims", "experiments")  # other scripts write models/ files of these names


class RunFiles:
    """Where the files of the run `name` are: in `folder`, or by default in models/ and figures/. Raises
    UserError for names that other scripts use in models/."""

    def __init__(self, name, folder=None):
        if name in RESERVED:
            raise UserError(f"--name {name} is what another script calls its results; choose another name")
        models, figures = folder or files.MODELS, folder or files.FIGURES
        self.folder = folder
        self.model = models / f"{name}.h5"
        self.card = models / f"{name}.json"
        self.history = models / f"{name}_history.csv"
        self.architecture = figures / f"{name}_architecture.png"
        self.curves = figures / f"{name}_curves.png"
        self.results = [self.model, self.card, self.history, self.architecture, self.curves]
        self.experiments = models / "experiments.csv"  # the list of all runs
        # Not left by a run that finishes
        self.checkpoint = models / f"{name}.checkpoint.npz"
        self.last_good = models / f"{name}_last_good.h5"
        self.lock = models / f"{name}.lock"

    def locked(self):
        """A block during which no other process trains this model. Raises UserError while one does."""
        return files.locked(self.lock, f"another run is writing {files.relative_path(self.model)}; "
                                       "choose another --name or wait")


class Run:
    """A run that is ready for `fit`: options (TrainingOptions), faces, batches, network and compiled model;
    build: makes the network, raw faces to probabilities, with new weights."""

    def __init__(self, options, build):
        self.options, self.started = options, time.monotonic()
        self.files = RunFiles(options.name, options.out_folder)

        # ---- From disk: faces, the split that the card will remember, models to learn from or to start with
        self.faces, self.validation, self.split = faces, validation, split = data.load_split(
            options.data, options.validation, options.seed, options.limit, options.validation_labels,
            options.labels_from)
        if not len(validation) and (options.early_stopping or options.reduce_lr):
            raise UserError("--early-stopping and --reduce-lr need validation faces, and there are none")
        teachers = [models.load(path) for path in options.distill]
        start = models.load(options.start_from) if options.start_from else None
        warn_about_leakage([path for path in (options.start_from, *options.distill) if path], split)

        # ---- Batches: order, augmentation and mixing
        self.batches = Batches(
            faces.images, faces.labels if faces.soft is None else faces.soft, options, options.seed,
            rows_to_copy(faces.labels, options.seed) if options.oversample else ())
        share_batches(self.batches.batch_size)

        # ---- Network: raw 0-255 in, probabilities out
        self.policy = options.precision
        if self.policy == "auto":
            self.policy = ("mixed_bfloat16" if machine.has_native_bfloat16() else
                           "mixed_float16" if machine.accelerators() else "float32")
        keras.config.set_dtype_policy(self.policy)
        keras.utils.set_random_seed(options.seed)
        self.network = build()
        if start:
            if [w.shape for w in start.weights] != [w.shape for w in self.network.weights]:
                raise UserError(f"{options.start_from} is another network than {self.network.name} with "
                                "these options; --start-from needs the same one")
            self.network.set_weights(start.get_weights())

        # ---- Model: what turns the network's logits into a loss and its gradients into steps
        self.model = TrainingModel(self.network, teachers, options.distill_weight, options.temperature)
        self.model.compile(
            make_optimizer(options, options.epochs * len(self.batches), self.policy == "mixed_float16"),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=options.label_smoothing),
            metrics=["accuracy"], jit_compile=keras.backend.backend() == "jax")
        self.model.optimizer.build(self.model.trainable_variables)
        self.evaluation = callbacks.EvaluateAverages(self.network, self.batches, validation, options.keep)

    def fit(self, extra_callbacks=(), epochs_done=0, verbose=0):
        """Keras' own fit(), from the epoch after `epochs_done`; what happens after each is a callback."""
        weights = None
        if self.options.class_weights:
            codes = self.batches.labels.argmax(axis=1)
            present = np.unique(codes)
            weights = dict(zip(present, compute_class_weight("balanced", classes=present, y=codes)))
        chosen = callbacks.from_keras(self.options, self.evaluation.history)
        self.model.fit(
            self.batches.for_fit(), epochs=self.options.epochs, initial_epoch=epochs_done, verbose=verbose,
            shuffle=False, class_weight=weights, callbacks=[self.evaluation, *chosen, *extra_callbacks])

    def fit_with_checkpoints(self):
        """The same with Keras' progress lines and a checkpoint after each epoch, for --resume."""
        checkpoint = callbacks.Checkpoint(
            self.files.checkpoint, self.evaluation,
            callbacks.run_key(self.options, self.policy, self.faces, self.validation))
        done = checkpoint.restore(self.model) if self.options.resume else 0
        if done > self.options.epochs:
            raise UserError(f"{files.relative_path(self.files.checkpoint)} has {done} epochs and --epochs is "
                            f"{self.options.epochs}; give at least as many, or run without --resume")
        oversampled = f" ({len(self.batches.labels):,} oversampled)" if self.options.oversample else ""
        resuming = f"; resuming after epoch {done}" if done else ""
        print(f"{self.network.name}: {self.network.count_params():,} parameters, {self.policy}; "
              f"{len(self.faces):,} faces to train{oversampled}, {len(self.validation):,} to validate"
              f"{resuming}")
        try:
            if done < self.options.epochs and not self.evaluation.is_over(self.options.early_stopping):
                self.fit([checkpoint], done, verbose=1 if sys.stdout.isatty() else 2)
        except callbacks.DivergedError as error:
            raise self.explained(error) from None
        except (KeyboardInterrupt, Exception) as error:  # C++ may turn the first into one of the others
            error.add_note(checkpoint.how_to_continue)
            raise

    def explained(self, error):
        """A UserError that says what to do about a run that diverged; what was good of it is saved."""
        saved, best = "no epoch was finished", self.evaluation.best
        if best:
            final = structure.flat_copy(self.network, dtype="float32")
            final.set_weights(best["weights"])
            models.save(final, self.files.last_good)
            path = files.relative_path(self.files.last_good)
            saved = f"the weights of epoch {best['epoch']} are in {path}, which --start-from reads"
        warmup = " or lengthen --warmup" if self.options.schedule == "cosine" else ""
        return UserError(f"{error}; lower --learning-rate ({self.options.learning_rate:g}){warmup}; {saved}")

    def save(self):
        """Write model, model card, history and figures; returns the card. What is measured is the file."""
        options, evaluation = self.options, self.evaluation
        final = structure.flat_copy(self.network, dtype="float32")
        final.set_weights(evaluation.best["weights"])
        if options.ema:
            self.batches.start_epoch(options.epochs - 1)  # not reached yet where a run resumed after its end
            recompute_batch_norm(final, self.batches, self.model)
        with files.replacing(self.files.model) as temporary:  # until measured: a model never has an old card
            models.save(final, temporary, half=options.half)
            final = models.load(temporary)
            card = make_card(self, final)
            keep_better(self.files, card)
        history = pd.DataFrame(evaluation.history)
        files.write_table(self.files.history, history)
        files.write_json(self.files.card, card)
        figures.draw_architecture(final, self.files.architecture)
        figures.draw_curves({models.title(self.files.model): history}, self.files.curves, card)
        self.files.checkpoint.unlink(missing_ok=True)
        return card


def share_batches(batch_size):
    """Under JAX, have Keras divide each batch among all devices; to be called before the network is built.
    The weights become those of one device up to rounding. Raises UserError if a batch cannot be divided."""
    if keras.backend.backend() != "jax":
        return
    count = len(keras.distribution.list_devices())
    if batch_size % count:
        raise UserError(f"a batch of {batch_size} faces cannot be shared by {count} devices; choose a "
                        f"--batch-size that is a multiple of {count}")
    if count > 1:
        print(f"{count} devices share each batch of {batch_size} faces")
        keras.distribution.set_distribution(keras.distribution.DataParallel())


def warn_about_leakage(paths, split):
    """Print a line for each model that was not split in the same way, where validation is a part of Training:
    it may have learnt the faces to validate on."""
    for path in paths:
        known = (models.read_card(path) or {}).get("split", {})
        is_same = all(known.get(key) == split[key] for key in ("fingerprint", "validation", "seed"))
        if split["training_rows"] < split["rows"] and not is_same:
            print(f"{path} may have been trained on faces to validate on: the validation accuracy may be too "
                  "high")


def keep_better(run_files, card):
    """Rename the model that a run is about to replace where it has seen more faces or is more accurate: NAME
    becomes NAME.previous, unless that is better still."""
    def worth(known):
        return (known.get("split", {}).get("training_rows") or 0,
                known.get("metrics", {}).get("validation_accuracy") or 0)

    previous, new = RunFiles(f"{run_files.model.stem}.previous", run_files.folder), worth(card)
    old, best = (worth(models.read_card(run.model) or {}) for run in (run_files, previous))
    is_better = old[0] > new[0] or old[1] > new[1]
    if not run_files.model.exists() or not is_better or old < best:
        return
    for path, kept in zip(run_files.results[:3], previous.results):  # model, card and history
        if path.exists():
            path.replace(kept)
    print(f"The earlier {files.relative_path(run_files.model)} ({old[0]:,} training faces, "
          f"{100 * old[1]:.1f} %) is now {files.relative_path(previous.model)}")


def make_card(run, final):
    """The model card (dict): everything to repeat and to assess a run by; `final` is the saved network."""
    evaluation, history = run.evaluation, run.evaluation.history
    loss, accuracy = callbacks.evaluate(final, run.validation)
    flipped = probabilities([final], run.validation.images, "flip").argmax(axis=1) == run.validation.labels
    metrics = {"validation_loss": loss, "validation_accuracy": accuracy,
               "validation_accuracy_flip": float(flipped.mean()) if len(flipped) else math.nan,
               "training_accuracy": history[evaluation.best["epoch"] - 1]["accuracy"]}
    seconds = sum(row["seconds"] for row in history)
    return {
        "name": run.options.name,
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "network": final.name,
        "parameters": final.count_params(),
        "multiply_adds": structure.multiply_adds(final),
        "classes": list(data.CLASSES),
        "input": "uint8 or float (n, 48, 48, 1), grey, 0-255; rescaling is inside the model",
        "split": run.split,
        "metrics": {key: None if math.isnan(value) else round(value, 4) for key, value in metrics.items()},
        "epochs": len(history),
        "saved_epoch": evaluation.best["epoch"],
        "precision": run.policy,
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "arguments": run.options.as_json(),
        "seconds": round(seconds, 1),
        "seconds_in_all": round(time.monotonic() - run.started, 1),
        "images_per_second": round(len(run.batches.labels) * len(history) / seconds),
    }


def add_to_experiments(card, path):
    """Add a run to the list of runs at `path`, where people fill in `verdict`: a list of the path, or an
    empty one for drawn faces, on which accuracy says nothing."""
    if card["split"]["data"] == "built-in sample":
        return []
    metrics, split = card["metrics"], card["split"]
    row = {"date": card["date"], "name": card["name"], "network": card["network"],
           "seed": card["arguments"]["seed"], "epochs": card["epochs"],
           "minutes": round(card["seconds"] / 60), "validation": split["validation"],
           "faces": split["validation_rows"], "accuracy": metrics["validation_accuracy"],
           "accuracy_flip": metrics["validation_accuracy_flip"], "hardware": card["hardware"],
           "command": card["command"], "verdict": ""}
    with files.locked(path.with_suffix(".lock"), f"another run is writing {path}", timeout=10):
        try:
            earlier = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (FileNotFoundError, pd.errors.EmptyDataError):
            earlier = pd.DataFrame()
        except ValueError as error:
            print(f"cannot add this run to {files.relative_path(path)}: {error}")
            return []
        files.write_table(path, pd.concat([earlier, pd.DataFrame([row], dtype=str)]).drop_duplicates())
    return [path]


def print_summary(card, written):
    """The closing lines of a training script: one aligned table, and the files written."""
    percent = {key: "-" if value is None else f"{100 * value:.2f} %"
               for key, value in card["metrics"].items()}
    cli.print_table(pd.DataFrame({
        "model": [card["name"]], "network": card["network"], "parameters": f"{card['parameters']:,}",
        "seconds": f"{card['seconds']:.0f}", "training": percent["training_accuracy"],
        "validation": percent["validation_accuracy"], "with flip": percent["validation_accuracy_flip"]}))
    cli.print_written(written)
