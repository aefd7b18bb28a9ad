"""The training loop that train_cnn.py and train_dnn.py share: stock Keras `fit()`, checkpoints, averages, model card.

A run is decided by its arguments and the data alone: the split, the initial weights, each epoch's order and each step's
augmentation are drawn from (seed, epoch, step), and the state after every epoch is on disk, so `--resume` continues to
the very weights that the uncut run would have reached.
"""

import contextlib
import math
import os
import sys
import time
import zipfile
import zlib

import keras
import numpy as np
from keras import ops

from utils import augmentation, data, models, recipes
from utils.cli import Progress, UserError, interruption, table
from utils.files import locked, replacing, shown, write_csv, write_json

HISTORY = ("epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


# ---- batches --------------------------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    """Training batches: ({image uint8 (b, 48, 48, 1), draws (b, 12), mixing (b, 5)}, soft labels float32 (b, 7)).

    The last, smaller batch of an epoch is left out, so that each step has one shape; the order differs every epoch.
    copied: rows that come once more in each epoch, as augmented copies drawn anew.
    """

    def __init__(self, images, labels, batch_size, seed, augment=None, copied=()):
        super().__init__()
        self.copied = np.array(copied, np.int64)
        self.originals, labels = images, np.concatenate([labels, labels[self.copied]])
        self.labels = np.eye(len(data.CLASSES), dtype=np.float32)[labels]
        self.batch_size, self.seed, self.augment = min(batch_size, len(labels)), seed, augment
        self.start(0)

    def start(self, epoch):
        """Set the epoch whose batches come next."""
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))
        rng = np.random.default_rng([self.seed, 3, epoch])
        copies = augmentation.augmented_copies(self.originals[self.copied], rng, augmentation.Augmentation())
        self.images = np.concatenate([self.originals, copies])[..., None]
        if keras.backend.backend() == "jax":  # the whole data on the device, so that only rows, draws and labels travel
            self.images = ops.convert_to_tensor(self.images)

    def __len__(self):
        return len(self.labels) // self.batch_size

    def __getitem__(self, step):
        rows = self.order[step * self.batch_size:(step + 1) * self.batch_size]
        x, y = {"image": self.images[rows]}, self.labels[rows]
        if self.augment:
            rng = np.random.default_rng([self.seed, self.epoch, step])
            x["draws"] = self.augment.draw(rng, len(rows))
            if self.augment.mix:
                x["mixing"], own = augmentation.draw_mix(rng, len(rows), self.augment.mix)
                y = np.float32(own) * y + np.float32(1 - own) * np.roll(y, 1, axis=0)
        return x, y


class Learner(keras.Model):
    """Augmentation, then the network's logits: what `fit` trains. Never saved; the network inside is."""

    def __init__(self, network, teachers=(), weight=0.7, temperature=2.0):
        super().__init__(name="learner")
        self.logits = keras.Model(network.inputs[0], network.get_layer("logits").output)
        self.teachers = [as_teacher(teacher) for teacher in teachers]
        for teacher in self.teachers:
            teacher.trainable = False
        self.weight, self.temperature = weight, temperature

    def view(self, x):
        images = ops.cast(x["image"], "float32")
        if "draws" in x:
            images = augmentation.apply(images, x["draws"])
        return augmentation.mix(images, x["mixing"]) if "mixing" in x else images

    def call(self, x, training=None):
        return self.logits(self.view(x), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not self.teachers:
            return loss
        view, t = self.view(x), self.temperature  # the graph optimiser merges this with the view computed in call()
        answers = [ops.maximum(ops.cast(teacher(view, training=False), "float32"), 1e-7) for teacher in self.teachers]
        targets = sum(ops.softmax(ops.log(answer) / t) for answer in answers) / len(answers)
        divergence = keras.losses.kl_divergence(ops.stop_gradient(targets), ops.softmax(y_pred / t))  # Hinton et al. 2015
        return (1 - self.weight) * loss + self.weight * t**2 * ops.mean(divergence)


def as_teacher(model):
    """A copy of a classifier of faces that computes as fast as the student: (n, 48, 48, 1) 0-255 -> probabilities (n, 7)."""
    if model.output_shape[-1] != len(data.CLASSES) or model.input_shape[1:] != (data.SIZE, data.SIZE, 1):
        raise UserError(f"teacher {model.name} maps {model.input_shape} to {model.output_shape}; expected 48x48x1 to 7")
    policy = keras.config.dtype_policy().name

    def faster(layer):  # convolutions as the student computes them; scores stay float32
        exact = isinstance(layer, (keras.layers.InputLayer, keras.layers.Dense, keras.layers.Softmax, keras.layers.Activation))
        return type(layer).from_config(layer.get_config() | ({} if exact else {"dtype": policy}))

    flat = models.flat_copy(model)
    copy = keras.models.clone_model(flat, clone_function=faster)
    copy.set_weights(flat.get_weights())
    return copy


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to `peak`, then constant, or by cosine or straight line to 0 at the last step."""

    def __init__(self, shape, peak, steps, warmup):
        self.shape, self.peak, self.steps, self.warmup = shape, peak, steps, max(round(warmup * steps), 1)

    def __call__(self, step):
        step = ops.cast(step, "float32") + 1
        done = ops.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        fall = {"constant": 1.0 + 0.0 * done, "linear": 1.0 - done, "cosine": 0.5 + 0.5 * ops.cos(math.pi * done)}
        return self.peak * ops.minimum(step / self.warmup, 1.0) * fall[self.shape]

    def get_config(self):
        return {"shape": self.shape, "peak": self.peak, "steps": self.steps, "warmup": self.warmup / self.steps}


def make_optimizer(args, steps):
    """The optimiser of a run: Adam or Nesterov SGD with schedule, decoupled weight decay on kernels, averaged weights."""
    constant = args.schedule == "constant" and not args.warmup
    common = {
        "learning_rate": args.learning_rate if constant else Schedule(args.schedule, args.learning_rate, steps, args.warmup),
        "weight_decay": args.weight_decay or None,
        "use_ema": args.ema > 0, "ema_momentum": args.ema or 0.99,
    }
    if args.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **common)
    else:
        optimizer = keras.optimizers.Adam(**common)
    if args.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


# ---- precision ------------------------------------------------------------------------------------------------


def has_native_bfloat16():
    """Whether this machine multiplies bfloat16 in hardware: the processor's flags, or any accelerator under JAX."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() != "cpu"  # XLA's CPU code emulates it
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), [])
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def set_precision(choice):
    """Apply --precision to the layers built from now on; returns the policy's name."""
    policy = ("mixed_bfloat16" if has_native_bfloat16() else "float32") if choice == "auto" else choice
    keras.config.set_dtype_policy(policy)
    return policy


