"""Photos as files: which ones, their pixels, the faces in them, and the figure of each."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from photos.detect import Face, crop, detect_faces, shrink
from utils import cli, data, files
from utils.cli import UserError


def find_photos(paths):
    """The image files that `paths` name: files, and of a folder the images in it (not below it) by name.
    Returns a list of Path without repetition. Raises UserError for a folder without images and for anything
    that is neither a folder nor a regular file."""
    photos = []
    for path in map(Path, paths):
        found = [path] if path.is_file() else sorted(
            file for file in path.glob("*") if file.suffix.lower() in data.IMAGE_SUFFIXES and file.is_file())
        if not found:
            raise UserError(f"{path} is no file and holds no images; expected a photo or a folder of photos")
        photos += found
    return list(dict.fromkeys(Path(files.relative_path(photo)) for photo in photos))


def load_faces(paths, cropped=False, max_faces=None):
    """The faces of photos, those of a photo from the largest on; prints a line on each photo without any.

    paths: image files; cropped: take each whole picture as one face, without a search; max_faces: how many
    faces of a photo to take. Returns a DataFrame, one row per face: image (the path), face (number from 1)
    and the columns of `Face`, whose square may reach over the photo's edge; and the faces as uint8
    (n, 48, 48), grey. Raises UserError where no photo has a face.
    """
    rows, images, problems = [], [], []
    for path in cli.track(paths, "detecting faces"):
        try:
            photo = read_photo(path)
        except UserError as error:
            problems.append(str(error))
            continue
        faces = [Face(0, 0, photo.shape[1], photo.shape[0])] if cropped else detect_faces(photo)
        if not faces:
            problems.append(f"no face found in {path}; if it contains nothing but a face, add --cropped")
        if len(faces) > (max_faces or len(faces)):
            problems.append(f"{path}: {max_faces} of {len(faces)} faces taken, the largest")
        rows += [(str(path), number, *face) for number, face in enumerate(faces[:max_faces], start=1)]
        images += [crop(photo, face) for face in faces[:max_faces]]
    if not rows:
        raise UserError(problems[0] + f" (and so for all {len(problems)} photos)" * (len(problems) > 1))
    print("\n".join(problems), end="\n" * bool(problems))
    return pd.DataFrame(rows, columns=["image", "face", *Face._fields]), np.stack(images)


def read_photo(path):
    """A photo, upright as its EXIF data say: uint8 (height, width, 3), RGB. Transparent parts become white,
    16 bits a channel 8, and of an animation the first picture is taken. Raises UserError, one line, for what
    `data.open_image` refuses."""
    with data.open_image(path) as image:
        image = data.eight_bits(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.array(image.convert("RGB"))


def figure_paths(photos, folder, prefix):
    """{photo: FOLDER/PREFIX_NAME.png}, NAME the photo's own, of a second one of that name NAME_2."""
    paths, counts = {}, Counter()
    for photo in map(str, photos):
        name = files.name_part(Path(photo).stem, Path(photo).suffix[1:])
        counts[name] += 1
        paths[photo] = folder / f"{prefix}_{name}{f'_{counts[name]}' * (counts[name] > 1)}.png"
    return paths


def draw_boxes(ax, photo, table):
    """Draw a photo, uint8 (h, w, 3), and the numbered squares of its faces, rows of `load_faces`' table."""
    from utils.figures import COLORS, plt

    photo, scale = shrink(photo, 1200)
    ax.imshow(photo, interpolation="antialiased")
    ax.set_axis_off()
    for _, row in table.iterrows():
        corners = scale * Face(*row[list(Face._fields)]).corners()
        ax.add_patch(plt.Polygon(corners, fill=False, ec=COLORS["orange"], lw=1.6))
        x, y = corners[corners.sum(1).argmin()]  # of the corners the upper left
        ax.text(max(x, 0), max(y, 0), row["face"], fontsize=7, color="black", va="top",
                bbox={"fc": COLORS["orange"], "ec": "none", "pad": 1.2})
    ax.set(xlim=(0, photo.shape[1]), ylim=(photo.shape[0], 0))
