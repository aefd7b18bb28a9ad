"""Which expression does each face show? Predictions for a file of faces (and for Kaggle), photos or a video.

    python predict.py --data data/test.csv --out predictions.csv
    python predict.py --model models/a.h5 models/b.h5 --tta ten-crop --data data/test.csv
    python predict.py --data data/test.csv --submit SLUG_OR_URL --message "report CNN"
    python predict.py --images me.jpg holiday/
    python predict.py --video clip.mp4
    python predict.py --video 0                        the first camera, in a window

Of a file: writes `id,label`, one row a face, in the order of the data, with its ids or, where it has none,
row numbers from 0. Several models are averaged. --probabilities adds a column for each class (for Kaggle
leave it out). --submit hands the file to Kaggle's own client (python -m pip install -r
requirements-kaggle.txt), the only use of a network.

Of photos: finds the faces, largest first, turns tilted ones upright, cuts them out as FER2013 does and writes
a CSV with a row a face (its square in pixels before it is turned about its centre, tilt in degrees clockwise,
the detector's score, label, probabilities) and a figure a photo, figures/photo_NAME.png. Photos without a
face and unreadable files are named and do not stop the rest; without any face the exit status is 2 and
nothing is written.

Of a video (python -m pip install -r requirements-video.txt): follows each face from frame to frame and writes
a CSV with a row a face and frame (frame from 0, seconds, face, square, tilt, score or nothing where the face
was not seen for a moment, probabilities, their class, and the class and probability after smoothing over half
a second) and figures/video_NAME.mp4 with the smoothed labels, without sound. A camera number opens a window
instead of the MP4 file; q ends it. Ctrl-C keeps what was done. A frame of 640x480 with one face takes 47
ms of processor time (benchmarks.video).
"""

import argparse
import contextlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from utils import cli, files
from utils.cli import UserError

FACES_DRAWN = 12  # in a figure; the CSV has them all
PHOTO_SIDE = 1200  # pixels of the photo in the figure
FRAMES_AT_ONCE = 16  # of a video go through the network together, which is three times as fast as one by one

SUBMISSION_FAILED = r"Could not (submit|find)"  # what Kaggle's client may print while its exit status is 0
SUBMISSION_TIMEOUT = 180  # seconds; the file has 60 kB, but the client retries when the upload stalls
CREDENTIALS = "`kaggle auth login`, or a token from https://www.kaggle.com/settings/api in KAGGLE_API_TOKEN"
SUBMISSION_ERRORS = (  # pattern in the client's output -> what is wrong; the first that matches
    (r"Failed to resolve|Max retries exceeded|ConnectionError|Connection refused|ProxyError|timed out",
     "Kaggle cannot be reached; check the network"),
    (r"Authentication required|\b401\b|Unauthorized",
     f"Kaggle's client has no valid credentials; expected {CREDENTIALS}"),
    (r"\b403\b|Forbidden|permission",
     "Kaggle refuses (403); accept the competition's rules on its page, with this account. "
     "Is {slug!r} the right competition?"),
    (r"\b404\b|Could not find competition",
     "Kaggle knows no competition {slug!r} that takes files (404); expected the last part of its address"),
    (r"\b429\b|Too Many Requests", "Kaggle takes no more submissions for now (429); try again tomorrow"),
)


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, nargs="+", metavar="MODEL",
                        help=".h5, .keras, or exported .onnx or .tflite; several are averaged "
                             "(default: models/cnn.h5, else the released one)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", type=cli.data_path,
                        help="CSV or image folder of 48x48 faces (default: data/test.csv)")
    source.add_argument("--images", type=Path, nargs="+", metavar="PHOTO",
                        help="photos, or folders of photos, with people")
    source.add_argument("--video", type=video_source, metavar="FILE|0", help="a video, or a camera's number")
    cli.add_classes(parser)
    cli.add_photos(parser)
    parser.add_argument("--out", type=Path,
                        help="default: predictions.csv; with --images predictions_photos.csv, "
                             "with --video predictions_video.csv")
    parser.add_argument("--probabilities", action="store_true", help="add the probability of each class, 0-1")
    parser.add_argument("--submit", type=competition, metavar="SLUG|URL",
                        help="send the file to this Kaggle competition (its address, or the name in it)")
    parser.add_argument("--message", metavar="TEXT", help="what Kaggle displays beside the submission")
    cli.add_tta(parser)
    args = parser.parse_args(argv)
    if (args.images or args.video is not None) and (args.submit or args.probabilities):
        raise UserError("--submit and --probabilities do not go with --images and --video, "
                        "whose CSV has the probabilities anyway")
    if args.cropped and not args.images:
        raise UserError("--cropped belongs to --images")
    if args.max_faces and not args.images and args.video is None:
        raise UserError("--max-faces belongs to --images or --video")
    if bool(args.submit) != bool(args.message):
        raise UserError("--submit SLUG and --message TEXT belong together")
    if args.submit and args.probabilities:
        raise UserError("Kaggle takes id,label only; leave out --probabilities to --submit")
    return args


