"""benchmarks/claims.py: intervals of seeds and faces, Holm's levels, verdicts; interrupted runs continue."""

import contextlib
import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import report
from benchmarks import claims
from reporting.text import ORIGINAL
from tests.conftest import PROJECT, write_csv
from utils import data, files
from utils.cli import UserError

COMMAND = {key: claim["command"] for key, claim in ORIGINAL["claims"].items()}


def made(right, faces=4000, seeds=3):
    """Runs of every configuration of which the baseline has every second face right; right: {claim: (how many
    of its wrong faces the change has right, how many of its right ones wrong)}, by default 200 of each."""
    runs = []
    for seed in range(seeds):
        for command in claims.COMMANDS:
            row = np.arange(faces) % 2
            won, lost = {COMMAND[key]: pair for key, pair in right.items()}.get(
                command, (0, 0) if command == claims.BASELINE else (200, 200))
            row[0:2 * won:2], row[1:2 * lost:2] = 1, 0
            runs.append({"configuration": command, "seed": seed, "test": row.mean(), "validation": 0.5,
                         "right": "".join(map(str, row))})
    return runs


def judged(right, faces=4000, seeds=3):
    found = claims.judge_claims(made(right, faces, seeds))
    return {claim["key"]: claim for claim in found}


def test_holms_levels_by_hand():
    # 0.005 < 0.05 / 4 and 0.01 < 0.05 / 3, but 0.03 >= 0.05 / 2, so that 0.04 is not tested at 0.05
    levels = claims.holm_levels([0.01, 0.04, 0.03, 0.005], 0.05)
    np.testing.assert_allclose(levels, [0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    np.testing.assert_allclose(claims.holm_levels([0.02, 0.001], 0.05), [0.05, 0.025])  # all below
    np.testing.assert_allclose(claims.holm_levels([0.9, 0.03, 0.5], 0.05), 0.05 / 3)  # none is


def test_intervals_allow_for_seeds_and_for_faces():
    # by hand: without the means of rows and columns 0, 0, 0 / -1, 0, 1 / 1, 0, -1 are left, with 4 degrees
    scores = np.array([[3, 4, 5], [2, 4, 6], [4, 4, 4]]) / 8
    of_seeds, freedom = claims.seed_variance(scores)
    assert (of_seeds, freedom) == (pytest.approx(2 * (4 / 64) / 4 / 3), 4)
    # of two configurations it is Student's paired test
    paired = np.random.default_rng(2).normal(size=(5, 2))
    of_seeds, freedom = claims.seed_variance(paired)
    t_test = scipy.stats.ttest_rel(*paired.T)
    assert (paired[:, 0] - paired[:, 1]).mean() / np.sqrt(of_seeds) == pytest.approx(t_test.statistic)
    assert freedom == t_test.df
    row = np.random.default_rng(0).integers(-1, 2, (1, 400))  # faces apart, seeds alike: not / sqrt(3 * 400)
    width = claims.half_width(np.repeat(row, 3, axis=0), 0.03**2, 20)(0.05)
    of_faces = scipy.stats.norm.isf(0.025) * row.std(ddof=1) / 20
    assert width == pytest.approx(np.hypot(scipy.stats.t.isf(0.025, 20) * 0.03, of_faces))


@pytest.mark.parametrize(("of_seeds", "of_faces"), [(0.05, 0.3), (0.003, 0.15), (0, 0.4), (0.2, 0.1)])
def test_intervals_miss_the_true_difference_no_more_often_than_they_say(of_seeds, of_faces):
    rng, misses = np.random.default_rng(1), {0.05: [], 0.005: []}  # Holm's procedure tests at both
    for _ in range(1000):  # the true differences of four configurations from the first are 0
        noise = rng.normal(0, of_seeds, (3, 5, 1)) + rng.normal(0, 0.4, (3, 5, 200))
        noise += rng.normal(0, of_faces, (5, 200))
        differences = noise[:, 1] - noise[:, 0]
        width = claims.half_width(differences, *claims.seed_variance(noise.mean(axis=2)))
        for level, missed in misses.items():
            missed.append(abs(differences.mean()) > width(level))
    for level, missed in misses.items():
        assert np.mean(missed) <= level + 3 * np.sqrt(level / 1000)
    assert np.mean(misses[0.05]) > 0.01  # nor hardly ever


def test_intervals_are_those_of_the_faces_where_seeds_agree():
    found = judged({"oversampling": (600, 200)})
    claim = found["oversampling"]
    error = np.sqrt(800 / 4000 - 0.1**2) / np.sqrt(4000)  # of a mean of 600 times 1 and 200 times -1
    assert claim["difference"] == pytest.approx(0.1) and claim["level"] == pytest.approx(1 - 0.05 / 10)
    z = scipy.stats.norm.ppf(1 - 0.0025)
    assert [claim["low"], claim["high"]] == pytest.approx([0.1 - z * error, 0.1 + z * error], abs=0.002)
    assert found["l2"]["level"] == pytest.approx(1 - 0.05 / 9)  # the next, of which none is decided
    assert claim["mean"] == pytest.approx(0.6) and claim["sd"] == claim["baseline_sd"] == 0
    json.dumps(found)


def test_a_difference_that_one_of_ten_claims_shows_by_chance_decides_nothing():
    """By itself it would: its 95 % interval, of 1.96 times 0.5 points, is above zero."""
    claim = judged({"oversampling": (223, 177)})["oversampling"]
    assert claim["verdict"] == "open" and claim["low"] < 0 < claim["difference"] - 1.96 * 0.005
    decided = {key: (1000, 0) for key in ORIGINAL["claims"]} | {"oversampling": (223, 177)}
    assert judged(decided)["oversampling"]["verdict"] == "holds"  # the last of ten is tested at 0.05


def test_verdicts_on_what_the_original_says():
    found = judged({"batch_320": (100, 500), "generator": (0, 400), "l2": (300, 0)})
    verdicts = {key: claim["verdict"] for key, claim in found.items()}
    assert verdicts["batch_320"] == verdicts["generator"] == verdicts["l2"] == "holds"
    assert verdicts["extra_conv_1"] == "open"
    few = judged({}, faces=400)  # networks that agree to the last face, on which too few decide nothing
    assert {claim["verdict"] for claim in few.values()} == {"open"}
    assert {claim["verdict"] for claim in judged({"l2": (900, 0)}, seeds=1).values()} == {"open"}


@pytest.mark.parametrize(("says", "interval", "verdict"), [
    ("helps", [0.01, 0.03], "holds"), ("helps", [-0.005, 0.005], "fails"), ("helps", [-0.01, 0.03], "open"),
    ("helps", [None, None], "open"), ("not help", [0.01, 0.03], "fails"),
    ("not help", [-0.03, -0.01], "holds"), ("worse", [-0.03, -0.01], "holds"),
    ("worse", [-0.005, 0.005], "fails"), ("worse", [-0.03, 0.03], "open")])
def test_a_verdict_by_its_interval(says, interval, verdict):
    assert claims.verdict(says, *interval) == verdict
    if interval != [None, None]:  # and the level below which there is one
        error = np.diff(interval)[0] / 2 / scipy.stats.norm.isf(0.025)
        width = lambda level: error * scipy.stats.norm.isf(level / 2)  # noqa: E731
        p_value = claims.p_value(says, np.mean(interval), width, claims.MARGIN)
        assert (p_value < 0.05) == (verdict != "open")


def test_the_released_verdicts_follow_from_the_released_runs():
    released, runs = (json.loads((PROJECT / "models" / f"fer2013-claims{part}.json").read_text())
                      for part in ("", "_runs"))
    for stored, judged_again in zip(released["claims"], claims.judge_claims(runs["runs"]), strict=True):
        for key, value in judged_again.items():
            assert stored[key] == (value if isinstance(value, str) else pytest.approx(value)), key
    assert {key: released[key] for key in runs if key != "runs"} == {
        key: value for key, value in runs.items() if key != "runs"}
    for run in runs["runs"]:
        assert run["test"] == pytest.approx(run["right"].count("1") / released["evaluated_rows"])


@pytest.mark.parametrize("script", ["train_cnn.py", "train_dnn.py"])
def test_every_claim_is_tested_by_options_that_its_script_has(capsys, script):
    with pytest.raises(SystemExit):
        __import__(script.removesuffix(".py")).main(["--help"])
    known = capsys.readouterr().out
    for command in claims.COMMANDS:
        assert not command.startswith(script) or set(re.findall(r"--[\w-]+", command)) <= set(
            re.findall(r"--[\w-]+", known)), command


def test_interrupted_claims_continue(workspace, monkeypatch):
    options = ["--data", "sample", "--test", "sample", "--seeds", "2"]
    trained, faces = [], len(data.load_faces("sample"))
    write_csv("other.csv", data.load_faces("sample").images[:20], label=np.arange(20) % 7)
    runs = {(run["configuration"], run["seed"]): run for run in made({"batch_320": (0, 900)}, faces)}

    def train(command, seed, args, test):
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append((command, seed))
        return runs[command, seed]

    monkeypatch.setattr(claims, "train", train)
    done = set()
    for _ in range(6):  # interrupted again and again
        with contextlib.suppress(KeyboardInterrupt):
            found = claims.main(options)
        assert not done & {*trained}
        done |= {*trained}
        trained.clear()
    assert len(done) == 2 * (1 + len(ORIGINAL["claims"]))
    assert len(found["claims"]) == len(ORIGINAL["claims"]) == 10
    assert report.earlier_results(SimpleNamespace(models="own", out_folder=None), "claims") == found
    table = pd.read_csv("models/claims.csv").set_index("configuration")
    assert table.difference.tolist() == [claim["difference"] for claim in found["claims"]]
    stored = files.read_json("models/claims_runs.json")["runs"]
    assert stored == [run for key, run in runs.items() if key in done]
    for change in (["--limit", "60"], ["--test", "other.csv"]):
        with pytest.raises(UserError, match=r"claims_runs\.json holds runs of other settings"):
            claims.main([*options, *change])
    assert not trained


def test_a_claim_is_trained_and_its_answers_are_kept(workspace):
    options = SimpleNamespace(data=Path("sample"), limit=120, epochs=1)
    faces = data.load_faces("sample").take(slice(200, 260))
    result = claims.train("train_dnn.py --network report", 0, options, faces)
    assert result["parameters"] == 156_263 and 0 <= result["validation"] <= 1
    assert len(result["right"]) == 60 and result["test"] == result["right"].count("1") / 60
    # of a class that it is right about it is wrong if the labels are others
    others = dataclasses.replace(faces, labels=(faces.labels + 1) % 7)
    answers = zip(result["right"], claims.train("train_dnn.py --network report", 0, options, others)["right"])
    assert "1" in result["right"] and ("1", "1") not in answers
    assert not [*(workspace / "models").iterdir(), *(workspace / "figures").iterdir()]
