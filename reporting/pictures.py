"""The pictures of the page: charts as SVG, whose words and colours are the page's, and images as PNG."""

import base64
import io
import re
import warnings

import keras
import numpy as np
import pandas as pd
from PIL import Image

from explain import faithfulness, receptive_field
from reporting.results import HOMEWORK_IMAGE, gradient_maps
from reporting.text import label
from training.figures import plot_curves
from utils import metrics, models, structure
from utils.data import CLASSES
from utils.evaluation import surest_predictions
from utils.figures import COLORS, plt

CHART = 3.3, 2.8  # inches: two stand side by side and one on a phone with text of at least 11 pixels
PNG = "data:image/png;base64,"
HEAT = "inferno"  # as saliency.py draws its maps, up to their 99.5th percentile
SHARES = range(5, 101, 5)  # per cent of the area, the slider's positions


def to_base64(data):
    """Bytes or an array's bytes as base64."""
    return base64.b64encode(data).decode()


def to_png(image, colors=None):
    """A PNG's data URI of uint8 (h, w) or (h, w, 3), or of values (h, w) from 0 to 1 in a colour map."""
    if colors:
        image = plt.get_cmap(colors)(np.clip(image, 0, 1), bytes=True)[..., :3]
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=True)
    return PNG + to_base64(file.getvalue())


def all_pictures(results, cnn, probabilities, evaluated, training, filters, language):
    """What page.html shows: {"pictures": of the interactive parts, "charts": {section: [SVG]}, "thumbnails":
    {section: SVG or a PNG's data URI}, "filters": of `filter_pictures`}. cnn: keras.Model;
    probabilities (n, 7): its of the evaluated faces; filters: what filter_vis.py returned."""
    cnn_epochs, dnn_epochs = (pd.DataFrame(results["models"][role]["history"]) for role in ("cnn", "dnn"))
    histories = {"cnn": {"CNN": cnn_epochs}, "dnn": {"CNN": cnn_epochs, "DNN": dnn_epochs}}
    charts = {section: [curves(lines, key, language) for key in ("accuracy", "loss")]
              for section, lines in histories.items()}
    charts["confusion"] = [reliability(probabilities, evaluated.labels, language)]
    thumbnails = {section: curves(lines, "accuracy", language, is_thumbnail=True)
                  for section, lines in histories.items()}
    saliency = saliency_faces(structure.logits_model(cnn), training)
    tiles = filter_pictures(cnn, filters, training)
    share = np.nan_to_num(metrics.scores(np.array(results["confusion"]["counts"]))["share"])
    thumbnails |= {"confusion": to_png(share, "Blues"), "saliency": saliency[0]["heat"],
                   "scale": to_png(np.linspace(0, 1, 256)[None], HEAT),
                   "filters": [*tiles.values()][-1][0]["image"] if tiles else None}
    return {"pictures": {"confusion": confusion_cells(probabilities, evaluated), "saliency": saliency},
            "charts": charts, "thumbnails": thumbnails, "filters": tiles}


def curves(histories, key, language, is_thumbnail=False):
    """Accuracy or loss, `key`, over epochs, {network: DataFrame}, as SVG; a thumbnail has no words."""
    figure, ax = plt.subplots(figsize=(1.6, 1.2) if is_thumbnail else CHART, layout="constrained")
    lines = [label(f"line_{part}", language, "{}") for part in ("training", "validation")]
    plot_curves(ax, histories, key, lines)
    if is_thumbnail:
        ax.set(xticklabels=[], yticklabels=[])
        ax.tick_params(length=0)
    else:
        ax.set(xlabel=label("epoch", language), ylabel=label(f"{key}_axis", language))
        figure.legend(loc="outside lower center", ncols=2)
    return to_svg(figure)


def reliability(probabilities, labels, language):
    """Accuracy at each confidence as SVG, Wilson's 95 % intervals; area of a point: number of faces."""
    table = 100 * metrics.reliability(probabilities, labels)
    figure, ax = plt.subplots(figsize=CHART, layout="constrained")
    ax.plot([0, 100], [0, 100], ":", color="#888888")
    ax.vlines(table["confidence"], table["low"], table["high"], color=COLORS["blue"], linewidth=1)
    ax.scatter(table["confidence"], table["accuracy"], 4 + 3 * table["faces"] / len(labels), COLORS["blue"])
    ax.set(xlabel=label("confidence_axis", language), ylabel=label("accuracy_axis", language),
           xlim=(0, 103), ylim=(-2, 103))
    return to_svg(figure)


