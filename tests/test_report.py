"""The page: no number typed by hand, verdicts that follow the results; claims that continue; a whole run."""

import itertools
import json
import re
import string
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import report
from reporting import page, results, scripts
from reporting.findings import all_findings
from reporting.text import FORMS, LANGUAGES, ORIGINAL, WORDS, sentence
from tests import report_example
from tests.conftest import PROJECT, write_csv
from training.run import RunFiles
from utils import data, files
from utils.cli import UserError


def at(values, path):
    for part in path.split("."):
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def fields(text):
    return sorted((name, form) for _, name, form, _ in string.Formatter().parse(text) if name is not None)


def check_sentence(found, values):
    assert "{" not in found["text"] + found["original"]
    for path, value in found["values"].items():
        assert at(values, path) == value, path


def check_all(values):
    for language, part in itertools.product(LANGUAGES, all_findings(values)):
        for one in itertools.chain(*part.values()):
            check_sentence(sentence(one, values, language), values)


def test_every_word_has_both_languages_the_same_fields_and_no_number_of_its_own():
    for group, words in WORDS.items():
        for key, word in words.items():
            assert set(word) == set(LANGUAGES) and all(word.values()), (group, key)
            assert fields(word["en"]) == fields(word["zh-Hant"]), (group, key)
            for text in word.values() if group in ("sentences", "original", "captions") else ():
                outside = "".join(text for text, *_ in string.Formatter().parse(text))
                assert not re.search(r"\d", outside.replace("macro-F1", "")), (group, key)


@pytest.mark.parametrize(("form", "value", "text"), [
    ("pct", 0.56836, "56.8 %"), ("pct0", 0.555, "56 %"), ("size", 0.18109, "18.1"),
    ("ci", [0.5684, 0.5502, 0.5866], "56.8 % [55.0, 58.7]"), ("points", -0.0208, "\u22122.1"),
    ("points_ci", [0.0197, -0.0576, 0.0969], "+2.0 [\u22125.8, +9.7]"), ("points", -0.0004, "+0.0"),
    ("p", 0.0009, "p < 0.001"), ("p", 0.017, "p = 0.017")])
def test_a_number_is_rounded_as_its_form_says(form, value, text):
    assert FORMS[form](value).replace("\u00a0", " ") == text


def verdicts(values, of_answers=False):
    """{key: verdict} of the sections' findings, or of the answers to the questions."""
    answers, sections = all_findings(values)
    listed = itertools.chain(*(answers if of_answers else sections).values())
    return {one.key: one.verdict for one in listed}


def test_verdicts_on_the_example():
    example = report_example.results()
    check_all(example)
    found = verdicts(example)
    assert len(found) > 30 and {key: verdict for key, verdict in found.items() if verdict} == {
        "dnn_end": "open"} | dict.fromkeys(
        ("overfitting", "dnn_matched", "dnn_report", "saliency_centre", "saliency_kept", "saliency_random"),
        "holds") | dict.fromkeys(
        ("dnn_report_size", "best_class", "worst_class", "sad_for_fear", "fear_attracts", "largest_not_best",
         "smallest_not_bad", "saliency_ring", "saliency_edges"), "fails")
    tally = page.compose(example, {}, {}, "en")["results"]["tally"]  # 10 claims with several seeds
    assert tally == {"claims": 14 + 10, "with_seeds": 10, "holds": 5 + 4, "fails": 8 + 3, "open": 1 + 3}


