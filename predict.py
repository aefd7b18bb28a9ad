"""Which expression does each face show? A model's answers for a file of faces (and for Kaggle), or for own photos.

    python predict.py --data data/test.csv --out predictions.csv
    python predict.py --model models/a.h5 models/b.h5 --tta ten-crop --data data/test.csv --template data/sample_submission.csv
    python predict.py --data data/test.csv --submit SLUG --message "report CNN"
    python predict.py --images me.jpg holiday/

Of a file: writes `id,label`, one row a face, in the order of the data, with its ids or, where it has none, row numbers from
0. Several models are averaged. --probabilities adds a column for each class (Kaggle wants the file without). --submit hands
the file to Kaggle's own client (python -m pip install -r requirements-kaggle.txt), the only use of a network.

Of photos: finds the faces, largest first, cuts them out as FER2013 does and writes a CSV with a row a face (its square in
pixels, label, probabilities) and a figure a photo, figures/photo_NAME.png. Photos without a face and unreadable files are
named and do not stop the rest; without any face the exit status is 2 and nothing is written.
"""

from pathlib import Path

from utils import cli, evaluation
from utils.cli import UserError
from utils.files import PROJECT, shown, write_csv


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, nargs="+", metavar="MODEL.h5",
                        help="one, or several to average (default: models/cnn.h5, else the released one)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--data", type=Path, help="CSV or image folder of 48x48 faces (default: data/test.csv)")
    what.add_argument("--images", type=Path, nargs="+", metavar="PHOTO", help="photos, or folders of photos, with people")
    parser.add_argument("--cropped", action="store_true", help="the --images show nothing but one face: take them whole")
    parser.add_argument("--out", type=Path, help="the CSV to write (default: predictions.csv; with --images "
                                                 "predictions_photos.csv)")
    parser.add_argument("--probabilities", action="store_true", help="add the probability of each class, 0-1")
    parser.add_argument("--template", type=Path, metavar="SAMPLE.csv",
                        help="check that a sample submission has the same ids in the same order, before anything is written")
    parser.add_argument("--submit", metavar="SLUG", help="send the file to this Kaggle competition (the end of its address)")
    parser.add_argument("--message", metavar="TEXT", help="what Kaggle shows beside the submission")
    evaluation.add_tta(parser)
    args = parser.parse_args()
    check_options(args)

    cli.start_keras()
    if args.images:
        predict_photos(args, args.out or Path("predictions_photos.csv"))
    else:
        predict_data(args, args.out or Path("predictions.csv"))


def check_options(args):
    """Raise UserError for options that do not go together, before anything slow starts."""
    if args.images and (args.template or args.submit or args.probabilities):
        raise UserError("--template, --submit and --probabilities belong to --data; "
                        "the CSV of --images has the probabilities anyway")
    if args.cropped and not args.images:
        raise UserError("--cropped belongs to --images")
    if bool(args.submit) != bool(args.message):
        raise UserError("--submit SLUG and --message TEXT belong together")
    if args.submit and args.probabilities:
        raise UserError("Kaggle takes id,label only; leave out --probabilities to --submit")


# ---- a file of faces ------------------------------------------------------------------------------------------


def predict_data(args, out):
    """Predict the faces of --data: writes `out`, prints the classes' counts, and submits the file where asked."""
    import numpy as np

    from utils import data, models, submission

    networks = evaluation.load_networks(args.model or [models.default_model()])
    faces = data.load_faces(args.data or test_data())
    ids = [str(i) for i in (range(len(faces)) if faces.ids is None else faces.ids)]
    if args.template:
        check_template(args.template, ids, faces.source)
    probabilities = evaluation.probabilities(networks, faces.images, args.tta)
    predicted = probabilities.argmax(axis=1)

    header, rows = ["id", "label"], zip(ids, predicted)
    if args.probabilities:
        header += data.CLASSES
        rows = ([i, label, *(f"{p:.6f}" for p in row)] for i, label, row in zip(ids, predicted, probabilities))
    write_csv(out, header, rows)
    counts = np.bincount(predicted, minlength=len(data.CLASSES))
    print(cli.table([[code, name, f"{count:,}", f"{100 * count / len(faces):.1f}"]
                     for code, (name, count) in enumerate(zip(data.CLASSES, counts))], ["code", "class", "faces", "%"]))
    print(f"Wrote {shown(out)}: {len(faces):,} rows from {faces.source}")
    if args.submit:
        submission.check(out, len(faces))
        print(submission.submit(out, args.submit, args.message))


