"""Own photos: from files to 48x48 grey faces, framed as FER2013 frames them.

The detector is dlib's frontal one (histograms of oriented gradients, Dalal and Triggs 2005; King 2015),
whose weights are part of the compiled package; `benchmarks.detectors` compares it with four others. It sees
faces tilted by up to about 20 degrees, so copies of the photo turned by `SEARCH_TURNS` are searched too. It
also takes a badge or a wheel for a face now and then, but only under one or two of many small turns, where a
face is seen under most: a candidate's surroundings are therefore looked at under each of `TURNS`. The mean of
the scores is the face's score, their centre of mass its tilt.
"""

import functools
import itertools
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from utils import cli, data, files
from utils.cli import UserError

SUFFIXES = data.IMAGE_SUFFIXES | {".gif", ".tif", ".tiff"}  # of the files that a folder is searched for
LONGEST_SIDE = 1280  # pixels that the detector searches; a larger photo is shrunk first
SMALL = 800  # a photo up to this size is searched at twice its size: faces under 80 pixels are missed
SEARCH_TURNS = 0, -30, 30  # degrees by which the photo is turned to find candidates
TURNS = range(-60, 61, 15)  # degrees by which a candidate's surroundings are turned
DETECTOR_SIDE = 95  # pixels of a candidate's box in its surroundings; the detector's least is 80
# Below it a candidate is no face; the best badge, bush or coin has 0.054: `benchmarks.detectors --packages`
LEAST_SCORE = 0.08
LEAST_TILT = 10  # degrees; below it a face is taken for upright, as the estimate is no better than that
# Where dlib's box lies in FER2013's 48x48 frame: median of the 77 % of 300 enlarged Training faces that it
# detects, 39.0 pixels wide around (24.2, 28.8): python -m benchmarks.detectors --framing 300
BOX_SIZE = 39.0 / 48
BOX_CENTRE = 24.2 / 48, 28.8 / 48


class Face(NamedTuple):
    """A face in a photo: a square around its centre, turned by `tilt` where the head is tilted."""

    x: int  # left and top of the square before it is turned about its centre, pixels
    y: int
    width: int
    height: int
    tilt: float = 0.0  # degrees clockwise by which the face is turned
    score: float = math.nan  # of the detector; nan: taken without a search

    def corners(self):
        """The four corners of the turned square, float (4, 2): x, y in pixels."""
        offsets = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (self.width / 2, self.height / 2)
        return offsets @ turning(self.tilt).T + (self.x + self.width / 2, self.y + self.height / 2)


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


def figure_paths(paths, prefix):
    """{photo: figures/PREFIX_NAME.png}, each with a name of its own also where a file system ignores case."""
    from utils.models import FIGURES

    figures, taken = {}, set()
    for path in paths:
        stem = path.stem[:50]  # a name can be as long as the system allows, and ours is longer
        names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        name = next(name for name in names if name.casefold() not in taken)
        taken.add(name.casefold())
        figures[str(path)] = FIGURES / f"{prefix}_{name}.png"
    return figures


def load_faces(paths, cropped=False, most=None):
    """The faces of photos, those of a photo from the largest on; prints a line on each photo without any.

    paths: image files; cropped: take each whole picture as one face, without a search; most: how many faces
    of a photo to take. Returns a DataFrame, a row a face: image (the path), face (number from 1) and the
    columns of `Face`, whose square may reach over the photo's edge; and the faces as uint8 (n, 48, 48), grey.
    Raises UserError where no photo has a face.
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
        if len(faces) > (most or len(faces)):
            problems.append(f"{path}: {most} of {len(faces)} faces taken, the largest")
        rows += [(str(path), number, *face) for number, face in enumerate(faces[:most], start=1)]
        images += [crop(photo, face) for face in faces[:most]]
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


# ---- detection ---------------------------------------------------------------------------------------------


def detect_faces(photo, upsample=None, least=LEAST_SCORE):
    """The faces of a photo, framed like FER2013, largest first: a list of `Face`.

    photo: uint8 (h, w, 3), of any size; upsample: whether to search at twice the size, for faces under 80
    pixels (default: photos up to `SMALL` pixels); least: the score below which a candidate is no face.
    """
    small, scale = shrink(photo, LONGEST_SIDE)
    upsample = max(small.shape) <= SMALL if upsample is None else upsample
    candidates = []
    for turn in SEARCH_TURNS:
        candidates += run_detector(small, turn, upsample)
    faces = [confirm(small, box) for box in distinct(candidates)]
    faces = distinct([face for face in faces if face and face[-1] >= least])
    return sorted((frame(*face, scale) for face in faces), key=lambda face: (-face.width, face[:2]))


@functools.cache
def detector():
    """dlib's frontal detector. Raises UserError where dlib is missing."""
    try:
        import dlib
    except ImportError as error:
        raise UserError("the face detector is not installed; python -m pip install -r requirements.txt, "
                        "or add --cropped if the photos contain nothing but a face") from error
    return dlib.get_frontal_face_detector()