@contextlib.contextmanager
def float32_layers():
    """Layers built inside the block compute in float32: the networks that are saved."""
    policy = keras.config.dtype_policy().name
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


# ---- the loop -------------------------------------------------------------------------------------------------


class Loop(keras.callbacks.Callback):
    """What happens around each epoch: batches, validation of the averaged weights, one line, a checkpoint.

    history: a list of rows as in HISTORY; best: {"epoch", "val_accuracy", "weights"} of the epoch that will be saved.
    """

    def __init__(self, learner, network, shadow, batches, validation, args, checkpoint):
        super().__init__()
        self.learner, self.network, self.shadow, self.batches = learner, network, shadow, batches
        self.validation, self.args, self.checkpoint = validation, args, checkpoint
        self.history, self.best, self.last_loss = [], None, math.nan

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start(epoch)
        self.clock = time.monotonic()
        self.progress = Progress(label=f"epoch {epoch + 1}/{self.args.epochs}", total=len(self.batches))

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            self.stop_at_nan(logs["loss"], batch)
        self.last_loss = float(logs["loss"])
        self.progress.step(f"loss {logs['loss']:.3f}  accuracy {logs['accuracy']:.3f}", n=batch + 1 - self.progress.done)

    def on_epoch_end(self, epoch, logs=None):
        self.progress.close()
        weights = averaged_weights(self.network, self.learner.optimizer, self.args.ema)
        self.shadow.set_weights(weights)
        val_loss, val_accuracy = score(self.shadow, self.validation)
        rate = float(ops.convert_to_numpy(self.learner.optimizer.learning_rate))
        row = (epoch + 1, rate, logs["loss"], logs["accuracy"], val_loss, val_accuracy, time.monotonic() - self.clock)
        self.history.append(row)
        better = self.best is None or self.args.keep == "last" or not val_accuracy <= self.best["val_accuracy"]
        if better:
            self.best = {"epoch": epoch + 1, "val_accuracy": val_accuracy, "weights": weights}
        if epoch == 0 or len(self.history) == 1:
            print("epoch  learning rate    loss  accuracy  val loss  val accuracy  seconds")
        print(f"{row[0]:5d}  {row[1]:13.2e}  {row[2]:6.4f}  {row[3]:8.4f}  {row[4]:8.4f}  {row[5]:12.4f}  {row[6]:7.1f}"
              + (" *" if better and self.args.keep == "best" else ""), flush=True)
        self.save(epoch + 1)
        self.tell_how_to_continue()

    def stop_at_nan(self, loss, step):
        """Raise UserError with the cause; the weights of the best epoch so far, if any, become a model of their own."""
        self.progress.close()
        before = "at once" if math.isnan(self.last_loss) else f"after {self.last_loss:.3g}"
        kept = "no epoch was finished"
        if self.best:
            path = models.MODELS / f"{self.args.name}_last_good.h5"
            self.shadow.set_weights(self.best["weights"])
            models.save(self.shadow, path)
            kept = f"the weights of epoch {self.best['epoch']} are in {shown(path)}, which --start-from reads"
        raise UserError(f"the loss became {loss} {before}, in step {step + 1} of epoch {len(self.history) + 1}: the run "
                        f"diverged; lower --learning-rate ({self.args.learning_rate}) or lengthen --warmup; {kept}")

    def tell_how_to_continue(self):
        done = len(self.history)
        interruption.how_to_continue = f"the same command with --resume continues after epoch {done}" if done else (
            "no epoch was done yet")

    def state(self):
        return [*self.learner.variables, *self.learner.optimizer.variables]

    def save(self, epochs_done):
        """Everything that the next epoch depends on, in one file that is replaced as a whole."""
        arrays = {f"state/{i:04d}": ops.convert_to_numpy(v) for i, v in enumerate(self.state())}
        arrays |= {f"best/{i:04d}": w for i, w in enumerate(self.best["weights"])}
        with replacing(self.checkpoint) as temporary:
            np.savez(temporary, epochs_done=epochs_done, history=np.array(self.history),
                     best=np.array([self.best["epoch"], self.best["val_accuracy"]]), run=run_key(self.args), **arrays)

    def restore(self):
        """Load the checkpoint; returns the number of finished epochs. Raises UserError when it belongs to another run."""
        try:
            with np.load(self.checkpoint, allow_pickle=False) as file:
                arrays = dict(file)
            if len(arrays) != len(self.state()) + len(self.network.weights) + 4:
                raise KeyError("state")
        except FileNotFoundError as error:
            raise UserError(f"nothing to resume at {shown(self.checkpoint)}; run without --resume") from error
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{shown(self.checkpoint)} is damaged or of another network; run without --resume") from error
        if str(arrays["run"]) != run_key(self.args):
            raise UserError(f"{shown(self.checkpoint)} was made with other options; "
                            "give the same ones, or run without --resume")
        for i, variable in enumerate(self.state()):
            variable.assign(arrays[f"state/{i:04d}"])
        self.history = [(int(row[0]), *map(float, row[1:])) for row in arrays["history"]]
        weights = [arrays[f"best/{i:04d}"] for i in range(len(self.network.weights))]
        self.best = {"epoch": int(arrays["best"][0]), "val_accuracy": float(arrays["best"][1]), "weights": weights}
        return int(arrays["epochs_done"])


