"""Saliency maps and activation maximization: this project beside tf-keras-vis and xplique on the same model
and faces.

    python -m benchmarks.visualization [--model models/fer2013-report-cnn.h5] [--images 32] [--rounds 3]
    python -m benchmarks.visualization --memory        peak memory of 1,000 faces by each method, a process of
    its own each

Prints the median milliseconds a face over interleaved rounds (tracing and warm-up before the first), how many
times longer each peer takes, and how well its maps agree with ours: the mean correlation of the two maps of a
face. All explain the predicted class's logit of the same drawn faces, black where a method hides something,
with the same number of samples, steps, masks or patches, CAMs of the same layer, and each peer batches as its
own options allow. Ours gives with grad-cam also grad-cam++, layer-cam and hires-cam, and with smoothgrad also
squaregrad and vargrad. What agrees little, and why: smoothgrad and rise draw other noise; tf-keras-vis's
guided backprop passes over ReLU layers, which leaves the gradient. The peers stretch feature maps from corner
to corner, ours lie where the receptive fields are: CAMs are timed as they are and compared stretched.
tf-keras-vis's default way to maximise a filter takes one at a time, so some are timed and the time is scaled
to all; "one batch" is the same by hand, over a tenth of the steps, scaled likewise.
"""

import contextlib
import functools
import importlib
import io
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

from utils import cli
from utils.cli import UserError

NOISE = 0.15  # of smoothgrad, as a share of the grey range
SLOW = ("score-cam", "occlusion", "rise")
FUNCTIONS = ("gradient", "smoothgrad", "integrated-gradients", "guided-backprop", "grad-cam", *SLOW)
PATCH, STRIDE = 8, 4
CELLS = 6
# VmHWM, not ru_maxrss: the latter keeps the parent's peak across fork and exec.
PEAK = """
import sys
from utils import cli
cli.start_keras()
from explain import attribution
from utils import models, sample, structure
model = structure.logits_model(models.load(sys.argv[1]))
faces, labels = sample.sample_faces(int(sys.argv[2]))
attribution.attribute(model, faces, labels % model.output_shape[-1], sys.argv[3])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, help="classifier (default: models/fer2013-report-cnn.h5)")
    parser.add_argument("--images", type=cli.number(int, 1), help="faces (default 32; a quarter of them for "
                                                                   f"{', '.join(SLOW)}; with --memory 1000)")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=3, help="of each way")
    parser.add_argument("--samples", type=cli.number(int, 2), default=32,
                        help="of smoothgrad; steps of integrated gradients")
    parser.add_argument("--masks", type=cli.number(int, 10), default=500, help="of rise")
    parser.add_argument("--filters", type=cli.number(int, 1), default=32,
                        help="to maximise, of the last convolution stage")
    parser.add_argument("--steps", type=cli.number(int, 10), default=200, help="of activation maximization")
    parser.add_argument("--one-by-one", type=cli.number(int, 1), default=2, metavar="N",
                        help="filters that tf-keras-vis's default way is timed on")
    parser.add_argument("--memory", choices=FUNCTIONS, nargs="*", metavar="METHOD",
                        help=f"instead measure peak memory, of all or some of {', '.join(FUNCTIONS)}")
    args = parser.parse_args()
    from utils import models

    args.model = args.model or models.RELEASED_CNN
    if args.memory is not None:
        memory(args.model, args.images or 1000, args.memory or FUNCTIONS)
        return
    args.images = args.images or 32
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    cli.start_keras()
    known = {"tf-keras-vis": ("tf_keras_vis", keras_vis), "xplique": ("xplique", xplique)}
    peers = {name: wrap(args) for name, (package, wrap) in known.items() if installed(name, package)}
    ways = {"ours": ours(args), **peers}
    maps(args, ways)
    maximization(args, ways)


def installed(name, package):
    """Whether a peer can be imported; says in one line what to do when it cannot."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(package)
    except ImportError as error:
        print(f"without {name} ({error}): requirements-benchmarks.txt says how to install it")
        return False
    return True


