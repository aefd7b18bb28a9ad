"""Saliency maps and activation maximization: this project beside tf-keras-vis and xplique on the same model
and faces.

    python -m benchmarks.visualization [--model models/fer2013-report-cnn.h5] [--images 32] [--rounds 3]

Prints the median milliseconds per face over interleaved rounds (tracing and warm-up before the first), how
many times longer each peer takes, and how well its maps agree with ours: the mean correlation of the two maps
of a face. All explain the predicted class's logit of the same drawn faces, black where a method hides
something, with the same number of samples, steps, masks or patches, CAMs of the same layer, and each peer
batches as its own options allow. Ours gives with grad-cam also grad-cam++, layer-cam and hires-cam, and with
smoothgrad also squaregrad and vargrad. What agrees little, and why: smoothgrad and rise draw other noise; tf-
keras-vis's guided backprop passes over ReLU layers, which leaves the gradient. The peers stretch feature maps
from corner to corner, ours lie where the receptive fields are: CAMs are timed as they are and compared
stretched. tf-keras-vis's default way to maximise a filter takes one at a time, so some are timed and the time
is scaled to all; "one batch" is the same by hand, over a tenth of the steps, scaled likewise.
"""

import contextlib
import functools
import io
import statistics
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from utils import cli, machine, models

METHODS = ("gradient", "smoothgrad", "integrated-gradients", "guided-backprop", "grad-cam", "score-cam",
           "occlusion", "rise")
NOISE = 0.15  # of smoothgrad, as a share of the grey range
SAMPLES = 32  # of smoothgrad; steps of integrated gradients
PATCH, STRIDE = 8, 4  # of occlusion
MASKS, CELLS = 500, 6  # of rise
FILTERS, STEPS = 32, 200  # of the last convolution stage, to maximise
ONE_BY_ONE = 2  # filters that tf-keras-vis's default way is timed on


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, default=models.RELEASED_CNN, help="classifier")
    parser.add_argument("--images", type=cli.number(int, 1), default=32,
                        help="faces; a quarter of them for the slow methods")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=3, help="of each way")
    args = parser.parse_args()
    cli.start_keras()
    from explain import attribution
    from utils import structure

    logits = structure.logits_model(models.load(args.model))
    layer = attribution.cam_layer(logits)
    channels = list(range(min(FILTERS, logits.get_layer(layer).output.shape[-1])))
    ways = {}
    for name, wrap in (("ours", ours), ("tf-keras-vis", keras_vis), ("xplique", xplique)):
        try:
            ways[name] = wrap(logits, layer, channels)
        except ImportError as error:
            print(f"without {name} ({error}): requirements-benchmarks.txt says how to install it")
    compare_maps(args, ways, logits, layer)
    compare_maximization(ways, layer, channels)


# ---- the ways: {name of a method: function from (faces, classes) to maps (n, h, w)} ------------------------


def ours(logits, layer, channels):
    from explain import activation_maximization as maximization
    from explain import attribution

    options = {"samples": SAMPLES, "steps": SAMPLES, "masks": MASKS, "cells": CELLS, "patch": PATCH,
               "stride": STRIDE, "fill": "black", "noise": NOISE}

    def attribute(method):
        return lambda faces, classes: attribution.attribute(logits, faces, classes, method, **options)

    def maximize():
        canvas = maximization.cut_canvas(logits, layer, "channel")
        precision = "mixed_bfloat16" if machine.has_native_bfloat16() else "float32"
        return maximization.ascend(canvas, channels, steps=STEPS, precision=precision)

    return {method: attribute(method) for method in METHODS} | {"maximize": {"": (maximize, 1)}}


