"""The figures of the training scripts: skips are arrows, the text can be read, the conclusion is computed."""

import pandas as pd
import pytest

from training import figures, networks
from utils import structure


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
