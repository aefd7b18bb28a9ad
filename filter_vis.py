"""Question 5: which image excites each filter most? Gradient ascent, beside the data that excite it.

    python filter_vis.py                                     every convolution stage: filters, and their outputs for one image
    python filter_vis.py --layer conv2_relu --sign both      one layer, the minimum beside the maximum
    python filter_vis.py --layer --objective neuron --patches   middle unit of each filter, beside the data's best patches
    python filter_vis.py --parametrization pixel             the plain ascent of the homework (and --tv, --l2, --jitter)
    python filter_vis.py --classes --adversarial --kernels   an image of each class; the smallest change of class; kernels

Under each tile: the filter's number, the activation reached, how many times the data's maximum that is, and the share
of the filter's variance over the data that the classes explain (eta squared), by which tiles are sorted.
Writes figures/NAME_filters_LAYER.png, NAME_outputs_LAYER.png and so on, and a CSV of the numbers beside each.
"""

from pathlib import Path

from utils import cli


def arguments():
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, help=".h5 or .keras classifier (default: models/cnn.h5, else the released one)")
    parser.add_argument("--data", type=Path, help="CSV or image folder (default: data/*.csv, else the sample)")
    parser.add_argument("--limit", type=cli.number(int, 1), default=2000, help="faces that the filters are measured on")
    parser.add_argument("--index", type=cli.number(int, 0), default=15, help="the face, from 0, for outputs and --adversarial")
    parser.add_argument("--layer", nargs="*", metavar="NAME",
                        help="layers to show (default: the activation that ends each convolution stage)")
    parser.add_argument("--filters", type=cli.number(int, 1), default=64,
                        help="at most so many of a layer, highest eta squared first")
    parser.add_argument("--objective", choices=("channel", "neuron"), default="channel",
                        help="mean of the filter's map (its texture), or its middle unit (its shape)")
    parser.add_argument("--sign", choices=("max", "min", "both"), default="max", help="what excites, what inhibits")
    parser.add_argument("--parametrization", choices=("fourier", "pixel"), default="fourier",
                        help="climb a smooth spectrum under random transforms, or plain pixels as in the homework")
    parser.add_argument("--tv", type=cli.number(float, 0), help="pixel: weight of total variation (default 0)")
    parser.add_argument("--l2", type=cli.number(float, 0), help="pixel: weight of the distance from mid-grey (default 0)")
    parser.add_argument("--jitter", type=cli.number(int, 0, 24), help="pixel: random shift at each step, pixels (default 0)")
    parser.add_argument("--steps", type=cli.number(int, 1), default=200, help="of gradient ascent")
    parser.add_argument("--seed", type=cli.number(int, 0, 2 ** 31 - 1), default=0, help="of the noise and the transforms")
    parser.add_argument("--progress", choices=("strip", "gif"), help="also show the ascent on its way")
    parser.add_argument("--patches", type=cli.number(int, 1, 16), nargs="?", const=5, metavar="N",
                        help="also the N (5) patches of the data that excite each filter most")
    only = parser.add_argument_group("instead of filters, unless --layer is given too")
    only.add_argument("--classes", action="store_true", help="the image that maximises each class's logit")
    only.add_argument("--adversarial", action="store_true", help="the smallest change of one face that turns its class")
    only.add_argument("--kernels", action="store_true", help="the first convolution's kernels as they are")
    args = parser.parse_args()
    if args.parametrization != "pixel" and (args.tv, args.l2, args.jitter) != (None, None, None):
        raise cli.UserError("--tv, --l2 and --jitter belong to --parametrization pixel")
    return args


