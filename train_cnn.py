"""Question 1: the CNN. Its architecture, how training goes, and how accurate it is.

    python train_cnn.py                                    the report's CNN: 10 epochs, batch 80, Adam;
                                                           9 min on two cores, 57 % on PublicTest
    python train_cnn.py --oversample                       the same on classes evened out by augmented copies
    python train_cnn.py --network compact --name compact   our best network for two CPU cores: 33 min, 68 %
                                                           when trained on all Training faces
    python train_cnn.py --folds 5 --name folds             five networks: the accuracy on all faces, see below

Writes models/NAME.h5 (raw 0-255 faces in, probabilities out), models/NAME.json (model card),
models/NAME_history.csv, figures/NAME_architecture.png and figures/NAME_curves.png, and adds a row to
models/experiments.csv, the list of all runs. --folds 5 trains each network on other four fifths of the faces
and measures it, after its last epoch, on the rest, so that each face counts once, by a network that has not
seen it; each network has these files, as NAME-fold1 and so on. --resume continues a stopped run.
"""

import argparse
import datetime
import math
import shlex
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from training import recipes
from utils import cli, files
from utils.cli import UserError, interruption


def main(argv=None):
    args = parse_args(argv)
    cli.start_keras()
    from training import devices

    if devices.join() and args.folds:
        raise UserError("--folds trains several networks; start it as one process")
    if args.folds:
        card, written = cross_validate(args, builder(args), argv)
    else:
        card, written = train(args, builder(args), argv)
    print_summary(card, written + add_to_experiments(card))
    return card


def parse_args(argv):
    parser = cli.Parser(__doc__)
    recipes.add_arguments(parser, recipes.CNNS, name="cnn")
    parser.add_argument("--extra-conv", type=cli.number(int, 0, 16), default=0,
                        help="additional convolutions of 64 filters in the report's network")
    parser.add_argument("--folds", type=cli.number(int, 2, 20), metavar="K",
                        help="train K networks, each validated on another K-th of the faces")
    args = recipes.parse_args(parser, recipes.CNNS, argv)
    if args.network != "report" and (args.extra_conv or args.l2 or args.dropconnect):
        raise UserError("--extra-conv, --l2 and --dropconnect belong to --network report, "
                        f"not to {args.network}")
    if args.folds and args.validation != parser.get_default("validation"):
        raise UserError("--folds chooses the faces to validate on; leave out --validation")
    if args.folds and (args.start_from or args.distill):
        raise UserError("--folds measures each face by a network that has not seen it; the models of "
                        "--start-from and --distill may have")
    for name in fold_names(args):
        check_outputs(name)
    return args


def builder(args):
    """A function without arguments that builds the network of `args` with new weights."""
    from training import networks

    build = getattr(networks, f"{args.network}_cnn")
    if args.network == "report":
        return partial(build, args.dropout, args.l2, args.dropconnect, args.extra_conv)
    return partial(build, args.dropout)


# ---- training, shared with train_dnn.py --------------------------------------------------------------------


