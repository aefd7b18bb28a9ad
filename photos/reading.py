"""Photos as files: which ones, their pixels, the faces in them and the name of the figure of each."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from photos.detect import Face, crop, detect_faces
from utils import cli, data, files
from utils.cli import UserError

SUFFIXES = data.IMAGE_SUFFIXES | {".gif", ".tif", ".tiff"}  # of the files that a folder is searched for


def find_photos(paths):
    """The image files that `paths` name: files, and of a folder the images in it (not below it) by name.

    Returns a list of Path without repetition. Raises UserError for a folder without images and for anything
    that is neither a folder nor a regular file.
    """
    photos = []
    for path in paths:
        if os.path.isdir(path):  # unlike Path.is_dir it takes names that no file can have
            found = sorted(file for file in Path(path).iterdir()
                           if file.suffix.lower() in SUFFIXES and file.is_file())
            problem = "holds no images"
        else:
            found = [path] if os.path.isfile(path) else []
            problem = "is no regular file" if os.path.exists(path) else "does not exist"
        if not found:
            raise UserError(f"{path} {problem}; expected a photo or a folder of photos")
        photos += found
    return list(dict.fromkeys(Path(files.relative_path(photo)) for photo in photos))


def figure_path(photo, folder, prefix):
    """FOLDER/PREFIX_PHOTO.png, named by the photo's whole path so that each photo has its own."""
    path = Path(photo)
    return folder / f"{prefix}_{files.name_part(*path.with_suffix('').parts, path.suffix[1:])}.png"


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
    """A photo, turned upright as its EXIF says: uint8 (height, width, 3), RGB.

    Transparent parts become white, 16 bits a channel 8, and of an animation the first picture is taken.
    Raises UserError, one line, when the file is no readable image or has more than `data.LARGEST_IMAGE`
    pixels.
    """
    with data.open_image(path) as image:
        image = data.eight_bits(ImageOps.exif_transpose(image))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.array(image.convert("RGB"))
