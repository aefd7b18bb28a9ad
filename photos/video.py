"""Faces in videos: found now and then, followed from frame to frame, their probabilities smoothed.

The whole frame is searched every 0.8 seconds (`photos.detect_faces`). Between searches each face is looked
for around its last place alone, which takes a thirtieth of the time. Faces of two frames are the same when
their squares overlap (intersection over union, Bochinski et al. 2017).
"""

import contextlib
import itertools
import math
import os
import threading
import time
from pathlib import Path

import numpy as np

from utils import photos
from utils.cli import UserError, interruption

SEARCH_SECONDS = 0.8  # between two searches of the whole frame
SEARCH_SECONDS_EMPTY = 0.3  # the same while no face is followed
KEEP_SECONDS = 0.5  # a face that is not seen stays at its last place for so long
SMOOTHING_SECONDS = 0.5  # after so long a face's average has taken in 63 % of a new expression
SAME_FACE = 0.3  # least intersection over union of a face's squares in two frames
LARGE = 400  # pixels; only smaller frames are searched at twice their size, which takes four times as long
ORANGE = (230, 159, 0)  # as in utils.figures


# ---- reading and writing -----------------------------------------------------------------------------------


def load_cv2():
    """OpenCV without messages of its own. Raises UserError where it is missing."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # or damaged files fill the screen
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        import cv2
    except ImportError as error:
        raise UserError("--video needs OpenCV; python -m pip install -r requirements-video.txt") from error
    return cv2


class Video:
    """The frames of a video file or, where `source` is an int, of a camera. Iterate for (seconds, frame).

    frame: uint8 (h, w, 3), RGB; seconds: float from the start. Attributes rate (frames a second), frames (as
    the file says, 0 if it does not). Raises UserError when it cannot be opened or has no first frame.
    """

    def __init__(self, source):
        cv2 = load_cv2()
        self.source, self.is_camera = source, isinstance(source, int)
        if not self.is_camera and not os.path.isfile(source):
            problem = "is no regular file" if os.path.exists(source) else "does not exist"
            raise UserError(f"{source} {problem}; expected a video file, or the number of a camera, from 0")
        self.capture = cv2.VideoCapture(source if self.is_camera else str(source))
        self.first = self.read()
        if self.first is None:
            raise UserError(f"camera {source} gives no picture; is it connected, and does no other program "
                            "use it?" if self.is_camera else
                            f"{source} is no readable video; expected a file such as MP4, AVI, MOV or WebM")
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 1 <= rate <= 240 else 25.0  # what a file or a camera says may be nonsense
        self.frames = 0 if self.is_camera else max(int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def read(self):
        """The next frame, uint8 (h, w, 3) RGB, or None at the end."""
        good, frame = self.capture.read()
        return np.ascontiguousarray(frame[..., ::-1]) if good else None

    def __iter__(self):
        start, number, frame = time.monotonic(), 0, self.first
        try:
            while frame is not None:
                yield (time.monotonic() - start if self.is_camera else number / self.rate), frame
                number, frame = number + 1, self.read()
        finally:
            self.capture.release()


@contextlib.contextmanager
def writing(path, rate, shape):
    """Yield a function that adds a frame (uint8 of `shape` (h, w, 3), RGB) to a new MP4 file."""
    cv2 = load_cv2()
    code = cv2.VideoWriter_fourcc(*"mp4v")  # the one codec of MP4 that every build of OpenCV writes
    height, width = shape[0] // 2 * 2, shape[1] // 2 * 2  # it wants even sides
    writer = cv2.VideoWriter(str(path), code, rate, (width, height))
    if not writer.isOpened():
        raise UserError(f"OpenCV cannot write {Path(path).suffix} videos here; "
                        "python -m pip install -r requirements-video.txt")
    try:
        yield lambda frame: writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
    finally:
        writer.release()


@contextlib.contextmanager
def window():
    """Open a window on the screen; yield a function that shows a frame (uint8 (h, w, 3), RGB) there and
    returns whether the user has not ended it with q or Escape."""
    cv2, title = load_cv2(), "predict.py - q ends"

    def show(frame):
        try:
            cv2.imshow(title, frame[..., ::-1])
            key = cv2.waitKey(1) & 0xFF
            return key not in (ord("q"), 27) and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error as error:
            raise UserError("no window can be opened; a camera needs a screen, and opencv-python without "
                            "opencv-python-headless beside it") from error

    try:
        yield show
    finally:
        with contextlib.suppress(cv2.error):
            cv2.destroyAllWindows()


@contextlib.contextmanager
def stopping_in_order():
    """Yield a function that says whether Ctrl-C or SIGTERM has asked to stop.

    The process then ends only after the block, in which the files of what was done are written.
    """
    asked, done = threading.Event(), threading.Event()

    def ask_and_wait():
        asked.set()
        done.wait(30)

    with interruption.undoing(ask_and_wait):
        try:
            yield asked.is_set
        finally:
            done.set()
            if asked.is_set():
                threading.Event().wait(30)  # for the thread that ends the process


# ---- following ---------------------------------------------------------------------------------------------


class Follower:
    """Follows the faces of a video; call `update` with each frame.

    most: how many faces to follow, the largest; None: all.
    """

    def __init__(self, most=None):
        self.most, self.new_numbers, self.searched = most, itertools.count(1), -math.inf
        self.faces, self.last_seen = {}, {}  # of each number: Face, seconds

    def update(self, frame, seconds):
        """The faces in a frame, uint8 (h, w, 3), `seconds` from the start: a list of (number, Face).

        Numbers start from 1; the score is nan where a face stays at its last place without being seen.
        """
        wait = SEARCH_SECONDS if self.faces else SEARCH_SECONDS_EMPTY
        if seconds - self.searched >= wait - 1e-6:
            self.searched = seconds
            found = self.match(photos.detect_faces(frame, max(frame.shape) <= LARGE)[:self.most])
        else:
            again = {number: photos.find_again(frame, face) for number, face in self.faces.items()}
            found = {number: face for number, face in again.items() if face}
        self.last_seen.update(dict.fromkeys(found, seconds))
        missed = [(number, face._replace(score=math.nan)) for number, face in self.faces.items()
                  if number not in found and seconds - self.last_seen[number] < KEEP_SECONDS]
        room = None if self.most is None else self.most - len(found)
        self.faces = found | dict(missed[:room])
        return sorted(self.faces.items())

    def match(self, faces):
        """Give each face the number of the followed one that it overlaps most, or a new number: a dict."""
        pairs = sorted(((overlap(old, face), number, i) for number, old in self.faces.items()
                        for i, face in enumerate(faces)), reverse=True)
        numbers = {}  # of faces
        for value, number, i in pairs:
            if value >= SAME_FACE and i not in numbers and number not in numbers.values():
                numbers[i] = number
        return {numbers[i] if i in numbers else next(self.new_numbers): face for i, face in enumerate(faces)}


class Smoother:
    """The exponential average of each face's probabilities."""

    def __init__(self):
        self.averages = {}  # of each number: float (classes,), seconds

    def update(self, number, probabilities, seconds):
        """The average (float (classes,)) once `probabilities` of the frame at `seconds` are in it."""
        average, before = self.averages.get(number, (probabilities, seconds))
        weight = 1 - math.exp(-(seconds - before) / SMOOTHING_SECONDS)
        average = average + weight * (probabilities - average)
        self.averages[number] = average, seconds
        return average


