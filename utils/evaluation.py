"""What evaluate.py, plot_confusion.py and predict.py share: probabilities, metrics with intervals, the faces to judge on.

The options live here too, so nothing at the top imports Keras, and `--help` answers at once.
"""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from utils import models
from utils.cli import Progress, UserError
from utils.data import CLASSES, SAMPLE, SIZE, USAGES, find_data, image_groups, load_labelled, training_part
from utils.files import PROJECT, shown

TTA = ("none", "flip", "ten-crop")
DEFAULT_SHIFT = 4  # pixels, for networks without a crop of their own
BINS = 15  # of confidence, as in Guo et al. 2017
REPLICATES = 2000
ROWS_AT_ONCE = 2048  # between two steps of the progress bar


# ---- options --------------------------------------------------------------------------------------------------


def add_tta(parser):
    """The option --tta."""
    parser.add_argument("--tta", choices=TTA, default="none",
                        help="test-time augmentation: average over the mirror image, or over four corner shifts and the "
                             "centre, each also mirrored")


def add_data(parser):
    """The options that name the labelled faces to judge on; see `faces_to_judge`."""
    parser.add_argument("--data", type=Path, help="labelled CSV or image folder (default: the model's own validation split)")
    parser.add_argument("--labels", type=Path, metavar="ID_LABEL.csv", help="id,label CSV for a --data without labels")
    parser.add_argument("--usage", choices=USAGES, help="only the rows of this Usage")
    parser.add_argument("--training-data", type=Path, metavar="TRAIN.csv",
                        help="where the data of the validation split now lies, if not where the model card says")


# ---- faces ----------------------------------------------------------------------------------------------------


def faces_to_judge(args, paths):
    """The labelled faces that the options of `add_data` name, for the models at `paths`.

    Returns Faces; `source` says what they are. Without --data and --usage: the validation split on which all the models
    were validated. Raises UserError when there is none, or when a file has several Usages and none is chosen.
    """
    if args.data is None and args.labels is not None:
        raise UserError(f"--labels {args.labels} belongs to a --data; name the file of faces too")
    if args.data is None and args.usage is None:
        faces = validation_faces(paths[0], args.training_data)
        own = split_of(paths[0])
        for path in paths[1:]:
            if not is_same_split(split_of(path), own):
                raise UserError(f"{path} was trained on another split than {paths[0]} and may have seen these faces; "
                                "name faces that neither has seen with --data")
        return faces
    faces = load_labelled(args.data, args.labels) if args.data else find_data()
    if faces.labels is None:
        raise UserError(f"{faces.source} has no labels; name labelled faces with --data")
    if args.usage is None:
        if faces.usage is not None and len(set(faces.usage)) > 1:
            raise UserError(f"{faces.source} has rows of Usage {', '.join(sorted(set(faces.usage)))}; choose with --usage")
        return faces
    if faces.usage is None or not (faces.usage == args.usage).any():
        raise UserError(f"{faces.source} has no row of Usage {args.usage}; leave out --usage to take all its rows")
    return dataclasses.replace(faces.take(faces.usage == args.usage), source=f"{faces.source} {args.usage}")


def split_of(model_path):
    """How a model's data was split, from its card: a dict (see utils.training). Raises UserError when no card says."""
    card = models.read_card(model_path)
    if card is None:
        raise UserError(f"{model_path} has no model card ({models.card_path(model_path).name}) to tell its validation split; "
                        "name labelled faces with --data")
    split = card.get("split") if isinstance(card, dict) else None
    if not isinstance(split, dict) or not {"data", "fingerprint", "validation", "seed"} <= set(split):
        raise UserError(f"{models.card_path(model_path)} does not say how the data was split; "
                        "name labelled faces with --data")
    arguments = card.get("arguments") or {}
    return split | {key: arguments.get(key) for key in ("limit", "validation_labels")}


def is_same_split(a, b):
    """Whether two splits hold the same validation faces out of the same data."""
    return all(a.get(key) == b.get(key) for key in ("fingerprint", "validation", "seed", "validation_labels"))


