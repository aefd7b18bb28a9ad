"""The report: no number typed by hand, verdicts that follow the results, claims that continue, one run from end to end."""

import copy
import json
import re
import string
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import report_example
from tests.conftest import PROJECT, Suite
from utils import claims
from utils.report_findings import Finding, findings, tally
from utils.report_text import LANGUAGES, WORDS, say

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
    """Each number of a sentence is a result that it names, as it is or in per cent, rounded as it is written."""
    for path, value in sentence["values"].items():
        assert at(results, path) == value, path
    known = [v * factor for v in flat(sentence["values"]) for factor in (1, 100)]
    # a name that is filled in (a path, a machine) may hold digits of its own
    names = [value for value in sentence["values"].values() if isinstance(value, str)]
    text = sentence["text"]
    for name in names:
        text = text.replace(name, "")
    for bound in re.findall("p\u00a0<\u00a0([\\d.]+)", text):
        assert any(path.endswith(".p") and value < float(bound) for path, value in sentence["values"].items()), text
        text = text.replace(f"p\u00a0<\u00a0{bound}", "")
    for number, places, is_power in numbers(text):
        near = 0.05 * abs(number) if is_power else 0.5000001 * 10 ** -places
        assert any(abs(number - v) <= near for v in known), f"{number} in {sentence['text']!r}"


# ---- words -----------------------------------------------------------------------------------------------------


def fields(text):
    return sorted((name, form) for _, name, form, _ in string.Formatter().parse(text) if name is not None)


def test_every_word_exists_in_both_languages_with_the_same_fields():
    for group, words in WORDS.items():
        for key, word in words.items():
            assert set(word) == set(LANGUAGES), (group, key)
            assert all(word.values()), (group, key)
            assert fields(word["en"]) == fields(word["zh-Hant"]), (group, key)


