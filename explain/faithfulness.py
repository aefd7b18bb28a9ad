"""Evidence for an attribution map: what is lost without its pixels, and whether it needs what was learnt.

`values` are maps as `attribution.strength` gives them, float32 (n, h, w); `targets` are class codes, int
(n,); those of `cascade`, which measures no probability, may be any that `attribution.attribute` takes.
"""

import zlib

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from explain import attribution
from explain.subjects import probabilities
from utils import cli, metrics, structure

STEPS = 16  # points of a deletion or insertion curve after the first
FAILS = 0.5  # a method fails whose maps stay more similar than this without what the upper half has learnt


def ranks(values, seed=0):
    """Rank of each pixel in its map, 0 the most salient, ties in random order: int64 (n, h*w)."""
    flat = values.reshape(len(values), -1)
    ties = np.random.default_rng([seed, 5]).uniform(size=flat.shape)
    return np.argsort(np.lexsort((ties, -flat), axis=1), axis=1)


def most_salient(values, share, seed=0):
    """The pixels that speak most for the class: bool (n, h, w). Of each map at most `share` (0-1; a number or
    one a map) of the area, and nothing that is not above zero; `.mean((1, 2))` is the area that there was."""
    counts = np.round(np.broadcast_to(share, len(values)) * values[0].size)
    return (ranks(values, seed).reshape(values.shape) < counts[:, None, None]) & (values > 0)


def masked(images, keep, fill="mean"):
    """Faces where `keep` (bool, n, h, w), and `fill` (see `attribution.filled`) elsewhere: float32."""
    return np.where(keep, np.asarray(images, np.float32), attribution.filled(images, fill))


def salient_kept(model, images, targets, values, share, fill="mean", seed=0):
    """Faces with all but `most_salient` masked, the probability of the target then, and the area that was
    kept (0-1): float32 (n, h, w), float64 (n,) twice."""
    pixels = most_salient(values, share, seed)
    faces = masked(images, pixels, fill)
    p = probabilities(model, faces)[np.arange(len(faces)), targets]
    return faces, p.astype(float), pixels.mean((1, 2))


def random_kept(model, images, targets, share, fill="mean", seed=0, draws=50):
    """Probability of the target where random pixels are kept, `share` (0-1, one a face) of the area: mean and
    standard deviation over `draws`, which depend on seed and face alone; two float64 (n,)."""
    kept = []
    for image, target, area in zip(images, targets, share):
        rng = np.random.default_rng([seed, 7, zlib.crc32(np.ascontiguousarray(image, np.float32))])
        pixels = rng.permuted(np.tile(np.arange(image.size), (draws, 1)), axis=1) < round(area * image.size)
        frames = masked(np.repeat(image[None], draws, 0), pixels.reshape(draws, *image.shape), fill)
        kept.append(probabilities(model, frames)[:, target])
    return np.mean(kept, axis=1, dtype=float), np.std(kept, axis=1, dtype=float)


def curves(model, images, targets, values, fill="blurred", seed=0):
    """Probability of the target as the most salient pixels go (deletion, good if low) or come (insertion,
    good if high; Petsiuk et al. 2018, who fill with grey for deletion where this blurs, too): two float32
    (n, STEPS + 1), at shares 0 to 1 of the area."""
    images, fills = np.asarray(images, np.float32), attribution.filled(images, fill)
    rank, counts = ranks(values, seed), np.round(np.linspace(0, 1, STEPS + 1) * values[0].size)
    deletion, insertion = np.empty((2, len(images), STEPS + 1), np.float32)
    for i, image in enumerate(images):
        first = (rank[i] < counts[:, None]).reshape(-1, *image.shape)
        frames = np.concatenate([np.where(first, fills[i], image), np.where(first, image, fills[i])])
        deletion[i], insertion[i] = probabilities(model, frames)[:, targets[i]].reshape(2, -1)
    return deletion, insertion


def evaluate(model, images, targets, values, seed=0):
    """Deletion and insertion by {method: values}, two DataFrames. Scores, one row per method and face, whose
    number is the index: method, deletion_area, insertion_area and blank. Mean curves, one row per method and
    point: method, share_of_area, deletion, insertion."""
    scores, means = [], []
    for method in cli.track(list(values), "deletion and insertion"):
        deletion, insertion = curves(model, images, targets, values[method], seed=seed)
        scores.append(pd.DataFrame({
            "method": method, "deletion_area": np.trapezoid(deletion, dx=1 / STEPS),
            "insertion_area": np.trapezoid(insertion, dx=1 / STEPS),
            "blank": attribution.is_blank(values[method])}))
        means.append(pd.DataFrame({
            "method": method, "share_of_area": np.linspace(0, 1, STEPS + 1),
            "deletion": [float(point.mean()) for point in deletion.T],
            "insertion": [float(point.mean()) for point in insertion.T]}))
    return pd.concat(scores), pd.concat(means, ignore_index=True)


