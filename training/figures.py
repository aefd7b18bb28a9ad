"""The figures of a training run: the network's architecture, and accuracy and loss over the epochs."""

from collections import Counter

import pandas as pd
from matplotlib.patches import FancyBboxPatch

from utils.figures import COLORS, WIDTH, add_conclusion, plt, save_figure

LAYER_COLORS = {
    "Conv2D": "sky", "Dense": "orange", "MaxPooling2D": "green", "GlobalAveragePooling2D": "green",
    "GlobalMaxPooling2D": "green", "BatchNormalization": "purple", "Add": "red", "Multiply": "red",
    "Concatenate": "red",
}
SHORT = {"Conv2D": "Conv", "MaxPooling2D": "MaxPool", "BatchNormalization": "BatchNorm",
         "GlobalAveragePooling2D": "GlobalAvgPool", "GlobalMaxPooling2D": "GlobalMaxPool"}
ROW, BOX_HEIGHT, LANE = 0.28, 0.23, 0.15  # inches
TEXT_AT = {"layer": 0.07, "kind": 1.4, "output": -0.85, "parameters": -0.07}  # inches from left, right
LONGEST = {"layer": 18, "kind": 54}  # letters; a longer text is cut
RISE = 0.02  # of the validation loss, from which a run counts as overfitted
MOST_ROWS = 20  # of single layers; a deeper network has several layers in a row


# ---- curves ------------------------------------------------------------------------------------------------


