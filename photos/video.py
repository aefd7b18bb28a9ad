"""Videos and cameras: their frames, faces followed from frame to frame, their probabilities smoothed.

Faces are detected in every frame, as in a photo. Those of two frames are the same face when their squares
overlap (intersection over union, Bochinski et al. 2017).
"""

import contextlib
import itertools
import math
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from photos.detect import SAME_FACE, Face, overlap
from utils.cli import UserError

MEMORY_SECONDS = 0.5  # a face that is not seen for so long is a new one when it comes back
SMOOTHING_SECONDS = 0.5  # after so long a face's average has taken in 63 % of a new expression


def load_cv2():
    """OpenCV without messages of its own. Raises UserError where it is missing."""
    os.environ |= {"OPENCV_FFMPEG_LOGLEVEL": "-8", "OPENCV_LOG_LEVEL": "OFF"}  # or damaged files say much
    try:
        import cv2
    except ImportError as error:
        raise UserError("--video needs OpenCV; python -m pip install -r requirements-photos.txt") from error
    return cv2


class Video:
    """The frames of a video: a file (Path), a stream (its address, str) or a camera (its number, int).

    Iterate for (seconds, frame): float from the start, as the file says or as time passes; uint8 (h, w, 3),
    RGB. Attributes: rate (mean, frames per second), frames (as the file says, 0 if it does not) and shape (of
    a frame). Raises UserError when it cannot be opened or has no first frame.
    """

    def __init__(self, source):
        cv2 = load_cv2()
        self.is_camera = isinstance(source, int)
        if isinstance(source, Path) and not source.is_file():  # OpenCV would wait for a pipe
            raise UserError(f"{source} is no regular file; expected a video file, or the number of a camera")
        self.capture = cv2.VideoCapture(source if self.is_camera else str(source))
        good, self.first = self.capture.read()
        if not good:
            raise UserError(f"camera {source} gives no picture; is it connected, and does no other program "
                            "use it?" if self.is_camera else
                            f"{source} is no readable video; expected a file such as MP4, AVI, MOV or WebM")
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 1 <= rate <= 240 else 25.0  # what a file or a camera says may be nonsense
        self.frames = 0 if self.is_camera else max(int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.shape = self.first.shape

    def __iter__(self):
        start, seconds, good, frame = time.monotonic(), -1 / self.rate, True, self.first
        while good:
            stamp = time.monotonic() - start if self.is_camera else self.capture.get(0) / 1000  # POS_MSEC
            seconds = stamp if stamp > seconds else seconds + 1 / self.rate  # a file without time stamps
            yield seconds, np.ascontiguousarray(frame[..., ::-1])
            good, frame = self.capture.read()


@contextlib.contextmanager
def writing(path, rate, shape):
    """Yield a function that adds a frame (uint8 of `shape` (h, w, 3), RGB) to a new MP4 file."""
    cv2 = load_cv2()
    code = cv2.VideoWriter_fourcc(*"mp4v")  # the one codec of MP4 that every build of OpenCV writes
    height, width = shape[0] // 2 * 2, shape[1] // 2 * 2  # it wants even sides
    writer = cv2.VideoWriter(str(path), code, rate, (width, height))
    if not writer.isOpened():
        raise UserError(f"OpenCV cannot write {path}; python -m pip install -r requirements-photos.txt")
    try:
        yield lambda frame: writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
    finally:
        writer.release()


def show(frame):
    """Show a frame, uint8 (h, w, 3), RGB; returns whether q or Escape was pressed or the window closed."""
    cv2, title = load_cv2(), "predict.py - q ends"
    try:
        cv2.imshow(title, frame[..., ::-1])
        return (cv2.waitKey(1) & 0xFF in (ord("q"), 27)
                or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1)
    except cv2.error as error:
        raise UserError("no window can be opened; a camera needs a screen, and opencv-python without "
                        "opencv-python-headless beside it") from error


def annotate(frame, table):
    """A copy of a frame, uint8 (h, w, 3), RGB, with the squares of its faces and, above each, its number and
    expression; table: the rows of its faces, as predict.py writes them."""
    from utils.figures import COLORS

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


class Follower:
    """Gives the faces of a video their numbers, from 1, and averages of their probabilities."""

    def __init__(self):
        self.new_numbers, self.known, self.averages = itertools.count(1), {}, {}

    def number(self, faces, seconds):
        """The numbers of the faces (list of Face) of the frame at `seconds` from the start, as a list. A face
        has the number of the one that it overlaps most of those seen in the last MEMORY_SECONDS."""
        numbers = []
        for face in faces:
            shared = {number: overlap(old.box(), face.box()) for number, (old, seen) in self.known.items()
                      if seconds - seen < MEMORY_SECONDS and number not in numbers}
            best = max(shared, key=shared.get, default=None)
            numbers.append(best if shared.get(best, 0) >= SAME_FACE else next(self.new_numbers))
        self.known |= {number: (face, seconds) for number, face in zip(numbers, faces)}
        return numbers

    def smooth(self, number, probabilities, seconds):
        """A face's exponential average (float (classes,)) once `probabilities` of the frame are in it."""
        average, before = self.averages.get(number, (probabilities, seconds))
        weight = 1 - math.exp(-(seconds - before) / SMOOTHING_SECONDS)
        average = average + weight * (probabilities - average)
        self.averages[number] = average, seconds
        return average