def keras_vis(logits, layer, channels):
    import keras
    import tensorflow as tf
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.model_modifiers import GuidedBackpropagation
    from tf_keras_vis.utils.scores import CategoricalScore

    saliency, gradcam, scorecam = (kind(logits, clone=False) for kind in (Saliency, Gradcam, Scorecam))
    guided = Saliency(logits, model_modifier=GuidedBackpropagation(), clone=True)
    features = keras.Model(logits.inputs, logits.get_layer(layer).output)

    def way(explainer, **options):
        def run(faces, classes):
            with contextlib.redirect_stdout(io.StringIO()):  # Keras prints a progress bar
                return explainer(CategoricalScore(classes.tolist()), models.prepare(faces, logits), **options)

        return run

    def one_by_one():
        for channel in channels[:ONE_BY_ONE]:
            made = ActivationMaximization(features, clone=False)(CategoricalScore(channel), steps=STEPS)
        return made

    def one_batch():
        start = tf.random.uniform((len(channels), *logits.input_shape[1:]), 0, 255)
        return ActivationMaximization(features, clone=False)(CategoricalScore(channels), seed_input=start,
                                                             steps=STEPS // 10)

    of_layer = {"penultimate_layer": layer, "seek_penultimate_conv_layer": False}
    return {"gradient": way(saliency, normalize_map=False),
            "smoothgrad": way(saliency, normalize_map=False, smooth_samples=SAMPLES, smooth_noise=NOISE),
            "guided-backprop": way(guided, normalize_map=False), "grad-cam": way(gradcam, **of_layer),
            "score-cam": way(scorecam, batch_size=128, **of_layer),
            "maximize": {"": (one_by_one, len(channels) / ONE_BY_ONE), ", one batch": (one_batch, 10)}}


def xplique(logits, layer, channels):
    import tensorflow as tf
    from xplique import attributions
    from xplique.features_visualizations import Objective, optimize

    explainers = {
        "gradient": attributions.Saliency(logits),
        "smoothgrad": attributions.SmoothGrad(logits, nb_samples=SAMPLES, noise=NOISE * 255),
        "integrated-gradients": attributions.IntegratedGradients(logits, steps=SAMPLES),
        "guided-backprop": attributions.GuidedBackprop(logits),
        "grad-cam": attributions.GradCAM(logits, conv_layer=layer),
        "occlusion": attributions.Occlusion(logits, patch_size=PATCH, patch_stride=STRIDE),
        "rise": attributions.Rise(logits, nb_samples=MASKS, grid_size=CELLS)}
    one_hot = np.eye(logits.output_shape[-1], dtype=np.float32)

    def way(explainer):
        explainer.batch_size = 128
        return lambda faces, classes: np.asarray(
            explainer(models.prepare(faces, logits), one_hot[classes]))[..., 0]

    def maximize():
        images, _ = optimize(Objective.channel(logits, layer, channels), tf.keras.optimizers.Adam(0.05),
                             nb_steps=STEPS, values_range=(0, 255), custom_shape=logits.input_shape[1:3])
        return np.asarray(images[-1])

    return {method: way(explainer) for method, explainer in explainers.items()} | {
        "maximize": {"": (maximize, 1)}}


# ---- the tables --------------------------------------------------------------------------------------------


def compare_maps(args, ways, logits, layer):
    """Time and compare the methods that give one map per face."""
    from explain import attribution, subjects
    from utils.sample import sample_faces

    faces = models.prepare(sample_faces(args.images)[0], logits)[..., 0]
    classes = subjects.probabilities(logits, faces).argmax(1)
    few = slice(0, max(1, args.images // 4))
    rows = []
    for method in cli.track(METHODS, "methods"):
        given = (faces[few], classes[few]) if method in attribution.SLOW else (faces, classes)
        runs = {name: functools.partial(way[method], *given) for name, way in ways.items() if method in way}
        made = {name: run() for name, run in runs.items()}  # traced and warm from here on
        seconds = timed(runs, args.rounds)
        if method.endswith("cam"):
            with mock.patch("explain.receptive_field.interpolation", corner_to_corner):
                made["ours"] = runs["ours"]()
        row = {"method": method}
        for name in runs:
            row[name] = f"{1000 * seconds[name] / len(given[0]):.2f}"
            if name != "ours":
                row[f"{name} ratio"] = f"{seconds[name] / seconds['ours']:.2f}x"
                row[f"{name} agrees"] = f"{agreement(method, made['ours'], made[name]):.3f}"
        rows.append(row)
    print(f"{args.model.stem}, CAMs of {layer}, {len(faces)} faces ({len(faces[few])} for the slow), "
          f"{SAMPLES} samples, {MASKS} masks, {args.rounds} rounds; milliseconds per face")
    cli.print_table(pd.DataFrame(rows).fillna("-"))


def compare_maximization(ways, layer, channels):
    """Time activation maximization, everything included (each call traces its own graph), in one round."""
    seconds = {}
    for name, way in ways.items():
        for words, (run, factor) in way["maximize"].items():
            start = time.perf_counter()
            run()
            seconds[name + words] = factor * (time.perf_counter() - start)
    print(f"activation maximization of {len(channels)} filters of {layer}, {STEPS} steps")
    cli.print_table(pd.DataFrame([(name, f"{taken:.1f}", f"{taken / seconds['ours']:.1f}x")
                                  for name, taken in seconds.items()], columns=["", "seconds", "ratio"]))


def timed(runs, rounds):
    """Median seconds of each function, the functions taking turns."""
    taken = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def corner_to_corner(field, cells, pixels, axis):
    """Like `receptive_field.interpolation`, but as the peers do: the outermost cells lie on corners."""
    at = np.linspace(0, cells - 1, pixels)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0).astype(np.float32)


def agreement(method, ours, theirs):
    """Mean over faces of the correlation of two sets of maps (n, h, w), faces without a map left out."""
    from explain.attribution import strength

    pairs = [(a.ravel(), b.ravel()) for a, b in zip(strength(ours, method), strength(theirs, method))
             if np.ptp(a) > 0 and np.ptp(b) > 0]
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]) if pairs else float("nan")


if __name__ == "__main__":
    cli.run(main)
