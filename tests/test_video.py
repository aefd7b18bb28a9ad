"""predict.py --video: faces followed through clips, smoothed labels, and clips that do not do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import matplotlib.cbook
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import photos
import predict
from photos import video
from tests.conftest import sandbox
from tests.small_models import random_model
from utils import data, models

STEP = 4  # pixels by which the face of the clip moves each frame
FACE = photos.Face(0, 0, 20, 20, 0.0, 1.0)


def write_clip(path, frames):
    """A clip, 25 frames/s, in which the face of matplotlib's portrait moves to the right."""
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as image:
        face = np.asarray(image.convert("RGB").crop((110, 40, 440, 400)).resize((187, 204)))
    with video.writing(path, 25, (240, 400)) as add:
        for number in range(frames):
            left = STEP * number % 213
            add(np.pad(face, ((20, 16), (left, 213 - left), (0, 0)), constant_values=120))


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """A Caller in a folder with a random model, a clip of 30 frames and a clip without a face."""
    with sandbox(tmp_path_factory.mktemp("video")) as caller:
        random_model(caller.folder / "models" / "a.h5")
        write_clip(caller.folder / "clip.mp4", 30)
        with video.writing(caller.folder / "wall.mp4", 25, (120, 160)) as add:
            for _ in range(20):
                add(np.full((120, 160, 3), 90, np.uint8))
        yield caller


def read_frames(path):
    return [frame for _, frame in video.Video(path)]


def test_a_moving_face_keeps_its_number(call, capsys):
    table = call("predict", "--model", "models/a.h5", "--video", "clip.mp4", "--out-folder", "made")
    assert call.files("made") == ["a_video_clip.csv", "a_video_clip.mp4"] and call.files() == []
    pd.testing.assert_frame_equal(pd.read_csv("made/a_video_clip.csv"), table, check_dtype=False)
    assert list(table["frame"]) == list(range(30)) and set(table["face"]) == {1}
    assert set(table["model"]) == {"a"}
    np.testing.assert_allclose(table["seconds"], np.arange(30) / 25, atol=1e-3)
    middle = table["x"] + table["width"] / 2
    np.testing.assert_allclose(np.polyfit(table["frame"], middle, 1)[0], STEP, atol=0.5)
    np.testing.assert_allclose(table[list(data.CLASSES)].sum(axis=1), 1, atol=1e-5)

    frame, row = read_frames("clip.mp4")[17], table.loc[17]
    face, = photos.detect_faces(frame)  # what a photo of the frame gives
    assert tuple(row[list(photos.Face._fields)]) == face
    expected = models.predict(models.load("models/a.h5"), photos.crop(frame, face)[None])[0]
    np.testing.assert_allclose(row[list(data.CLASSES)].astype(float), expected, atol=1e-4)
    drawn = read_frames("made/a_video_clip.mp4")
    assert len(drawn) == 30 and drawn[0].shape == (240, 400, 3)
    orange = np.abs(drawn[17].astype(int) - (230, 159, 0)).sum(axis=2) < 90
    assert orange.sum() > 300 and orange[:, face.x:].sum() > 0.75 * orange.sum()
    assert "1 face(s) in 30 frames" in capsys.readouterr().out


def test_a_camera_opens_a_window_until_it_is_closed(call, monkeypatch):
    class Camera(video.Video):
        def __init__(self, source):
            assert source == 0
            super().__init__("clip.mp4")
            self.frames, self.is_camera = 0, True

    shown = []
    monkeypatch.setattr(video, "Video", Camera)
    monkeypatch.setattr(video, "show", lambda frame: shown.append(frame) or len(shown) == 5)
    table = call("predict", "--model", "models/a.h5", "--video", 0, "--out-folder", "camera")
    assert len(shown) == 5 and table["frame"].max() == 4 and call.files("camera") == ["a_camera-0.csv"]


@pytest.mark.parametrize(("name", "expected"), [
    ("nowhere.mp4", "nowhere.mp4 does not exist"), ("empty.mp4", "empty.mp4 is no readable video"),
    ("text.avi", "text.avi is no readable video"), ("cut.mp4", "cut.mp4 is no readable video"),
    ("wall.mp4", "no face found in wall.mp4"), (".", "is no regular file")])
