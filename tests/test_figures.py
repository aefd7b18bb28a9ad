"""The figures of the training scripts: skips are arrows, the text can be read, the conclusion is computed."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from training import figures, networks
from utils import data, files, structure
from utils.figures import add_conclusion, faces_name, plt, save_figure


def history(val_loss, val_accuracy=(0.4, 0.5, 0.45)):
    return pd.DataFrame({"epoch": [1, 2, 3], "loss": [2, 1, 0.5], "accuracy": [0.3, 0.5, 0.8],
                         "val_loss": val_loss, "val_accuracy": val_accuracy})


@pytest.fixture(scope="module")
def compact():
    return structure.flat_copy(networks.compact_cnn())


def test_skip_connections_are_found(compact):
    rows = figures.layer_rows(compact)
    assert {layer.name for row in rows for layer in row} == {layer.name for layer in compact.layers}
    names = [row[0].name for row in rows]
    row_of = {layer.name: i for i, row in enumerate(rows) for layer in row}
    edges = {(names[row_of[source]], row[0].name) for row in rows for layer in row
             for source in figures.producers(layer) if row_of[source] != row_of[layer.name]}
    assert {(f"stage{i}_conv1", f"stage{i}_add") for i in (1, 2, 3)} < edges
    assert {("average", "pooled"), ("maximum", "pooled"), ("stage3_add", "maximum")} < edges


def test_every_text_can_be_read_in_a_column(compact, call, tmp_path):  # call checks what is saved
    figures.draw_architecture(compact, tmp_path / "deep.png")
    figures.draw_architecture(structure.flat_copy(networks.report_dnn()), tmp_path / "plain.png")
    figures.draw_curves({"a": history([2, 1, 1.5])}, tmp_path / "curves.png",
                        {"saved_epoch": 2, "metrics": {"validation_accuracy": 0.5}})
    figures.draw_curves({"CNN": history([2, 1, 1.5]), "DNN": history([2, 1, 1])}, tmp_path / "both.png")
    assert len(list(tmp_path.glob("*.png"))) == 4


@pytest.mark.parametrize(("val_loss", "ending"), [
    ([2, 1, 1.5], "lowest after epoch 2, then rises by 50 %: the network overfits."),
    ([2, 1, 1.01], "lowest after epoch 2, then levels off."),
    ([2, 1, 0.9], "lowest at the end: more epochs may help.")])
def test_the_curves_are_concluded_from_their_numbers(val_loss, ending):
    text = figures.conclude_curves({"a": history(val_loss)})
    assert text.startswith("Validation accuracy is highest after epoch 2 of 3; at the end it is 35.0 points")
    assert text.endswith(ending)


def test_curves_without_validation_or_of_two_runs_are_concluded():
    nothing = [float("nan")] * 3
    assert "Without validation faces" in figures.conclude_curves({"a": history(nothing, nothing)})
    both = {"CNN": history([2, 1, 1.5]), "DNN": history([2, 1, 1], (0.1, 0.2, 0.3))}
    assert figures.conclude_curves(both) == "Highest validation accuracy: CNN 50.0 %, DNN 30.0 %."
    stored = {"CNN": 0.5004, "DNN": 0.301}  # what the files reach, as in their model cards
    assert figures.conclude_curves(both, stored) == "Highest validation accuracy: CNN 50.0 %, DNN 30.1 %."


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_epochs_are_whole_numbers(epochs):
    _, ax = plt.subplots()
    figures.plot_curves(ax, {"a": history(np.ones(3))[:epochs]}, "loss", ("training", "validation"))
    ticks = ax.get_xticks()
    assert len(ticks) and all(tick == round(tick) for tick in ticks)
    plt.close()


def test_a_caption_is_as_wide_as_the_figure_and_tears_no_number_apart():
    text = "It is right on 56.8 % of the faces, 95 % interval 55.0 to 58.6 %, or 0.16 [0.10, 0.22] above. "
    for words in range(12):  # which move the numbers to every place of a line
        figure = plt.figure(figsize=(6.7, 1))
        add_conclusion(figure, "word " * words + 4 * text)
        caption = figure.texts[0]
        lines = caption.get_text().split("\n")
        assert 0.8 < caption.get_window_extent().width / figure.bbox.width <= 0.98 and len(lines) > 2
        assert not any(re.match(r"%|to |[\d.]+\]|58.6", line) for line in lines)
        assert " ".join(lines).replace("\xa0", " ") == ("word " * words + 4 * text).strip()
        plt.close(figure)


def test_minus_signs_are_typeset_and_hyphens_stay(tmp_path):
    figure, ax = plt.subplots()
    texts = {"-2 to +3": "\u22122 to +3", "index-15": "index-15", "[-0.1, 5]": "[\u22120.1, 5]",
             "4.7e-78": "4.7e-78"}
    drawn = {ax.text(0, 0, text): wanted for text, wanted in texts.items()}
    save_figure(figure, tmp_path / "figure.png")
    assert all(text.get_text() == wanted for text, wanted in drawn.items())


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_figures_are_vectors_too_where_that_is_asked_for(call, capsys, suffix, start):
    options = ("--data", "sample", "--limit", 70, "--epochs", 1, "--network", "report")
    call("train_dnn", *options, "--vector", suffix)
    out = capsys.readouterr().out
    for name in ("dnn_curves", "dnn_architecture"):
        path = call.folder / f"figures/{name}.{suffix}"
        assert path.read_bytes().startswith(start) and f"Wrote figures/{name}.{suffix}\n" in out
        with Image.open(path.with_suffix(".png")) as image:
            assert image.format == "PNG"
    first = path.read_bytes()
    call("train_dnn", *options, "--vector", suffix)
    assert path.read_bytes() == first  # equal figures are equal files
    assert files.figure_suffixes == [".png", f".{suffix}"]


@pytest.mark.parametrize(("source", "expected"), [
    ("the validation split of some folder/train.csv.gz", "9 faces of the validation split of train.csv"),
    ("data/fer2013.csv PublicTest", "9 faces of fer2013.csv PublicTest"),
    ("built-in sample", "9 faces of built-in sample")])
def test_titles_name_no_folder(source, expected):
    faces = data.Faces(np.zeros((9, 48, 48), np.uint8), source=source)
    assert faces_name(faces) == expected
    assert faces_name(faces, "flip") == f"{expected}, flip test-time augmentation"
