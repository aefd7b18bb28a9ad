"""plot_confusion.py: a planted confusion comes out the right way round; figures and CSVs end to end."""

import csv
import json
import warnings

import numpy as np
import pytest

import plot_confusion
from tests.conftest import write_csv
from tests.legible import text_sizes
from tests.small_models import grey_level_model
from utils import cli, data, files, metrics, models


def faces_csv(path, levels, labels):
    """A labelled CSV of even faces, grey 36 times `levels`; the first pixel is the row: no two are alike."""
    return write_csv(path, [[row, *[36 * level] * 2303] for row, level in enumerate(levels)], label=labels)


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Call the script's main, with NumPy's and matplotlib's warnings as errors. Returns what it printed."""
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")

    def run(*arguments, out="c.png"):
        with warnings.catch_warnings():
            for category in (RuntimeWarning, UserWarning):
                warnings.simplefilter("error", category)
            report = plot_confusion.main([*map(str, arguments), "--out", str(tmp_path / out)])
        assert report == json.loads((tmp_path / out).with_suffix(".json").read_text())
        return capsys.readouterr().out

    return run


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_planted_confusion_comes_out_the_right_way_round(tmp_path, call):
    # three of four sad (4) faces look like fear (2); one of four happy (3) faces looks sad
    labels = [4, 4, 4, 4, 3, 3, 3, 3, 0, 1, 2, 5, 6]
    levels = [2, 2, 2, 4, 3, 3, 3, 4, 0, 1, 2, 5, 6]
    source = faces_csv(tmp_path / "f.csv", levels, labels)
    out = call("--model", grey_level_model(tmp_path / "m.h5"), "--data", source)
    lines = [line for line in out.splitlines() if " is taken for " in line]
    assert lines[0].startswith("Sad is taken for fear in 75 % of its images (3 of 4;")
    assert lines[1].startswith("Happy is taken for sad in 25 % of its images (1 of 4;") and len(lines) == 2
    cells = {(row["true"], row["predicted"]): row for row in rows_of(tmp_path / "c.csv")}
    assert cells["sad", "fear"]["faces"] == "3" and float(cells["sad", "fear"]["share"]) == 0.75
    assert cells["fear", "sad"]["faces"] == "0"
    assert 0 <= float(cells["sad", "fear"]["low"]) < 0.75 < float(cells["sad", "fear"]["high"]) <= 1
    classes = {row["class"]: row for row in rows_of(tmp_path / "c_classes.csv")}
    assert float(classes["fear"]["precision"]) == 0.25 and float(classes["fear"]["recall"]) == 1
    assert classes["sad"]["support"] == "4"
    gallery = rows_of(tmp_path / "c_gallery.csv")
    assert [(row["true"], row["predicted"]) for row in gallery] == [("sad", "fear")] * 3 + [("happy", "sad")]
    assert sorted(row["row"] for row in gallery[:3]) == ["0", "1", "2"] and gallery[3]["row"] == "7"
    bins = rows_of(tmp_path / "c_reliability.csv")
    assert sum(int(row["faces"]) for row in bins) == len(labels)
    report = json.loads((tmp_path / "c.json").read_text())
    assert report["counts"][4][2] == 3 and report["counts"][2][4] == 0
    for name in ("c", "c_reliability", "c_gallery"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_matrix_is_drawn_with_true_classes_down_and_predicted_across():
    from utils.figures import plt

    counts = np.zeros((7, 7), np.int64)
    counts[4, 2] = 3
    figure, ax = plt.subplots()
    texts = [str(count) for count in counts.ravel()]
    image = plot_confusion.draw_matrix(ax, counts.astype(float), texts, "title")
    assert ax.get_ylabel() == "true class" and ax.get_xlabel() == "predicted class"
    marked = next(text for text in ax.texts if text.get_text() == "3")
    assert marked.get_position() == (2, 4)  # x: fear, y: sad
    assert image.get_array()[4, 2] == 3 and ax.get_ylim()[0] > ax.get_ylim()[1]  # angry on top
    assert [label.get_text() for label in ax.get_yticklabels()] == list(data.CLASSES)
    plt.close(figure)


def test_the_comparison_counts_the_faces_that_only_one_model_gets_right():
    labels = np.zeros(12, np.int64)
    right, wrong = np.eye(7)[0], np.eye(7)[1]
    first = np.array([right] * 1 + [wrong] * 7 + [right] * 4)
    second = np.array([wrong] * 1 + [right] * 7 + [right] * 4)
    comparison = plot_confusion.compare(["a", "b"], [first, second], labels)
    # 1 against 7 of 8 discordant faces: 2 (C(8,0) + C(8,1)) / 2^8
    assert comparison["p"] == pytest.approx(2 * (1 + 8) / 256)
    assert (comparison["only_first_right"], comparison["only_second_right"]) == (1, 7)
    assert "no more than chance" in comparison["text"]


def test_comparing_two_models(tmp_path, call):
    levels = labels = list(range(7)) * 3
    source = faces_csv(tmp_path / "f.csv", levels, labels)
    a, b = grey_level_model(tmp_path / "a.h5", swapped=(4,)), grey_level_model(tmp_path / "b.h5")
    out = call("--model", a, "--compare", b, "--data", source)
    assert "6 only b: more than chance explains (McNemar's exact test, p = 0.031)" in out
    rows = rows_of(tmp_path / "c_comparison.csv")
    cells = {(row["true"], row["predicted"]): float(row["difference"]) for row in rows}
    assert cells["sad", "sad"] == 1 and cells["sad", "surprise"] == -1 and cells["happy", "happy"] == 0
    assert (tmp_path / "c_comparison.png").exists()


@pytest.mark.parametrize("labels", [[3], [0, 0, 5]])
def test_missing_classes_and_a_single_face_raise_no_warning(tmp_path, call, labels):
    source = faces_csv(tmp_path / "f.csv", labels, labels)
    m, n = grey_level_model(tmp_path / "m.h5"), grey_level_model(tmp_path / "n.h5", swapped=(2,))
    out = call("--model", m, "--compare", n, "--data", source, "--tta", "ten-crop")
    assert "No class is taken for another." in out and "p = 1)" in out
    shares = {row["share"] for row in rows_of(tmp_path / "c.csv") if row["true"] == "sad"}
    assert shares == {""}  # no sad face: undefined, not zero


def test_identical_faces_are_drawn_once():
    images = np.zeros((3, 48, 48), np.uint8)
    images[2] += 9
    faces = data.Faces(images, np.array([4, 4, 4]))
    pair = {"true": 4, "predicted": 2, "share": [1, 1, 1]}
    figure, table = plot_confusion.draw_gallery(np.eye(7)[[2, 2, 2]], faces, [pair], "m")
    assert table["row"].tolist() == [0, 2] and sum(len(ax.images) for ax in figure.axes) == 2


def test_file_names_say_model_data_and_settings():
    def name(*arguments):
        args = plot_confusion.parse_args(["--model", "models/a.h5", *arguments])
        return plot_confusion.default_output([args.model], args).name

    assert name() == "a_confusion_validation.png"
    assert name("--data", "x/test.csv.gz", "--labels", "x/test_public_labels.csv", "--tta", "flip") == (
        "a_confusion_test_public_labels_flip.png")
    assert name("--data", "fer2013.csv", "--usage", "PublicTest", "--compare", "models/b.h5") == (
        "a_confusion_fer2013_PublicTest_vs_b.png")
    assert name("--data", "fer2013.csv", "--labels", "votes.csv") == "a_confusion_fer2013_votes.png"


def test_no_interval_of_an_empty_cell_is_empty():
    labels = np.repeat(3, 895)
    cells = plot_confusion.cell_table("share", metrics.estimates(np.eye(7)[labels], labels)["share"])
    texts = plot_confusion.cell_texts(cells)
    assert texts[3 * 7 + 1] == "0\n0–0.4"
    assert plot_confusion.cell_texts(cells.assign(share=0.1, low=-0.002, high=0.2), "+", " to ")[0] == (
        "+10\n-0.2 to +20")


def test_conclusions_follow_the_numbers():
    labels = np.arange(700) % 7
    sure = np.full((700, 7), 0.01) + 0.93 * np.eye(7)[(labels + (labels == 3)) % 7]  # happy taken for sad
    assert plot_confusion.conclude_reliability(sure, labels, "8").startswith("The model is too sure")
    assert "mean confidence minus accuracy is +8.3 points" in (
        plot_confusion.conclude_reliability(sure, labels, "8"))
    assert plot_confusion.conclude_gallery(sure, labels).startswith(
        "Of the 700 predictions with a probability of 90 % or more, 100 are wrong: 14.3 %")
    modest = np.full((700, 7), 0.1) + 0.3 * np.eye(7)[labels]
    text = plot_confusion.conclude_reliability(modest, labels, "60")
    assert text.startswith("The model is not sure enough")
    assert "no class a probability of 90 %" in plot_confusion.conclude_gallery(modest, labels)


def test_every_text_can_be_read_in_a_column(tmp_path, call, monkeypatch):
    sizes = text_sizes(monkeypatch)
    source = faces_csv(tmp_path / "f.csv", [2, 2, 2, 4, 3, 3, 4, 0, 1], [4, 4, 4, 4, 3, 3, 3, 0, 1])
    a, b = grey_level_model(tmp_path / "a.h5"), grey_level_model(tmp_path / "b.h5", swapped=(2,))
    call("--model", a, "--compare", b, "--data", source)
    assert len(sizes) == 4 and min(sizes.values()) >= 7


def test_two_models_replicates_come_from_the_same_faces():
    labels = np.arange(70) % 7
    a, b = (metrics.bootstrap(np.eye(7)[(labels + off) % 7], labels, 5)[0] for off in (0, 1))
    np.testing.assert_array_equal(a.sum(axis=2), b.sum(axis=2))


def test_mistakes_are_one_line(tmp_path, call):
    with pytest.raises(cli.UserError, match="does not exist"):
        call("--model", tmp_path / "nowhere.h5")
    with pytest.raises(cli.UserError, match="has no model card"):
        call("--model", grey_level_model(tmp_path / "m.h5"))
    assert not list(tmp_path.glob("c*.png"))


@pytest.mark.parametrize("part", [".csv", "_reliability.csv", "_gallery.csv", "_classes.csv", ".json",
                                  "_gallery.png"])
def test_no_output_replaces_another_kind_of_file(tmp_path, call, part):
    source, model = faces_csv(tmp_path / "f.csv", [0, 1], [0, 1]), grey_level_model(tmp_path / "m.h5")
    (tmp_path / f"c{part}").write_text("name,mark\nAda,1\n")
    with pytest.raises(cli.UserError, match=f"c{part} exists and is not"):
        call("--model", model, "--data", source)
    assert [path.name for path in tmp_path.glob("c*") if path.name != "cache"] == [f"c{part}"]


def test_no_output_replaces_the_data_or_a_model_card(tmp_path, call):
    source, model = faces_csv(tmp_path / "f.csv", [0, 1], [0, 1]), grey_level_model(tmp_path / "m.h5")
    files.write_json(tmp_path / "m.json", {"network": "report", "arguments": {}})
    for out, victim, problem in (("f.png", "f.csv", "is read by"), ("m.png", "m.json", "exists and is not")):
        before = (tmp_path / victim).read_bytes()
        with pytest.raises(cli.UserError, match=f"{victim} {problem}"):
            call("--model", model, "--data", source, out=out)
        assert (tmp_path / victim).read_bytes() == before and not (tmp_path / out).exists()


def test_as_a_user_runs_it(workspace, capsys):
    model = grey_level_model(workspace / "models" / "cnn.h5")
    _, _, split = data.load_split("sample", "0.1", 0, 150)
    files.write_json(models.card_path(model), {"split": split, "arguments": {"limit": 150}})
    plot_confusion.main([])
    assert "the validation split of built-in sample" in capsys.readouterr().out
    ends = (".png", ".csv", ".json", "_classes.csv", "_gallery.png", "_gallery.csv", "_reliability.png",
            "_reliability.csv")
    written = {path.name for path in (workspace / "figures").iterdir()}
    assert written == {f"cnn_confusion_validation{end}" for end in ends}