def test_clips_that_do_not_do_are_one_line_and_leave_nothing(call, capsys, name, expected):
    (call.folder / "empty.mp4").touch()
    (call.folder / "text.avi").write_text("no video")
    (call.folder / "cut.mp4").write_bytes((call.folder / "clip.mp4").read_bytes()[:-3000])  # no index
    assert expected in call.error(capsys, "predict", "--model", "models/a.h5", "--video", name)


def test_an_address_goes_to_opencv_as_it_is(call, capsys):
    assert [predict.video_source(text) for text in ("0", "rtsp://a/b", "1234", "a.mp4")] == [
        0, "rtsp://a/b", Path("1234"), Path("a.mp4")]
    error = call.error(capsys, "predict", "--model", "models/a.h5", "--video", "rtsp://127.0.0.1:9/live")
    assert "rtsp://127.0.0.1:9/live is no readable video" in error


def test_a_missing_opencv_is_one_line(call, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "pip install -r requirements-photos.txt" in call.error(
        capsys, "predict", "--model", "models/a.h5", "--video", "clip.mp4")


def test_ctrl_c_leaves_readable_files_of_what_was_done(call, suite):
    write_clip(suite.folder / "long.mp4", 4000)
    command = [sys.executable, "predict.py", "--model", str(call.folder / "models" / "a.h5"),
               "--video", "long.mp4"]
    with subprocess.Popen(command, cwd=suite.folder, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not any(  # frames are in it
                path.stat().st_size > 50_000 for path in suite.folder.glob("figures/.*.mp4")):
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        errors = child.communicate(timeout=60)[1]
    assert child.returncode == 128 + signal.SIGINT and "the frames so far" in errors
    written = sorted(os.listdir(suite.folder / "figures"))
    assert [name[-14:] for name in written] == ["video_long.csv", "video_long.mp4"]
    table = pd.read_csv(suite.folder / "figures" / written[0])
    assert 0 < table["frame"].max() + 1 <= len(read_frames(suite.folder / "figures" / written[1])) < 4000


def test_frames_have_the_time_of_their_stamps(tmp_path):
    write_clip(tmp_path / "a.mp4", 6)
    stamps = iter([0, 200, 8000, 0, 0, 8100])  # after a pause two that are damaged
    clip = video.Video(tmp_path / "a.mp4")
    clip.capture = SimpleNamespace(get=lambda what: next(stamps), read=clip.capture.read)
    np.testing.assert_allclose([seconds for seconds, _ in clip], [0, 0.2, 8, 8.04, 8.08, 8.1])


def test_numbers_follow_faces_that_move_come_and_go():
    follower, small = video.Follower(), FACE._replace(x=50, width=10, height=10)
    assert follower.number([FACE, small], 0.0) == [1, 2]
    assert follower.number([small._replace(x=52), FACE._replace(x=4), FACE._replace(y=80)], 0.1) == [2, 1, 3]
    assert follower.number([], 0.2) == []
    assert follower.number([FACE], 0.1 + video.MEMORY_SECONDS / 2) == [1]  # missed for a moment
    assert follower.number([FACE, small], 0.2 + 2 * video.MEMORY_SECONDS) == [4, 5]


@pytest.mark.parametrize("rate", [5, 30])
def test_smoothing_depends_on_time_and_not_on_the_frame_rate(rate):
    follower, first, then = video.Follower(), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    follower.smooth(1, first, 2.0)
    for number in range(1, rate + 1):
        average = follower.smooth(1, then, 2.0 + number / rate)
    np.testing.assert_allclose(average, [np.exp(-2), 1 - np.exp(-2)])  # a second is two time constants
    np.testing.assert_array_equal(follower.smooth(2, first, 3.0), first)


def test_overlap_is_intersection_over_union():
    for left, top, expected in ((0, 0, 1), (10, 0, 200 / 600), (20, 0, 0), (-30, 3, 0)):
        assert video.overlap(FACE.box(), FACE._replace(x=left, y=top).box()) == expected


def test_a_label_stays_inside_the_frame():
    frame = np.zeros((100, 120, 3), np.uint8)
    row = photos.Face(110, -20, 30, 30, 20.0)._asdict() | {
        "face": 1, "smoothed_class": "surprise", "smoothed_probability": 0.99}
    drawn = video.annotate(frame, pd.DataFrame([row]))
    assert (drawn[:20].max(axis=2) > 100).sum() > 300 and not frame.any()