def train(args, build, argv=None):
    """Train the network that `build()` makes as `args` say; returns its model card and the files written."""
    import keras

    from training import callbacks, devices, figures
    from training.model import recompute_batch_norm
    from utils import models, structure

    started = time.monotonic()
    with only_run(args.name):
        run = prepare(args, build)
        network, batches, evaluation = run.network, run.batches, run.evaluation
        checkpoint = callbacks.Checkpoint(
            checkpoint_path(args.name), evaluation,
            callbacks.run_key(args, run.policy, run.faces, run.validation))
        done = checkpoint.restore(run.model) if args.resume else 0
        copies = len(batches.labels) - len(run.faces)
        oversampled = f" ({len(batches.labels):,} oversampled)" if copies else ""
        resuming = f"; resuming after epoch {done}" if done else ""
        print(f"{network.name}: {network.count_params():,} parameters, {run.policy}; {len(run.faces):,} "
              f"faces to train{oversampled}, {len(run.validation):,} to validate{resuming}")
        if done < args.epochs:
            with cli.progress_bar() as bar:
                progress = callbacks.ProgressLines(bar, evaluation, len(batches))
                fit(run, args, [progress, checkpoint], done)

        # ---- Results: what is measured is the file
        if not devices.is_main():
            sys.exit()
        keras.distribution.set_distribution(None)
        final = structure.flat_copy(network, dtype="float32")
        final.set_weights(evaluation.best["weights"])
        if args.ema:
            batches.start_epoch(args.epochs - 1)  # where a run resumed after its last epoch has not been
            recompute_batch_norm(final, batches, run.model)
        model_path, card_path, history_path, *_ = output_paths(args.name)
        with files.replacing(model_path) as temporary:  # until it is measured: a model never has an old card
            models.save(final, temporary, half=args.half)
            card = make_card(args, models.load(temporary), run, argv)
        seconds = sum(row["seconds"] for row in evaluation.history)
        card |= {"seconds": round(seconds, 1), "seconds_in_all": round(time.monotonic() - started, 1),
                 "images_per_second": round(len(batches.labels) * len(evaluation.history) / seconds)}
        files.write_table(history_path, evaluation.history_table())
        files.write_json(card_path, card)
        figures.training_figures(card)
        checkpoint_path(args.name).unlink(missing_ok=True)
        interruption.how_to_continue = ""
    return card, output_paths(args.name)


def prepare(args, build):
    """What `args` say, ready to be trained by `fit`: faces, batches, network, compiled model, evaluation."""
    import keras

    from training import callbacks, devices
    from training.augmentation import Augmentation
    from training.batches import Batches, rows_to_copy
    from training.model import TrainingModel, make_optimizer, set_precision, start_from
    from utils import data, models

    # ---- Data: faces, and the split that the model card will remember
    faces, validation, split = data.load_split(
        args.data, args.validation, args.seed, args.limit, args.validation_labels, args.classes,
        args.labels_from)
    augment = Augmentation(
        args.augment, rotation=args.rotation, scale=args.scale, shift=args.shift, contrast=args.light,
        brightness=100 * args.light, erase=args.erase, mix=args.mix)
    copied_rows = rows_to_copy(faces.labels, args.seed) if args.oversample else ()
    labels = faces.labels if faces.soft is None else faces.soft
    batches = Batches(faces.images, labels, args.batch_size, args.seed, augment, copied_rows,
                      mix_epochs=round(args.mix_until * args.epochs))

    # ---- Network: raw 0-255 in, probabilities out
    devices.share_batches(batches.batch_size)
    policy = set_precision(args.precision)
    keras.utils.set_random_seed(args.seed)
    network = build()
    if args.start_from:
        start_from(args.start_from, network)

    # ---- Model: what turns the network's logits into a loss and its gradients into steps
    teachers = [models.load(path) for path in args.distill or []]
    warn_of_seen_faces(args, split)
    model = TrainingModel(network, teachers, args.distill_weight, args.temperature)
    model.compile(
        make_optimizer(args, args.epochs * len(batches)),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=args.label_smoothing),
        metrics=["accuracy"], jit_compile=keras.backend.backend() == "jax")
    model.optimizer.build(model.trainable_variables)
    evaluation = callbacks.EvaluateAverages(network, batches, validation, args)
    return SimpleNamespace(faces=faces, validation=validation, split=split, batches=batches, policy=policy,
                           network=network, model=model, evaluation=evaluation)


def warn_of_seen_faces(args, split):
    """Print a line for each model of --start-from and --distill that may have learnt the faces to validate
    on: where these are a part of Training, each that was not split in the same way."""
    from utils import models

    for path in [*filter(None, [args.start_from]), *(args.distill or [])]:
        known = (models.read_card(path) or {}).get("split", {})
        is_same = all(known.get(key) == split[key] for key in ("fingerprint", "validation", "seed"))
        if split["training_rows"] < split["rows"] and not is_same:
            print(f"{path} may have been trained on faces to validate on: the validation accuracy may be too "
                  "high")


