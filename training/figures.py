"""The two figures of a training run: the network's architecture, and accuracy and loss over the epochs."""

import pandas as pd
from matplotlib.patches import FancyBboxPatch

from utils import models
from utils.figures import COLORS, plt, save_figure

LAYER_COLORS = {
    "Conv2D": "sky", "Dense": "orange", "MaxPooling2D": "green", "GlobalAveragePooling2D": "green",
    "GlobalMaxPooling2D": "green", "BatchNormalization": "purple", "Add": "red", "Multiply": "red",
    "Concatenate": "red",
}
ROW, BOX_HEIGHT, BOX_WIDTH, GAP = 0.36, 0.30, 4.7, 0.55  # inches
ROWS_IN_A_COLUMN = 22
TEXT_AT = {"layer": (0.07, "left"), "kind": (1.62, "left"), "output": (3.82, "right"),
           "parameters": (BOX_WIDTH - 0.07, "right")}


def training_figures(card):
    """Draw figures/NAME_architecture.png and figures/NAME_curves.png of a finished run."""
    name = card["name"]
    draw_architecture(models.load(models.MODELS / f"{name}.h5"), models.FIGURES / f"{name}_architecture.png")
    history = pd.read_csv(models.MODELS / f"{name}_history.csv")
    draw_curves({name: history}, models.FIGURES / f"{name}_curves.png", card)


# ---- curves ------------------------------------------------------------------------------------------------


def draw_curves(histories, path, card=None):
    """Accuracy and loss over the epochs, training dashed and validation solid, one colour per run.

    histories: {run name: DataFrame of NAME_history.csv}; card: marks the epoch that was saved. Returns the
        path.
    """
    figure, (accuracy, loss) = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
    several = len(histories) > 1
    for (name, history), color in zip(histories.items(), COLORS.values()):
        label, marker = f"{name}, " if several else "", "o" if len(history) == 1 else None
        for ax, key, factor in ((accuracy, "accuracy", 100), (loss, "loss", 1)):
            ax.plot(history["epoch"], factor * history[key], "--", marker=marker, label=f"{label}training",
                    color=color if several else COLORS["orange"])
            ax.plot(history["epoch"], factor * history[f"val_{key}"], color=color, marker=marker,
                    label=f"{label}validation")
    if card is not None and card["metrics"]["validation_accuracy"] is not None:
        epoch, reached = card["saved_epoch"], 100 * card["metrics"]["validation_accuracy"]
        accuracy.plot(epoch, reached, "o", color=COLORS["blue"], ms=5)
        accuracy.annotate(f"saved: {reached:.1f} %", (epoch, reached), (0, -13), textcoords="offset points",
                          ha="right" if epoch > 1 else "left", fontsize=8, color=COLORS["blue"])
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", title="Accuracy")
    loss.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="Loss")
    for ax in (accuracy, loss):
        ax.grid(True, axis="y")
        ax.xaxis.get_major_locator().set_params(integer=True)
    loss.legend()
    if not several:
        figure.suptitle(f"Training of {next(iter(histories))}", fontsize=10.5)
    return save_figure(figure, path)


# ---- architecture ------------------------------------------------------------------------------------------


def draw_architecture(model, path):
    """The layers as columns of boxes: name, kind, output shape, parameters. Returns the path.

    keras.utils.plot_model would need graphviz. Skip connections within a column are arrows beside it.
    """
    columns = -(-len(model.layers) // ROWS_IN_A_COLUMN)
    per_column = -(-len(model.layers) // columns)
    figure, ax = plt.subplots(figsize=(columns * (BOX_WIDTH + GAP), per_column * ROW + 0.8))
    places = {layer.name: (i // per_column * (BOX_WIDTH + GAP), -(i % per_column) * ROW)
              for i, layer in enumerate(model.layers)}
    for layer in model.layers:
        draw_layer(ax, layer, *places[layer.name])
        draw_connections(ax, layer, places)
    for column in range(columns):
        for text, (offset, align) in TEXT_AT.items():
            ax.text(column * (BOX_WIDTH + GAP) + offset, BOX_HEIGHT + 0.12, text, fontsize=7, ha=align,
                    color=COLORS["grey"])
    ax.set_xlim(-0.4, columns * (BOX_WIDTH + GAP) - GAP + 0.1)
    ax.set_ylim(-per_column * ROW + 0.2, BOX_HEIGHT + 0.35)
    ax.set_axis_off()
    ax.set_title(f"{model.name}: {model.count_params():,} parameters", fontsize=10)
    return save_figure(figure, path)


def draw_layer(ax, layer, x, y):
    """One box with its lower left corner at (x, y)."""
    kind = type(layer).__name__
    color = COLORS[LAYER_COLORS.get(kind, "grey")]
    ax.add_patch(FancyBboxPatch((x, y), BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.05",
                                fc=color + "30", ec=color, lw=0.9))
    count = layer.count_params()
    texts = {
        "layer": layer.name,
        "kind": f"{kind.removesuffix('Layer')} {layer_text(layer)}",
        "output": "x".join(map(str, layer.output.shape[1:])),
        "parameters": f"{count:,}" if count else "-",
    }
    for column, text in texts.items():
        offset, align = TEXT_AT[column]
        ax.text(x + offset, y + BOX_HEIGHT / 2, text, va="center", ha=align,
                fontsize=6.6 if column == "kind" else 7, weight="bold" if column == "layer" else "normal")


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


def draw_connections(ax, layer, places):
    """A line from each layer of the same column that feeds this one; an arrow where layers are skipped."""
    x1, y1 = places[layer.name]
    tensors = [tensor for node in layer._inbound_nodes[:1] for tensor in node.input_tensors]
    for x0, y0 in (places.get(tensor._keras_history.operation.name, (None, None)) for tensor in tensors):
        if x0 != x1:
            continue
        if y0 - y1 < ROW + 0.01:
            style = {"arrowstyle": "-", "lw": 0.9, "color": COLORS["grey"]}
            ax.annotate("", (x1 + BOX_WIDTH / 2, y1 + BOX_HEIGHT), (x0 + BOX_WIDTH / 2, y0), arrowprops=style)
        else:
            fraction = 0.12 if y0 - y1 < 1.2 else 0.06
            style = {"arrowstyle": "-|>", "lw": 1, "color": COLORS["red"],
                     "connectionstyle": f"bar,fraction={fraction}"}
            ax.annotate("", (x1, y1 + BOX_HEIGHT / 2), (x0, y0 + BOX_HEIGHT / 2), arrowprops=style)
