"""The figures of a training run: the network's architecture, and accuracy and loss over the epochs."""

from collections import Counter

import pandas as pd

from utils import figures, models
from utils.figures import COLORS, TRAINING, VALIDATION, WIDTH, add_conclusion, plt, save_figure

LAYER_COLORS = {"Conv2D": "sky", "Dense": "purple", "Add": "red", "Multiply": "red", "Concatenate": "red",
                "MaxPooling2D": "green", "GlobalAveragePooling2D": "green", "GlobalMaxPooling2D": "green"}
SHORT = {"Conv2D": "Conv", "MaxPooling2D": "MaxPool", "BatchNormalization": "BatchNorm",
         "GlobalAveragePooling2D": "GlobalAvgPool", "GlobalMaxPooling2D": "GlobalMaxPool"}
COLUMNS = {  # x, 0-1, and how many letters fit
    "layer": (0.01, 18), "kind": (0.2, 54), "output": (0.87, 99), "parameters": (0.99, 99)}


def draw_curves(histories, path, card=None, accuracies=None):
    """Accuracy and loss over the epochs, training dashed and validation solid, several runs by colour; the
    path. histories: {run name: DataFrame of NAME_history.csv}; card: marks the epoch that was saved;
    accuracies, of several runs: {run name: validation accuracy of the stored model}."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3), layout="constrained")
    labels = ("{}, training", "{}, validation") if len(histories) > 1 else ("training", "validation")
    for ax, key, unit in zip(axes, ("accuracy", "loss"), ("accuracy (%)", "cross-entropy (nats)")):
        plot_curves(ax, histories, key, labels)
        ax.set(xlabel="epoch", ylabel=unit, title=key.capitalize())
    if card is not None and card["metrics"]["validation_accuracy"] is not None:
        epoch, reached = card["saved_epoch"], 100 * card["metrics"]["validation_accuracy"]
        axes[0].plot(epoch, reached, "o", color=VALIDATION, ms=6,
                     label=f"saved: epoch {epoch}, {reached:.1f} %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"{' and '.join(histories)}: training", fontsize=10)
    add_conclusion(figure, conclude_curves(histories, accuracies))
    return save_figure(figure, path)


def plot_curves(ax, histories, key, labels):
    """Draw the accuracy (in %) or the loss of each run over its epochs, `key`, into `ax`; labels: of training
    and validation, in which `{}` is the run's name."""
    factor = 100 if key == "accuracy" else 1
    for (name, history), color in zip(histories.items(), figures.NETWORK_COLORS):
        colors = (color, color) if len(histories) > 1 else (TRAINING, VALIDATION)
        for column, style, color, label in zip((key, f"val_{key}"), ("--", "-"), colors, labels):
            ax.plot(history["epoch"], factor * history[column], style, color=color, label=label.format(name),
                    marker="o" if len(history) == 1 else None)
    ax.grid(True, axis="y")
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def conclude_curves(histories, accuracies=None):
    """What the curves show: where validation is best, and for one run whether it overfits."""
    reached = accuracies or {name: history["val_accuracy"].max() for name, history in histories.items()}
    if pd.isna(list(reached.values())).any():
        return "Without validation faces the curves do not say how good the network is on new faces."
    if len(histories) > 1:
        return "Highest validation accuracy: " + ", ".join(
            f"{name} {100 * accuracy:.1f} %" for name, accuracy in reached.items()) + "."
    history = next(iter(histories.values()))
    best, lowest, last = (history.loc[history["val_accuracy"].idxmax()],
                          history.loc[history["val_loss"].idxmin()], history.iloc[-1])
    gap = 100 * (last["accuracy"] - last["val_accuracy"])
    text = (f"Validation accuracy is highest after epoch {best['epoch']:.0f} of {last['epoch']:.0f}; at the "
            f"end it is {abs(gap):.1f} points {'below' if gap > 0 else 'above'} training accuracy. ")
    if lowest["epoch"] == last["epoch"]:
        return text + "Validation loss is lowest at the end: more epochs may help."
    rise = last["val_loss"] / lowest["val_loss"] - 1
    verdict = f"then rises by {100 * rise:.0f} %: the network overfits" if rise > 0.02 else "then levels off"
    return f"{text}Validation loss is lowest after epoch {lowest['epoch']:.0f}, {verdict}."