def test_data():
    """The file of faces to predict when none is named: data/test.csv, plain or compressed."""
    from utils.data import KAGGLE, SUFFIXES

    for suffix in SUFFIXES:
        if (PROJECT / "data" / f"test{suffix}").exists():
            return PROJECT / "data" / f"test{suffix}"
    raise UserError(f"no data/test.csv found; name a file with --data. {KAGGLE}")


def check_template(path, ids, source):
    """Raise UserError, with the row, unless the sample submission at `path` (id,label) has exactly `ids` in this order."""
    import csv

    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not rows or [name.strip().lower() for name in rows[0]] != ["id", "label"]:
        found = ",".join(rows[0])[:40] if rows else "nothing"
        raise UserError(f"{path} row 1 is {found}; expected a sample submission that starts with id,label")
    wanted = [row[0].strip() for row in rows[1:]]
    if len(wanted) != len(ids):
        raise UserError(f"{path} has {len(wanted):,} rows but {source} has {len(ids):,} faces; is it the right --data?")
    for row, (want, have) in enumerate(zip(wanted, ids), start=2):
        if want != have:
            raise UserError(f"{path} row {row} has id {want[:20]} where {source} has {have[:20]}; is it the right --data?")


# ---- photos ---------------------------------------------------------------------------------------------------


def predict_photos(args, out):
    """Predict the faces in the photos of --images: prints a table, writes `out` and a figure a photo."""
    import numpy as np

    from utils import data, models, photos

    paths = photos.find_photos(args.images)
    networks = evaluation.load_networks(args.model or [models.default_model()])
    found, left_out = photos.faces_of(paths, args.cropped)
    if not found:
        raise UserError(left_out[0] + (f" (and so for all {len(left_out)} photos)" if len(left_out) > 1 else ""))
    print("\n".join(left_out), end="\n" * bool(left_out))
    probabilities = evaluation.probabilities(networks, np.stack([face.image for face in found]), args.tta)

    rows = [[shown(face.path), face.number, *face.square, p.argmax(), data.CLASSES[p.argmax()], *(f"{v:.6f}" for v in p)]
            for face, p in zip(found, probabilities)]
    print(cli.table([[row[0], row[1], row[4], row[7], f"{p.max():.2f}"] for row, p in zip(rows, probabilities)],
                    ["photo", "face", "pixels", "class", "probability"]))
    figures = draw_figures(found, probabilities, args)
    write_csv(out, ["image", "face", "x", "y", "width", "height", "label", "class", *data.CLASSES], rows)
    print(f"Wrote {shown(out)}: {len(found):,} faces of {len(figures):,} photos; {shown(figures[0])}"
          + (f" and {len(figures) - 1:,} more figures" if len(figures) > 1 else ""))


def draw_figures(found, probabilities, args):
    """A figure for each photo with a face, figures/photo_NAME.png, numbered where a name comes twice; returns the paths."""
    from utils import models, photo_figures, photos

    by_photo, written = {}, []
    for face, p in zip(found, probabilities):
        by_photo.setdefault(face.path, []).append((face, p))
    for path, entries in cli.Progress(by_photo.items(), "drawing"):
        faces, p = zip(*entries)
        figure = models.FIGURES / f"photo_{path.stem}.png"
        if figure in written:
            figure = models.FIGURES / f"photo_{path.stem}_{len(written) + 1}.png"
        title = f"{path.name}: {len(faces)} face{'s' * (len(faces) > 1)}" + (" (taken whole)" if args.cropped else "")
        written.append(photo_figures.draw_photo(photos.read_photo(path), faces, p, figure, title))
    return written


if __name__ == "__main__":
    cli.run(main)