def run_key(args):
    """What must be equal for --resume to make sense."""
    return repr(recipes.plain(args) | {"data": str(args.data)})


def averaged_weights(network, optimizer, ema):
    """The network's weights as numpy arrays, trainable ones replaced by their running averages when there are any."""
    averages = {}
    if ema:
        averages = {id(v): a for v, a in zip(optimizer._trainable_variables, optimizer._model_variables_moving_average)}
    return [np.array(ops.convert_to_numpy(averages.get(id(w), w))) for w in network.weights]


def start_from(path, network):
    """Give `network` the weights of the model file `path`, which must hold the same network."""
    weights = models.load(path).get_weights()
    if [w.shape for w in weights] != [tuple(w.shape) for w in network.weights]:
        raise UserError(f"{path} is another network than {network.name} with these options; --start-from needs the same one")
    network.set_weights(weights)


def score(network, faces):
    """Mean cross-entropy and accuracy of a network on labelled faces; (nan, nan) when there are none."""
    if not len(faces):
        return math.nan, math.nan
    probabilities = models.predict(network, faces.images)
    own = probabilities[np.arange(len(faces)), faces.labels]
    return float(-np.log(np.maximum(own, 1e-7)).mean()), float((probabilities.argmax(1) == faces.labels).mean())


def recompute_norms(network, batches, learner, count=200):
    """Batch-norm statistics for the averaged weights: exact means over `count` augmented training batches."""
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    logits = keras.Model(network.inputs[0], network.get_layer("logits").output)
    for i in range(min(count, len(batches))):
        for layer in norms:
            layer.momentum = i / (i + 1)
        x, _ = batches[i]
        logits(learner.view({key: ops.convert_to_tensor(value) for key, value in x.items()}), training=True)
    for layer, momentum in zip(norms, momenta):
        layer.momentum = momentum


