"""Evidence for an attribution map: what the network loses without its pixels, and whether it needs what was learnt.

`values` are maps as `utils.attribution.strength` gives them, float32 (n, h, w); `targets` are class codes, int (n,).
"""

import keras
import numpy as np
import tensorflow as tf

from utils import attribution, models
from utils.cli import Progress

STEPS = 16  # points of a deletion or insertion curve after the first
FAILS = 0.5  # a method whose maps stay as similar as this while the network's upper half is re-drawn does not explain it


def probabilities(model, images):
    """Class probabilities of grey faces by a model of logits: images (n, h, w) -> float32 (n, classes)."""
    logits = models.predict(model, images)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def ranks(values, seed=0):
    """Rank of each pixel in its map, 0 the most salient, ties in random order: int64 (n, h*w)."""
    flat = values.reshape(len(values), -1)
    ties = np.random.default_rng([seed, 5]).uniform(size=flat.shape)
    order = np.lexsort((ties, -flat), axis=1)
    return np.argsort(order, axis=1)


def keep_top(values, share, seed=0):
    """The most salient `share` (0-1) of each map's area: bool (n, h, w). Always as many pixels, however flat the map."""
    count = round(share * values[0].size)
    return (ranks(values, seed) < count).reshape(values.shape)


def masked(images, keep, fill="mean"):
    """Faces with the pixels outside `keep` (bool, n, h, w) replaced: float32 (n, h, w)."""
    return np.where(keep, np.asarray(images, np.float32), attribution.filled(images, fill))


def curves(model, images, targets, values, fill="blurred", seed=0):
    """Probability of the target as the most salient pixels go (deletion) or come (insertion; Petsiuk et al. 2018).

    Returns two float32 (n, STEPS + 1), at shares 0 to 1 of the area. A low deletion and a high insertion curve are good.
    """
    images, fills = np.asarray(images, np.float32), attribution.filled(images, fill)
    rank, pixels = ranks(values, seed), values[0].size
    counts = np.round(np.linspace(0, 1, STEPS + 1) * pixels)
    gone, come = np.empty((2, len(images), STEPS + 1), np.float32)
    for i in range(len(images)):
        first = (rank[i] < counts[:, None]).reshape(-1, *images.shape[1:])
        frames = np.concatenate([np.where(first, fills[i], images[i]), np.where(first, images[i], fills[i])])
        gone[i], come[i] = probabilities(model, frames)[:, targets[i]].reshape(2, -1)
    return gone, come


def area(curve):
    """Area under curves over shares 0 to 1, trapezoidal: (n, points) -> (n,), in [0, 1] for probabilities."""
    return ((curve[:, 1:] + curve[:, :-1]) / 2).mean(1)


def kept(model, images, targets, values, share, fill="mean", seed=0):
    """Probability of the target with the whole face and with only the top `share` of the map left: two float32 (n,)."""
    rows = np.arange(len(images))
    before = probabilities(model, images)[rows, targets]
    after = probabilities(model, masked(images, keep_top(values, share, seed), fill))[rows, targets]
    return before, after


def judge(model, images, targets, maps, share=0.2, seed=0):
    """Every check of {method: values}: {method: {"deletion", "insertion": curves as `curves` gives them, and (n,) each:
    "deletion area", "insertion area", "drop" (of the probability, 0-1 of what it was, with only the top `share` kept),
    "increase" (whether it rose) and "sparseness"}}. Drop and increase: Chattopadhyay et al. 2018."""
    found = {}
    for method in Progress(list(maps), "judging"):
        gone, come = curves(model, images, targets, maps[method], seed=seed)
        before, after = kept(model, images, targets, maps[method], share, seed=seed)
        found[method] = {"deletion": gone, "insertion": come, "deletion area": area(gone), "insertion area": area(come),
                         "drop": np.maximum(before - after, 0) / np.maximum(before, 1e-12),
                         "increase": (after > before).astype(float), "sparseness": sparseness(maps[method])}
    return found


def sparseness(values):
    """Gini index of each map (Chalasani et al. 2020): 0 all pixels alike, towards 1 few pixels hold everything. (n,)."""
    flat = np.sort(np.maximum(values, 0).reshape(len(values), -1).astype(np.float64), axis=1)
    n, total = flat.shape[1], flat.sum(1)
    weighted = flat @ (2 * np.arange(1, n + 1) - n - 1)
    return np.divide(weighted, n * total, out=np.zeros_like(total), where=total > 0)