def validation_faces(model_path, data=None):
    """The faces on which a model was validated, recovered from its card and checked by fingerprint.

    data: the file that the model was trained on (default: where the card says, else what `find_data` finds).
    Returns Faces. Raises UserError without a card, without a validation part, or when the data is not the card's.
    """
    from utils.training import training_and_validation

    split = split_of(model_path)
    if data is None:
        places = (Path(split["data"]), PROJECT / split["data"])
        data = SAMPLE if split["data"] == "built-in sample" else next((place for place in places if place.exists()), None)
    args = SimpleNamespace(data=data, limit=split["limit"], validation=str(split["validation"]), seed=split["seed"],
                           validation_labels=split["validation_labels"])
    _, faces, found = training_and_validation(args)
    if found["fingerprint"] != split["fingerprint"]:
        raise UserError(f"{found['data']} ({found['rows']:,} faces) is not the data that {model_path} was trained on "
                        f"({split['data']}, {split.get('rows', '?'):,} faces); name that with --training-data, "
                        "or other faces with --data")
    if not len(faces):
        raise UserError(f"{model_path} was trained without a validation split; name labelled faces with --data")
    if args.validation in USAGES:
        faces.source += f" {args.validation}"
    elif found["training_rows"] + len(faces) == found["rows"]:
        faces.source = f"the validation split of {faces.source}"
    return faces


def seen_in(faces, training):
    """Which faces occur byte for byte among the training faces (rows of Usage Training, where that is told): bool (n,)."""
    training = training_part(training)
    groups = image_groups(np.concatenate([faces.images, training.images]))
    return np.isin(groups[:len(faces)], groups[len(faces):])


# ---- probabilities --------------------------------------------------------------------------------------------


def load_networks(paths):
    """Load models of the seven expressions: a list of keras.Model. Raises UserError for any other model."""
    networks = []
    for path in paths:
        network = models.load(path)
        if network.output_shape[-1] != len(CLASSES):
            raise UserError(f"{path} tells {network.output_shape[-1]} classes apart; expected the {len(CLASSES)} "
                            f"expressions {', '.join(CLASSES)}")
        networks.append(network)
    return networks