def training_and_validation(args):
    """The two parts of the data that --data, --validation and --limit name, and how they were split (for the card)."""
    faces = data.find_data(args.data)
    if faces.labels is None:
        raise UserError(f"{faces.source} has no labels to train on; expected a column label or emotion")
    everything, faces = faces, data.training_part(faces)
    if args.limit:
        faces = faces.take(np.arange(min(args.limit, len(faces))))
    if not len(faces):
        raise UserError(f"{everything.source} has no row of Usage Training")
    how = {"data": faces.source, "fingerprint": faces.fingerprint(), "rows": len(faces), "validation": args.validation}
    try:
        share = float(args.validation)
    except ValueError:
        share = None
    if share is not None:
        if not 0 <= share < 1:
            raise UserError(f"--validation {args.validation} must be a share from 0 to below 1, a Usage or a file")
        train, validation = (faces.take(rows) for rows in data.split(faces, share, args.seed))
    elif args.validation in data.USAGES:
        if everything.usage is None:
            raise UserError(f"{everything.source} has no Usage column; give --validation a share or a file")
        train, validation = faces, everything.take(everything.usage == args.validation)
    else:
        train, validation = faces, data.load_labelled(args.validation, args.validation_labels)
    return train, validation, how | {"seed": args.seed, "training_rows": len(train), "validation_rows": len(validation)}


def rows_to_copy(labels, seed):
    """Rows, int64, whose copies give every class that occurs as many images as the largest; drawn with replacement."""
    rng = np.random.default_rng([seed, 3])
    counts = np.bincount(labels, minlength=len(data.CLASSES))
    return np.concatenate([rng.choice(np.flatnonzero(labels == code), counts.max() - count)
                           for code, count in enumerate(counts) if count])


