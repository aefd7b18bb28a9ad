"""Numbered squares around faces: in a figure, and in the frames of a video."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from photos.detect import Face
from utils.figures import COLORS, plt


def draw_boxes(ax, photo, scale, table):
    """A photo and the numbered squares of its faces.

    photo: uint8 (h, w, 3); scale: of its pixels to those of the squares; table: a DataFrame with the columns
    face and those of `photos.Face`.
    """
    ax.imshow(photo, interpolation="antialiased")
    ax.set_axis_off()
    for _, row in table.iterrows():
        corners = scale * Face(*row[list(Face._fields)]).corners()
        ax.add_patch(plt.Polygon(corners, fill=False, ec=COLORS["orange"], lw=1.6))
        x, y = corners[corners.sum(1).argmin()]  # of the corners the upper left
        ax.text(max(x, 0), max(y, 0), row["face"], fontsize=7, color="black", va="top",
                bbox={"fc": COLORS["orange"], "ec": "none", "pad": 1.2})
    ax.set(xlim=(0, photo.shape[1]), ylim=(photo.shape[0], 0))


def annotate(frame, table):
    """A copy of a frame, uint8 (h, w, 3), RGB, with the squares of its faces and, above each, its number and
    expression; table: the rows of its faces, as predict.py writes them."""
    image = Image.fromarray(frame)
    draw, scale = ImageDraw.Draw(image), max(min(frame.shape[:2]) / 720, 0.5)
    font = ImageFont.load_default(26 * scale)
    for _, row in table.iterrows():
        corners = Face(*row[list(Face._fields)]).corners()
        text = f"{row['face']}: {row['smoothed_class']} {row['smoothed_probability']:.2f}"
        draw.polygon([*map(tuple, corners)], outline=COLORS["orange"], width=round(3 * scale))
        width, height = draw.textbbox((0, 0), text, font)[2:]
        x = np.clip(corners[:, 0].min(), 0, max(image.width - width - 8, 0))
        y = max(corners[:, 1].min() - height - 6, 0)
        draw.rectangle((x, y, x + width + 8, y + height + 6), fill=COLORS["orange"])
        draw.text((x + 4, y + 2), text, "black", font)
    return np.asarray(image)
