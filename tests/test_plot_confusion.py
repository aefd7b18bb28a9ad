"""plot_confusion.py: a planted confusion comes out the right way round; figures and CSVs end to end."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import plot_confusion
from tests.conftest import write_csv
from tests.small_models import grey_level_model
from utils import data, files, metrics, models
from utils.figures import plt


@pytest.fixture
def confuse(call, monkeypatch):
    """Call the script on a model, with NumPy's and matplotlib's warnings as errors. confuse(levels, labels)
    has faces of grey 36 times `levels`; returns the summary. Tables are read by `confuse.table(part)`."""
    for name, swapped in (("a", (4,)), ("b", ())):
        grey_level_model(call.folder / f"models/{name}.h5", swapped)

    def run(levels, labels, *options, model="b"):
        rows = [[row, *[36 * level] * 2303] for row, level in enumerate(levels)]  # no two are alike
        write_csv(call.folder / "f.csv", rows, label=labels)
        summary = call("plot_confusion", "--model", f"models/{model}.h5", "--data", "f.csv", *options)
        written = json.loads(next((call.folder / "figures").glob("*.json")).read_text())
        assert summary == written | {"figures": summary["figures"]}
        assert sorted(summary["figures"]) == sorted(map(str, (call.folder / "figures").glob("*.png")))
        return summary

    run.table = lambda name: pd.read_csv(call.folder / f"figures/{name}.csv")
    return run


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
def test_a_planted_confusion_comes_out_the_right_way_round(confuse, capsys):
    # three of four sad (4) faces look like fear (2); one of four happy (3) faces looks sad
    labels = [4, 4, 4, 4, 3, 3, 3, 3, 0, 1, 2, 5, 6]
    summary = confuse([2, 2, 2, 4, 3, 3, 3, 4, 0, 1, 2, 5, 6], labels)
    lines = [line for line in capsys.readouterr().out.splitlines() if " is taken for " in line]
    assert lines[0].startswith("Sad is taken for fear in 75 % of its images (3 of 4;")
    assert lines[1].startswith("Happy is taken for sad in 25 % of its images (1 of 4;") and len(lines) == 2
    cells = confuse.table("b_confusion_f").set_index(["true", "predicted"])
    assert cells.loc[("sad", "fear"), "faces"] == 3 and cells.loc[("fear", "sad"), "faces"] == 0
    assert 0 <= cells.loc[("sad", "fear"), "low"] < 0.75 < cells.loc[("sad", "fear"), "high"] <= 1
    classes = confuse.table("b_confusion_f_classes").set_index("class")
    assert (classes.loc["fear", "precision"], classes.loc["fear", "recall"]) == (0.25, 1)
    assert classes.loc["sad", "support"] == 4
    gallery = confuse.table("b_confusion_f_gallery")
    assert (gallery["true"] + ">" + gallery["predicted"]).tolist() == ["sad>fear"] * 3 + ["happy>sad"]
    assert sorted(gallery["row"][:3]) == [0, 1, 2] and gallery["row"][3] == 7
    assert confuse.table("b_confusion_f_reliability")["faces"].sum() == len(labels)
    assert summary["counts"][4][2] == 3 and summary["counts"][2][4] == 0


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
def test_comparing_two_models(confuse):
    summary = confuse([*range(7)] * 3, [*range(7)] * 3, "--compare", "models/b.h5", model="a")
    assert summary["comparison"]["text"] == (
        "A is right on 71.4 % of the faces and B on 100.0 %; 0 only A gets right, 6 only B: "
        "more than chance explains (McNemar's exact test, p = 0.031).")
    cells = confuse.table("a_confusion_f_vs_b_comparison").set_index(["true", "predicted"])["difference"]
    assert (cells["sad", "sad"], cells["sad", "surprise"], cells["happy", "happy"]) == (1, -1, 0)
    assert len(summary["figures"]) == 4


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
@pytest.mark.parametrize("labels", [[3], [0, 0, 5]])
def test_missing_classes_and_a_single_face_raise_no_warning(confuse, capsys, labels):
    confuse(labels, labels, "--compare", "models/a.h5", "--tta", "ten-crop")
    out = capsys.readouterr().out
    assert "No class is taken for another." in out and "p = 1)" in out
    cells = confuse.table("b_confusion_f_ten-crop_vs_a")
    assert cells[cells["true"] == "sad"]["share"].isna().all()  # no sad face: undefined, not zero


def test_without_options_it_takes_the_validation_split_of_the_card(call, capsys):
    model = grey_level_model(call.folder / "models/cnn.h5")
    _, _, split = data.load_split("sample", "0.1", 0, 150)
    files.write_json(models.card_path(model), {"split": split, "arguments": {"limit": 150}})
    call("plot_confusion", "--out-folder", "results")
    assert "the validation split of built-in sample" in capsys.readouterr().out
    ends = (".png", ".csv", ".json", "_classes.csv", "_gallery.png", "_gallery.csv", "_reliability.png",
            "_reliability.csv")
    assert call.files("results") == sorted(f"cnn_confusion_validation{end}" for end in ends)


def test_the_matrix_is_drawn_with_true_classes_down_and_predicted_across():
    counts = np.zeros((7, 7), np.int64)
    counts[4, 2] = 3
    figure, ax = plt.subplots()
    image = plot_confusion.draw_matrix(ax, counts.astype(float), map(str, counts.ravel()), "title")
    assert ax.get_ylabel() == "true class" and ax.get_xlabel() == "predicted class"
    marked = next(text for text in ax.texts if text.get_text() == "3")
    assert marked.get_position() == (2, 4)  # x: fear, y: sad
    assert image.get_array()[4, 2] == 3 and ax.get_ylim()[0] > ax.get_ylim()[1]  # angry on top
    assert [label.get_text() for label in ax.get_yticklabels()] == list(data.CLASSES)
    plt.close(figure)


def test_identical_faces_are_drawn_once():
    images = np.zeros((3, 48, 48), np.uint8)
    images[2] += 9
    faces = data.Faces(images, np.array([4, 4, 4]))
    pair = {"true": 4, "predicted": 2, "share": [1, 1, 1]}
    figure, table, _ = plot_confusion.draw_gallery(np.eye(7)[[2, 2, 2]], faces, [pair])
    assert table["row"].tolist() == [0, 2] and sum(len(ax.images) for ax in figure.axes) == 2


def test_file_names_say_model_data_and_settings(workspace):
    Path("x").mkdir()
    for path in ("models/a.h5", "models/b.h5", "x/test.csv.gz", "x/test_public_labels.csv", "fer2013.csv",
                 "votes.csv"):
        Path(path).touch()

    def name(*arguments):
        args = plot_confusion.parse_args(["--model", "models/a.h5", *arguments])
        paths = plot_confusion.output_paths(args, [path for path in (args.model, args.compare) if path])
        return paths[".png"].stem

    assert name() == "a_confusion_validation"
    assert name("--data", "x/test.csv.gz", "--labels", "x/test_public_labels.csv", "--tta", "flip") == (
        "a_confusion_test_public_labels_flip")
    assert name("--data", "fer2013.csv", "--usage", "PublicTest", "--compare", "models/b.h5") == (
        "a_confusion_fer2013_PublicTest_vs_b")
    assert name("--data", "fer2013.csv", "--labels", "votes.csv") == "a_confusion_fer2013_votes"


def test_no_interval_of_an_empty_cell_is_empty():
    labels = np.repeat(3, 895)
    cells = plot_confusion.cell_table("share", metrics.estimates(np.eye(7)[labels], labels)["share"])
    assert plot_confusion.cell_texts(cells)[3 * 7 + 1] == "0\n0–0.4"
    assert plot_confusion.cell_texts(cells.assign(share=0.1, low=-0.002, high=0.2), "+", " to ")[0] == (
        "+10\n-0.2 to +20")


def test_conclusions_follow_the_numbers():
    labels = np.arange(700) % 7
    faces = data.Faces(np.zeros((700, 48, 48), np.uint8), labels)
    sure = np.full((700, 7), 0.01) + 0.93 * np.eye(7)[(labels + (labels == 3)) % 7]  # happy taken for sad
    modest = np.full((700, 7), 0.1) + 0.3 * np.eye(7)[labels]
    for probabilities, reliability, gallery in (
            (sure, "The model is too sure: mean confidence minus accuracy is +8.3 points",
             "Of the 700 predictions with a probability of 90 % or more, 100 are wrong: 14.3 %"),
            (modest, "The model is not sure enough", "The model gives no class a probability of 90 %")):
        assert plot_confusion.draw_reliability(probabilities, labels, "8")[2].startswith(reliability)
        assert plot_confusion.draw_gallery(probabilities, faces, [])[2].startswith(gallery)
    plt.close("all")


def test_two_models_replicates_come_from_the_same_faces():
    labels = np.arange(70) % 7
    a, b = (metrics.bootstrap(np.eye(7)[(labels + off) % 7], labels, 5) for off in (0, 1))
    np.testing.assert_array_equal(a.sum(axis=2), b.sum(axis=2))


def test_mistakes_are_one_line(call, capsys):
    assert "does not exist" in call.error(capsys, "plot_confusion", "--model", "nowhere.h5")
    model = grey_level_model(call.folder / "models/m.h5")
    assert "has no model card" in call.error(capsys, "plot_confusion", "--model", model)
    write_csv(call.folder / "m_confusion_f.csv", np.zeros((2, 48, 48), int), label=[0, 1])
    (call.folder / "f.csv").symlink_to("m_confusion_f.csv")
    options = ("--model", model, "--data", "f.csv", "--out-folder", call.folder)
    assert "this command reads it" in call.error(capsys, "plot_confusion", *options)


@pytest.mark.parametrize(("share", "text"), [(0, "0"), (2 / 400, "0.5"), (0.004, "0.4"), (0.006, "1")])
def test_a_share_that_is_not_zero_is_not_written_as_zero(share, text):
    assert plot_confusion.whole_percent(share) == text