def probabilities(networks, images, tta="none"):
    """Class probabilities of faces, averaged over the networks and over the views of test-time augmentation.

    networks: a list of keras.Model that end in probabilities or in logits; images: uint8 (n, 48, 48), 0-255;
    tta: one of TTA (ten-crop: Krizhevsky et al. 2012). Returns float64 (n, 7), rows sum to 1.
    """
    chunks = np.array_split(images, max(-(-len(images) // ROWS_AT_ONCE), 1))  # even, so that one batch shape is traced
    steps = [(network, start) for network in networks for start in range(len(chunks))]
    sums = [0.0] * len(chunks)
    for network, i in Progress(steps, "predicting"):
        seen = [to_probabilities(models.predict(network, view)) for view in views(chunks[i], tta, crop_shift(network))]
        sums[i] = sums[i] + sum(seen) / len(seen)
    return np.concatenate(sums) / len(networks)


def to_probabilities(scores):
    """A network's output (n, classes) as float64 probabilities: taken as they are where rows sum to 1, else softmax."""
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise UserError("the model's output is not a number for some faces; its weights are damaged: train it again")
    total = scores.sum(axis=-1, keepdims=True)
    if (scores >= 0).all() and (np.abs(total - 1) < 0.02).all():  # 0.02: a softmax in bfloat16
        return scores / total
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def crop_shift(network):
    """By how many pixels of a 48x48 face ten-crop shifts: what the network's own CenterCrop cuts off each side.

    A network that sees the centre 40x40 then sees the four corners (4); one without such a layer gets DEFAULT_SHIFT.
    """
    import keras

    size = network.input_shape[1] or SIZE
    crop = next((layer for layer in network.layers if isinstance(layer, keras.layers.CenterCrop)), None)
    return DEFAULT_SHIFT if crop is None else max(round((size - crop.height) / 2 * SIZE / size), 0)


def views(images, tta, shift):
    """The images of test-time augmentation: yields arrays like `images` (n, h, w), the unchanged ones first."""
    shifts = [(0, 0)] + [(dy, dx) for dy in (-shift, shift) for dx in (-shift, shift)] * (tta == "ten-crop")
    for dy, dx in shifts:
        moved = shifted(images, dy, dx)
        yield moved
        if tta != "none":
            yield moved[:, :, ::-1]


def shifted(images, dy, dx):
    """Images (n, h, w) moved down by `dy` and right by `dx` pixels; what comes in repeats the edge."""
    height, width = images.shape[1:]
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    return images[:, rows[:, None], columns]


# ---- metrics --------------------------------------------------------------------------------------------------


def confusion(labels, predicted):
    """Counts (7, 7), int64: rows are true classes, columns predicted ones."""
    n = len(CLASSES)
    return np.bincount(np.asarray(labels) * n + predicted, minlength=n * n).reshape(n, n)


def ratio(a, b):
    """a / b as float64, nan where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)


def scores(counts):
    """Metrics of confusion counts (..., 7, 7), rows true.

    Returns a dict: accuracy and macro_f1 (...,), precision, recall and f1 (..., 7), share (..., 7, 7; each row sums
    to 1). Undefined ones are nan: the recall of a class without images, the precision of a class never predicted. Macro-F1
    is the mean over the classes that occur as true or predicted, as in scikit-learn.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    true, called = counts.sum(-1), counts.sum(-2)
    f1 = ratio(2 * hits, true + called)
    known = ~np.isnan(f1)
    return {"accuracy": ratio(hits.sum(-1), true.sum(-1)), "macro_f1": ratio(np.where(known, f1, 0).sum(-1), known.sum(-1)),
            "precision": ratio(hits, called), "recall": ratio(hits, true), "f1": f1, "share": ratio(counts, true[..., None])}


def calibration(probabilities, labels):
    """How far confidence is from accuracy, in BINS equal bins (lower, upper] of the largest probability.

    Returns (bin of each face int (n,), gap of each face (n,): confidence - correct, both needed to bootstrap).
    The expected calibration error (Naeini et al. 2015) is `ece` of the two.
    """
    confidence = probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return bins, confidence - (probabilities.argmax(axis=1) == labels)


def ece(bins, gaps):
    """Expected calibration error, 0-1: the mean over faces of |mean confidence - accuracy| of each face's bin."""
    return float(np.abs(np.bincount(bins, gaps, minlength=BINS)).sum() / len(bins))


def bootstrap(probabilities, labels, replicates=REPLICATES, seed=0):
    """Resample faces with replacement (Efron 1979): counts int64 (replicates, 7, 7) and ECE float64 (replicates,).

    The same seed and number of faces draw the same rows, so two models' replicates can be subtracted. A cell that is empty
    stays empty in every resample: its interval is 0 to 0, whatever the size of the class.
    """
    rng = np.random.default_rng(seed)
    n, k = len(labels), len(CLASSES)
    cells = labels * k + probabilities.argmax(axis=1)
    bins, gaps = calibration(probabilities, labels)
    counts, errors = np.empty((replicates, k, k), np.int64), np.empty(replicates)
    for i in range(replicates):
        rows = rng.integers(n, size=n)
        counts[i] = np.bincount(cells[rows], minlength=k * k).reshape(k, k)
        errors[i] = ece(bins[rows], gaps[rows])
    return counts, errors


def interval(samples):
    """The middle 95 % of bootstrap samples (replicates, ...): low and high, each (...). nan samples do not count."""
    samples = np.asarray(samples, np.float64)
    flat = samples.reshape(len(samples), -1)
    ends = np.full((2, flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        known = flat[~np.isnan(flat[:, column]), column]
        if len(known):
            ends[:, column] = np.quantile(known, (0.025, 0.975))
    return ends[0].reshape(samples.shape[1:]), ends[1].reshape(samples.shape[1:])


def measure(probabilities, labels):
    """Every metric with its bootstrap 95 % interval, ready for JSON.

    probabilities: (n, 7); labels: int (n,). Returns {"rows": n, "accuracy", "macro_f1", "ece": [value, low, high],
    "recall": {class: [value, low, high]}}; None where undefined. A resample's ECE is biased upwards, so that interval is
    moved to have the estimate as its centre of mass. Raises UserError when there is no face.
    """
    if not len(labels):
        raise UserError("no face is left to judge on; choose other data")
    counts, errors = bootstrap(probabilities, labels)
    value, samples = scores(confusion(labels, probabilities.argmax(axis=1))), scores(counts)
    error = ece(*calibration(probabilities, labels))
    low, high = interval(errors - errors.mean() + error)
    recall = triples(value["recall"], *interval(samples["recall"]))
    return {"rows": len(labels), **{key: triples(value[key], *interval(samples[key])) for key in ("accuracy", "macro_f1")},
            "ece": triples(error, max(low, 0.0), high), "recall": dict(zip(CLASSES, recall))}


def triples(value, low, high):
    """[value, low, high] rounded for JSON, or a list of such; None for nan."""
    if np.ndim(value):
        return [triples(*numbers) for numbers in zip(value, low, high)]
    return [None if np.isnan(number) else round(float(number), 5) for number in (value, low, high)]


def percent(triple):
    """A [value, low, high] as text: `63.1 [61.5, 64.6]`, in per cent; `-` where undefined."""
    if triple[0] is None:
        return "-"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * number for number in triple))


def name_of(path):
    """A model's name in tables and figures: the file's, without its ending."""
    return Path(shown(path)).stem