def fit(run, args, callbacks, done=0):
    """Keras' own fit(), from the epoch after `done`; what must happen after each epoch is a callback."""
    from training import devices

    with devices.ending_together():
        run.model.fit(run.batches.for_fit(), epochs=args.epochs, initial_epoch=done, verbose=0, shuffle=False,
                      callbacks=[run.evaluation, *callbacks])


def output_paths(name):
    """The files that a run called `name` writes: model, card, history, architecture, curves."""
    from utils.models import FIGURES, MODELS

    return [MODELS / f"{name}.h5", MODELS / f"{name}.json", MODELS / f"{name}_history.csv",
            FIGURES / f"{name}_architecture.png", FIGURES / f"{name}_curves.png"]


def check_outputs(name):
    """Raise UserError now where a run called `name` could not write its files at its end."""
    first_columns = {path: "epoch" if path.suffix == ".csv" else "" for path in output_paths(name)}
    files.check_outputs(first_columns | {experiments_path(): "date"})


def experiments_path():
    return output_paths("experiments")[0].with_suffix(".csv")


def checkpoint_path(name):
    return output_paths(name)[0].with_name(f"{name}.checkpoint.npz")


def only_run(name):
    """A block during which no other process trains models/NAME. Raises UserError while one does."""
    from training import devices

    if not devices.is_main():
        return nullcontext()
    lock = output_paths(name)[0].with_name(f"{name}.lock")
    return files.locked(lock, f"another run is writing models/{name}; choose another --name or wait")


def make_card(args, final, run, argv):
    """The model card: everything needed to repeat and to assess the run; `final` is the saved network."""
    from training.callbacks import evaluate
    from utils import data, machine, structure
    from utils.evaluation import probabilities

    validation, evaluation = run.validation, run.evaluation
    loss, accuracy = evaluate(final, validation)
    flipped = probabilities([final], validation.images, "flip").argmax(axis=1) == validation.labels
    metrics = {"validation_loss": loss, "validation_accuracy": accuracy,
               "validation_accuracy_flip": float(flipped.mean()) if len(validation) else math.nan,
               "training_accuracy": evaluation.history[evaluation.best["epoch"] - 1]["accuracy"]}
    arguments = sys.argv[1:] if argv is None else map(str, argv)
    return {
        "name": args.name,
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", Path(sys.argv[0]).name, *arguments]),
        "network": final.name,
        "parameters": final.count_params(),
        "multiply_adds": structure.multiply_adds(final),
        "classes": list(data.CLASSES),
        "input": "uint8 or float (n, 48, 48, 1), grey, 0-255; rescaling is inside the model",
        "split": run.split,
        "metrics": {key: None if math.isnan(value) else round(value, 4) for key, value in metrics.items()},
        "saved_epoch": evaluation.best["epoch"],
        "precision": run.policy,
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "arguments": recipes.as_json(args),
    }


def add_to_experiments(card):
    """Add a run on a file of faces to models/experiments.csv; `verdict` there is for people to fill in.

    Returns the path in a list; an empty list for the drawn faces, on which accuracy says nothing.
    """
    import pandas as pd

    if card["split"]["data"] == "built-in sample":
        return []
    path, metrics, split = experiments_path(), card["metrics"], card["split"]
    row = {"date": datetime.date.today().isoformat(), "name": card["name"], "network": card["network"],
           "seed": card["arguments"]["seed"], "epochs": card["arguments"]["epochs"],
           "minutes": round(card["seconds"] / 60), "validation": split["validation"],
           "faces": split["validation_rows"], "accuracy": metrics["validation_accuracy"],
           "accuracy_flip": metrics["validation_accuracy_flip"], "hardware": card["hardware"],
           "command": card["command"], "verdict": ""}
    with files.locked(path.with_suffix(".lock"), f"another run is writing {path}", timeout=10):
        try:
            earlier = pd.read_csv(path, dtype=str, keep_default_na=False)
        except FileNotFoundError:
            earlier = pd.DataFrame()
        except ValueError as error:
            raise UserError(f"cannot add this run to {files.relative_path(path)}: {error}") from error
        files.write_table(path, pd.concat([earlier, pd.DataFrame([row], dtype=str)]).drop_duplicates())
    return [path]


