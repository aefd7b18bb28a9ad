"""Which expression does each face show? A model's answers as a file for Kaggle.

    python predict.py --data data/test.csv --out predictions.csv
    python predict.py --model models/a.h5 models/b.h5 --tta ten-crop --data data/test.csv --template data/sample_submission.csv

Writes `id,label`, one row a face, in the order of the data, with its ids or, where it has none, row numbers from 0. Several
models are averaged. --probabilities adds a column for each class (Kaggle wants the file without).
"""

from pathlib import Path

from utils import cli, evaluation
from utils.cli import UserError
from utils.files import PROJECT, shown, write_csv


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, nargs="+", metavar="MODEL.h5",
                        help="one, or several to average (default: models/cnn.h5, else the released one)")
    parser.add_argument("--data", type=Path, help="CSV or image folder of faces (default: data/test.csv)")
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help="the CSV to write")
    parser.add_argument("--probabilities", action="store_true", help="add the probability of each class, 0-1")
    parser.add_argument("--template", type=Path, metavar="SAMPLE.csv",
                        help="check that a sample submission has the same ids in the same order, before anything is written")
    evaluation.add_tta(parser)
    args = parser.parse_args()

    cli.start_keras()
    import numpy as np

    from utils import data, models

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
    write_csv(args.out, header, rows)
    counts = np.bincount(predicted, minlength=len(data.CLASSES))
    print(cli.table([[code, name, f"{count:,}", f"{100 * count / len(faces):.1f}"]
                     for code, (name, count) in enumerate(zip(data.CLASSES, counts))], ["code", "class", "faces", "%"]))
    print(f"Wrote {shown(args.out)}: {len(faces):,} rows from {faces.source}")


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


if __name__ == "__main__":
    cli.run(main)
