"""One style for every figure."""

import re
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from utils import files

COLORS = {"blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "red": "#D55E00", "purple": "#CC79A7",
          "sky": "#56B4E9", "grey": "#666666"}  # Okabe and Ito: told apart with any colour vision
TRAINING, VALIDATION = COLORS["orange"], COLORS["blue"]  # faces
NETWORK_COLORS = [COLORS[name] for name in ("green", "red", "purple", "sky", "grey")]  # of several
METADATA = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
WIDTH = 6.7  # inches of a figure; with the margin around it what a column of A4 or 700 px show at full size
matplotlib.rcdefaults()  # whatever a matplotlibrc of the user says
plt.rcParams.update({
    "savefig.dpi": 200, "savefig.bbox": "tight", "savefig.facecolor": "white",
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "grid.color": "#DDDDDD", "grid.linewidth": 0.6, "lines.linewidth": 1.6,
    "image.interpolation": "nearest", "axes.prop_cycle": plt.cycler(color=list(COLORS.values())),
    "svg.hashsalt": "",  # equal figures are equal files
})


def faces_name(faces, tta="none"):
    """Faces for a title, without folders: "2,873 faces of the validation split of train.csv"."""
    before, split, place = faces.source.rpartition("the validation split of ")
    place = Path(place).name.replace(".csv.gz", ".csv")
    views = f", {tta} test-time augmentation" * (tta != "none")
    return f"{len(faces):,} faces of {before}{split}{place}{views}"


def add_conclusion(figure, text):
    """Write under a figure what it shows, in lines as wide as it; units and intervals are not torn apart."""
    whole = r" (?=%|points|=)|(?<= =) |(?<=,) (?=[^][]*\])|(?<=\d) (?=(to|of) [-+]?\d)|(?<=\d to|\d of) "
    text = re.sub(whole, "\N{NO-BREAK SPACE}", text)
    if figure.legends:  # one below the axes stays there: savefig would move it to the new lower edge
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for legend in figure.legends:
            legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transSubfigure)
    drawn = figure.text(0.01, -0.04 / figure.get_figheight(), text, va="top", linespacing=1.25)
    letters = int(1.2 * len(text) * figure.bbox.width / drawn.get_window_extent().width)
    while drawn.get_window_extent().width > 0.98 * figure.bbox.width:
        letters -= 1
        drawn.set_text(textwrap.fill(text, letters, break_on_hyphens=False))


def save_figure(figure, path):
    """Write `figure` as PNG, and as what --vector names, whole or not at all, without a date: equal figures
    are equal files. A hyphen before a number becomes a minus sign."""
    for text in figure.findobj(plt.Text):
        text.set_text(re.sub(r"(?<![\w.)\]])-(?=\.?\d)", "\N{MINUS SIGN}", text.get_text()))
    for suffix in files.figure_suffixes:
        with files.replacing(Path(path).with_suffix(suffix)) as temporary:
            figure.savefig(temporary, metadata=METADATA[suffix])
    plt.close(figure)
    return Path(path)


def write_results(results):
    """Write {path: figure or DataFrame}; the first DataFrame, the figures' paths in its attrs["figures"]."""
    for path, result in results.items():
        if path.suffix == ".csv":
            files.write_table(path, result)
        else:
            save_figure(result, path)
    table = next(result for path, result in results.items() if path.suffix == ".csv")
    table.attrs["figures"] = [str(path) for path in results if path.suffix == ".png"]
    return table