def spearman(a, b):
    """Rank correlation of two sets of maps (n, ...), ties averaged: (n,); 0 where either map is blank."""
    first, second = (pd.DataFrame(maps.reshape(len(maps), -1)).rank(axis=1) for maps in (a, b))
    return first.corrwith(second, axis=1).fillna(0).to_numpy()


def ssim(a, b):
    """Structural similarity (Wang et al. 2004) of two sets of maps (n, h, w), each cut at zero and scaled to
    a maximum of 1, in windows of 7 pixels (theirs: 11, for larger images): float64 (n,)."""
    scaled = [np.maximum(maps, 0) / np.maximum(maps.max((1, 2), keepdims=True), 1e-30) for maps in (a, b)]
    tensors = [tf.constant(maps[..., None], tf.float32) for maps in scaled]
    return tf.image.ssim(*tensors, max_val=1.0, filter_size=7).numpy().astype(float)


def stages(model):
    """At most 12 lists of layers to re-initialise, from the output down; normalisations with convolutions."""
    groups, waiting = [], []
    for layer in reversed([layer for layer in model.layers if layer.weights]):
        waiting.append(layer.name)
        if any("kernel" in weight.name for weight in layer.weights):
            groups.append(waiting)
            waiting = []
    groups = [*groups[:-1], groups[-1] + waiting] if groups else [waiting]
    parts = np.array_split(np.arange(len(groups)), min(12, len(groups)))
    return [[name for i in part for name in groups[i]] for part in parts]


def cascade(model, images, targets, methods, seed=0, **options):
    """Cascading randomisation (Adebayo et al. 2018): do maps change when what was learnt is lost? From the
    output down, the layers of a copy are re-initialised; after each stage all maps are made again and
    compared by size with those of the trained network, by rank only where the network sees: a margin that it
    crops is zero in every map. Returns a DataFrame of means over the faces, one row per method and stage:
    method, randomized_down_to (a layer), rank_correlation, ssim."""
    copy = structure.flat_copy(model)
    # Another seed, as its training's would give a network its first weights back
    keras.utils.set_random_seed(seed + 1_000_003)
    fresh = keras.models.clone_model(copy)  # each weight from its layer's own initialiser
    trained = attribution.attribute_all(copy, images, targets, methods, seed=seed, **options)
    seen = (attribution.attribute(copy, images, targets, "gradient") != 0).any(0)
    rows = []
    for group in cli.track(stages(copy), "randomisation"):
        for name in group:
            copy.get_layer(name).set_weights(fresh.get_layer(name).get_weights())
        random = attribution.attribute_all(copy, images, targets, methods, seed=seed, **options)
        for method in methods:
            before, after = (np.abs(maps[method]) for maps in (trained, random))
            rows.append({"method": method, "randomized_down_to": group[-1],
                         "rank_correlation": spearman(before[:, seen], after[:, seen]).mean(),
                         "ssim": ssim(before, after).mean()})
    return pd.DataFrame(rows).sort_values("method", key=lambda names: names.map(methods.index), kind="stable")


def upper_half(cascade):
    """By method: mean rank_correlation and ssim over the first half of a cascade's stages, and whether it
    `fails`, both above FAILS. Without the layers that decide on the class nothing is left to explain, while
    any map changes with the lowest; ranks also rise with a dark margin or bright centre that maps share."""
    upper = cascade.groupby("method").head(-(-cascade.randomized_down_to.nunique() // 2))
    means = upper.groupby("method")[["rank_correlation", "ssim"]].mean()
    return means.assign(fails=(means > FAILS).all(axis=1))


def verdicts(scores, cascade, seed):
    """A DataFrame of means with intervals and a verdict for each method, best first, and the name of the best
    control; scores, cascade: as `evaluate` and `cascade` give them."""
    scores = scores.assign(net=scores.insertion_area - scores.deletion_area)
    order = scores.groupby("method").net.mean().sort_values(ascending=False)
    control = order[list(attribution.CONTROLS)].idxmax()
    net, net_of_control = f"net_above_{control}", scores.net[scores.method == control]
    scores[net] = scores.net - net_of_control[scores.index].to_numpy()  # face by face
    by_method, similar = scores.groupby("method"), upper_half(cascade)
    rows = []
    for method in order.index:
        row, own, is_control = {"method": method}, by_method.get_group(method), method in attribution.CONTROLS
        for key in ("deletion_area", "insertion_area", net):
            row |= zip((key, f"{key}_low", f"{key}_high"), metrics.bootstrap_mean(own[key], seed))
        for key in ("rank_correlation", "ssim"):
            row[key] = "-" if is_control else f"{similar.at[method, key]:.2f}"
        remarks = {"control": is_control, "fails": not is_control and similar.at[method, "fails"],
                   "not above": not is_control and row[f"{net}_low"] <= 0}
        verdict = ", ".join(remark for remark, holds in remarks.items() if holds) or "passes"
        rows.append(row | {"blank": int(own.blank.sum()), "verdict": verdict})
    return pd.DataFrame(rows), control
