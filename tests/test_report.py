"""The report: no number typed by hand, verdicts that follow the results, claims that continue, one run from
end to end."""

import contextlib
import copy
import itertools
import json
import re
import string
import sys
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import report
from reporting import claims, page, results, scripts
from reporting.findings import all_findings, answers, tally
from reporting.text import LANGUAGES, ORIGINAL, WORDS, label, sentence
from tests import report_example
from tests.conftest import PROJECT, write_csv
from utils import cli, data, metrics, models
from utils.cli import UserError

NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
NAMES = re.compile(r"macro-F1|\w*conv\d\w*|[\w./-]*fer2013[\w./-]*")  # digits that are part of a name


def numbers(text):
    """The numbers of a text as (value, places behind the point)."""
    for found in NUMBER.findall(NAMES.sub("", text)):
        plain = found.replace(",", "").replace("\u2212", "-")
        if plain.rstrip("-+"):
            yield float(plain), len(plain.partition(".")[2].partition("e")[0]), "e" in plain


def flat(value):
    """Every number of a JSON value."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from flat(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def at(results, path):
    for part in path.split("."):
        results = results[int(part)] if isinstance(results, list) else results[part]
    return results


def check_numbers(sentence, results):
    """Each number of a sentence is a result that it names, as it is or in per cent, rounded as it is
    written."""
    for path, value in sentence["values"].items():
        assert at(results, path) == value, path
    known = [v * factor for v in flat(sentence["values"]) for factor in (1, 100)]
    # a name that is filled in (a path, a machine) may hold digits of its own
    names = [value for value in sentence["values"].values() if isinstance(value, str)]
    text = sentence["text"] + sentence["original"]
    for name in names:
        text = text.replace(name, "")
    for bound in re.findall("p\u00a0<\u00a0([\\d.]+)", text):
        assert any(path.endswith(".p") and value < float(bound)
                   for path, value in sentence["values"].items()), text
        text = text.replace(f"p\u00a0<\u00a0{bound}", "")
    for number, places, is_power in numbers(text):
        near = 0.05 * abs(number) if is_power else 0.5000001 * 10 ** -places
        assert any(abs(number - v) <= near for v in known), f"{number} in {sentence['text']!r}"


# ---- words -------------------------------------------------------------------------------------------------


def fields(text):
    return sorted((name, form) for _, name, form, _ in string.Formatter().parse(text) if name is not None)


def test_every_word_exists_in_both_languages_with_the_same_fields():
    for group, words in WORDS.items():
        for key, word in words.items():
            assert set(word) == set(LANGUAGES), (group, key)
            assert all(word.values()), (group, key)
            assert fields(word["en"]) == fields(word["zh-Hant"]), (group, key)


def test_no_sentence_holds_a_number_of_its_own():
    for key, words in [*WORDS["sentences"].items(), *WORDS["original"].items()]:
        for language in LANGUAGES:
            outside = "".join(text for text, *_ in string.Formatter().parse(words[language]))
            assert not re.search(r"\d", outside.replace("macro-F1", "")), (key, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_in_the_sentences_is_a_result(language):
    results = report_example.results()
    listed = [*all_findings(results).values(), answers(results, all_findings(results)).values()]
    written = [sentence(one, results, language) for one in itertools.chain(*listed)]
    assert len(written) > 30
    for one in written:
        check_numbers(one, results)


def test_a_wrong_number_would_be_found():
    results = report_example.results()
    written = sentence(all_findings(results)["confusion"][0], results, "en")
    with pytest.raises(AssertionError):
        check_numbers(written | {"text": written["text"].replace("56.8", "57.8")}, results)


# ---- verdicts ----------------------------------------------------------------------------------------------


def verdicts(results):
    return {one.key: one.verdict for listed in all_findings(results).values() for one in listed}


def test_verdicts_on_the_example():
    found = verdicts(report_example.results())
    for key in ("overfitting", "dnn_matched", "dnn_report", "saliency_centre", "dnn_size"):
        assert found[key] == "holds", key
    assert found["oversampling"] == "open"
    for key in ("best_class", "worst_class", "sad_for_fear", "fear_attracts", "largest_not_best",
                "smallest_not_bad", "saliency_ring"):
        assert found[key] == "fails", key
    counted = tally(all_findings(report_example.results()))
    assert counted == {"claims": 15, "holds": 6, "fails": 7, "open": 2}
    assert counted["claims"] == sum(map(bool, found.values()))


@pytest.mark.parametrize(("changes", "key", "verdict"), [
    ({"confusion.best.class": "surprise", "confusion.recall.surprise": [0.95, 0.92, 0.97]}, "best_class_same",
     "holds"),
    ({"confusion.best.class": "surprise", "confusion.recall.surprise": [0.85, 0.83, 0.88]}, "best_class_same",
     "open"),
    ({"confusion.recall.happy": [0.72, 0.66, 0.75]}, "best_class", "open"),
    ({"confusion.worst.class": "sad", "confusion.recall.sad": [0.05, 0.03, 0.08]}, "worst_class_same",
     "holds"),
    ({"confusion.worst.class": "sad", "confusion.recall.sad": [0.1, 0.05, 0.15]}, "worst_class_same", "open"),
    ({"confusion.sad_taken_for.class": "fear", "confusion.sad_as.fear": [0.37, 0.3, 0.4]},
     "sad_for_fear_same", "holds"),
    ({"confusion.sad_as.fear": [0.15, 0.12, 0.18]}, "sad_for_fear", "open"),
    ({"confusion.attracts.class": "fear", "confusion.wrong_predictions.fear": 400}, "fear_attracts_same",
     "holds"),
    ({"confusion.attracts.class": "fear", "confusion.wrong_predictions.fear": 310}, "fear_attracts_same",
     "open"),
    ({"confusion.wrong_predictions.fear": 290}, "fear_attracts", "open"),
    ({"confusion.wrong_predictions.fear": 251}, "fear_attracts", "open"),  # p is 0.04 before the correction
    ({"confusion.best.class": "sad", "confusion.recall.sad": [0.95, 0.9, 0.97]}, "largest_not_best", "holds"),
    ({"confusion.recall.sad": [0.83, 0.8, 0.86]}, "largest_not_best", "open"),
    ({"confusion.smallest_class.recall": [0.6, 0.5, 0.7]}, "smallest_not_bad", "holds"),
    ({"confusion.smallest_class.recall": [0.5, 0.4, 0.6]}, "smallest_not_bad", "open"),
    ({"models.oversampled.against_cnn.p": 0.001}, "oversampling", "holds"),
    ({"models.oversampled.against_cnn.p": 0.001, "models.oversampled.against_cnn.difference": -0.03},
     "oversampling", "fails"),
    ({"models.cnn.end.gap": -0.01}, "overfitting", "fails"),
    ({"models.cnn.lowest_loss.epoch": 10}, "overfitting", "open"),
    ({"models.report_dnn.parameters": 157_000}, "dnn_size", "fails"),
    ({"models.cnn.keep": "last"}, "evaluated_on_split", None),
    ({"models.report_dnn.end.val_accuracy": 0.2}, "dnn_end", "holds"),
    ({"models.report_dnn.best.val_accuracy": 0.2658}, "dnn_end", "fails"),
    ({"saliency.ring_to_centre": [0.05, 0.04, 0.06]}, "saliency_ring", "holds"),
    ({"saliency.centre": [0.2, 0.19, 0.21]}, "saliency_centre", "fails"),
    ({"saliency.kept_above_random": [-0.1, -0.2, -0.05]}, "saliency_kept", "fails"),
    ({"models.cnn.test.accuracy": [0.5, 0.48, 0.52]}, "cnn_test_below", None),
    ({"models.cnn.test.accuracy": [0.55, 0.53, 0.57]}, "cnn_test_same", None),
])
def test_a_verdict_follows_the_results(changes, key, verdict):
    results = copy.deepcopy(report_example.results())
    for path, value in changes.items():
        *parents, last = path.split(".")
        at(results, ".".join(parents))[last] = value
    found = verdicts(results)
    assert key in found and found[key] == verdict
    for language in LANGUAGES:
        for listed in all_findings(results).values():
            for one in listed:
                check_numbers(sentence(one, results, language), results)


def test_each_question_has_one_answer_with_the_verdict_of_its_claim():
    example = report_example.results()
    found = answers(example, all_findings(example))
    assert {section: one.verdict for section, one in found.items()} == {
        "cnn": "holds", "dnn": "holds", "confusion": "fails", "saliency": "holds", "filters": None}
    example["confusion"]["pairs"], example["filters"] = [], []
    for one in answers(example, all_findings(example)).values():
        check_numbers(sentence(one, example, "zh-Hant"), example)


def test_drawn_faces_give_no_verdict():
    results = report_example.results()
    results["data"]["is_sample"] = True
    found = verdicts(results)
    assert "data_is_drawn" in found and set(found.values()) == {None}


# ---- claims ------------------------------------------------------------------------------------------------


@settings(deadline=None)  # the first import of SciPy takes longer
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8).filter(
    lambda pairs: np.std([a - b for a, b in pairs]) > 1e-6))
def test_the_paired_interval_is_that_of_the_t_test(pairs):
    from scipy.stats import ttest_rel

    a, b = zip(*pairs)
    expected = ttest_rel(a, b).confidence_interval(0.95)
    assert np.allclose(metrics.interval_of_mean(np.subtract(a, b))[1:], [expected.low, expected.high])


@pytest.mark.parametrize(("says", "interval", "verdict"), [
    ("helps", [0.02, 0.01, 0.03], "holds"), ("helps", [0, -0.005, 0.005], "fails"),
    ("helps", [0.01, -0.01, 0.03], "open"), ("helps", [0.1, None, None], "open"),
    ("not help", [0.02, 0.01, 0.03], "fails"), ("not help", [-0.02, -0.03, -0.01], "holds"),
    ("not help", [-0.1, None, None], "open"), ("worse", [-0.02, -0.03, -0.01], "holds"),
    ("worse", [0, -0.005, 0.005], "fails"), ("worse", [0, -0.03, 0.03], "open"),
    ("worse", [-0.1, None, None], "open"),
])
def test_the_verdict_on_a_claim(says, interval, verdict):
    assert claims.verdict(says, interval, 0.008) == verdict


@pytest.mark.parametrize("says", ["helps", "not help", "worse"])
def test_too_few_faces_decide_nothing(says):
    for interval in ([0, 0, 0], [0.03, 0.03, 0.03], [-0.03, -0.03, -0.03]):
        assert claims.verdict(says, interval, 0.075) == "open"


def test_every_claim_is_tested_by_options_that_its_script_has(capsys):
    for script in ("train_cnn.py", "train_dnn.py"):
        with pytest.raises(SystemExit):
            scripts.run_script(script, ["--help"], quiet=False)
        known = capsys.readouterr().out
        for claim in ORIGINAL["claims"].values():
            name, *arguments = claim["command"].split()
            assert name != script or all(word in known for word in arguments if word.startswith("--")), claim


def options(**changes):
    return SimpleNamespace(**{"data": Path("sample"), "limit": 50, "epochs": 1, "seeds": 2, "test": None,
                              "test_labels": None, "language": "en"} | changes)


def test_interrupted_claims_continue(workspace, monkeypatch, capsys):
    trained = []

    def train(script, arguments):
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append(arguments)

    def score(path, test):
        seed = int(trained[-1][trained[-1].index("--seed") + 1])
        worse = 0.05 * ("--batch-size" in trained[-1]) + 0.0001 * seed * len(trained[-1])
        return {"validation": 0.5 - worse + 0.001 * seed, "validation_rows": 5000, "test": None,
                "seconds": 1.0}

    faces = data.Faces(np.zeros((100, 48, 48), np.uint8), np.arange(100) % 7)
    monkeypatch.setattr(data, "find_data", lambda path, classes=None: faces)
    monkeypatch.setattr(claims, "run_script", train)
    monkeypatch.setattr(claims, "score_model", score)
    with pytest.raises(KeyboardInterrupt):
        claims.rerun(options())
    first = list(trained)
    assert len(list((workspace / "models" / "claims").glob("*.json"))) == 5
    trained.clear()
    for _ in range(5):  # interrupted again and again
        with contextlib.suppress(KeyboardInterrupt):
            found = claims.rerun(options())
        assert not [arguments for arguments in trained if arguments in first]
        first += trained
        trained.clear()
    assert capsys.readouterr().out.count(" 26/26  seed 1") == 1
    assert len(found["runs"]) == len(first) == 2 * (1 + len(ORIGINAL["claims"]))
    verdicts = {claim["key"]: claim["verdict"] for claim in found["claims"]}
    assert verdicts["batch_320"] == "holds" and verdicts["oversampling"] == "fails"
    table = pd.read_csv(workspace / "models" / "claims.csv").set_index("claim")
    assert json.loads((workspace / "models" / "claims.json").read_text()) == found
    row = table.loc[ORIGINAL["claims"]["batch_160"]["en"]]
    assert row["mean"] - row["baseline_mean"] == pytest.approx(row["difference"])
    assert row["verdict"] == "holds"
    with pytest.raises(KeyboardInterrupt):
        claims.rerun(options(limit=60))  # other data, other results
    assert "earlier result" not in capsys.readouterr().out


def test_a_claim_is_trained_scored_and_cleared_away(workspace):
    test = data.load_faces("sample").take(slice(200, 260))
    result = claims.train_once("train_dnn.py --network report", 0, options(limit=120), ["x", "y"], test)
    assert result["parameters"] == 156_263 and 0 <= result["validation"] <= 1 and 0 <= result["test"] <= 1
    assert [path.name for path in (workspace / "models").iterdir()] == ["claims"]
    assert not list((workspace / "figures").iterdir())


# ---- model cards -------------------------------------------------------------------------------------------


@pytest.fixture
def released(workspace):
    """A copy of a released model's card and history, as (path of the model, card)."""
    path = workspace / "models" / "network.h5"
    history = PROJECT / "models" / "fer2013-report-cnn_history.csv"
    path.with_name("network_history.csv").write_text(history.read_text())
    card = json.loads((PROJECT / "models" / "fer2013-report-cnn.json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card))
    return path, card


def test_a_card_of_the_right_types_is_read(released):
    network = results.read_network(released[0])
    assert network["parameters"] == 6_615_495 and network["end"]["epoch"] == 10
    assert network["test"]["rows"] == 3589


def test_only_faces_that_were_not_trained_or_chosen_on_are_a_test(released):
    path, card = released
    entry = next(iter(card["evaluations"].values())) | {"rows": 7}
    card["split"] |= {"data": "fer2013.csv", "validation": "PublicTest"}
    seen = ("the validation split of fer2013.csv", "fer2013.csv", "fer2013.csv Training",
            "fer2013.csv PublicTest")
    entries = {name: entry | {"data": name} for name in (*seen, "fer2013.csv PrivateTest")}
    path.with_suffix(".json").write_text(json.dumps(card | {"evaluations": entries}))
    assert results.read_network(path)["test"]["data"] == "fer2013.csv PrivateTest"


@pytest.mark.parametrize("wrong", [None, []])
@pytest.mark.parametrize("keys", [
    "network", "command", "hardware", "precision", "parameters", "multiply_adds", "seconds", "saved_epoch",
    "metrics.training_accuracy", "metrics.validation_accuracy", "split.data", "split.training_rows",
    "split.validation_rows", "arguments.batch_size", "arguments.keep", "evaluations", "split", "arguments"])
def test_a_card_with_a_value_of_the_wrong_type_is_one_line(released, keys, wrong):
    path, card = released
    *above, last = keys.split(".")
    part = card
    for key in above:
        part = part[key]
    part[last] = wrong
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=f"network.json: .*{last}.* is .*expected"):
        results.read_network(path)


@pytest.mark.parametrize("entry", [None, {"tta": "none", "data": "x", "rows": "3", "accuracy": [1, 2, 3]},
                                   {"tta": "none", "data": "x", "rows": 3, "accuracy": 2}])
def test_a_damaged_evaluation_in_a_card_is_one_line(released, entry):
    path, card = released
    path.with_suffix(".json").write_text(json.dumps(card | {"evaluations": {"x, none": entry}}))
    with pytest.raises(UserError, match=r"network\.json"):
        results.read_network(path)


@pytest.mark.parametrize("text", ["", "epoch,accuracy\n1,0.5\n", "epoch,accuracy,val_accuracy,val_loss\n",
                                  "epoch,accuracy,val_accuracy,val_loss\n1,0.5,x,1\n",
                                  "epoch,accuracy,val_accuracy,val_loss\n1,0.5,,1\n"])
def test_a_damaged_history_is_one_line(released, text):
    released[0].with_name("network_history.csv").write_text(text)
    with pytest.raises(UserError, match=r"network_history\.csv lacks"):
        results.read_network(released[0])


# ---- Markdown, read by another program ---------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip))
def test_a_command_stays_in_its_code_span(text):
    html = MarkdownIt().render("made by: " + page.code_span(text))
    inside = re.fullmatch("<p>made by: <code>(.*)</code></p>\n", html, re.DOTALL)
    assert inside, html
    assert unescape(inside[1]) == " ".join(text.split())


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_text_is_no_markup(text):
    markdown = MarkdownIt("gfm-like", {"linkify": False}).disable("linkify")
    html = markdown.render("A " + page.escape_markdown(text) + " z")
    assert re.fullmatch("<p>[^<]*</p>\n", html), html


@pytest.mark.parametrize("language", LANGUAGES)
def test_markdown_has_every_sentence_table_and_command(tmp_path, language):
    made = report_example.report(tmp_path, language)
    for figure in itertools.chain(*made["figures"].values()):
        figure["command"] = "python x.py --name ``a` # b\n\n# c"
    text = page.render("page.md", made, folder=tmp_path)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [token for token in tokens if token.type == "inline"]
    assert {child.content for token in inline for child in token.children if child.type == "code_inline"} == {
        "python x.py --name ``a` # b # c"}
    assert [token.type for token in tokens].count("heading_open") == 2 + len(made["sections"])
    blocks = [token.content.strip() for token in tokens if token.type == "html_block"]
    assert blocks == ["<!-- FER2013 Keras suite -->"]
    paragraphs = {"".join(child.content for child in token.children).replace("\u00a0", " ")
                  for token in inline}
    for one in itertools.chain(made["notes"], made["answers"], *made["sections"].values()):
        verdict = f" {WORDS['verdicts'][one['verdict']][language]}" if one["verdict"] else ""
        original = " " + label("original", language, one["original"]) if one["original"] else ""
        assert (one["text"] + original).replace("\u00a0", " ") + verdict in paragraphs
    for token in (ORIGINAL["claims"]["l2"][language], "6,615,495", "conv1"):
        assert token in paragraphs
    assert "](a%20figure.png)" in text


# ---- the script --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "problem"), [
    (["--out", "x.txt"], "must end in .html"), (["--test-labels", "x.csv"], "belongs to a --test"),
    (["--models", "released"], "fer2013-report-cnn.h5 is missing"),
    (["--data", "nowhere.csv"], "^train_cnn.py: cannot read nowhere.csv"),
])
def test_bad_options_are_one_line(workspace, arguments, problem):
    with pytest.raises(UserError, match=problem):
        report.main(arguments)
    assert not list((workspace / "figures").iterdir())


