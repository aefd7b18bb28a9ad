"""predict.py --video: faces followed through a generated clip, smoothed labels, and clips that do not do."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import matplotlib.cbook
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import predict
from tests.small_models import random_model
from utils import cli, data, models, photos, video

STEP = 4  # pixels by which the face of the clip moves each frame


def write_clip(path, frames, shape=(240, 400)):
    """A clip, 25 frames/s, in which the face of matplotlib's portrait moves to the right."""
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as image:
        face = np.asarray(image.convert("RGB").crop((110, 40, 440, 400)).resize((187, 204)))
    with video.writing(path, 25, shape) as add:
        for number in range(frames):
            frame = np.full((*shape, 3), 120, np.uint8)
            left = STEP * number % (shape[1] - 187)
            frame[20:224, left:left + 187] = face
            add(frame)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a random model and a clip of 30 frames."""
    folder = tmp_path_factory.mktemp("video")
    random_model(folder / "a.h5")
    write_clip(folder / "clip.mp4", 30)
    return folder


@pytest.fixture
def call(made, monkeypatch, tmp_path):
    """Call the script's main; returns its table. It writes to v.csv and figures/ in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "FIGURES", tmp_path / "figures")
    return lambda *arguments: predict.main(["--model", str(made / "a.h5"), "--out", "v.csv",
                                            *map(str, arguments)])


def read_frames(path):
    return [frame for _, frame in video.Video(path)]


def test_a_moving_face_keeps_its_number(made, call, tmp_path, capsys):
    table = call("--video", made / "clip.mp4")
    pd.testing.assert_frame_equal(pd.read_csv("v.csv"), table, check_dtype=False)
    assert list(table["frame"]) == list(range(30)) and set(table["face"]) == {1}
    np.testing.assert_allclose(table["seconds"], np.arange(30) / 25, atol=1e-3)
    middle = table["x"] + table["width"] / 2
    np.testing.assert_allclose(np.polyfit(table["frame"], middle, 1)[0], STEP, atol=0.5)
    np.testing.assert_allclose(table[list(data.CLASSES)].sum(axis=1), 1, atol=1e-5)
    assert (table["score"] > 0).all()

    frame = read_frames(made / "clip.mp4")[17]
    row = table.loc[17]
    face = photos.Face(*(int(row[name]) for name in ("x", "y", "width", "height")), row["tilt"])
    expected = models.predict(models.load(made / "a.h5"), photos.crop(frame, face)[None])[0]
    np.testing.assert_allclose(table.loc[17, list(data.CLASSES)].astype(float), expected, atol=1e-4)
    drawn = read_frames(tmp_path / "figures" / "video_clip.mp4")
    assert len(drawn) == 30 and drawn[0].shape == (240, 400, 3)
    orange = np.abs(drawn[17].astype(int) - video.ORANGE).sum(axis=2) < 90
    assert orange.sum() > 300 and orange[:, int(face.x):].sum() > 0.9 * orange.sum()
    assert "frames/s" in capsys.readouterr().out


def test_a_camera_opens_a_window_until_it_is_closed(made, call, monkeypatch, tmp_path):
    class Camera(video.Video):
        def __init__(self, source):
            assert source == 0
            super().__init__(made / "clip.mp4")
            self.frames, self.is_camera = 0, True

    shown = []
    monkeypatch.setattr(video, "Video", Camera)
    monkeypatch.setattr(video, "window", lambda: contextlib.nullcontext(
        lambda frame: shown.append(frame) or len(shown) < 5))
    table = call("--video", 0)
    assert len(shown) == 5 and table["frame"].max() == 4 and not (tmp_path / "figures").exists()


@pytest.mark.parametrize(("name", "expected"), [
    ("nowhere.mp4", r"nowhere\.mp4 does not exist"), ("empty.mp4", r"empty\.mp4 is no readable video"),
    ("text.avi", r"text\.avi is no readable video"), ("cut.mp4", r"cut\.mp4 is no readable video"),
    ("wall.mp4", r"no face found in .*wall\.mp4"), (".", "is no regular file")])