def competition(text):
    """An argparse type: the name of a Kaggle competition, alone or in the address of any of its pages."""
    page = re.fullmatch(r"(?:https?://)?(?:www\.)?kaggle\.com/(?:competitions|c)/([^/?#]+).*", text.strip())
    name = page[1] if page else text.strip()
    if not re.fullmatch(r"\w[\w-]*", name):
        raise argparse.ArgumentTypeError(f"{text!r} is no competition; expected its name, or its address "
                                         "such as https://www.kaggle.com/competitions/NAME")
    return name


def video_source(text):
    """An argparse type: a camera's number as int, else the Path of a video."""
    return int(text) if text.isdecimal() and len(text) < 4 else Path(text)


def main(argv=None):
    """Predict faces; returns the table that is written as CSV (pandas.DataFrame, one row a face)."""
    args = parse_args(argv)
    if args.video is not None:
        return predict_video(args, args.out or Path("predictions_video.csv"))
    if args.images:
        return predict_photos(args, args.out or Path("predictions_photos.csv"))
    return predict_faces(args, args.out or Path("predictions.csv"))


# ---- a file of faces ---------------------------------------------------------------------------------------


def predict_faces(args, out):
    """Predict the faces of --data: writes `out`, prints the frequency of each class, submits where asked."""
    files.check_outputs({out: "id,label"})
    cli.start_keras()
    import pandas as pd

    from utils import data, evaluation, models

    networks = evaluation.load_networks(args.model or [models.default_model()])
    path = args.data or test_data()
    faces = data.load_faces(path, args.classes)
    ids = pd.Series(range(len(faces)) if faces.ids is None else faces.ids).astype(str)
    if not ids.is_unique:
        twice = ids[ids.duplicated()].iloc[0]
        raise UserError(f"{path} has id {twice} more than once; expected each id once")
    probabilities = evaluation.probabilities(networks, faces.images, args.tta)

    table = pd.DataFrame({"id": ids, "label": probabilities.argmax(axis=1)})
    if args.probabilities:
        table[list(data.CLASSES)] = probabilities.round(6)
    counts = table["label"].value_counts().reindex(range(len(data.CLASSES)), fill_value=0)
    cli.print_table(pd.DataFrame({
        "code": counts.index, "class": data.CLASSES, "faces": counts.map("{:,}".format),
        "%": (100 * counts / len(faces)).map("{:.1f}".format)}))
    files.write_table(out, table)
    print(f"Wrote {files.relative_path(out)}: {len(faces):,} rows from {faces.source}")
    if args.submit:
        print(submit(out, args.submit, args.message))
    return table


