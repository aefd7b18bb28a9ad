"""How large the text of a figure is where it is read."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

COLUMN = 178 / 25.4  # inches between the margins of A4 in the page's print; 700 CSS pixels are more (7.3)


def text_sizes(monkeypatch):
    """Have savefig record the smallest text of each figure: returns {file name: points in a column}.

    A figure wider than the column is scaled down to it, with all that bbox_inches="tight" adds.
    """
    sizes, savefig = {}, Figure.savefig

    def record(figure, path, **options):
        savefig(figure, path, **options)
        width = figure.get_tightbbox().width + 0.2  # savefig.pad_inches on both sides
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
        sizes[Path(path).name] = min(text.get_fontsize() for text in texts) * min(1, COLUMN / width)

    monkeypatch.setattr(Figure, "savefig", record)
    return sizes