def test_clips_that_do_not_do_are_one_line_and_leave_nothing(made, call, tmp_path, name, expected):
    (made / "empty.mp4").touch()
    (made / "text.avi").write_text("no video")
    (made / "cut.mp4").write_bytes((made / "clip.mp4").read_bytes()[:-3000])  # its index is at the end
    with video.writing(made / "wall.mp4", 25, (120, 160)) as add:
        for _ in range(20):
            add(np.full((120, 160, 3), 90, np.uint8))
    with pytest.raises(cli.UserError, match=expected) as error:
        call("--video", made / name)
    assert "\n" not in str(error.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_missing_opencv_is_one_line(made, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(cli.UserError, match=r"pip install -r requirements-video\.txt"):
        call("--video", made / "clip.mp4")


def test_ctrl_c_leaves_readable_files_of_what_was_done(made, suite):
    write_clip(suite.folder / "long.mp4", 4000)
    command = [sys.executable, "predict.py", "--model", str(made / "a.h5"), "--video", "long.mp4"]
    with subprocess.Popen(command, cwd=suite.folder, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 120
        while not list(suite.folder.glob("figures/.*.mp4")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        child.send_signal(signal.SIGINT)
        errors = child.communicate(timeout=60)[1]
    assert child.returncode == 128 + signal.SIGINT and "the frames so far" in errors
    table = pd.read_csv(suite.folder / "predictions_video.csv")
    frames = read_frames(suite.folder / "figures" / "video_long.mp4")
    assert 0 < table["frame"].max() + 1 <= len(frames) < 4000
    assert [name for name in os.listdir(suite.folder / "figures") if ".part" in name] == []


def test_overlap_is_intersection_over_union():
    assert video.overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert video.overlap((0, 0, 10, 10), (5, 5, 10, 10)) == 25 / 175
    assert video.overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0
    assert video.overlap((0, 0, 10, 10), (-20, 3, 4, 4)) == 0


@pytest.mark.parametrize("rate", [5, 30])
def test_smoothing_depends_on_time_and_not_on_the_frame_rate(rate):
    smoother = video.Smoother()
    first, then = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    smoother.update(1, first, 2.0)
    for number in range(1, rate + 1):
        average = smoother.update(1, then, 2.0 + number / rate)
    np.testing.assert_allclose(average, [np.exp(-2), 1 - np.exp(-2)])  # a second is two time constants
    np.testing.assert_array_equal(smoother.update(2, first, 3.0), first)


def test_numbers_follow_faces_that_move_come_and_go(monkeypatch):
    frame, found = np.zeros((100, 100, 3), np.uint8), []
    monkeypatch.setattr(photos, "detect_faces", lambda *_: [photos.Face(*box, 0.0, 1.0) for box in found])
    monkeypatch.setattr(photos, "find_again", lambda frame, face: None)
    follower = video.Follower()
    wait = video.SEARCH_SECONDS
    found = [(0, 0, 20, 20), (50, 0, 10, 10)]
    assert [number for number, _ in follower.update(frame, 0.0)] == [1, 2]
    held = follower.update(frame, video.KEEP_SECONDS / 2)
    assert [(number, face.x) for number, face in held] == [(1, 0), (2, 50)]
    assert all(np.isnan(face.score) for _, face in held)
    assert follower.update(frame, video.KEEP_SECONDS + 0.01) == []  # not seen for too long
    assert [number for number, _ in follower.update(frame, 1.0 + wait)] == [3, 4]
    found = [(52, 1, 10, 10), (4, 0, 20, 20), (80, 80, 9, 9)]
    monkeypatch.setattr(photos, "find_again", lambda frame, face: face)
    follower.update(frame, 1.1 + wait)
    moved = follower.update(frame, 1.0 + 2 * wait)
    assert [(number, face.x) for number, face in moved] == [(3, 4), (4, 52), (5, 80)]


def test_no_more_faces_are_followed_than_asked_for(monkeypatch):
    frame, found = np.zeros((100, 100, 3), np.uint8), []
    monkeypatch.setattr(photos, "detect_faces", lambda *_: [photos.Face(*box, 0.0, 1.0) for box in found])
    monkeypatch.setattr(photos, "find_again", lambda frame, face: face)
    follower, wait = video.Follower(1), video.SEARCH_SECONDS
    found = [(0, 0, 20, 20)]
    follower.update(frame, 0.0)
    follower.update(frame, wait - 0.1)
    found = [(70, 70, 20, 20)]  # the first is missed, for less than KEEP_SECONDS, as another is found
    assert [(number, face.x) for number, face in follower.update(frame, wait)] == [(2, 70)]