class Study:
    """A model, the faces it is shown, and where the figures go."""

    def __init__(self, args):
        from utils import data, models
        from utils import feature_visualization as fv

        fv.tensorflow()
        self.args = args
        path = args.model or models.default_model()
        self.model, self.name = fv.unfolded(models.load(path)), Path(path).stem
        self.size, self.range = tuple(n or data.SIZE for n in self.model.input_shape[1:3]), (0.0, 255.0)
        _, self.nodes = fv.trace(self.model, self.size)
        alone = args.layer is None and (args.classes or args.adversarial or args.kernels)
        self.layers = [] if alone else self.chosen_layers()
        if args.kernels:
            fv.first_convolution(self.nodes)
        self.faces = data.training_part(data.find_data(args.data))
        if args.index >= len(self.faces):
            raise cli.UserError(f"--index {args.index} is out of range: there are {len(self.faces)} faces, "
                                f"0 to {len(self.faces) - 1}")
        self.shown = self.faces.take(slice(0, args.limit))
        self.face = models.prepare(self.faces.images[args.index:args.index + 1], self.model)[0]
        self.label = "" if self.faces.labels is None else f" ({data.CLASSES[self.faces.labels[args.index]]})"
        self.options = {"parametrization": args.parametrization, "steps": args.steps, "seed": args.seed,
                        "total_variation": args.tv or 0, "l2": args.l2 or 0, "jitter": args.jitter or 0}
        self.figures, self.written = models.FIGURES, []

    def path(self, kind, layer="", suffix=".png"):
        name = "_".join(filter(None, (self.name, kind, layer.replace("/", "_"))))
        self.written.append(self.figures / f"{name}{suffix}")
        return self.written[-1]

    def chosen_layers(self):
        """The layers asked for, or the end of each stage; UserError for one that has no maps."""
        from utils import feature_visualization as fv

        names = self.args.layer or fv.stage_activations(self.nodes)
        for name in names:
            if name not in fv.feature_layers(self.nodes):
                problem = "gives no maps" if name in self.nodes else "does not exist"
                raise cli.UserError(f"layer {name} {problem}; choose from {', '.join(fv.feature_layers(self.nodes))}")
        return list(dict.fromkeys(names))

    def ascend(self, layer, channels, objective, sign):
        """(Ascent, Canvas) of some filters of a layer, with a progress bar."""
        from utils import feature_visualization as fv

        canvas = fv.canvas(self.model, self.size, layer, objective)
        batches = -(-len(channels) // fv.batch_limit(canvas.network, len(channels)))
        bar = cli.Progress(label=layer, total=self.args.steps * batches)
        ascent = fv.ascend(canvas.network, channels, canvas.size, self.range, objective, sign, canvas.unit,
                           report=lambda n: bar.step(n=n), **self.options)
        bar.close()
        return ascent, canvas


# ---- filters ---------------------------------------------------------------------------------------------------


def filters(study):
    """Every figure about filters: returns one summary row a layer."""
    import numpy as np

    from utils import feature_visualization as fv

    bar = cli.Progress(label="responses", total=len(study.shown))
    found = fv.responses(study.model, study.size, study.layers, study.shown.images, report=lambda n: bar.step(n=n))
    bar.close()
    summary = []
    for layer in study.layers:
        answers = found[layer]
        dead = fv.dead_filters(answers)
        labels = study.shown.labels
        eta = fv.eta_squared(answers.mean, labels) if labels is not None else np.full(len(dead), np.nan)
        order = [c for c in np.argsort(-np.nan_to_num(eta), kind="stable") if not dead[c]][:study.args.filters]
        if not order:
            print(f"{layer}: all {len(dead)} filters are dead on these {len(study.shown)} faces; nothing to show")
            continue
        field = study.nodes[layer].field
        whole = field is None or all(a >= b for a, b in zip(field.size, study.size))
        sees = "the whole image" if whole else "{1}x{0} px".format(*field.size)
        times = synthesise(study, layer, order, answers, eta, dead, sees)
        outputs(study, layer, order)
        if study.args.patches:
            patches(study, layer, order[:24], answers, eta, field, sees)
        summary.append([layer, len(dead), int(dead.sum()), int(fv.starved_filters(answers).sum()), sees, len(order),
                        f"{np.nanmedian(times):.1f}x", f"{np.nanmedian(eta[order]):.3f}" if labels is not None else "-"])
    return summary


def synthesise(study, layer, order, answers, eta, dead, sees):
    """The sheet of synthesised images and its CSV; returns how many times the data's extreme each one reached."""
    import numpy as np

    from utils.feature_figures import compact, sheet
    from utils.files import write_csv

    args = study.args
    signs = {"max": ["max"], "min": ["min"], "both": ["max", "min"]}[args.sign]
    extremes = {("channel", "max"): answers.mean.max(0), ("channel", "min"): answers.low_mean.min(0),
                ("neuron", "max"): answers.peak.max(0), ("neuron", "min"): answers.low_peak.min(0)}
    images, rows = [], []
    for sign in signs:
        ascent, canvas = study.ascend(layer, order, args.objective, 1 if sign == "max" else -1)
        (top, left), (bottom, right) = canvas.box
        images.append(ascent.images[:, top:bottom, left:right])
        extreme = extremes[args.objective, sign][order]
        times = np.divide(ascent.activations, extreme, out=np.full(len(order), np.nan), where=extreme != 0)
        rows += [[c, args.objective, sign, *(f"{v:.6g}" for v in numbers), args.steps, args.seed]
                 for c, *numbers in zip(order, ascent.activations, extreme, times, eta[order])]
        if args.progress and sign == signs[0]:
            progress(study, layer, order, ascent, canvas)
    header = ["filter", "objective", "sign", "activation", "data_extreme", "times_data", "eta_squared", "steps", "seed"]
    count = len(order)
    captions = []
    for i, c in enumerate(order):
        reached = " | ".join(compact(float(rows[i + k * count][3])) for k in range(len(signs)))
        times = " | ".join(f"{float(rows[i + k * count][5]):.1f}" for k in range(len(signs)))
        share = "" if np.isnan(eta[c]) else f"  η² {eta[c]:.2f}"
        captions.append(f"#{c}: {reached}\n{times}×{share}")
    what = {"channel": "mean of the map", "neuron": "middle unit"}[args.objective]
    aim = {"max": "most", "min": "least", "both": "most (left) and least (right)"}[args.sign]
    missing = f"\nleft out: {dead.sum()} of {len(dead)} filters, dead on all {len(study.shown):,} faces" if dead.any() else ""
    explained = "" if np.isnan(eta).all() else "; η²: share of its variance that the classes explain"
    more = f" of {len(dead)}" if len(order) < len(dead) - dead.sum() else ""
    sheet(np.stack(images, 1), captions, study.path("filters", layer),
          f"{study.name}, {layer}: the images that excite each filter {aim}\n{what}, {args.steps} steps of ascent "
          f"({args.parametrization}); {len(order)}{more} filters, each unit sees {sees}{missing}\n"
          f"#filter: activation; ×: times the data's {args.sign.replace('both', 'max or min')}imum{explained}")
    write_csv(study.path("filters", layer, ".csv"), header, rows)
    return [float(row[5]) for row in rows]


def outputs(study, layer, order):
    """What the same filters answer to one face: part (b) of the question."""
    import keras
    import numpy as np

    from utils import feature_visualization as fv
    from utils.feature_figures import compact, sheet
    from utils.files import write_csv

    image, nodes = fv.trace(study.model, study.size)
    maps = np.asarray(keras.Model(image, nodes[layer].output)(study.face[None], training=False), np.float32)[0]
    maps = np.moveaxis(maps, -1, 0)[order]
    captions = [f"#{c}: mean {compact(m.mean())}\nmax {compact(m.max())}" for c, m in zip(order, maps)]
    sheet(maps[:, None], captions, study.path("outputs", layer), f"{study.name}, {layer}: outputs for face {study.args.index}"
          f"{study.label}, {maps.shape[2]}x{maps.shape[1]} each", scale="activation", face=study.face[..., 0])
    write_csv(study.path("outputs", layer, ".csv"), ["filter", "mean", "maximum", "share_above_zero"],
              [[c, f"{m.mean():.6g}", f"{m.max():.6g}", f"{(m > 0).mean():.4f}"] for c, m in zip(order, maps)])


def patches(study, layer, order, answers, eta, field, sees):
    """The data's best patches of each filter beside the image synthesised for its middle unit."""
    import numpy as np

    from utils import data, models
    from utils import feature_visualization as fv
    from utils.feature_figures import compact, padded, sheet
    from utils.files import write_csv

    ascent, canvas = study.ascend(layer, order, "neuron", 1)
    (top, left), (bottom, right) = canvas.box
    groups = data.image_groups(study.shown.images)

    def face(row):
        return models.prepare(study.shown.images[row:row + 1], study.model)[0, ..., 0]

    best = [fv.top_patches(answers, c, study.args.patches, field, face, groups) for c in order]
    cells = padded([[image, *parts] for image, (_, _, parts) in zip(ascent.images[:, top:bottom, left:right], best)])
    captions = [f"#{c}: synthesised {compact(a)}; data {compact(v[0])} to {compact(v[-1])}" +
                ("" if np.isnan(eta[c]) else f"; η² {eta[c]:.2f}") for c, a, (_, v, _) in zip(order, ascent.activations, best)]
    sheet(cells, captions, study.path("patches", layer), f"{study.name}, {layer}: the image synthesised for the middle "
          f"unit, then the patches\nof {len(study.shown)} faces that excite the filter most; each unit sees {sees} (blue: "
          "outside the face)", columns=2)
    header = ["filter", "rank", "face", "label", "activation", "y", "x"]
    labels = study.shown.labels
    rows = [[c, k + 1, row, "" if labels is None else labels[row], f"{v:.6g}", *divmod(int(answers.at[row, c]), answers.width)]
            for c, (found, values, _) in zip(order, best) for k, (row, v) in enumerate(zip(found, values))]
    write_csv(study.path("patches", layer, ".csv"), header, rows)


def progress(study, layer, order, ascent, canvas):
    """The ascent on its way: a strip of the first filters, or a GIF of all."""
    import numpy as np

    from utils.feature_figures import animation, sheet

    (top, left), (bottom, right) = canvas.box
    frames = ascent.snapshots[:, :, top:bottom, left:right]
    if study.args.progress == "gif":
        animation(frames, study.path("progress", layer, ".gif"))
        return
    keep = np.arange(0, len(frames), -(-(len(frames) - 1) // 8) or 1)
    count = min(8, len(order))
    cells = frames[keep][:, :count].swapaxes(0, 1).reshape(-1, 1, *frames.shape[2:])
    captions = [f"#{c}, step {ascent.steps[k]}" for c in order[:count] for k in keep]
    sheet(cells, captions, study.path("progress", layer), f"{study.name}, {layer}: the ascent on its way "
          f"({study.args.objective} objective)", columns=len(keep))


# ---- classes, the smallest change, kernels ---------------------------------------------------------------------


def classes(study):
    """The image that maximises each class's logit, above the face of the data that does."""
    import numpy as np

    from utils import attribution, attribution_checks, models
    from utils import feature_visualization as fv
    from utils.feature_figures import compact, sheet
    from utils.files import write_csv

    args, logits = study.args, attribution.logits_model(study.model)
    names = models.class_names(logits)
    chosen = range(min(len(names), args.filters))
    bar = cli.Progress(label="classes", total=args.steps * -(-len(chosen) // fv.batch_limit(logits, len(chosen))))
    signs = {"max": [1], "min": [-1], "both": [1, -1]}[args.sign]
    found = [fv.ascend(logits, chosen, study.size, study.range, "channel", sign, report=lambda n: bar.step(n=n),
                       **study.options) for sign in signs]
    bar.close()
    on_data = models.predict(logits, study.shown.images, 64)
    cells, captions, rows = [], [], []
    for c in chosen:
        parts = []
        for sign, ascent in zip(signs, found):
            share = attribution_checks.probabilities(logits, ascent.images[c:c + 1])[0, c]
            best = int((sign * on_data[:, c]).argmax())
            face = models.prepare(study.shown.images[best:best + 1], study.model)[0, ..., 0]
            parts += [ascent.images[c], face]
            rows.append([names[c], "max" if sign > 0 else "min", f"{ascent.activations[c]:.6g}", f"{share:.6g}", best,
                         f"{on_data[best, c]:.6g}"])
        cells.append(parts)
        reached = "; ".join(f"logit {compact(float(row[2]))}, face {compact(float(row[5]))}" for row in rows[-len(signs):])
        captions.append(f"{names[c]}: {reached}")
    aim = {"max": "maximises", "min": "minimises", "both": "maximises, then minimises,"}[args.sign]
    sheet(np.array(cells), captions, study.path("classes"), f"{study.name}: the image that {aim} each class's logit,\n"
          f"beside the face of {len(study.shown)} that does", columns=4 // len(signs))
    write_csv(study.path("classes", suffix=".csv"), ["class", "sign", "logit", "probability", "best_face", "its_logit"], rows)
    print(cli.table(rows, ["class", "sign", "logit", "probability", "best face", "its logit"]))


def adversarial(study):
    """The smallest change of one face that turns its class, and its size."""
    import numpy as np

    from utils import adversarial as smallest
    from utils import attribution, attribution_checks, feature_figures, models
    from utils.files import write_csv

    logits = attribution.logits_model(study.model)
    names, face = models.class_names(logits), study.face[..., 0]
    found = smallest.adversarial(logits, face, study.range)
    old = int(found.before.argmax())
    rows = []
    for name, image in (("DeepFool with bisection", found.image), ("FGSM, smallest step", found.fgsm)):
        if image is not None:
            share = attribution_checks.probabilities(logits, image[None])[0]
            change = image - face
            rows.append([name, names[old], names[int(share.argmax())], f"{np.linalg.norm(change):.2f}",
                         f"{np.sqrt((change ** 2).mean()):.3f}", f"{np.abs(change).max():.2f}",
                         f"{found.before[old]:.3f}", f"{share[old]:.3f}", f"{share.max():.3f}"])
    header = ["method", "class", "turned to", "L2", "RMS", "Linf", "p before", "p after", "p of the new class"]
    print(cli.table(rows, header))
    rounded = int(models.predict(logits, np.rint(found.image)[None])[0].argmax())
    print(f"Rounded to whole grey levels the face is {names[rounded]}.")
    feature_figures.adversarial(face, found, names, f"face {study.args.index}{study.label}",
                                f"{study.name}: the smallest change found that turns the class", study.path("adversarial"))
    write_csv(study.path("adversarial", suffix=".csv"), header, rows)


def kernels(study):
    """The first convolution's kernels as they are, on one symmetric scale."""
    import numpy as np

    from utils import feature_visualization as fv
    from utils.feature_figures import compact, sheet
    from utils.files import write_csv

    layer = fv.first_convolution(study.nodes)
    weights = np.asarray(layer.get_weights()[0], np.float32)  # (height, width, inputs, filters)
    tiles = weights.sum(2).transpose(2, 0, 1)  # a grey face is the same in every input channel, so they add
    captions = [f"#{i}: {compact(tile.min())}\nto {compact(tile.max())}" for i, tile in enumerate(tiles)]
    several = f", summed over {weights.shape[2]} channels" if weights.shape[2] > 1 else ""
    sheet(tiles[:, None], captions, study.path("kernels"), f"{study.name}, {layer.name}: {len(tiles)} kernels of "
          f"{weights.shape[1]}x{weights.shape[0]}{several}", scale="weight")
    write_csv(study.path("kernels", suffix=".csv"), ["filter", "y", "x", "weight"],
              [[k, y, x, f"{tiles[k, y, x]:.6g}"] for k, y, x in np.ndindex(tiles.shape)])


def main():
    args = arguments()
    cli.start_keras()
    from utils.files import shown

    study = Study(args)
    if args.kernels:
        kernels(study)
    if study.layers:
        rows = filters(study)
        if rows:
            print(f"Dead: silent on all {len(study.shown):,} faces; starved: on over 99 % of them")
            print(cli.table(rows, ["layer", "filters", "dead", "starved", "unit sees", "shown", "median of data",
                                   "median eta²"]))
    if args.classes:
        classes(study)
    if args.adversarial:
        adversarial(study)
    print("Wrote " + ", ".join(shown(path) for path in study.written))


if __name__ == "__main__":
    cli.run(main)
