"""Own photos: from files to 48x48 grey faces, framed as FER2013 frames them.

The detector is dlib's frontal one (histograms of oriented gradients, Dalal and Triggs 2005; King 2015),
whose weights are part of the compiled package. Of five detectors (`benchmarks.detectors`) it was the fastest
and one of the two without a false face; it finds two thirds of the faces, so that some photos with a face
are reported as having none.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from utils import cli, data, files
from utils.cli import UserError

SUFFIXES = data.IMAGE_SUFFIXES | {".gif", ".tif", ".tiff"}  # of the files that a folder is searched for
LONGEST_SIDE = 1280  # pixels that the detector searches; a larger photo is shrunk first
SMALL = 800  # a photo up to this size is searched at twice its size: faces under 80 pixels are missed
# Where dlib's box lies in FER2013's 48x48 frame: median of the 77 % of 300 enlarged Training faces that it
# detects, 39.0 pixels wide around (24.2, 28.8): python -m benchmarks.detectors --detectors hog --scenes 300
BOX_SIZE = 39.0 / 48
BOX_CENTRE = 24.2 / 48, 28.8 / 48


def find_photos(paths):
    """The image files that `paths` name: files, and of a folder the images in it (not below it) by name.

    Returns a list of Path without repetition. Raises UserError for a folder without images and for anything
    that is neither a folder nor a regular file.
    """
    photos = []
    for path in paths:
        if os.path.isdir(path):  # unlike Path.is_dir it takes names that no file can have
            found = sorted(file for file in path.iterdir()
                           if file.suffix.lower() in SUFFIXES and file.is_file())
            problem = "holds no images"
        else:
            found = [path] if os.path.isfile(path) else []
            problem = "is no regular file" if os.path.exists(path) else "does not exist"
        if not found:
            raise UserError(f"{path} {problem}; expected a photo or a folder of photos")
        photos += found
    return list(dict.fromkeys(Path(files.relative_path(photo)) for photo in photos))


def find_faces(paths, cropped=False):
    """The faces of photos, those of a photo from the largest on, and what went wrong.

    paths: image files; cropped: take each whole picture as one face, without a search. Returns a DataFrame, a
    row a face: image (the path), face (number from 1) and the square x, y, width, height in pixels, which may
    reach over the photo's edge; the faces as uint8 (n, 48, 48), grey; and a line on each photo without any.
    """
    rows, images, problems = [], [], []
    for path in cli.track(paths, "detecting faces"):
        try:
            photo = read_photo(path)
        except UserError as error:
            problems.append(str(error))
            continue
        squares = [(0, 0, photo.shape[1], photo.shape[0])] if cropped else detect_squares(photo)
        if not squares:
            problems.append(f"no face found in {path}; if it contains nothing but a face, add --cropped")
        rows += [(str(path), number, *square) for number, square in enumerate(squares, start=1)]
        images += [crop(photo, square) for square in squares]
    table = pd.DataFrame(rows, columns=["image", "face", "x", "y", "width", "height"])
    return table, np.reshape(images, (-1, data.SIZE, data.SIZE)).astype(np.uint8), problems


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


def detect_squares(photo):
    """Squares (x, y, width, height) around the faces of a photo, framed like FER2013, largest first.

    photo: uint8 (h, w, 3); may be of any size.
    """
    try:
        import dlib
    except ImportError as error:
        raise UserError("the face detector is not installed; python -m pip install -r requirements.txt, "
                        "or add --cropped if the photos contain nothing but a face") from error

    small, scale = shrink(photo, LONGEST_SIDE)
    squares = []
    for box in dlib.get_frontal_face_detector()(np.ascontiguousarray(small), int(max(small.shape) <= SMALL)):
        size = box.width() / scale / BOX_SIZE
        x, y = (box.left() + box.width() / 2) / scale, (box.top() + box.height() / 2) / scale
        corner = x - BOX_CENTRE[0] * size, y - BOX_CENTRE[1] * size
        squares.append(tuple(round(v) for v in (*corner, size, size)))
    return sorted(squares, key=lambda square: (-square[2], square[:2]))


def shrink(photo, longest):
    """A photo (uint8 (h, w, 3)) with no side above `longest` pixels: (photo, its scale, at most 1)."""
    scale = min(longest / max(photo.shape[:2]), 1.0)
    if scale == 1:
        return photo, scale
    size = [max(round(scale * side), 1) for side in (photo.shape[1], photo.shape[0])]
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR)), scale


def crop(photo, square):
    """The part of a photo inside (x, y, width, height) as the network takes it: uint8 (48, 48), grey.

    Outside the photo its edge is repeated.
    """
    x, y, width, height = square
    rows = np.clip(np.arange(y, y + height), 0, photo.shape[0] - 1)
    columns = np.clip(np.arange(x, x + width), 0, photo.shape[1] - 1)
    return data.to_face(Image.fromarray(photo[rows[:, None], columns]))