def turning(degrees):
    """The matrix, float (2, 2), that turns (x, y) of an image clockwise."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def run_detector(photo, turn, upsample=False):
    """dlib's boxes in a photo that is turned counterclockwise by `turn` degrees.

    photo: uint8 (h, w, 3). Returns a list of (centre x, centre y, size, score) in pixels of the photo as
    given, with dlib's score, which is above 0.
    """
    image = Image.fromarray(photo)
    turned = image.rotate(turn, Image.Resampling.BILINEAR, expand=True) if turn else image
    boxes, scores, _ = detector().run(np.asarray(turned), int(upsample), 0.0)
    found = []
    for box, score in zip(boxes, scores):
        offset = np.array([box.left() + box.width() / 2 - turned.width / 2,
                           box.top() + box.height() / 2 - turned.height / 2])
        x, y = turning(turn) @ offset + (image.width / 2, image.height / 2)
        found.append((x, y, box.width(), score))
    return found


def distinct(boxes):
    """The boxes (centre x, centre y, size, ..., score) without those that lie on one of a higher score."""
    kept = []
    for box in sorted(boxes, key=lambda box: -box[-1]):
        if all(math.dist(box[:2], other[:2]) > max(box[2], other[2]) / 2 for other in kept):
            kept.append(box)
    return kept


def confirm(photo, box, turns=TURNS):
    """Look at a box again under each turn: (centre x, centre y, size, tilt, score), or None if never seen.

    photo: uint8 (h, w, 3); box: centre x, centre y, size, ... in pixels. The score is the mean over `turns`
    of dlib's, 0 where it sees nothing; tilt in degrees clockwise.
    """
    x, y, size = box[:3]
    side = round(2.1 * size)
    patch = cut_out(photo, round(x - side / 2), round(y - side / 2), side, side)
    scale = DETECTOR_SIDE / size
    patch = np.asarray(patch.resize([max(round(scale * side), 1)] * 2, Image.Resampling.BILINEAR,
                                    reducing_gap=2))
    middle, seen = patch.shape[0] / 2, []
    for turn in turns:
        near = [found for found in run_detector(patch, turn)
                if math.dist(found[:2], (middle, middle)) < DETECTOR_SIDE / 2
                and 0.5 < found[2] / DETECTOR_SIDE < 2]
        seen += [(*found, turn) for found in sorted(near, key=lambda found: -found[3])[:1]]
    if not seen:
        return None
    *boxes, scores, turned = np.array(seen).T
    u, v, width, tilt = np.average([*boxes, turned], axis=1, weights=scores)
    return x + (u - middle) / scale, y + (v - middle) / scale, width / scale, tilt, scores.sum() / len(turns)


def find_again(photo, face):
    """The `Face` near its place in an earlier frame of a video, with the same tilt, or None; much faster."""
    found = confirm(photo, box_of(face), [face.tilt])
    return frame(*found) if found else None


def box_of(face):
    """dlib's box of a `Face`, the inverse of `frame`: (centre x, centre y, size) in pixels."""
    offset = turning(face.tilt) @ (np.array(BOX_CENTRE) - 0.5) * face.width
    x, y = offset + (face.x + face.width / 2, face.y + face.height / 2)
    return x, y, face.width * BOX_SIZE


def frame(x, y, size, tilt, score, scale=1.0):
    """The `Face` of dlib's box around (x, y), in a photo that was shrunk by `scale`."""
    tilt = float(round(tilt)) if abs(tilt) >= LEAST_TILT else 0.0
    side = size / scale / BOX_SIZE
    offset = turning(tilt) @ (np.array([0.5, 0.5]) - BOX_CENTRE) * side  # from box to frame
    left, top = np.array([x, y]) / scale + offset - side / 2
    return Face(round(left), round(top), round(side), round(side), tilt, round(float(score), 3))


def shrink(photo, longest):
    """A photo (uint8 (h, w, 3)) with no side above `longest` pixels: (photo, its scale, at most 1)."""
    image = Image.fromarray(photo)
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=None)
    return np.asarray(image), min(longest / max(photo.shape[:2]), 1.0)


def cut_out(photo, x, y, width, height):
    """The part of a photo (uint8 (h, w, 3)) in a rectangle as a PIL image; outside, its edge is repeated."""
    rows = np.clip(np.arange(y, y + height), 0, photo.shape[0] - 1)
    columns = np.clip(np.arange(x, x + width), 0, photo.shape[1] - 1)
    return Image.fromarray(photo[rows[:, None], columns])


def crop(photo, face):
    """A `Face` of a photo as the network takes it, upright: uint8 (48, 48), grey.

    photo: uint8 (h, w, 3). Outside the photo its edge is repeated.
    """
    x, y, width, height, tilt, _ = face
    if not tilt:
        return data.to_face(cut_out(photo, x, y, width, height))
    margin = math.ceil(0.21 * max(width, height)) + 1  # a square's corners reach 0.207 of its side outside it
    larger = cut_out(photo, x - margin, y - margin, width + 2 * margin, height + 2 * margin)
    upright = larger.rotate(tilt, Image.Resampling.BICUBIC)
    return data.to_face(upright.crop((margin, margin, margin + width, margin + height)))
