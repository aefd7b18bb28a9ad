"""Which expression does each face show? Predictions for a file of faces (and for Kaggle), photos or a video.

    python predict.py --data data/test.csv --out predictions.csv
    python predict.py --model models/a.h5 models/b.h5 --tta ten-crop --data data/test.csv
    python predict.py --data data/test.csv --submit SLUG_OR_URL --message "report CNN"
    python predict.py --images me.jpg holiday/
    python predict.py --video clip.mp4
    python predict.py --video 0                        the first camera, in a window

Of a file: writes `id,label`, one row per face, in the order of the data, with its ids (of a folder the files'
names) or, where it has none, row numbers from 0. Several models are averaged. --submit hands the file to
Kaggle's own client (python -m pip install -r requirements-kaggle.txt), the only use of a network.

Of photos (python -m pip install -r requirements-photos.txt): finds the faces, turns them upright, cuts them
out as FER2013 does and writes figures/MODEL_photos.csv with one row per face, largest first (its square in
pixels before it is turned about its centre, tilt in degrees clockwise, the detector's score, label,
probabilities) and a figure of each photo, figures/MODEL_photo_NAME.png. Photos are searched at 960 pixels for
faces of at least 20 pixels between the temples; those without a face are named and skipped.

Of a video: does so in each frame, follows the faces and writes figures/MODEL_video_NAME.csv with one row per
face and frame (the same, frame from 0, its time in seconds, and class and probability smoothed over half a
second) and an MP4 file with the smoothed labels, without sound and at the mean frame rate. A camera opens a
window instead; q ends it. Ctrl-C keeps what was done.
"""

import argparse
import concurrent.futures
import contextlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

import photos
from photos import reading, video
from utils import cli, data, files, models
from utils.cli import UserError

FACES_DRAWN = 12  # in a figure; the CSV has them all
SUBMISSION_TIMEOUT = 180  # seconds; the file has 60 kB, but the client retries when the upload stalls


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, nargs="+", metavar="MODEL",
                        help="several are averaged (default: models/cnn.h5, else models/fer2013-compact.h5)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", type=cli.data_path,
                        help="CSV or image folder of 48x48 faces (default: data/test.csv)")
    source.add_argument("--images", type=Path, nargs="+", metavar="PHOTO",
                        help="photos, or folders of photos, with people")
    source.add_argument("--video", type=video_source, metavar="FILE|0", help="a video, or a camera's number")
    cli.add_photos(parser)
    cli.add_out_folder(parser, "figures/", "predictions.csv here")
    parser.add_argument("--out", type=Path, metavar="NAME.csv",
                        help="the CSV file, by default in --out-folder")
    parser.add_argument("--probabilities", action="store_true", help="add the probability of each class, 0-1")
    parser.add_argument("--submit", type=competition, metavar="SLUG|URL",
                        help="send the file to this Kaggle competition (its address, or the name in it)")
    parser.add_argument("--message", metavar="TEXT", help="what Kaggle displays beside the submission")
    cli.add_tta(parser)
    args = parser.parse_args(argv)
    is_file = not args.images and args.video is None
    for is_wrong, problem in (
            ((args.submit or args.probabilities) and not is_file, "--submit, --probabilities go with --data"),
            (args.cropped and not args.images, "--cropped belongs to --images"),
            (args.max_faces and is_file, "--max-faces belongs to --images or --video"),
            (bool(args.submit) != bool(args.message), "--submit SLUG and --message TEXT belong together"),
            (args.submit and args.probabilities, "Kaggle takes id,label only; leave out --probabilities")):
        if is_wrong:
            raise UserError(problem)
    return args


def competition(text):
    """An argparse type: the name of a Kaggle competition, alone or in the address of any of its pages."""
    name = re.sub(r"^(https?://)?(www\.)?kaggle\.com/(competitions|c)/([^/?#]+).*", r"\4", text.strip())
    if not re.fullmatch(r"\w[\w-]*", name):
        raise argparse.ArgumentTypeError(f"{text!r} is no competition; expected its name, or its address "
                                         "such as https://www.kaggle.com/competitions/NAME")
    return name


