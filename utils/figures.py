"""One style for every figure, and the two figures that both training scripts draw."""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from utils import models
from utils.files import replacing

COLORS = {"blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "red": "#D55E00", "purple": "#CC79A7",
          "sky": "#56B4E9", "grey": "#666666"}  # Okabe and Ito: told apart with any colour vision
DPI = 200
plt.rcParams.update({
    "figure.dpi": 100, "savefig.dpi": DPI, "savefig.bbox": "tight", "savefig.facecolor": "white",
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": False, "grid.color": "#DDDDDD", "grid.linewidth": 0.6, "lines.linewidth": 1.6,
    "image.interpolation": "nearest", "axes.prop_cycle": plt.cycler(color=list(COLORS.values())),
})


def save_figure(figure, path):
    """Write `figure` as PNG to `path`, whole or not at all and without a date (equal figures, equal bytes); close it."""
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    plt.close(figure)
    return Path(path)


def training_figures(card):
    """Draw architecture and curves of a finished run; returns the paths of all files that the run wrote."""
    name = card["name"]
    model_path = models.MODELS / f"{name}.h5"
    history = read_history(models.MODELS / f"{name}_history.csv")
    architecture = draw_architecture(models.load(model_path), models.FIGURES / f"{name}_architecture.png")
    curves = draw_curves({name: history}, models.FIGURES / f"{name}_curves.png", card)
    return [model_path, models.card_path(model_path), models.MODELS / f"{name}_history.csv", architecture, curves]


def read_history(path):
    """A history CSV as {column: list of float}."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows] for key in rows[0]}


def draw_curves(histories, path, card=None):
    """Accuracy and loss over the epochs, training dashed and validation solid, one colour a run.

    histories: {run name: history as `read_history` gives it}; card: marks the epoch that was saved.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
    for (name, history), color in zip(histories.items(), COLORS.values()):
        label = f"{name}, " if len(histories) > 1 else ""
        marker = "o" if len(history["epoch"]) == 1 else None
        for ax, key, factor in ((axes[0], "accuracy", 100), (axes[1], "loss", 1)):
            other = color if len(histories) > 1 else COLORS["orange"]
            ax.plot(history["epoch"], [factor * v for v in history[key]], "--", color=other, marker=marker,
                    label=f"{label}training")
            ax.plot(history["epoch"], [factor * v for v in history[f"val_{key}"]], color=color, marker=marker,
                    label=f"{label}validation")
    if card is not None and card["metrics"]["validation_accuracy"] is not None:
        epoch, reached = card["saved_epoch"], 100 * card["metrics"]["validation_accuracy"]
        axes[0].plot(epoch, reached, "o", color=COLORS["blue"], ms=5)
        axes[0].annotate(f"saved: {reached:.1f} %", (epoch, reached), (0, -13), textcoords="offset points",
                         ha="right" if epoch > 1 else "left", fontsize=8, color=COLORS["blue"])
    axes[0].set(xlabel="epoch", ylabel="accuracy (%)", title="Accuracy")
    axes[1].set(xlabel="epoch", ylabel="cross-entropy (nats)", title="Loss")
    for ax in axes:
        ax.grid(True, axis="y")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[1].legend()
    if len(histories) == 1:
        figure.suptitle(f"Training of {next(iter(histories))}", fontsize=10.5)
    return save_figure(figure, path)


LAYER_COLORS = {"Conv2D": "sky", "Dense": "orange", "MaxPooling2D": "green", "GlobalAveragePooling2D": "green",
                "GlobalMaxPooling2D": "green", "BatchNormalization": "purple", "Add": "red", "Multiply": "red",
                "Concatenate": "red"}


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


def draw_architecture(model, path):
    """The layers as a column of boxes (several columns for deep networks): name, kind, output shape, parameters.

    Needs no graphviz. Skip connections are drawn as arcs beside the column, where both ends are in the same column.
    """
    drawn = list(model.layers)
    columns = max(1, -(-len(drawn) // 22))
    per_column = -(-len(drawn) // columns)
    height, width, gap = 0.30, 4.7, 0.55
    figure, ax = plt.subplots(figsize=(columns * (width + gap), per_column * 0.36 + 0.8))
    place = {}
    for i, layer in enumerate(drawn):
        column, row = divmod(i, per_column)
        x, y = column * (width + gap), -row * 0.36
        place[layer.name] = (column, x, y)
        color = COLORS[LAYER_COLORS.get(type(layer).__name__, "grey")]
        ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.05", fc=color + "30",
                                    ec=color, lw=0.9))
        shape = layer.output.shape[1:]
        kind = "Input" if type(layer).__name__ == "InputLayer" else type(layer).__name__
        ax.text(x + 0.07, y + height / 2, layer.name, va="center", fontsize=7, weight="bold")
        ax.text(x + 1.62, y + height / 2, f"{kind} {layer_text(layer)}", va="center", fontsize=6.6)
        ax.text(x + 3.82, y + height / 2, "x".join(map(str, shape)), va="center", ha="right", fontsize=7)
        ax.text(x + width - 0.07, y + height / 2, f"{layer.count_params():,}" if layer.count_params() else "-", va="center",
                ha="right", fontsize=7)
    for layer in drawn:
        for node in layer._inbound_nodes[:1]:
            for tensor in node.input_tensors:
                source = tensor._keras_history.operation.name
                if source not in place:
                    continue
                (c0, x0, y0), (c1, x1, y1) = place[source], place[layer.name]
                if c0 == c1 and y0 - y1 < 0.37:
                    ax.annotate("", (x1 + width / 2, y1 + height), (x0 + width / 2, y0),
                                arrowprops={"arrowstyle": "-", "lw": 0.9, "color": COLORS["grey"]})
                elif c0 == c1:
                    ax.annotate("", (x1, y1 + height / 2), (x0, y0 + height / 2), arrowprops={
                        "arrowstyle": "-|>", "lw": 1, "color": COLORS["red"], "connectionstyle": "bar,fraction=0.12"
                        if y0 - y1 < 1.2 else "bar,fraction=0.06"})
    for column in range(columns):
        x = column * (width + gap)
        for offset, text, align in ((0.07, "layer", "left"), (1.62, "kind", "left"), (3.82, "output", "right"),
                                    (width - 0.07, "parameters", "right")):
            ax.text(x + offset, height + 0.12, text, fontsize=7, color=COLORS["grey"], ha=align)
    ax.set_xlim(-0.4, columns * (width + gap) - gap + 0.1)
    ax.set_ylim(-per_column * 0.36 + 0.2, height + 0.35)
    ax.set_axis_off()
    ax.set_title(f"{model.name}: {model.count_params():,} parameters", fontsize=10)
    return save_figure(figure, path)