# ---- cross-validation --------------------------------------------------------------------------------------


def fold_names(args):
    """The --name of each fold's network; without --folds the --name itself."""
    return [f"{args.name}-fold{fold}" for fold in range(1, args.folds + 1)] if args.folds else [args.name]


def fold_args(args, fold, name=None):
    """The arguments of the run that leaves out one fold, 1 to --folds, and is measured on it."""
    return argparse.Namespace(**vars(args) | {
        "name": name or args.name, "validation": f"{fold}/{args.folds}", "validation_labels": None,
        "keep": "last"})  # the best epoch on these faces would flatter the accuracy on them


def cross_validate(args, build, argv):
    """Train --folds networks, with --resume those that are not finished.

    Returns a model card, whose metrics are means over the folds weighted by their faces, and the files
    written.
    """
    from utils import data, models

    everything = data.find_data(args.data, args.classes, args.labels_from)
    faces = data.training_part(everything).take(slice(0, args.limit))
    interruption.outer = "the same command with --resume continues with the fold that was stopped"
    cards, written = [], []
    for fold, name in enumerate(fold_names(args), start=1):
        part = fold_args(args, fold, name)
        model_path = output_paths(name)[0]
        card = models.read_card(model_path) if args.resume and model_path.exists() else None
        is_finished = card is not None and card.get("arguments") == recipes.as_json(part) and (
            card["split"]["fingerprint"] == faces.fingerprint())
        if not is_finished:
            part.resume = args.resume and checkpoint_path(name).exists()
            print(f"Fold {fold} of {args.folds}")
            card, paths = train(part, build, argv)
            written += paths
        cards.append(card)
    interruption.outer = ""

    counts = [card["split"]["validation_rows"] for card in cards]
    mean = {key: round(sum(n * card["metrics"][key] for n, card in zip(counts, cards)) / sum(counts), 4)
            for key in cards[0]["metrics"]}
    error = math.sqrt(mean["validation_accuracy"] * (1 - mean["validation_accuracy"]) / sum(counts))
    print(f"Each face by the network that has not seen it: {100 * mean['validation_accuracy']:.2f} % of "
          f"{sum(counts):,} faces, standard error {100 * error:.2f} points; with its mirror image "
          f"{100 * mean['validation_accuracy_flip']:.2f} %")
    split = cards[0]["split"] | {"validation": f"{args.folds} folds", "validation_rows": sum(counts)}
    seconds = sum(card["seconds"] for card in cards)
    return cards[0] | {"name": args.name, "metrics": mean, "seconds": seconds, "split": split}, written


def print_summary(card, written):
    """The closing lines of a training script: one aligned table and the files written."""
    import pandas as pd

    metrics = card["metrics"].items()
    percent = {key: "-" if value is None else f"{100 * value:.2f} %" for key, value in metrics}
    cli.print_table(pd.DataFrame({
        "model": [card["name"]], "network": card["network"], "parameters": f"{card['parameters']:,}",
        "seconds": f"{card['seconds']:.0f}", "training": percent["training_accuracy"],
        "validation": percent["validation_accuracy"], "with flip": percent["validation_accuracy_flip"]}))
    if written:
        print("Wrote " + ", ".join(files.relative_path(path) for path in written))


if __name__ == "__main__":
    cli.run(main)