@pytest.mark.parametrize(("changes", "key", "verdict"), [
    ({"confusion.recall.surprise": [0.95, 0.92, 0.97]}, "best_class_same", "holds"),
    ({"confusion.recall.happy": [0.72, 0.66, 0.75]}, "best_class", "open"),
    ({"confusion.recall.sad": [0.05, 0.03, 0.08]}, "worst_class_same", "holds"),
    ({"confusion.sad_as.fear": [0.37, 0.3, 0.4]}, "sad_for_fear_same", "holds"),
    ({"confusion.attracts.class": "fear", "confusion.wrong_predictions.fear": 400}, "fear_attracts_same",
     "holds"),
    ({"confusion.wrong_predictions.fear": 290}, "fear_attracts", "open"),
    ({"confusion.recall.sad": [0.95, 0.9, 0.97]}, "largest_not_best", "holds"),
    ({"confusion.smallest_class.recall": [0.6, 0.5, 0.7]}, "smallest_not_bad", "holds"),
    ({"models.oversampled.against_cnn.p": 0.001}, "oversampling", None),  # the claims judge it
    ({"models.oversampled.against_cnn.p": 0.001, "claims": None}, "oversampling", "holds"),
    ({"claims": None, "models.oversampled.against_cnn.p": 0.001,
      "models.oversampled.against_cnn.difference": -0.03}, "oversampling", "fails"),
    ({"models.cnn.end.gap": -0.01}, "overfitting", "fails"),
    ({"saliency.image.blank": True}, "saliency_image_blank", None),
    ({"models.cnn.lowest_loss.epoch": 10}, "overfitting", "open"),
    ({"models.report_dnn.share_of_cnn": 0.97}, "dnn_report_size", "holds"),
    ({"models.dnn.share_of_cnn": 0.9}, "dnn_size_differs", None),
    ({"models.dnn.share_of_cnn": 0.9}, "dnn_matched", "open"),
    ({"models.dnn.end.gap": -0.015}, "dnn_underfits", None),
    ({"saliency.image.p_whole": 0.29}, "saliency_image_rises", None),
    ({"sweep.confirmed.difference": [0.02, 0.01, 0.03]}, "sweep_helps", None),
    ({"sweep.confirmed": None}, "sweep_best", None),
    ({"models.cnn.keep": "last"}, "evaluated_on_split", None),
    ({"evaluated.on_other_data": True}, "evaluated_on_other_data", None),
    ({"models.report_dnn.end.val_accuracy": 0.2}, "dnn_end", "holds"),
    ({"models.report_dnn.best.val_accuracy": 0.2658}, "dnn_end", "fails"),
    ({"saliency.ring_to_centre": [0.05, 0.04, 0.06]}, "saliency_ring", "holds"),
    ({"saliency.centre": [0.2, 0.19, 0.21]}, "saliency_centre", "fails"),
    ({"saliency.kept_above_controls": [-0.1, -0.2, -0.05]}, "saliency_kept", "fails"),
    ({"sweep": None, "claims": None}, "sweep_none", None),
])
def test_a_verdict_follows_the_results(changes, key, verdict):
    example = json.loads(json.dumps(report_example.results()))
    for path, value in changes.items():
        *parents, last = path.split(".")
        (at(example, ".".join(parents)) if parents else example)[last] = value
    found = verdicts(example)
    assert key in found and found[key] == verdict
    check_all(example)


def test_each_question_has_one_answer_with_the_verdict_of_its_claim():
    example = report_example.results()
    assert verdicts(example, of_answers=True) == {
        "answer_cnn": None, "answer_cnn_fit": "holds", "answer_dnn": "holds", "dnn_fit": None,
        "dnn_flattens": None, "answer_confusion": "fails", "answer_saliency": "holds",
        "saliency_random": "holds", "saliency_edges": "fails", "filters_stripes": None,
        "filters_images": None, "filters_others": None, "filters_deeper": None}
    example["confusion"] |= {"pairs": [], "sad_as": {}}
    example["filters"] = []
    found = verdicts(example, of_answers=True)
    assert found["answer_confusion_none"] is None and "answer_filters_none" in found
    check_all(example)


def test_drawn_faces_give_no_verdict():
    example = report_example.results()
    example["data"]["is_sample"] = True
    assert "data_is_drawn" in verdicts(example)
    assert {*verdicts(example).values(), *verdicts(example, of_answers=True).values()} == {None}
    assert page.compose(example, {}, {}, "en")["results"]["tally"]["claims"] == 0


def test_to_hand_in_the_original_report_is_left_out_and_the_author_named(tmp_path):
    example = report_example.results() | {"original": None}
    del example["models"]["report_dnn"]
    check_all(example)
    contents = page.compose(example, {}, {}, "en")
    assert contents["results"]["tally"]["claims"] == 0 and "claims" not in contents["sections"]
    head = {"author": "Wang & Co", "student_id": "b04901001"}
    html = page.render(contents | head, report_example.drawings())
    assert "Author: Wang &amp; Co" in html and "Student ID: b04901001" in html
    text = re.sub("<script.*|<style.*?</style>", "", html, flags=re.DOTALL)
    assert not re.search("original report|class=.verdict", text, re.IGNORECASE)