def draw_architecture(model, path):
    """The layers as rows of boxes: name, kind, output shape, parameters. Returns the path.

    keras.utils.plot_model would need graphviz. In a deep network a row is a layer with those that only follow
    it. Connections that skip rows are arrows on the left; the axes count rows downwards:

         |  0  +---------------+
        +----- | first layer   |
        |   1  | second layer  |
        +----> | sum of both   |
    """
    rows = layer_rows(model)
    row_of = {layer.name: i for i, row in enumerate(rows) for layer in row}
    edges = {(row_of[source], row_of[layer.name]) for layer in model.layers for source in producers(layer)}
    skips = sorted((start, end) for start, end in edges if end - start > 1)
    figure, ax = plt.subplots(figsize=(WIDTH, 0.28 * len(rows) + 0.8), layout="constrained")
    lanes = [1 + sum(a < end and start < b for a, b in skips[:i]) for i, (start, end) in enumerate(skips)]
    ax.set(ylim=(len(rows) - 0.4, -1.3), xlim=(-0.025 * max(lanes, default=0) - 0.005, 1.005))
    network, name = models.NETWORKS.get(model.name, model.name), path.stem.removesuffix("_architecture")
    ax.set_title(f"{network} ({name}): {model.count_params():,} parameters")
    ax.set_axis_off()
    colors = [COLORS[LAYER_COLORS.get(type(row[0]).__name__, "grey")] for row in rows]
    ax.barh(range(len(rows)), 1, 0.8, color=[f"{color}30" for color in colors], edgecolor=colors)
    for y, texts in enumerate([dict(zip(COLUMNS, COLUMNS)), *map(describe_layers, rows)], start=-1):
        for column, (x, longest) in COLUMNS.items():
            text = texts[column]
            ax.text(x, y, text if len(text) <= longest else f"{text[:longest - 3]}...", fontsize=8,
                    va="center", ha="left" if x < 0.5 else "right",
                    color=COLORS["grey"] if y < 0 else "black",
                    weight="bold" if y >= 0 and column == "layer" else "normal")
    neighbours = [start for start, end in edges if end - start == 1]
    ax.vlines([0.5] * len(neighbours), [y + 0.4 for y in neighbours], [y + 0.6 for y in neighbours],
              color=COLORS["grey"], lw=0.9)
    for (start, end), lane in zip(skips, lanes):  # arrows side by side where they overlap
        x, top, bottom = -0.025 * lane, start + 0.2, end - 0.2
        ax.plot([0, x, x, -0.008], [top, top, bottom, bottom], color=COLORS["red"], lw=1.1)
        ax.plot(-0.008, bottom, ">", color=COLORS["red"], ms=4)
    largest = max(model.layers, key=lambda layer: layer.count_params())
    share = 100 * largest.count_params() / max(model.count_params(), 1)
    arrows = f" Arrows on the left: {len(skips)} connections that skip rows." if skips else ""
    add_conclusion(figure, f"{share:.0f} % of the parameters are in one layer, {largest.name}.{arrows}")
    return save_figure(figure, path)


def producers(layer):
    """Names of the layers whose output a layer takes."""
    return [tensor._keras_history.operation.name
            for node in layer._inbound_nodes[:1] for tensor in node.input_tensors]


def layer_rows(model):
    """The layers in the rows of the figure: a list of lists. Of more than 20 layers, one without a kernel
    shares the row of its only source, if nothing else reads it."""
    readers = Counter(source for layer in model.layers for source in producers(layer))
    rows = []
    for layer in model.layers:
        sources = producers(layer)
        follows = rows and sources == [rows[-1][-1].name] and readers[sources[0]] == 1
        if len(model.layers) > 20 and follows and not hasattr(layer, "kernel"):
            rows[-1].append(layer)
        else:
            rows.append([layer])
    return rows


def describe_layers(layers):
    """Layers of which each feeds the next in words: {"layer", "kind", "output", "parameters"}."""
    kinds = [f"{type(layer).__name__.removesuffix('Layer')} {layer_text(layer)}".strip() for layer in layers]
    if len(layers) > 1:
        kinds = [" ".join(SHORT.get(word, word) for word in text.split(" ")) for text in kinds]
    count = sum(layer.count_params() for layer in layers)
    return {"layer": layers[0].name, "kind": ", ".join(kinds),
            "output": "×".join(map(str, layers[-1].output.shape[1:])),
            "parameters": f"{count:,}" if count else "-"}


def layer_text(layer):
    """What a layer does, in the field's short form, e.g. `32 filters 3×3`."""
    match layer.get_config():
        case {"filters": filters, "kernel_size": (height, width), "strides": (stride, _)}:
            return f"{filters} filters {height}×{width}" + (f", stride {stride}" if stride > 1 else "")
        case {"units": units}:
            return f"{units} units"
        case {"pool_size": (height, width)}:
            return f"{height}×{width}"
        case {"rate": rate}:
            return f"rate {rate:g}"
        case {"scale": scale, "offset": offset}:
            return f"× 1/{1 / scale:.4g}" + (f" {offset:+g}" if offset else "")
    return ""