def video_source(text):
    """An argparse type: a camera's number as int, an address such as rtsp://... as str, else a Path."""
    if text.isdecimal() and len(text) < 4:
        return int(text)
    return text if "://" in text else Path(text)


def main(argv=None):
    """Predict faces; returns the table that is written as CSV (pandas.DataFrame, one row per face)."""
    args = parse_args(argv)
    paths = args.model or [models.default_model(models.RELEASED_BEST)]
    name = files.name_part("+".join(map(files.model_name, paths)))
    if args.video is not None:
        return predict_video(args, paths, name)
    return predict_photos(args, paths, name) if args.images else predict_faces(args, paths)


def predict_faces(args, paths):
    """Predict the faces of --data: writes the CSV, prints the frequency of each class, submits if asked."""
    out = args.out or (args.out_folder or Path()) / "predictions.csv"
    registry = data.CACHE / "predictions.txt"
    files.check_outputs([out])
    ours = registry.read_text() if registry.exists() else ""
    if out.exists() and sha256(out.read_bytes()).hexdigest() not in ours:  # it may hold somebody's labels
        raise UserError(f"{out} exists and was not written here; move it away or choose another --out")
    path = args.data or next((path for suffix in data.SUFFIXES
                              if (path := files.DATA / f"test{suffix}").exists()), None)
    if path is None:
        raise UserError(f"no data/test.csv found; name a file with --data. {data.KAGGLE}")
    cli.start_keras()
    from utils import evaluation

    networks = evaluation.load_networks(paths)
    faces = data.load_faces(path)
    ids = pd.Series(range(len(faces)) if faces.ids is None else faces.ids).astype(str)
    if not ids.is_unique:
        raise UserError(f"{path} has id {ids[ids.duplicated()].iloc[0]} more than once; expected each once")
    probabilities = evaluation.probabilities(networks, faces.images, args.tta)
    table = pd.DataFrame({"id": ids, "label": probabilities.argmax(axis=1)})
    if args.probabilities:
        table[list(data.CLASSES)] = probabilities.round(6)
    counts = table["label"].value_counts().reindex(range(len(data.CLASSES)), fill_value=0)
    cli.print_table(pd.DataFrame({
        "code": counts.index, "class": data.CLASSES, "faces": counts.map("{:,}".format),
        "%": (100 * counts / len(faces)).map("{:.1f}".format)}))
    files.write_table(out, table)
    with contextlib.suppress(UserError):  # in a read-only folder
        files.write_text(registry, f"{ours}{sha256(out.read_bytes()).hexdigest()}\n")
    cli.print_written([out])
    if args.submit:
        print(submit(out, args.submit, args.message))
    return table


def submit(path, slug, message):
    """Send the file at `path` to the Kaggle competition `slug` by Kaggle's client; returns what that prints.

    Raises UserError when the client, its credentials, the network or the competition are missing.
    """
    command = ["kaggle", "competitions", "submit", slug, "-f", files.relative_path(path), "-m", message]
    print(f"Submitting: {shlex.join(command)}", flush=True)
    folders = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    client = shutil.which("kaggle", path=folders)
    advice = f"; {files.relative_path(path)} stays, and the command above sends it"
    if client is None:
        raise UserError("Kaggle's client is not installed; "
                        f"python -m pip install -r requirements-kaggle.txt{advice}")
    try:
        done = subprocess.run([client, *command[1:]], timeout=SUBMISSION_TIMEOUT, stdin=subprocess.DEVNULL,
                              capture_output=True, errors="replace")
    except subprocess.TimeoutExpired as error:
        raise UserError(f"Kaggle did not answer within {SUBMISSION_TIMEOUT} s{advice}") from error
    if not done.returncode and not re.search("Could not (submit|find)", done.stdout):  # and status 0
        return done.stdout.strip()
    output = f"{done.stdout}\n{done.stderr}"
    lines = [line.strip() for line in re.split(r"[\r\n]", output) if line.strip() and "%|" not in line]  # bar
    said = " ".join(lines[-1:] if "Traceback" in output else lines)[:400]
    raise UserError(f"Kaggle's client says: {said or 'nothing'}{advice}")