def draw_curves(histories, path, card=None):
    """Accuracy and loss over the epochs, training dashed and validation solid, one colour per run.

    histories: {run name: DataFrame of NAME_history.csv}; card: marks the epoch that was saved. Returns the
        path.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3), layout="constrained")
    labels = ("{}, training", "{}, validation") if len(histories) > 1 else ("training", "validation")
    for ax, key in zip(axes, ("accuracy", "loss")):
        plot_curves(ax, histories, key, labels)
        ax.set(xlabel="epoch", title=key.capitalize())
    if card is not None and card["metrics"]["validation_accuracy"] is not None:
        epoch, reached = card["saved_epoch"], 100 * card["metrics"]["validation_accuracy"]
        axes[0].plot(epoch, reached, "o", color=COLORS["blue"], ms=6,
                     label=f"saved: epoch {epoch}, {reached:.1f} %")
    axes[0].set_ylabel("accuracy (%)")
    axes[1].set_ylabel("cross-entropy (nats)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"Training of {' and '.join(histories)}", fontsize=10)
    add_conclusion(figure, conclude_curves(histories))
    return save_figure(figure, path)


def plot_curves(ax, histories, key, labels):
    """Draw the accuracy (in %) or the loss of each run over its epochs, `key`, into `ax`.

    labels: of training and validation, in which `{}` is the run's name.
    """
    factor = 100 if key == "accuracy" else 1
    for (name, history), color in zip(histories.items(), COLORS.values()):
        colors = (color if len(histories) > 1 else COLORS["orange"], color)
        for column, style, color, label in zip((key, f"val_{key}"), ("--", "-"), colors, labels):
            ax.plot(history["epoch"], factor * history[column], style, color=color, label=label.format(name),
                    marker="o" if len(history) == 1 else None)
    ax.grid(True, axis="y")
    ax.xaxis.get_major_locator().set_params(integer=True)


def conclude_curves(histories):
    """What the curves show: where validation is best, and for one run whether it overfits."""
    reached = {name: history["val_accuracy"].max() for name, history in histories.items()}
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
    verdict = f"then rises by {100 * rise:.0f} %: the network overfits" if rise > RISE else "then levels off"
    return f"{text}Validation loss is lowest after epoch {lowest['epoch']:.0f}, {verdict}."


# ---- architecture ------------------------------------------------------------------------------------------


def draw_architecture(model, path):
    """The layers as rows of boxes: name, kind, output shape, parameters. Returns the path.

    keras.utils.plot_model would need graphviz. In a deep network a row is a layer with those that only follow
    it. Connections that skip rows are arrows beside the boxes.
    """
    rows = layer_rows(model)
    row_of = {layer.name: i for i, row in enumerate(rows) for layer in row}
    edges = {(row_of[source], row_of[layer.name]) for layer in model.layers for source in producers(layer)}
    lanes = assign_lanes(sorted((start, end) for start, end in edges if end - start > 1))
    left, right = LANE * (max(lanes.values(), default=-1) + 2), WIDTH - 0.05
    bottom, top = -0.08 - (len(rows) - 1) * ROW, ROW + 0.55
    figure = plt.figure(figsize=(WIDTH, top - bottom))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(bottom, top))  # in inches
    ax.set_axis_off()
    ax.text(WIDTH / 2, top - 0.08, f"{model.name}: {model.count_params():,} parameters", fontsize=10,
            ha="center", va="top")
    for i, row in enumerate([None, *rows], start=-1):
        texts = dict(zip(TEXT_AT, TEXT_AT))
        if row:
            draw_box(ax, row, left, right, -i * ROW)
            texts = describe_layers(row)
        for column, offset in TEXT_AT.items():
            text, longest = texts[column], LONGEST.get(column, 99)
            text = text if len(text) <= longest else f"{text[:longest - 3]}..."
            ax.text((left if offset > 0 else right) + offset, BOX_HEIGHT / 2 - i * ROW, text, va="center",
                    ha="left" if offset > 0 else "right", fontsize=8,
                    color=COLORS["grey"] if row is None else "black",
                    weight="bold" if row and column == "layer" else "normal")
    for start, end in edges:
        if end - start == 1:
            ax.plot([WIDTH / 2] * 2, [-start * ROW, BOX_HEIGHT - end * ROW], color=COLORS["grey"], lw=0.9)
    for (start, end), lane in lanes.items():
        draw_skip(ax, left, left - LANE * (lane + 1), 0.3 * BOX_HEIGHT - start * ROW,
                  0.7 * BOX_HEIGHT - end * ROW)
    add_conclusion(figure, conclude_architecture(model, len(lanes)))
    return save_figure(figure, path)


def producers(layer):
    """Names of the layers whose output a layer takes."""
    return [tensor._keras_history.operation.name
            for node in layer._inbound_nodes[:1] for tensor in node.input_tensors]


def layer_rows(model):
    """The layers in the rows of the figure: a list of lists.

    In a network of more than MOST_ROWS layers, one without a kernel shares the row of the only layer that
    feeds it, where it is that layer's only reader.
    """
    readers = Counter(source for layer in model.layers for source in producers(layer))
    rows = []
    for layer in model.layers:
        sources = producers(layer)
        follows = rows and sources == [rows[-1][-1].name] and readers[sources[0]] == 1
        if len(model.layers) > MOST_ROWS and follows and not hasattr(layer, "kernel"):
            rows[-1].append(layer)
        else:
            rows.append([layer])
    return rows


def assign_lanes(skips):
    """{(first row, last row): lane} for arrows beside the boxes; those that overlap have different lanes."""
    lanes = {}
    for start, end in sorted(skips, key=lambda skip: skip[1] - skip[0]):
        taken = {lane for (a, b), lane in lanes.items() if a < end and start < b}
        lanes[start, end] = next(lane for lane in range(len(skips)) if lane not in taken)
    return lanes


def draw_box(ax, row, left, right, y):
    """The box of a row of layers with its lower edge at `y`."""
    color = COLORS[LAYER_COLORS.get(type(row[0]).__name__, "grey")]
    ax.add_patch(FancyBboxPatch((left, y), right - left, BOX_HEIGHT, fc=color + "30", ec=color, lw=0.9,
                                boxstyle="round,pad=0,rounding_size=0.05"))


def describe_layers(layers):
    """Layers of which each feeds the next in words: {"layer": name of the first, "kind": what they do,
    "output": shape of the last, "parameters"}."""
    kinds = [f"{type(layer).__name__.removesuffix('Layer')} {layer_text(layer)}".strip() for layer in layers]
    if len(layers) > 1:
        kinds = [" ".join(SHORT.get(word, word) for word in text.split(" ")) for text in kinds]
    count = sum(layer.count_params() for layer in layers)
    return {"layer": layers[0].name, "kind": ", ".join(kinds),
            "output": "x".join(map(str, layers[-1].output.shape[1:])),
            "parameters": f"{count:,}" if count else "-"}


def draw_skip(ax, left, lane, start, end):
    """An arrow from the height `start` at the boxes' left edge along x = `lane` to the height `end`."""
    style = {"color": COLORS["red"], "lw": 1.1}
    ax.plot([left, lane, lane, left - 0.05], [start, start, end, end], **style)
    ax.annotate("", (left, end), (left - 0.09, end),
                arrowprops={"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, **style})


def conclude_architecture(model, skips):
    """Where most of the parameters are, and how many connections skip layers."""
    largest = max(model.layers, key=lambda layer: layer.count_params())
    share = 100 * largest.count_params() / max(model.count_params(), 1)
    text = f"{share:.0f} % of the parameters are in one layer, {largest.name}."
    return text + (f" Arrows on the left: {skips} connections that skip rows." if skips else "")


def layer_text(layer):
    """What a layer does, in the field's short form, e.g. `32 filters 3x3`."""
    config = layer.get_config()
    if "filters" in config:
        height, width = config["kernel_size"]
        stride = f", stride {config['strides'][0]}" if config["strides"][0] > 1 else ""
        return f"{config['filters']} filters {height}x{width}{stride}"
    if "units" in config:
        return f"{config['units']} units"
    if "pool_size" in config:
        return "{}x{}".format(*config["pool_size"])
    if "rate" in config:
        return f"rate {config['rate']:g}"
    if "scale" in config and "offset" in config:
        return f"x {config['scale']:.4g}" + (f" {config['offset']:+g}" if config["offset"] else "")
    return ""