def to_svg(figure):
    """The figure as an SVG element whose text is text; black, blue and grid are of the page's theme."""
    file, style = io.StringIO(), {"svg.fonttype": "none", "svg.hashsalt": "report"}
    with warnings.catch_warnings(action="ignore"), plt.rc_context(style):  # glyphs are the browser's affair
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>| id=\"[a-zA-Z]+[\w.]*_\d+\"", "", text[text.index("<svg"):],
                  flags=re.DOTALL)
    for color, themed in (("#000000", "currentColor"), (COLORS["blue"].lower(), "rgb(var(--cell))"),
                          ("#dddddd", "#88888855")):
        text = text.replace(color, themed)
    return text.replace("<svg ", '<svg aria-hidden="true" ', 1)


def filter_pictures(model, tables, faces):
    """Each filter that filter_vis.py (tables) showed: its synthesised image, the patches of training faces
    that excite it most, and its output for the homework's image; {layer: [{"filter", "times", "activation",
    "image", "output", "patches"}]}, pictures as data URIs. model: keras.Model without nested models."""
    fields = receptive_field.fields(model)
    image, pictures = models.prepare(faces.images[[HOMEWORK_IMAGE]], model), {}
    for layer in tables["summary"]["layer"] if "summary" in tables else ():
        part = keras.Model(model.inputs[0], model.get_layer(layer).output)
        table = tables[f"filters_{layer}"].astype({"times_data": float, "activation": float})
        maps = np.asarray(part(image, training=False), np.float32)[0][..., table["filter"].astype(int)]
        maps /= np.percentile(maps, 99.5) or 1.0
        patches = {name: [] for name in table["filter"]}
        for row in tables[f"patches_{layer}"].itertuples():
            face = models.prepare(faces.images[[row.index]], model)[0, ..., 0]
            patch = receptive_field.patch(face, fields[layer], (row.y, row.x))
            patches[row.filter].append(patch_png(patch))
        pictures[layer] = [
            {"filter": int(row.filter), "times": f"{row.times_data:.1f}",
             "activation": f"{row.activation:.3g}", "image": patch_png(tile[0]),
             "output": to_png(maps[..., i], "viridis"), "patches": patches[row.filter]}
            for i, (row, tile) in enumerate(zip(table.itertuples(), tables[f"images_{layer}"]))]
    return pictures


def patch_png(patch):
    """Grey levels (h, w), nan (light blue) beyond the border of the face, as a PNG's data URI."""
    grey = np.nan_to_num(patch).clip(0, 255).round().astype(np.uint8)
    return to_png(np.where(np.isnan(patch)[..., None], np.uint8((187, 221, 242)), grey[..., None]))


def confusion_cells(probabilities, faces):
    """The faces of each cell of the confusion matrix of which the network is surest, identical images once:
    {"TRUE-PREDICTED" codes: {"count", "strip": the faces side by side, "confidence": per cent of each}}."""
    counts = metrics.confusion(faces.labels, probabilities.argmax(axis=1)).tolist()
    cells = {}
    for (true, predicted), surest in surest_predictions(probabilities, faces).groupby(["true", "predicted"]):
        shown = surest.head(16)
        cells[f"{true}-{predicted}"] = {
            "count": counts[true][predicted], "strip": to_png(np.hstack(faces.images[shown["row"]])),
            "confidence": (100 * shown["confidence"]).round().astype(int).tolist()}
    return cells


def saliency_faces(logits, faces):
    """For the slider, the homework's training image and the first of each class, as dicts: number, from 1;
    label and target, the true and the predicted class; grey, uint8 (48, 48); heat, the map as a PNG's data
    URI; rank, uint16, 0 the most salient; kept, {per cent of the area: probability of the target}."""
    rows = [HOMEWORK_IMAGE]
    for code in range(len(CLASSES)):
        rows += [row for row in np.flatnonzero(faces.labels == code)[:2] if row not in rows][:1]
    grey, codes, maps = gradient_maps(logits, faces.images[rows])
    kept = {share: faithfulness.salient_kept(logits, grey, codes, maps, share / 100)[1] for share in SHARES}
    ranks = faithfulness.ranks(maps).astype("<u2")
    scaled = maps / np.maximum(np.percentile(maps, 99.5, (1, 2), keepdims=True), 1e-30)
    return [{"number": int(row) + 1, "label": CLASSES[faces.labels[row]], "target": CLASSES[codes[i]],
             "grey": to_base64(grey[i].round().astype(np.uint8)), "rank": to_base64(ranks[i]),
             "heat": to_png(scaled[i], HEAT),
             "kept": {share: round(float(p[i]), 3) for share, p in kept.items()}}
            for i, row in enumerate(rows)]