def test_the_caption_of_a_figure_tells_what_is_in_it():
    stem = "cnn_filters_conv3_relu_train_index-15_patches-5"
    paths = {"filters": [f"{stem}.png", f"{stem}_all.png"], "dnn": ["dnn_comparison.png"]}
    drawn = page.compose(report_example.results(), dict.fromkeys(paths, ""), paths, "en")["figures"]
    (filters, every), (comparison,) = drawn["filters"], drawn["dnn"]
    assert filters["label"].startswith("Layer conv3_relu: for each filter the image found by gradient ascent")
    assert every["label"].startswith("Layer conv3_relu: the figure above") and "CNN" in comparison["label"]


@pytest.fixture
def released(workspace):
    """The files of a copy of a released model's card and history, and the card."""
    run = RunFiles("network")
    run.history.write_text((PROJECT / "models" / "fer2013-report-cnn_history.csv").read_text())
    run.card.write_text((PROJECT / "models" / "fer2013-report-cnn.json").read_text())
    return run, json.loads(run.card.read_text())


def test_only_faces_that_were_not_trained_or_chosen_on_are_a_test(released):
    run, card = released
    network = results.read_network(run)
    assert network["parameters"] == 6_615_495 and network["end"]["epoch"] == 10
    assert network["test"]["rows"] == 3589
    assert network["best"]["val_accuracy"] == card["metrics"]["validation_accuracy"]  # of the stored file
    entry = next(iter(card["evaluations"].values()))
    card["split"] |= {"data": "fer2013.csv", "validation": "PublicTest"}
    names = ("the validation split of fer2013.csv", "fer2013.csv", "fer2013.csv Training",
             "fer2013.csv PublicTest", "fer2013.csv PrivateTest")
    run.card.write_text(json.dumps(card | {"evaluations": {name: entry | {"data": name} for name in names}}))
    assert results.read_network(run)["test"]["data"] == "fer2013.csv PrivateTest"


@pytest.mark.parametrize("part", ["command", "metrics.training_accuracy", "split.data", "arguments.keep"])
def test_a_card_that_lacks_a_value_is_one_line(released, part):
    run, card = released
    *above, last = part.split(".")
    del (card[above[0]] if above else card)[last]
    run.card.write_text(json.dumps(card))
    with pytest.raises(UserError, match=f"network.json: {last} is missing; expected"):
        results.read_network(run)


@pytest.mark.parametrize("text", ["", "epoch,accuracy\n1,0.5\n", "{}", "{}1,1,0.5,1,x\n", "{}1,1,0.5,1,\n"])
def test_a_damaged_history_is_one_line(released, text):
    released[0].history.write_text(text.format("epoch,loss,accuracy,val_loss,val_accuracy\n"))
    with pytest.raises(UserError, match=r"network_history\.csv lacks"):
        results.read_network(released[0])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_escapes_what_comes_from_outside(tmp_path, language):
    html = report_example.html(tmp_path, language)
    assert "<a&b>" not in html and "&lt;a&amp;b&gt;" in html and "A &lt;figure&gt; &amp; its label" in html
    for text in (*WORDS["verdicts"].values(), ORIGINAL["claims"]["l2"], WORDS["labels"]["sweep"]):
        assert text[language] in html


@pytest.mark.parametrize(("arguments", "problem"), [
    (["--test-labels", "file"], "belongs to a --test"), (["--out-folder", "file"], "file"),
    (["--models", "released"], "fer2013-report-cnn.h5 is missing"),
    (["--data", "nowhere.csv"], "nowhere.csv does not exist"), ([], "claims.json is of an earlier version"),
])
def test_bad_options_are_one_line(call, capsys, arguments, problem):
    Path("file").write_text("")
    Path("models/claims.json").write_text('{"claims": [{"key": "dropout_low"}]}')
    assert problem in call.error(capsys, "report", *arguments)


def test_a_script_leaves_the_process_as_it_was(workspace, monkeypatch):
    def main(argv):
        files.inputs.append("x")
        keras.config.set_dtype_policy("mixed_bfloat16")
        return argv, Path(sys.argv[0]).name, sys.argv[1:]

    monkeypatch.setitem(sys.modules, "train_cnn", SimpleNamespace(main=main))
    before, options = (list(files.inputs), list(sys.argv)), ["--seed", "1"]
    assert scripts.run_script(["train_cnn.py", *options]) == (options, "train_cnn.py", options)
    assert (files.inputs, sys.argv) == before and keras.config.dtype_policy().name == "float32"