def bootstrap(numbers, draws=2000, seed=0):
    """Mean of `numbers` (n,) with its 95 % percentile bootstrap interval over images: (mean, low, high)."""
    picks = np.random.default_rng([seed, 3]).integers(len(numbers), size=(draws, len(numbers)))
    return (float(np.mean(numbers)), *map(float, np.percentile(np.asarray(numbers)[picks].mean(1), [2.5, 97.5])))


# ---- randomisation --------------------------------------------------------------------------------------------


def spearman(a, b, where=None):
    """Rank correlation of two sets of maps, ties averaged: (n, h, w) each -> (n,); 0 where either map is blank.

    where: bool (h, w), the pixels to compare (default: all).
    """
    results = np.zeros(len(a))
    where = np.ones(a.shape[1:], bool) if where is None else where
    for i, pair in enumerate(zip(a, b)):
        centred = []
        for flat in (m[where] for m in pair):
            _, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
            rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse.ravel()]
            centred.append(rank - rank.mean())
        bottom = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
        results[i] = (centred[0] * centred[1]).sum() / bottom if bottom > 0 else 0
    return results


def ssim(a, b):
    """Structural similarity (Wang et al. 2004) of two sets of maps, each scaled to a maximum of 1: (n, h, w) -> (n,)."""
    scaled = [np.maximum(m, 0) for m in (a, b)]
    scaled = [m / np.maximum(m.max((1, 2), keepdims=True), 1e-30) for m in scaled]
    return tf.image.ssim(*(tf.constant(m[..., None], tf.float32) for m in scaled), max_val=1.0, filter_size=7).numpy()


def upper(stages):
    """The first half of a cascade's stages: without the layers that decide on the class there is nothing left to explain,
    while any map changes with the lowest layers."""
    return stages[:-(-len(stages) // 2)]


def fails(correlations, similarities):
    """Whether a method fails the randomisation, of which each is float (stages, n): on average over the upper half its maps
    stay alike by rank correlation and by structural similarity.

    Both must say so: ranks alone also rise with a dark margin or a bright centre that all maps of a network share.
    """
    return bool(upper(correlations).mean() > FAILS and upper(similarities).mean() > FAILS)


def stages(model, most=12):
    """Layers to re-draw together, from the output down: lists of names. A normalisation goes with what it normalises.

    At most `most` stages; a deeper network has several layers in each.
    """
    found, waiting = [], []
    for layer in reversed([layer for layer in model.layers if layer.weights]):
        waiting.append(layer.name)
        if any("kernel" in weight.name for weight in layer.weights):
            found.append(waiting)
            waiting = []
    if waiting:
        found = [*found[:-1], found[-1] + waiting] if found else [waiting]
    groups = np.array_split(np.arange(len(found)), min(most, len(found)))
    return [[name for i in group for name in found[i]] for group in groups]


def cascade(model, images, targets, methods, seed=0, **options):
    """Cascading randomisation (Adebayo et al. 2018): do maps change when what was learnt is lost?

    From the output down, the layers of a copy are re-drawn by their own initialisers; after each stage all maps are drawn
    again and compared by size with those of the trained network, by rank only where the network sees: a margin that it
    crops is zero in every map. Returns (names of the layer that each stage ends with,
    {method: (rank correlations, ssims), float (stages, n) each}). `model` stays as it is.
    """
    copy = models.flat_copy(model)
    keras.utils.set_random_seed(seed + 1_000_003)  # with the seed of its training a network would get its first weights back
    fresh = keras.models.clone_model(copy)  # built anew, so each weight comes from its layer's own initialiser
    first = attribution.attribute_all(copy, images, targets, methods, seed=seed, **options)
    sees = (attribution.attribute(copy, images, targets, "gradient") != 0).any(0)
    groups = stages(copy)
    result = {method: np.zeros((2, len(groups), len(images))) for method in methods}
    for k, group in enumerate(Progress(groups, "randomisation")):
        for name in group:
            copy.get_layer(name).set_weights(fresh.get_layer(name).get_weights())
        made = attribution.attribute_all(copy, images, targets, methods, seed=seed, **options)
        for method in methods:
            pair = [np.abs(maps[method]) for maps in (first, made)]
            result[method][:, k] = spearman(*pair, sees), ssim(*pair)
    return [group[-1] for group in groups], {method: tuple(values) for method, values in result.items()}