def test_no_sentence_holds_a_number_of_its_own():
    for key, words in WORDS["sentences"].items():
        for language in LANGUAGES:
            outside = "".join(text for text, *_ in string.Formatter().parse(words[language]))
            assert not re.search(r"\d", outside.replace("macro-F1", "")), (key, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_in_the_sentences_is_a_result(language):
    results = report_example.results()
    results["tally"] = tally(findings(results))
    said = [say(one, results, language) for listed in [*findings(results).values(), [Finding("tally")]] for one in listed]
    assert len(said) > 30
    for sentence in said:
        check_numbers(sentence, results)


def test_a_wrong_number_would_be_found():
    results = report_example.results()
    sentence = say(findings(results)["confusion"][0], results, "en")
    with pytest.raises(AssertionError):
        check_numbers(sentence | {"text": sentence["text"].replace("56.8", "57.8")}, results)


# ---- verdicts --------------------------------------------------------------------------------------------------


def verdicts(results):
    return {one.key: one.verdict for listed in findings(results).values() for one in listed}


def test_verdicts_on_the_example():
    found = verdicts(report_example.results())
    assert found["overfitting"] == found["dnn_matched"] == found["dnn_report"] == found["saliency_centre"] == "holds"
    assert found["oversampling"] == "open"
    for key in ("best_class", "worst_class", "sad_for_fear", "fear_attracts", "largest_not_best", "smallest_not_bad",
                "saliency_ring"):
        assert found[key] == "fails", key
    assert found["dnn_size"] == "holds"
    counted = tally(findings(report_example.results()))
    assert counted["claims"] == counted["holds"] + counted["fails"] + counted["open"] == sum(map(bool, found.values()))
    assert (counted["fails"], counted["open"]) == (7, 2)


@pytest.mark.parametrize(("changes", "key", "verdict"), [
    ({"confusion.best.class": "surprise", "confusion.recall.surprise": [0.95, 0.92, 0.97]}, "best_class_same", "holds"),
    ({"confusion.best.class": "surprise", "confusion.recall.surprise": [0.85, 0.83, 0.88]}, "best_class_same", "open"),
    ({"confusion.recall.happy": [0.72, 0.66, 0.75]}, "best_class", "open"),
    ({"confusion.worst.class": "sad", "confusion.recall.sad": [0.05, 0.03, 0.08]}, "worst_class_same", "holds"),
    ({"confusion.worst.class": "sad", "confusion.recall.sad": [0.1, 0.05, 0.15]}, "worst_class_same", "open"),
    ({"confusion.sad_taken_for.class": "fear", "confusion.sad_taken_for_fear.share": [0.37, 0.3, 0.4]},
     "sad_for_fear_same", "holds"),
    ({"confusion.sad_taken_for_fear.share": [0.15, 0.12, 0.18]}, "sad_for_fear", "open"),
    ({"confusion.attracts.class": "fear", "confusion.called.fear": 400}, "fear_attracts_same", "holds"),
    ({"confusion.attracts.class": "fear", "confusion.called.fear": 310}, "fear_attracts_same", "open"),
    ({"confusion.called.fear": 290}, "fear_attracts", "open"),
    ({"confusion.best.class": "sad", "confusion.recall.sad": [0.95, 0.9, 0.97]}, "largest_not_best", "holds"),
    ({"confusion.recall.sad": [0.83, 0.8, 0.86]}, "largest_not_best", "open"),
    ({"confusion.smallest_class.recall": [0.6, 0.5, 0.7]}, "smallest_not_bad", "holds"),
    ({"confusion.smallest_class.recall": [0.5, 0.4, 0.6]}, "smallest_not_bad", "open"),
    ({"models.oversampled.against_cnn.p": 0.001}, "oversampling", "holds"),
    ({"models.oversampled.against_cnn.p": 0.001, "models.oversampled.against_cnn.difference": -0.03}, "oversampling", "fails"),
    ({"models.cnn.end.gap": -0.01}, "overfitting", "fails"),
    ({"models.cnn.lowest_loss.epoch": 10}, "overfitting", "open"),
    ({"models.report_dnn.parameters": 157_000}, "dnn_size", "fails"),
    ({"models.cnn.keep": "last"}, "judged_on_split", None),
    ({"models.report_dnn.end.validation_accuracy": 0.2}, "dnn_end", "holds"),
    ({"models.report_dnn.best.validation_accuracy": 0.2658}, "dnn_end", "fails"),
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
        for listed in findings(results).values():
            for one in listed:
                check_numbers(say(one, results, language), results)


def test_drawn_faces_give_no_verdict():
    results = report_example.results()
    results["data"]["is_sample"] = True
    found = verdicts(results)
    assert "data_is_drawn" in found and set(found.values()) == {None}


# ---- claims ----------------------------------------------------------------------------------------------------


@settings(deadline=None)  # the first import of SciPy takes longer
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8).filter(
    lambda pairs: np.std([a - b for a, b in pairs]) > 1e-6))
def test_the_paired_interval_is_that_of_the_t_test(pairs):
    from scipy.stats import ttest_rel

    a, b = zip(*pairs)
    expected = ttest_rel(a, b).confidence_interval(0.95)
    assert np.allclose(claims.student([x - y for x, y in pairs])[1:], [expected.low, expected.high])


@pytest.mark.parametrize(("says", "interval", "verdict"), [
    ("helps", [0.02, 0.01, 0.03], "holds"), ("helps", [0, -0.005, 0.005], "fails"), ("helps", [0.01, -0.01, 0.03], "open"),
    ("not help", [0.02, 0.01, 0.03], "fails"), ("not help", [-0.02, -0.03, -0.01], "holds"),
    ("worse", [-0.02, -0.03, -0.01], "holds"), ("worse", [0, -0.005, 0.005], "fails"), ("worse", [0, -0.03, 0.03], "open"),
    ("helps", [0.1, None, None], "open"), ("worse", [-0.1, None, None], "open"), ("not help", [-0.1, None, None], "open"),
])
def test_the_verdict_on_a_claim(says, interval, verdict):
    assert claims.judge(says, interval, 0.008) == verdict


@pytest.mark.parametrize("says", ["helps", "not help", "worse"])
def test_too_few_faces_decide_nothing(says):
    for interval in ([0, 0, 0], [0.03, 0.03, 0.03], [-0.03, -0.03, -0.03]):
        assert claims.judge(says, interval, 0.075) == "open"


def test_every_claim_has_words_and_its_options_are_known():
    assert {claim.key for claim in claims.CLAIMS} == set(WORDS["claims"])
    options = SimpleNamespace(data=None, limit=100, epochs=1)
    assert claims.settled(claims.CLAIMS[0], 2, options).batch_size == 160
    assert [claims.settled(claim, 2, options).seed for claim in claims.CLAIMS] == [2] * len(claims.CLAIMS)


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    from utils import models

    monkeypatch.setattr(models, "MODELS", tmp_path)
    return tmp_path


def test_interrupted_claims_continue(own_models, monkeypatch, capsys):
    trained = []

    def train(claim, args, test):
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append((claim.key, args.seed))
        worse = {"batch_160": 0.05, "batch_320": 0.05}.get(claim.key, 0)
        score = 0.5 - worse + 0.001 * args.seed + 0.0001 * len(claim.key) * args.seed
        return {"validation": score, "validation_rows": 5000, "test": None, "seconds": 1.0}

    monkeypatch.setattr(claims, "train", train)
    options = SimpleNamespace(data="sample", limit=50, epochs=1, seeds=2)
    with pytest.raises(KeyboardInterrupt):
        claims.rerun(options)
    first = list(trained)
    assert len(list((own_models / "claims").glob("*.json"))) == 5
    monkeypatch.setattr(claims, "train", lambda *args: trained.clear() or train(*args))
    found = claims.rerun(options)
    assert capsys.readouterr().out.count("kept result") == 5 and first[0] not in trained
    assert len(found["runs"]) == 2 * (1 + len(claims.CLAIMS))
    assert {c["key"]: c["verdict"] for c in found["claims"]}["batch_320"] == "holds"
    options.limit = 60
    claims.rerun(options)
    assert "kept result" not in capsys.readouterr().out  # other data, other results


def test_a_claim_is_trained_scored_and_cleared_away(own_models):
    from utils import data

    options = SimpleNamespace(data="sample", limit=120, epochs=1)
    claim = next(c for c in claims.CLAIMS if c.key == "dnn_report")
    result = claims.run(claim, 0, options, ["x", "y"], data.load_faces("sample").take(slice(200, 260)))
    assert result["parameters"] == 156_263 and 0 <= result["validation"] <= 1 and 0 <= result["test"] <= 1
    assert [path.name for path in own_models.iterdir()] == ["claims"]


# ---- the script ------------------------------------------------------------------------------------------------


def test_help_names_the_commands_and_bad_options_are_one_line(suite):
    assert "--claims" in suite.run("report.py", "--help")[0]
    assert "must end in .html" in suite.run("report.py", "--out", "x.txt", status=2)[1]
    assert "belongs to a --test" in suite.run("report.py", "--test-labels", "x.csv", status=2)[1]


def test_the_error_of_a_script_becomes_its_own(suite):
    out, err = suite.run("report.py", "--data", "nowhere.csv", status=2)
    assert "python train_cnn.py --name cnn --data nowhere.csv" in out
    assert re.fullmatch(r"report.py: error: train_cnn.py: cannot read nowhere.csv.*", err.strip())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole report once, with the released models on the drawn faces."""
    made = Suite(tmp_path_factory.mktemp("report"))
    for path in (PROJECT / "models").glob("fer2013-*"):
        (made.folder / "models" / path.name).symlink_to(path)
    out, _ = made.run("report.py", "--models", "released", "--data", "sample", "--limit", 60)
    return SimpleNamespace(out=out, figures=made.folder / "figures",
                           report=json.loads((made.folder / "figures" / "report.json").read_text()))


def test_the_whole_report(finished):
    last = finished.out.strip().splitlines()[-1]
    assert last == "Wrote figures/report.html, figures/report.md, figures/report.json"
    for listed in finished.report["sections"].values():
        for sentence in listed:
            check_numbers(sentence, finished.report["results"])
    counts = np.array(finished.report["results"]["confusion"]["counts"])
    assert counts.sum() == finished.report["results"]["judged"]["rows"] == 7000
    assert finished.report["results"]["models"]["cnn"]["judged"][0] == pytest.approx(np.trace(counts) / 7000, abs=1e-5)


def test_the_whole_report_has_every_figure_and_names_it(finished):
    text = (finished.figures / "report.md").read_text()
    html = (finished.figures / "report.html").read_text()
    for section in ("cnn", "dnn", "confusion", "saliency", "filters"):
        for figure in finished.report["figures"][section]:
            name = figure["path"].removeprefix("figures/")
            assert f"]({name})" in text and (finished.figures / name).exists()
            assert figure["alt"].startswith(figure["label"]) and len(figure["alt"]) > len(figure["label"]) + 20
    assert html.count("<figure>") - 3 == sum(map(len, finished.report["figures"].values())) >= 12  # 3: the slider's canvases
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html) and "url(h" not in html