def overlap(one, other):
    """Intersection over union of two squares (x, y, width, height, ...), 0-1; their tilt is left out."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


# ---- drawing -----------------------------------------------------------------------------------------------


def annotate(frame, labels):
    """A copy of a frame with the squares of faces and a text at each.

    frame: uint8 (h, w, 3), RGB; labels: list of (Face, str).
    """
    cv2 = load_cv2()
    frame = frame.copy()
    scale = max(min(frame.shape[:2]) / 720, 0.5)
    thick, font = max(round(2.5 * scale), 1), (cv2.FONT_HERSHEY_SIMPLEX, 0.9 * scale)
    for face, text in labels:
        corners = np.round(face.corners()).astype(np.int32)
        cv2.polylines(frame, [corners], True, ORANGE, thick, cv2.LINE_AA)
        (width, height), below = cv2.getTextSize(text, *font, thick)
        x = int(np.clip(corners[:, 0].min(), 0, max(frame.shape[1] - width - 8, 0)))
        y = max(int(corners[:, 1].min()), height + below + 6)
        cv2.rectangle(frame, (x, y - height - below - 6), (x + width + 8, y), ORANGE, -1)
        cv2.putText(frame, text, (x + 4, y - below - 2), *font, (0, 0, 0), max(round(1.8 * scale), 1),
                    cv2.LINE_AA)
    return frame
