"""Own photos: from files to 48x48 grey faces, framed as FER2013 frames them.

The detector is dlib's frontal one (histograms of oriented gradients, Dalal and Triggs 2005; King 2015), whose weights are
part of the compiled package. Of five detectors (`benchmarks.detectors`) it was the fastest and one of the two that never saw
a face where none is; it finds two thirds of the faces, so some photos are said to show none.
"""

import dataclasses
import warnings
from pathlib import Path

import numpy as np

from utils import data
from utils.cli import Progress, UserError
from utils.files import shown

SUFFIXES = data.IMAGE_SUFFIXES | {".gif", ".tif", ".tiff"}  # of the files that a folder is searched for
LONGEST_SIDE = 1280  # pixels that the detector searches; a larger photo is shrunk first
SMALL = 800  # a photo up to this size is searched enlarged to twice its size, since the detector misses faces under 80 pixels
# Where dlib's box lies in FER2013's 48x48 frame: median of the 77 % of 300 enlarged Training faces on which it fires, 39.0
# pixels wide around (24.2, 28.8): python -m benchmarks.detectors --detectors hog --scenes 300
BOX_SIZE = 39.0 / 48
BOX_CENTRE = 24.2 / 48, 28.8 / 48


@dataclasses.dataclass
class Face:
    """One face: path (of the photo), number (from 1, the largest first), square (x, y, width, height in pixels of the photo,
    may reach over its edge) and image (uint8 (48, 48), grey)."""

    path: Path
    number: int
    square: tuple
    image: np.ndarray


def find_photos(paths):
    """The image files that `paths` name: files as they are, of a folder all images in it (not below it), sorted by name.

    Returns a list of Path without repetition. Raises UserError for what does not exist and for a folder without images.
    """
    found = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise UserError(f"{path} holds no images; expected {', '.join(sorted(SUFFIXES))}")
        elif not path.exists():
            raise UserError(f"{path} does not exist; expected a photo or a folder of photos")
        found += inside
    return list(dict.fromkeys(found))


def faces_of(paths, cropped=False):
    """The faces of photos: (list of Face, list of lines that say which photo gave none and why).

    paths: image files; cropped: take each whole picture as one face, nothing is searched for.
    """
    faces, left_out = [], []
    find = whole if cropped else find_faces
    for path in Progress(paths, "looking for faces"):
        try:
            photo = read_photo(path)
        except UserError as error:
            left_out.append(str(error))
            continue
        squares = find(photo)
        if not squares:
            left_out.append(f"no face found in {shown(path)}; if it shows nothing but a face, say --cropped")
        faces += [Face(path, number, square, crop(photo, square)) for number, square in enumerate(squares, start=1)]
    return faces, left_out


def read_photo(path):
    """A photo, turned upright as its EXIF says: uint8 (height, width, 3), RGB.

    Transparent parts become white, 16 bits a channel 8, and of an animation the first picture is taken. Raises UserError,
    one line, when the file is no readable image or has more than `data.LARGEST_IMAGE` pixels.
    """
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # Pillow's own bound first warns; ours is below it
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=data.PHOTO_FORMATS) as image:
            if image.width * image.height > data.LARGEST_IMAGE:
                raise UserError(f"{path} has {image.width:,}x{image.height:,} pixels; "
                                f"expected at most {data.LARGEST_IMAGE:,} in all")
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
                image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.array(image.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise UserError(f"{path} is no readable image ({type(error).__name__}); expected a photo, JPEG or PNG") from error


def whole(photo):
    """The whole photo as the only face: [(x, y, width, height)]."""
    height, width = photo.shape[:2]
    return [(0, 0, width, height)]


def find_faces(photo):
    """Squares (x, y, width, height) around the faces of a photo (uint8 (h, w, 3)), framed like FER2013, largest first."""
    squares = []
    for x, y, width, height in detect(photo):
        size = width / BOX_SIZE
        squares.append((round(x + width / 2 - BOX_CENTRE[0] * size), round(y + height / 2 - BOX_CENTRE[1] * size),
                        round(size), round(size)))
    return sorted(squares, key=lambda square: (-square[2], square[:2]))


def detect(photo):
    """dlib's boxes of a photo (uint8 (h, w, 3)): a list of (x, y, width, height) in pixels of the photo."""
    try:
        import dlib
    except ImportError as error:
        raise UserError("the face detector is not installed; python -m pip install -r requirements.txt, "
                        "or say --cropped if the photos show nothing but a face") from error

    small, scale = shrunk(photo, LONGEST_SIDE)
    boxes = dlib.get_frontal_face_detector()(np.ascontiguousarray(small), int(max(small.shape) <= SMALL))
    return [tuple(v / scale for v in (box.left(), box.top(), box.width(), box.height())) for box in boxes]


def shrunk(photo, longest):
    """A photo with no side above `longest` pixels: (uint8 (h, w, 3), its scale, at most 1)."""
    from PIL import Image

    scale = min(longest / max(photo.shape[:2]), 1.0)
    if scale == 1:
        return photo, scale
    size = [max(round(scale * side), 1) for side in (photo.shape[1], photo.shape[0])]
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR)), scale


def crop(photo, square):
    """The part of a photo inside (x, y, width, height) as the network wants it: uint8 (48, 48), grey.

    What lies over the photo's edge repeats the edge.
    """
    from PIL import Image

    x, y, width, height = square
    rows = np.clip(np.arange(y, y + height), 0, photo.shape[0] - 1)
    columns = np.clip(np.arange(x, x + width), 0, photo.shape[1] - 1)
    return data.to_face(Image.fromarray(photo[rows[:, None], columns]))