@pytest.mark.parametrize("name", ["README", "card", "data"])
def test_no_output_replaces_another_file(workspace, name):
    files = {"README.md": "# My notes\n", "card.json": '{"network": "x", "arguments": {}}\n',
             "data.html": "<p>mine\n"}
    for file, content in files.items():
        Path(file).write_text(content)
    with pytest.raises(UserError, match=f"{name}.* exists and is "):
        report.main(["--out", f"{name}.html"])
    assert {file: Path(file).read_text() for file in files} == files
    assert {path.name for path in workspace.iterdir()} == {"data", "models", "figures", *files}


def test_a_script_leaves_the_process_as_it_was(workspace, monkeypatch):
    def main(argv):
        cli.inputs.append("x")
        keras.config.set_dtype_policy("mixed_bfloat16")
        return argv, Path(sys.argv[0]).name, sys.argv[1:]

    monkeypatch.setitem(sys.modules, "train_cnn", SimpleNamespace(main=main))
    before, options = (list(cli.inputs), list(sys.argv)), ["--seed", "1"]
    assert scripts.run_script("train_cnn.py", options) == (options, "train_cnn.py", options)
    assert (cli.inputs, sys.argv) == before and keras.config.dtype_policy().name == "float32"


def test_missing_networks_are_trained_with_the_options_given(workspace, monkeypatch):
    commands = []
    monkeypatch.setattr(report, "run",
                        lambda *arguments, quiet: commands.append(" ".join(map(str, arguments))))
    for ending in (".h5", ".json"):
        (workspace / "models" / f"dnn{ending}").touch()
    report.find_networks(SimpleNamespace(models="own", data=Path("sample"), limit=120, epochs=None,
                                         out=Path("figures/report.html")))
    assert commands == ["train_cnn.py --name cnn --data sample --limit 120",
                        "train_cnn.py --oversample --name cnn-oversampled --data sample --limit 120",
                        "train_dnn.py --network report --name dnn-report --data sample --limit 120"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole report once, with the released models on a few of the drawn faces."""
    folder, run = tmp_path_factory.mktemp("report"), report.run
    for name in ("models", "figures"):
        (folder / name).mkdir()
    for path in (PROJECT / "models").glob("fer2013-*"):
        (folder / "models" / path.name).symlink_to(path)
    faces = data.load_faces("sample").take(slice(0, 140))
    write_csv(folder / "faces.csv", faces.images, label=faces.labels)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MODELS", "FIGURES"):
            patch.setattr(models, name, folder / name.lower())
        patch.chdir(folder)
        patch.setattr(report, "run", lambda script, *arguments, **how: run(
            script, *arguments, *["--steps", "8"] * (script == "filter_vis.py"), **how))
        report.main(["--models", "released", "--data", "faces.csv", "--limit", "60"])
    text = (folder / "figures" / "report.json").read_text()
    return SimpleNamespace(figures=folder / "figures", report=json.loads(text))


def test_the_whole_report_says_what_was_measured(finished):
    for one in itertools.chain(*finished.report["sections"].values()):
        check_numbers(one, finished.report["results"])
    measured = finished.report["results"]
    counts = np.array(measured["confusion"]["counts"])
    assert counts.sum() == measured["evaluated"]["rows"] == measured["data"]["faces"] == 140
    assert measured["models"]["cnn"]["evaluated"][0] == pytest.approx(np.trace(counts) / 140, abs=1e-5)
    assert measured["tally"]["claims"] >= 10


def test_the_whole_report_has_every_figure_and_names_it(finished):
    text = (finished.figures / "report.md").read_text()
    html = (finished.figures / "report.html").read_text()
    for section in ("cnn", "dnn", "confusion", "saliency", "filters"):
        for figure in finished.report["figures"][section]:
            name = Path(figure["path"]).name
            assert f"](report/{name})" in text and (finished.figures / "report" / name).exists()
            assert figure["alt"].startswith(figure["label"])
            assert len(figure["alt"]) > len(figure["label"]) + 20
    figures = sum(map(len, finished.report["figures"].values()))
    assert html.count('class="enlarge"') == figures >= 12
    assert {path.name for path in finished.figures.iterdir()} == {
        "report", "report.html", "report.md", "report.json"}
    shown = [len(re.findall('class="filter"', grid)) for grid in html.split("<h3>conv")[1:]]
    assert sum(shown) == sum(layer["in_figure"] for layer in finished.report["results"]["filters"]) > 16
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html) and "url(h" not in html