def memory(model, images, methods):
    """Peak resident memory of a process that explains `images` faces by one method, for each of `methods`."""
    if not Path("/proc/self/status").exists():
        raise UserError("--memory reads /proc/self/status, which this system does not have; expected Linux")
    rows = []
    for method in methods:
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", PEAK, model, str(images), method],
                              stdout=subprocess.PIPE, text=True,
                              check=False)
        if done.returncode:
            raise UserError(f"{method} of {images} faces ended with exit status {done.returncode}")
        rows.append([method, f"{int(done.stdout) / 1024:.0f}", f"{time.perf_counter() - start:.0f}"])
    print(f"\n{model.stem}, {images:,} faces, TensorFlow included")
    print_rows(rows, ["method", "peak MB", "seconds"])


# ---- the ways: {name of a method: function from (faces, classes) to maps (n, h, w)} ------------------------


def subject(args):
    """The model of logits, the layer that CAMs look at, and the filters to maximise."""
    from explain import attribution
    from utils import models, structure

    logits = structure.logits_model(models.load(args.model))
    layer = attribution.cam_layer(logits)
    channels = list(range(min(args.filters, logits.get_layer(layer).output.shape[-1])))
    return logits, layer, channels


def ours(args):
    from explain import activation_maximization as maximization
    from explain import attribution

    logits, layer, channels = subject(args)
    options = {"samples": args.samples, "steps": args.samples, "masks": args.masks, "cells": CELLS,
               "patch": PATCH,
               "stride": STRIDE, "fill": "black", "noise": NOISE}

    def attribute(method):
        return lambda faces, classes: attribution.attribute(logits, faces, classes, method, **options)

    def maximize():
        canvas = maximization.canvas(logits, layer, "channel")
        return maximization.ascend(canvas, channels, steps=args.steps)

    return {method: attribute(method) for method in FUNCTIONS} | {"maximize": {"": (maximize, 1)}}