def test_data():
    """The file of faces to predict when none is named: data/test.csv, plain or compressed."""
    from utils import data

    paths = [files.PROJECT / "data" / f"test{suffix}" for suffix in data.SUFFIXES]
    path = next(filter(Path.exists, paths), None)
    if path is None:
        raise UserError(f"no data/test.csv found; name a file with --data. {data.KAGGLE}")
    return path


def submit(path, slug, message):
    """Send the file at `path` to the Kaggle competition `slug` by Kaggle's client; returns what that prints.

    Raises UserError, one line, when the client, its credentials, the network or the competition are missing.
    The file stays in any case, and the command that sends it is printed.
    """
    command = ["kaggle", "competitions", "submit", slug, "-f", files.relative_path(path), "-m", message]
    print(f"Submitting: {shlex.join(command)}", flush=True)
    places = [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
    client = shutil.which("kaggle", path=os.pathsep.join(places))
    advice = f"; {files.relative_path(path)} stays, and the command above sends it"
    if client is None:
        raise UserError("Kaggle's client is not installed; "
                        f"python -m pip install -r requirements-kaggle.txt{advice}")
    try:
        done = cli.call([client, *command[1:]], SUBMISSION_TIMEOUT, stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace")
    except subprocess.TimeoutExpired as error:
        raise UserError(f"Kaggle did not answer within {SUBMISSION_TIMEOUT} s{advice}") from error
    if done.returncode or re.search(SUBMISSION_FAILED, done.stdout):
        raise UserError(submission_error(f"{done.stdout}\n{done.stderr}", slug) + advice)
    return done.stdout.strip()


def submission_error(output, slug):
    """What is wrong according to the output of Kaggle's client, in one line."""
    for pattern, text in SUBMISSION_ERRORS:
        if re.search(pattern, output):
            return text.format(slug=slug)
    lines = map(str.strip, re.split(r"[\r\n]", output))
    message = next((line for line in lines if line and "%|" not in line), "no message")  # %|: progress bar
    return f"Kaggle's client failed: {message[:200]}"


# ---- photos ------------------------------------------------------------------------------------------------


def predict_photos(args, out):
    """Predict the faces in the photos of --images: prints a table, writes `out` and a figure a photo."""
    from utils import photos

    paths = photos.find_photos(args.images)
    figures = photos.figure_paths(paths, "photo")
    files.check_outputs({out: "image", **dict.fromkeys(figures.values(), "")})
    cli.start_keras()
    import numpy as np
    import pandas as pd

    from utils import evaluation, models
    from utils.data import CLASSES
    from utils.figures import save_figure

    networks = evaluation.load_networks(args.model or [models.default_model()])
    table, faces = photos.load_faces(paths, args.cropped, args.max_faces)
    probabilities = evaluation.probabilities(networks, faces, args.tta)

    table["label"] = probabilities.argmax(axis=1)
    table["class"] = np.take(CLASSES, table["label"])
    table[list(CLASSES)] = probabilities.round(6)
    best = probabilities.max(axis=1)
    printed = pd.DataFrame({"photo": table["image"], "face": table["face"], "pixels": table["width"],
                            "tilt": table["tilt"].map("{:.0f}°".format),
                            "score": table["score"].map("{:.2f}".format).replace("nan", "-"),
                            "class": table["class"], "probability": [f"{value:.2f}" for value in best]})
    cli.print_table(printed)
    written = []
    for path, rows in cli.track(list(table.groupby("image", sort=False)), "drawing"):
        count = f"{len(rows)} face{'s' * (len(rows) > 1)}{' (taken whole)' * args.cropped}"
        title = f"{os.path.basename(path)}: {count}"
        figure = draw_photo(photos.read_photo(path), rows, faces[rows.index], title)
        written.append(save_figure(figure, figures[path]))
    files.write_table(out, table)
    others = f" and {len(written) - 1:,} more" if len(written) > 1 else ""
    print(f"Wrote {files.relative_path(out)}: {len(table):,} faces of {len(written):,} photos; "
          f"{files.relative_path(written[0])}{others}")
    return table


def draw_photo(photo, table, faces, title):
    """A photo with its faces in squares and, beside or below it, each face as the network sees it and its
    probabilities as bars.

    photo: uint8 (height, width, 3); table: the rows of its faces, as they are written; faces: uint8 (n, 48,
    48). Returns the figure.
    """
    import pandas as pd

    from utils.data import CLASSES
    from utils.figures import WIDTH, draw_boxes, plt
    from utils.photos import shrink

    are_few = len(faces) <= 3
    across, photo_width = (1, 0.44 * WIDTH) if are_few else (3, WIDTH)
    down = -(-min(len(faces), FACES_DRAWN) // across)
    heights = [min(photo_width * photo.shape[0] / photo.shape[1], 4.6), 1.35 * down]
    figure = plt.figure(figsize=(WIDTH, 0.4 + (max(heights) if are_few else sum(heights))),
                        layout="constrained")
    figure.suptitle(title, fontsize=10)
    place, below = figure.subfigures(1, 2, width_ratios=[0.44, 0.56]) if are_few else (
        figure.subfigures(2, 1, height_ratios=heights))
    draw_boxes(place.subplots(), *shrink(photo, PHOTO_SIDE), table)

    axes = below.subplots(down, 2 * across, squeeze=False, width_ratios=[1, 1.5] * across)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[], frame_on=False)
    for (crop, bars), face, (_, row) in zip(axes.reshape(-1, 2), faces, table.iterrows()):
        crop.imshow(face, cmap="gray", vmin=0, vmax=255)
        crop.set_title(f"face {row['face']}: {row['class']}", fontsize=8.5)
        if not pd.isna(row["score"]):
            tilt = f"\ntilted by {row['tilt']:.0f}°" if row["tilt"] else ""
            crop.set_xlabel(f"detector's score {row['score']:.2f}{tilt}", fontsize=7)
        draw_bars(bars, row[list(CLASSES)].astype(float), row["label"])
    if len(faces) > FACES_DRAWN:
        below.supxlabel(f"and {len(faces) - FACES_DRAWN} more in the CSV", fontsize=8)
    return figure


def draw_bars(ax, probabilities, best):
    """The probability of each class (pandas.Series) as horizontal bars, number `best` in colour."""
    from utils.figures import COLORS

    ax.set(frame_on=True, yticks=range(len(probabilities)))
    bars = ax.barh(probabilities.index, probabilities, color="#BBBBBB", height=0.72)
    bars[best].set_color(COLORS["blue"])
    labels = ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=7)
    labels[best].set_weight("bold")
    ax.set(xlim=(0, 1.15), ylim=(len(probabilities) - 0.5, -0.5), xticks=[])
    ax.tick_params(axis="y", length=0, labelsize=7)
    ax.spines["bottom"].set_visible(False)
    ax.set_box_aspect(0.7)


# ---- video -------------------------------------------------------------------------------------------------


def predict_video(args, out):
    """Predict the faces in the frames of --video: writes `out` and an MP4 file, or opens a window."""
    from utils import video
    from utils.models import FIGURES

    is_camera = isinstance(args.video, int)
    target = None if is_camera else FIGURES / f"video_{args.video.stem[:50]}.mp4"
    files.check_outputs({out: "frame", **({} if is_camera else {target: ""})})
    source = video.Video(args.video)  # before TensorFlow, which takes seconds to start
    cli.start_keras()
    import pandas as pd

    from utils import evaluation, models

    networks = evaluation.load_networks(args.model or [models.default_model()])
    written = files.relative_path(out) if is_camera else (
        f"{files.relative_path(out)} and {files.relative_path(target)}")
    follower, smoother = video.Follower(args.max_faces), video.Smoother()
    tables, frames, start = [], 0, time.monotonic()
    cli.interruption.how_to_continue = f"the frames so far, if they have faces, are in {written}"
    with video.stopping_in_order() as is_stopped, contextlib.ExitStack() as opened:
        if is_camera:
            show = opened.enter_context(video.window())
        else:
            temporary = opened.enter_context(files.replacing(target))
            show = opened.enter_context(video.writing(temporary, source.rate, source.first.shape))
        bar = opened.enter_context(cli.progress_bar())
        task = bar.add_task("predicting", total=source.frames or None)
        stream, at_once = iter(source), 1 if is_camera else FRAMES_AT_ONCE
        while batch := list(itertools.islice(stream, at_once)):
            seen = [follower.update(frame, seconds) for seconds, frame in batch]
            table = predict_frames(networks, args.tta, batch, seen, smoother)
            table.insert(0, "frame", frames + table.pop("frame"))
            tables += [table] if len(table) else []
            texts = iter(table["face"].astype(str) + ": " + table["smoothed_class"]
                         + table["smoothed_probability"].map(" {:.2f}".format))
            is_open = [show(video.annotate(frame, [(face, next(texts)) for _, face in faces]))
                       for (_, frame), faces in zip(batch, seen)]
            frames += len(batch)
            bar.update(task, completed=frames)
            if is_stopped() or False in is_open:
                break
        if not tables:
            raise UserError(f"no face found in {'the pictures of camera ' * is_camera}{args.video}")
        table = pd.concat(tables, ignore_index=True)
        files.write_table(out, table)
    print_video(table, frames, source, time.monotonic() - start)
    print(f"Wrote {written}")
    return table


def predict_frames(networks, tta, batch, seen, smoother):
    """The table of a batch of frames, whose number in it is the column frame; a row a face and frame.

    batch: list of (seconds, frame); seen: what `video.Follower.update` returned of each; smoother:
    `video.Smoother`.
    """
    import numpy as np
    import pandas as pd

    from utils import evaluation, photos
    from utils.data import CLASSES, SIZE

    rows = [(i, round(seconds, 3), number, *face) for i, ((seconds, _), faces) in enumerate(zip(batch, seen))
            for number, face in faces]
    table = pd.DataFrame(rows, columns=["frame", "seconds", "face", *photos.Face._fields])
    images = [photos.crop(batch[i][1], photos.Face(*face)) for i, _, _, *face in rows]
    filled = np.resize(images, (-(-len(rows) // len(batch)) * len(batch), SIZE, SIZE)).astype(np.uint8)
    outputs = [evaluation.predict_views(network, filled, tta) for network in networks]  # few shapes to trace
    probabilities = np.mean(outputs, axis=0)[:len(rows)]
    averages = np.reshape([smoother.update(number, row, seconds)
                           for (_, seconds, number, *_), row in zip(rows, probabilities)], (-1, len(CLASSES)))
    table["label"] = probabilities.argmax(axis=1)
    table["class"] = np.take(CLASSES, table["label"])
    table[list(CLASSES)] = probabilities.round(6)
    table["smoothed_class"] = np.take(CLASSES, averages.argmax(axis=1))
    table["smoothed_probability"] = averages.max(axis=1).round(6)
    return table


def print_video(table, frames, source, seconds):
    """Print when each face was seen and what it showed most, and how fast that went."""
    import pandas as pd

    rows = []
    for number, face in table.groupby("face"):
        shares = face["smoothed_class"].value_counts(normalize=True)
        rows.append({"face": number, "from s": f"{face['seconds'].min():.1f}",
                     "to s": f"{face['seconds'].max():.1f}", "frames": f"{len(face):,}",
                     "mostly": shares.index[0], "% of its frames": f"{100 * shares.iloc[0]:.0f}"})
    cli.print_table(pd.DataFrame(rows))
    print(f"{frames:,} frames in {seconds:.1f} s: {frames / seconds:.1f} frames/s")
    if frames < 0.95 * source.frames:
        print(f"{source.source} names {source.frames:,} frames, of which {frames:,} could be read; "
              "is it complete?")


if __name__ == "__main__":
    cli.run(main)