def test_missing_networks_are_trained_with_the_options_given(workspace, monkeypatch):
    commands = []

    def train(command, quiet):
        commands.append(" ".join(command))
        files.write_json(RunFiles(command[command.index("--name") + 1], options.out_folder).card, {
            "split": {"data": "faces.csv", "fingerprint": "0", "validation": "PublicTest", "seed": 3},
            "arguments": {"limit": 100, "labels_from": "votes.csv"}})

    monkeypatch.setattr(report, "run_script", train)
    for path in RunFiles("dnn").results:
        path.touch()
    options = SimpleNamespace(models="own", data=Path("sample"), limit=120, epochs=None, no_original=False,
                              out_folder=None)
    runs = report.find_networks(options)
    # or they could not be compared
    like_cnn = "--seed 3 --validation PublicTest --limit 100 --labels-from votes.csv"
    assert commands == ["train_cnn.py --name cnn --data sample --limit 120",
                        f"train_cnn.py --oversample --name cnn-oversampled {like_cnn} --data sample",
                        f"train_dnn.py --network report --name dnn-report {like_cnn} --data sample"]
    RunFiles("cnn").model.touch()
    RunFiles("cnn-oversampled").card.unlink()
    commands.clear()
    options.data = None
    Path("faces.csv").touch()
    report.find_networks(options)
    assert commands == [f"train_cnn.py --oversample --name cnn-oversampled {like_cnn} --data faces.csv",
                        f"train_dnn.py --network report --name dnn-report {like_cnn} --data faces.csv"]
    Path("faces.csv").unlink()  # as where the CNN comes from another machine: the default
    commands.clear()
    report.find_networks(options)
    assert all("--data" not in command for command in commands) and len(commands) == 2
    RunFiles("cnn").model.unlink()
    commands.clear()
    options.no_original = True
    assert report.find_networks(options).keys() == {"cnn", "oversampled", "dnn"}
    assert len(commands) == 2 and {run.model.parent for run in runs.values()} == {files.MODELS}
    commands.clear()
    options.out_folder = Path("elsewhere")
    runs = report.find_networks(options)
    assert [command.split()[-2:] for command in commands] == 2 * [["--out-folder", "elsewhere"]]
    assert runs["dnn"].model == files.MODELS / "dnn.h5" and runs["cnn"].model == Path("elsewhere/cnn.h5")
    assert report.earlier_results(options, "sweep") is None
    for folder in (files.MODELS, Path("elsewhere")):  # the second comes first
        files.write_json(folder / "sweep.json", {"folder": str(folder)})
        assert report.earlier_results(options, "sweep") == {"folder": str(folder)}


def test_the_whole_page_says_what_was_measured_and_has_every_figure(call, monkeypatch):
    for path in (PROJECT / "models").glob("fer2013-*"):
        (call.folder / "models" / path.name).symlink_to(path)
    faces = data.load_faces("sample").take(slice(0, 140))
    write_csv(call.folder / "faces.csv", faces.images, label=faces.labels)
    monkeypatch.setattr(report, "run_script", lambda command: scripts.run_script(
        command + ["--steps", "2"] * (command[0] == "filter_vis.py")))
    contents = call("report", "--models", "released", "--data", "faces.csv", "--limit", "60",
                    "--out-folder", "pages")
    pages, measured = call.folder / "pages", contents["results"]
    assert json.loads((pages / "report.json").read_text()) == contents
    for one in itertools.chain(*contents["sections"].values()):
        check_sentence(one, measured)
    counts = np.array(measured["confusion"]["counts"])
    assert counts.sum() == measured["evaluated"]["rows"] == measured["data"]["faces"] == 140
    assert measured["models"]["cnn"]["evaluated"][0] == pytest.approx(np.trace(counts) / 140, abs=1e-5)
    assert measured["tally"]["claims"] >= 10

    drawn = [figure for section in report_example.SECTIONS for figure in contents["figures"][section]]
    assert all(contents["figures"][section] for section in report_example.SECTIONS) and len(drawn) >= 12
    assert {Path(figure["path"]) for figure in drawn} == {*Path("pages/report").glob("*.png")}
    assert not call.files()  # where the user's own figures are
    assert {path.name for path in pages.iterdir()} == {"report", "report.html", "report.json"}
    html = (pages / "report.html").read_text()
    assert html.count('class="enlarge"') == sum(map(len, contents["figures"].values()))
    shown = [len(re.findall('class="filter"', grid)) for grid in html.split("<h3>conv")[1:]]
    assert sum(shown) == sum(layer["in_figure"] for layer in measured["filters"]) > 16
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html) and "url(h" not in html