def keras_vis(args):
    import keras
    import numpy as np
    import tensorflow as tf
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.model_modifiers import GuidedBackpropagation
    from tf_keras_vis.utils.scores import CategoricalScore

    logits, layer, channels = subject(args)
    saliency, gradcam, scorecam = (kind(logits, clone=False) for kind in (Saliency, Gradcam, Scorecam))
    guided = Saliency(logits, model_modifier=GuidedBackpropagation(), clone=True)
    features = keras.Model(logits.inputs, logits.get_layer(layer).output)
    depth = logits.input_shape[-1]

    def prepared(faces):
        return np.repeat(faces[..., None], depth, -1).astype(np.float32)

    def gradient(explainer, **options):
        return lambda faces, classes: explainer(CategoricalScore(classes.tolist()), prepared(faces),
                                                normalize_map=False,
                                                **options)

    def cam(explainer, **options):
        return lambda faces, classes: quietly(explainer, CategoricalScore(classes.tolist()), prepared(faces),
                                              penultimate_layer=layer, seek_penultimate_conv_layer=False,
                                              **options)

    def one_by_one():
        for channel in channels[:args.one_by_one]:
            made = ActivationMaximization(features, clone=False)(CategoricalScore(channel), steps=args.steps)
        return made

    def one_batch():
        start = tf.random.uniform((len(channels), *logits.input_shape[1:]), 0, 255)
        return ActivationMaximization(features, clone=False)(CategoricalScore(channels), seed_input=start,
                                                             steps=args.steps // 10)

    return {"gradient": gradient(saliency),
            "smoothgrad": gradient(saliency, smooth_samples=args.samples, smooth_noise=NOISE),
            "guided-backprop": gradient(guided), "grad-cam": cam(gradcam),
            "score-cam": cam(scorecam, batch_size=128),
            "maximize": {"": (one_by_one, len(channels) / min(args.one_by_one, len(channels))),
                         ", one batch": (one_batch, args.steps / (args.steps // 10))}}


def xplique(args):
    import numpy as np
    import tensorflow as tf
    from xplique import attributions
    from xplique.features_visualizations import Objective, optimize

    logits, layer, channels = subject(args)
    depth, classes_count, size = logits.input_shape[-1], logits.output_shape[-1], logits.input_shape[1:3]
    batch = 128
    explainers = {
        "gradient": attributions.Saliency(logits, batch_size=batch),
        "smoothgrad": attributions.SmoothGrad(logits, batch_size=batch, nb_samples=args.samples,
                                              noise=NOISE * 255),
        "integrated-gradients": attributions.IntegratedGradients(logits, batch_size=batch,
                                                                 steps=args.samples),
        "guided-backprop": attributions.GuidedBackprop(logits, batch_size=batch),
        "grad-cam": attributions.GradCAM(logits, batch_size=batch, conv_layer=layer),
        "occlusion": attributions.Occlusion(logits, batch_size=batch, patch_size=PATCH, patch_stride=STRIDE),
        "rise": attributions.Rise(logits, batch_size=batch, nb_samples=args.masks, grid_size=CELLS)}

    def explain(explainer):
        def run(faces, classes):
            inputs = np.repeat(faces[..., None], depth, -1).astype(np.float32)
            return np.asarray(explainer(inputs, np.eye(classes_count, dtype=np.float32)[classes]))[..., 0]

        return run

    def maximize():
        objective = Objective.channel(logits, layer, channels)
        images, _ = optimize(objective, tf.keras.optimizers.Adam(0.05), nb_steps=args.steps,
                             values_range=(0, 255),
                             custom_shape=size)
        return np.asarray(images[-1])

    return {method: explain(explainer) for method,
            explainer in explainers.items()} | {"maximize": {"": (maximize, 1)}}


def quietly(function, *arguments, **options):
    """Without the progress bar that Keras prints under tf-keras-vis."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments, **options)


# ---- the tables --------------------------------------------------------------------------------------------


def maps(args, ways):
    """Time and compare the methods that give a map a face."""
    from explain import faithfulness
    from utils import models
    from utils.sample import sample_faces

    logits, layer, _ = subject(args)
    faces = models.prepare(sample_faces(args.images)[0], logits)[..., 0]
    classes = faithfulness.probabilities(logits, faces).argmax(1)
    few = slice(0, max(1, args.images // 4))
    peers = list(ways)[1:]
    rows = []
    for method in cli.track(list(FUNCTIONS), "methods"):
        given = (faces[few], classes[few]) if method in SLOW else (faces, classes)
        able = {name: way[method] for name, way in ways.items() if method in way}
        made = {name: run(*given) for name, run in able.items()}  # traced and warm from here on
        seconds = timed({name: functools.partial(run, *given) for name, run in able.items()}, args.rounds)
        if method.endswith("cam"):
            with mock.patch("explain.receptive_field.interpolation", corner_to_corner):
                made["ours"] = ways["ours"][method](*given)
        row = [method, f"{1000 * seconds['ours'] / len(given[0]):.2f}"]
        for name in peers:
            row += [f"{1000 * seconds[name] / len(given[0]):.2f}", f"{seconds[name] / seconds['ours']:.2f}x",
                    f"{agreement(method, made['ours'], made[name]):.3f}"] if name in able else ["-"] * 3
        rows.append(row)
    print(f"{args.model.stem}, CAMs of {layer}, {len(faces)} faces ({len(faces[few])} for the slow), "
          f"{args.samples} samples, {args.masks} masks, {args.rounds} rounds; milliseconds a face")
    print_rows(rows, ["method", "ours", *(word for name in peers for word in (name, "ratio", "agrees"))])


def maximization(args, ways):
    """Time activation maximization, everything included (each call traces its own graph), in one round."""
    _, layer, channels = subject(args)
    seconds = {}
    for name, way in ways.items():
        for words, (run, factor) in way["maximize"].items():
            start = time.perf_counter()
            run()
            seconds[name + words] = factor * (time.perf_counter() - start)
    print(f"activation maximization of {len(channels)} filters of {layer}, {args.steps} steps")
    rows = [[name, f"{taken:.1f}", f"{taken / seconds['ours']:.1f}x"] for name, taken in seconds.items()]
    print_rows(rows, ["", "seconds", "ratio"])


def print_rows(rows, columns):
    import pandas as pd

    cli.print_table(pd.DataFrame(rows, columns=columns))


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
    import numpy as np

    at = np.linspace(0, cells - 1, pixels)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0).astype(np.float32)


def agreement(method, ours, theirs):
    """Mean over faces of the correlation of two sets of maps (n, h, w), faces without a map left out."""
    import numpy as np

    from explain.attribution import strength

    pairs = [(a.ravel(), b.ravel()) for a, b in zip(strength(ours, method), strength(theirs, method))
             if np.ptp(a) > 0 and np.ptp(b) > 0]
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]) if pairs else float("nan")


if __name__ == "__main__":
    cli.run(main)