def predict_photos(args, paths, name):
    """Predict the faces in the photos of --images: prints a table, writes the CSV and a figure per photo."""
    found = photos.find_photos(args.images)
    folder = args.out_folder or files.FIGURES
    out = args.out or folder / f"{name}_photos.csv"
    figures = photos.figure_paths(found, folder, f"{name}_photo")
    files.check_outputs([out, *figures.values()])
    cli.start_keras()
    from utils import evaluation
    from utils.figures import save_figure

    networks = evaluation.load_networks(paths)
    table, faces = photos.load_faces(found, args.cropped, args.max_faces)
    table["model"] = name
    add_predictions(table, evaluation.probabilities(networks, faces, args.tta))
    cli.print_table(pd.DataFrame({
        "photo": table["image"], "face": table["face"], "class": table["class"],
        "probability": table[list(data.CLASSES)].max(axis=1).map("{:.2f}".format),
        "score": table["score"].map("{:.2f}".format).replace("nan", "-")}))
    written = [out]
    for photo, rows in cli.track(list(table.groupby("image", sort=False)), "drawing"):
        title = " + ".join(map(models.title, paths))
        title += f": {os.path.basename(photo)}{', faces taken whole' * args.cropped}"
        figure = draw_photo(photos.read_photo(photo), rows, faces[rows.index], title)
        written.append(save_figure(figure, figures[photo]))
    files.write_table(out, table)
    cli.print_written(written)
    return table


def add_predictions(table, probabilities):
    """Add label, class and the probabilities, float (n, 7), to a table of faces."""
    table["label"] = probabilities.argmax(axis=1)
    table["class"] = np.take(data.CLASSES, table["label"])
    table[list(data.CLASSES)] = probabilities.round(6)


