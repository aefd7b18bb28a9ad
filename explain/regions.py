"""Where on the face a saliency map lies, by one template for all faces.

FER2013's faces are centred, so the parts of its mean training face say where those of any face are, to two or
three pixels. The template is for frontal faces: on a turned head the parts are elsewhere. Pixels of 48 x 48,
the face an ellipse, everything outside it (hair, ears, background) the border:

          8   13    18 21  27 30    35  40
     0   . . . . f o r e h e a d . . . . .
    10   [            brows             ]      with the frown between them
    15    [  eyes   ]|    |[   eyes    ]       columns 9 to 20 and 27 to 38
    20     cheeks    |nose|     cheeks
    25     cheeks  [  nose   ]  cheeks
    33     cheeks [   mouth    ] cheeks
    43   . . . . . . c h i n . . . . . . .
"""

import numpy as np
import pandas as pd

CENTRE, RADII = (22, 23.5), (27, 18)  # of the face: y, x
BOXES = (  # later ones over earlier ones: rows and columns from, to (not included)
    ("forehead", (0, 15), (0, 48)), ("cheeks", (15, 43), (0, 48)), ("chin", (43, 48), (0, 48)),
    ("brows", (10, 15), (8, 40)), ("eyes", (15, 20), (9, 21)), ("eyes", (15, 20), (27, 39)),
    ("nose", (15, 25), (21, 27)), ("nose", (25, 33), (18, 30)), ("mouth", (33, 43), (13, 35)))
REGIONS = ("eyes", "brows", "nose", "mouth", "cheeks", "chin", "forehead", "border")


def template(height=48, width=48):
    """Which of REGIONS each pixel of a face of any size belongs to: str (height, width)."""
    y = (np.arange(height)[:, None] + 0.5) * 48 / height - 0.5  # centres of pixels, in pixels of 48
    x = (np.arange(width) + 0.5) * 48 / width - 0.5
    inside = ((y - CENTRE[0]) / RADII[0]) ** 2 + ((x - CENTRE[1]) / RADII[1]) ** 2 <= 1
    regions = np.full((height, width), "border", dtype="<U8")
    for name, (top, bottom), (left, right) in BOXES:
        box = (y >= top - 0.5) & (y < bottom - 0.5) & (x >= left - 0.5) & (x < right - 0.5)
        regions[box & inside] = name
    return regions


def areas(height=48, width=48):
    """{region: its share of the image, 0-1}, the shares of a map that is equal everywhere."""
    return {name: float((template(height, width) == name).mean()) for name in REGIONS}


def shares(maps):
    """Share of each map (n, h, w) in each region, what is below zero left out as in the figures: a DataFrame,
    one row per map, columns REGIONS, rows sum to 1; nan for a map without anything above zero."""
    maps = np.maximum(maps, 0).astype(float)
    regions, total = template(*maps.shape[1:]), maps.sum((1, 2))
    sums = {name: maps[:, regions == name].sum(1) for name in REGIONS}
    return pd.DataFrame(sums).div(np.where(total > 0, total, np.nan), axis=0)


def describe(table, what="The map"):
    """Where maps lie on average, a sentence; table: a row per map, its `shares` in columns on_eyes, ..."""
    area, share = areas(), {name: table[f"on_{name}"].mean() for name in REGIONS}
    if np.isnan(share["eyes"]):
        return "All maps are blank."
    order = sorted(REGIONS, key=lambda name: -share[name] / area[name])
    first, second, third, last = (
        f"the {name} ({100 * share[name]:.0f} % of it on {100 * area[name]:.0f} % of the area)"
        for name in (*order[:3], order[-1]))
    return f"{what} is densest on {first}, {second} and {third}, thinnest on {last}."
