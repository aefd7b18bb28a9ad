"""One style for every figure."""

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from utils.files import replacing, write_table

COLORS = {"blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "red": "#D55E00", "purple": "#CC79A7",
          "sky": "#56B4E9", "grey": "#666666"}  # Okabe and Ito: told apart with any colour vision
DPI = 200
WIDTH = 6.7  # inches of a figure; with the margin around it what a column of A4 or 700 px show at full size
matplotlib.rcdefaults()  # whatever a matplotlibrc of the user says
plt.rcParams.update({
    "savefig.dpi": DPI, "savefig.bbox": "tight", "savefig.facecolor": "white",
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "grid.color": "#DDDDDD", "grid.linewidth": 0.6, "lines.linewidth": 1.6,
    "image.interpolation": "nearest", "axes.prop_cycle": plt.cycler(color=list(COLORS.values())),
})


def add_conclusion(figure, text):
    """Write what a figure shows, in plain words, under it."""
    text = text.replace(" %", "\N{NO-BREAK SPACE}%")
    if figure.legends:  # one below the axes stays there: savefig would move it to the new lower edge
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for legend in figure.legends:
            legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transSubfigure)
    figure.text(0.01, -0.04 / figure.get_figheight(), textwrap.fill(text, int(13 * figure.get_figwidth())),
                va="top", linespacing=1.25)


def save_figure(figure, path):
    """Write `figure` as PNG, whole or not at all, without a date: equal figures are equal files."""
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    plt.close(figure)
    return Path(path)


def write_results(results):
    """Write {path: figure as .png or DataFrame as .csv}; returns the first DataFrame, with the figures' paths
    in attrs["figures"]."""
    for path, result in results.items():
        if path.suffix == ".csv":
            write_table(path, result)
        else:
            save_figure(result, path)
    table = next(result for path, result in results.items() if path.suffix == ".csv")
    table.attrs["figures"] = [str(path) for path in results if path.suffix == ".png"]
    return table
