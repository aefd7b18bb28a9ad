"""Own photos and videos: from files to 48x48 grey faces, framed as FER2013 frames them.

    network = models.load("models/fer2013-compact.h5")
    table, faces = photos.load_faces(photos.find_photos(["me.jpg", "holiday/"]))
    probabilities = evaluation.probabilities([network], faces)      # (faces, 7), in the order of data.CLASSES

with `import photos` and `from utils import evaluation, models`. Needs requirements-photos.txt, except with
cropped=True, for photos that contain nothing but a face.
"""

from photos.detect import Face, crop, detect_faces
from photos.reading import figure_paths, find_photos, load_faces, read_photo

__all__ = ["Face", "crop", "detect_faces", "figure_paths", "find_photos", "load_faces", "read_photo"]