def train(args, build):
    """Train `build()` (a network of utils.networks) as `args` say; write model, card, history. Returns the card (dict).

    build(final) is called for the network that trains (False) and for the one that is saved (True), which must have
    the same weights in the same order.
    """
    started = time.monotonic()
    policy = set_precision(args.precision)
    with refuse_second_run(args.name):
        training, validation, how = training_and_validation(args)
        keras.utils.set_random_seed(args.seed)
        network, shadow = build(False), build(True)
        if args.start_from:
            start_from(args.start_from, network)
        augment = augmentation.Augmentation(rotation=args.rotation, scale=args.scale, shift=args.shift, contrast=args.light,
                                            brightness=100 * args.light, erase=args.erase, mix=args.mix)
        batches = Batches(training.images, training.labels, args.batch_size, args.seed, augment if args.augment else None,
                          rows_to_copy(training.labels, args.seed) if args.oversample else ())
        learner = Learner(network, [models.load(path) for path in args.distill or []], args.distill_weight, args.temperature)
        learner.compile(make_optimizer(args, args.epochs * len(batches)),
                        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=args.label_smoothing),
                        metrics=["accuracy"], jit_compile=keras.backend.backend() == "jax")
        learner.optimizer.build(learner.trainable_variables)
        loop = Loop(learner, network, shadow, batches, validation, args, checkpoint_path(args.name))
        done = loop.restore() if args.resume else 0
        loop.tell_how_to_continue()
        print(f"{network.name}: {network.count_params():,} parameters, {policy}; {len(training):,} faces to train on"
              + (f" ({len(batches.labels):,} oversampled)" if args.oversample else "") + f", {len(validation):,} to validate"
              + (f"; resuming after epoch {done}" if done else ""))
        if done < args.epochs:
            learner.fit(batches, epochs=args.epochs, initial_epoch=done, callbacks=[loop], verbose=0, shuffle=False)
        with float32_layers():
            final = build(True)
        final.set_weights(loop.best["weights"])
        if args.ema:
            recompute_norms(final, batches, learner)
        paths = {kind: models.MODELS / f"{args.name}{ending}"
                 for kind, ending in (("model", ".h5"), ("card", ".json"), ("history", "_history.csv"))}
        models.save(final, paths["model"], half=args.name.startswith(models.RELEASE))
        final = models.load(paths["model"])  # what is measured is the file
        card = make_card(args, final, policy, how, loop, validation, started)
        write_csv(paths["history"], HISTORY, loop.history)
        write_json(paths["card"], card)
    return card


def make_card(args, final, policy, how, loop, validation, started):
    """The model card: everything needed to repeat and to judge the run."""
    from utils.networks import multiply_adds

    val_loss, val_accuracy = score(final, validation)
    seconds = sum(row[-1] for row in loop.history)
    rounded = {"validation_loss": val_loss, "validation_accuracy": val_accuracy,
               "training_accuracy": loop.history[loop.best["epoch"] - 1][3]}
    return {
        "name": args.name,
        "command": " ".join(["python", os.path.basename(sys.argv[0]), *sys.argv[1:]]),
        "network": final.name,
        "parameters": final.count_params(),
        "multiply_adds": multiply_adds(final),
        "classes": list(data.CLASSES),
        "input": "uint8 or float (n, 48, 48, 1), grey, 0-255; rescaling is inside the model",
        "split": how,
        "metrics": {key: None if math.isnan(value) else round(value, 4) for key, value in rounded.items()},
        "saved_epoch": loop.best["epoch"],
        "seconds": round(seconds, 1),
        "seconds_in_all": round(time.monotonic() - started, 1),
        "images_per_second": round(len(loop.batches.labels) * len(loop.history) / max(seconds, 1e-9)),
        "precision": policy,
        "hardware": models.hardware(),
        "versions": models.one_line_versions(),
        "arguments": recipes.plain(args),
    }


def summary(card, files):
    """The closing lines of a training script, one aligned table and the files written; now the checkpoint may go."""
    metrics = card["metrics"]
    percent = {key: "-" if value is None else f"{100 * value:.2f} %" for key, value in metrics.items()}
    print(table([[card["name"], card["network"], f"{card['parameters']:,}", f"{card['seconds']:.0f}",
                  percent["training_accuracy"], percent["validation_accuracy"]]],
                ["model", "network", "parameters", "seconds", "training", "validation"]))
    with contextlib.suppress(UserError), refuse_second_run(card["name"]):
        checkpoint_path(card["name"]).unlink(missing_ok=True)
    interruption.how_to_continue = ""
    print("Wrote " + ", ".join(shown(path) for path in files))


def checkpoint_path(name):
    return models.MODELS / f"{name}.checkpoint.npz"


def refuse_second_run(name):
    """A block during which no other process trains models/NAME. Raises UserError while one does."""
    return locked(models.MODELS / f"{name}.lock", f"another run is writing models/{name}; choose another --name or wait")