def draw_photo(photo, table, faces, title):
    """A figure of a photo, uint8 (h, w, 3), and below it each face, uint8 (n, 48, 48), with its bars;
    table: the rows of its faces, as they are written."""
    from utils.figures import COLORS, WIDTH, plt

    down = -(-min(len(faces), FACES_DRAWN) // 3)
    heights = [min(WIDTH * photo.shape[0] / photo.shape[1], 4.2), 1.35 * down]
    figure = plt.figure(figsize=(WIDTH, 0.4 + sum(heights)), layout="constrained")
    figure.suptitle(textwrap.fill(title, 90), fontsize=9)
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    reading.draw_boxes(above.subplots(), photo, table)
    axes = below.subplots(down, 6, squeeze=False, width_ratios=[1, 1.5] * 3,
                          subplot_kw={"xticks": [], "yticks": [], "frame_on": False})
    for (crop, bars), face, (_, row) in zip(axes.reshape(-1, 2), faces, table.iterrows()):
        crop.imshow(face, cmap="gray", vmin=0, vmax=255)
        crop.set_title(f"face {row['face']}: {row['class']}", fontsize=8.5)
        if not np.isnan(row["score"]):
            crop.set_xlabel(f"score {row['score']:.2f}\ntilt {row['tilt']:.0f}°", fontsize=7)
        lengths = bars.barh(range(7), row[list(data.CLASSES)].astype(float), color="#BBBBBB", height=0.72)
        lengths[row["label"]].set_color(COLORS["blue"])
        bars.bar_label(lengths, fmt="%.2f", padding=3, fontsize=7)
        bars.set(xlim=(0, 1.2), ylim=(6.5, -0.5), box_aspect=0.8, yticks=range(7), yticklabels=data.CLASSES)
        bars.tick_params(axis="y", length=0, labelsize=7)
    if len(faces) > FACES_DRAWN:
        below.supxlabel(f"and {len(faces) - FACES_DRAWN} more in the CSV", fontsize=8)
    return figure


def predict_video(args, paths, name):
    """Predict the faces in the frames of --video: writes the CSV and an MP4 file, or opens a window."""
    source = video.Video(args.video)
    stem = f"{name}_camera-{args.video}" if source.is_camera else f"{name}_video_{Path(args.video).stem[:50]}"
    folder = args.out_folder or files.FIGURES
    out, target = args.out or folder / f"{stem}.csv", folder / f"{stem}.mp4"
    written = [out] if source.is_camera else [out, target]
    files.check_outputs(written)
    cli.start_keras()
    from utils import evaluation

    networks = evaluation.load_networks(paths)
    follower, show, stream, tables, stop = video.Follower(), video.show, iter(source), [], None
    at_once = 1 if source.is_camera else 16  # frames through the network: three times as fast as one by one
    with contextlib.ExitStack() as opened:
        if not source.is_camera:
            temporary = opened.enter_context(files.replacing(target))
            show = opened.enter_context(video.writing(temporary, source.rate, source.shape))
        pool = opened.enter_context(concurrent.futures.ThreadPoolExecutor())
        bar = opened.enter_context(cli.progress_bar())
        task, is_open, frames = bar.add_task("predicting", total=source.frames or None), True, 0
        try:
            while is_open and (batch := list(itertools.islice(stream, at_once))):
                faces = pool.map(photos.detect_faces, [frame for _, frame in batch])
                table, drawn = predict_frames(networks, args, batch, list(faces), follower)
                is_open = not any([show(frame) for frame in drawn])
                tables.append(table.assign(frame=table["frame"] + frames, model=name))
                frames += len(batch)
                bar.update(task, completed=frames)
        except KeyboardInterrupt as error:
            cli.set_alarm(0)
            stop = error
        if not any(map(len, tables)):
            raise stop or UserError(f"no face found in {'camera ' * source.is_camera}{args.video}")
    table = pd.concat(tables, ignore_index=True)
    files.write_table(out, table)
    print(f"{table['face'].nunique()} face(s) in {frames:,} frames")
    if frames < 0.95 * source.frames:
        print(f"{args.video} names {source.frames:,} frames, not all of which could be read; is it complete?")
    cli.print_written(written)
    if stop:
        stop.add_note("the frames so far are in the files above")
        raise stop
    return table


def predict_frames(networks, args, batch, faces, follower):
    """Predict a batch of frames: a list of (seconds, frame); faces: a list of Face for each. Returns a
    DataFrame with one row per face and frame, whose column frame counts from 0 in the batch, and the frames
    with their faces' numbers and smoothed expressions."""
    from utils import evaluation

    rows, images = [], []
    for i, ((seconds, frame), found) in enumerate(zip(batch, faces)):
        for number, face in zip(follower.number(found[:args.max_faces], seconds), found):
            rows.append((i, round(seconds, 3), number, *face))
            images.append(photos.crop(frame, face))
    table = pd.DataFrame(rows, columns=["frame", "seconds", "face", *photos.Face._fields])
    crops = np.array(images, np.uint8).reshape(-1, data.SIZE, data.SIZE)
    outputs = [evaluation.predict_views(network, crops, args.tta) for network in networks]
    probabilities = np.mean(outputs, axis=0)
    smoothed = np.reshape([follower.smooth(number, row, seconds)
                           for (_, seconds, number, *_), row in zip(rows, probabilities)], (-1, 7))
    add_predictions(table, probabilities)
    table["smoothed_class"] = np.take(data.CLASSES, smoothed.argmax(axis=1))
    table["smoothed_probability"] = smoothed.max(axis=1).round(6)
    return table, [video.annotate(frame, table[table["frame"] == i]) for i, (_, frame) in enumerate(batch)]


if __name__ == "__main__":
    cli.run(main)
