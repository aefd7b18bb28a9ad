"""The original report's claims about training, tested again over several seeds, and a verdict on each.

Each result is kept in models/claims/, so that an interrupted run continues.
"""

import hashlib
import json

import numpy as np
import pandas as pd
from scipy import stats

from reporting.findings import FAILS, HOLDS, OPEN, OPPOSITE
from reporting.page import claim_table
from reporting.scripts import run_script
from reporting.text import LANGUAGES, ORIGINAL
from training import recipes
from utils import cli, data, evaluation, models
from utils.files import read_json, relative_path, write_json, write_table

BASELINE = "train_cnn.py"
MARGIN = 0.01  # a gain of so much is help; about one standard error on a validation split of 10 %
LEVEL = 0.95  # of the intervals


def rerun(options, test=None):
    """Train what is missing, print a line a run and a table of verdicts; returns what claims.json holds.

    options: data (path or None), limit, epochs, seeds (how many), language; test: labelled Faces, or None.
    Verdicts rest on the test faces where there are any, else on each seed's validation split.
    """
    faces = data.training_part(data.find_data(options.data))
    fingerprints = [faces.fingerprint(), None if test is None else test.fingerprint()]
    commands = [BASELINE, *(claim["command"] for claim in ORIGINAL["claims"].values())]
    planned, runs = [(command, seed) for seed in range(options.seeds) for command in commands], []
    cli.interruption.outer = "the same command continues where this one stopped"
    for command, seed in planned:
        runs.append(train_once(command, seed, options, fingerprints, test))
        print_run(runs[-1], f"{len(runs):3d}/{len(planned)}")
    cli.interruption.outer = ""

    score, rows = "validation" if test is None else "test", min(options.limit or len(faces), len(faces))
    result = {
        "data": faces.source, "fingerprint": fingerprints[0], "rows": rows, "limit": options.limit,
        "seeds": options.seeds, "score": score, "test": None if test is None else test.source,
        "margin": MARGIN,
        "margin_points": 100 * MARGIN, "level": LEVEL, "runs": runs,
        "claims": [test_claim(key, pd.DataFrame(runs), score) for key in ORIGINAL["claims"]],
    }
    print(f"\n{score} accuracy, {options.seeds} seeds, {rows:,} faces of {relative_path(faces.source)}")
    cli.print_table(claim_table(result, options.language))
    write(result)
    print("Wrote " + ", ".join(map(relative_path, output_paths())))
    return result


def output_paths():
    """The files that `rerun` writes: {path: first key or column}."""
    return {models.FIGURES / "claims.json": "data", models.FIGURES / "claims.csv": "claim"}


def write(result):
    """Write claims.json and, with one row a claim, claims.csv."""
    json_path, table_path = output_paths()
    write_json(json_path, result)
    write_table(table_path, pd.DataFrame([{
        "claim": claim["words"]["en"], "configuration": claim["changed"], "baseline": claim["baseline"],
        "score": result["score"], "seeds": result["seeds"], "mean": claim["score"]["mean"],
        "sd": claim["score"]["sd"], "baseline_mean": claim["baseline_score"]["mean"],
        "baseline_sd": claim["baseline_score"]["sd"],
        **dict(zip(("difference", "low", "high"), claim["difference"])), "verdict": claim["verdict"],
    } for claim in result["claims"]]))


def print_run(run, count):
    """One line on a run: configuration, accuracies, and whether it was trained now."""
    accuracies = [f"{kind} {100 * run[kind]:5.2f} %" for kind in ("validation",
                                                                  "test") if run[kind] is not None]
    origin = "earlier result" if run["from_cache"] else f"{run['seconds']:.0f} s"
    print("  ".join([count, f"seed {run['seed']}", f"{run['configuration']:<36}", *accuracies, origin]),
          flush=True)


# ---- training ----------------------------------------------------------------------------------------------


def train_once(command, seed, options, fingerprints, test):
    """Train one configuration with one seed, or read its earlier result; returns scores and settings (dict).

    fingerprints: of the data and of the test faces; test: labelled Faces or None.
    """
    script, *arguments = command.split()
    arguments += ["--seed", str(seed)]
    for name in ("limit", "epochs"):
        if getattr(options, name) is not None:
            arguments += [f"--{name}", str(getattr(options, name))]
    key = json.dumps([script, arguments, fingerprints, recipes.RECIPES])
    name = f"claim-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    earlier = models.MODELS / "claims" / f"{name}.json"
    if earlier.exists():
        return read_json(earlier) | {"from_cache": True}
    arguments += ["--name", name] + ([] if options.data is None else ["--data", str(options.data)])
    if script == "train_dnn.py" and models.RELEASED_CNN.exists():
        # Of whose size the matched DNN is, not of models/cnn.h5
        arguments += ["--cnn", str(models.RELEASED_CNN)]
    train(script, arguments, models.MODELS / f"{name}.checkpoint.npz")
    result = {"configuration": command, "seed": seed} | score_model(models.MODELS / f"{name}.h5", test)
    write_json(earlier, result)
    for path in [*models.MODELS.glob(f"{name}*"), *models.FIGURES.glob(f"{name}*")]:
        path.unlink()
    return result | {"from_cache": False}


def train(script, arguments, checkpoint):
    """Run a training script, from its checkpoint where there is one; a damaged one costs that run only."""
    if checkpoint.exists():
        try:
            return run_script(script, [*arguments, "--resume"])
        except cli.UserError:
            checkpoint.unlink()
    return run_script(script, arguments)


def score_model(path, test):
    """A trained model's scores and settings, from its card and on the test faces (Faces or None)."""
    card, accuracy = models.read_card(path), None
    if test is not None:
        probabilities = evaluation.probabilities(evaluation.load_networks([path]), test.images)
        accuracy = float((probabilities.argmax(axis=1) == test.labels).mean())
    return {"validation": card["metrics"]["validation_accuracy"], "test": accuracy,
            "validation_rows": card["split"]["validation_rows"],
            "test_rows": None if test is None else len(test),
            "epochs": card["arguments"]["epochs"],
            **{key: card[key] for key in ("parameters", "seconds", "hardware", "precision")}}


# ---- verdicts ----------------------------------------------------------------------------------------------


def test_claim(key, runs, score):
    """One claim: its configuration, scores, difference from the baseline paired over seeds, and verdict.

    runs: DataFrame of all results; score: the column that decides.
    """
    claim = ORIGINAL["claims"][key]
    scores = runs.pivot(index="seed", columns="configuration", values=score)
    own, baseline = scores[claim["command"]], scores[BASELINE]
    difference, rate = interval_of_mean(own - baseline), baseline.mean()
    error = float(np.sqrt(rate * (1 - rate) / runs[f"{score}_rows"].iloc[0]))
    return {"key": key, "words": {language: claim[language] for language in LANGUAGES}, "says": claim["says"],
            "changed": claim["command"], "baseline": BASELINE, "score": summary(own),
            "baseline_score": summary(baseline), "difference": difference,
            "verdict": verdict(claim["says"], difference, error)}


def summary(scores):
    """Mean, sample standard deviation (None for one value) and values of a Series of scores."""
    sd = float(scores.std()) if len(scores) > 1 else None
    return {"mean": float(scores.mean()), "sd": sd, "values": scores.tolist()}


def interval_of_mean(values):
    """Mean of `values` with Student's 95 % interval: [mean, low, high]; the ends are None for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return [mean, None, None]
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return [mean, mean - half, mean + half]


def verdict(says, difference, error):
    """Verdict on what the original says of a change, from its paired difference [mean, low, high].

    It helps where the interval is above zero and does not where it is below MARGIN; it is worse where the
    interval is below zero and is not where it is above -MARGIN. Any other interval leaves the claim open, and
    so do too few faces: `error`, the standard error of an accuracy on them, must be below the difference, or
    below the MARGIN that is excluded. Seeds alone would not show it, since networks that learn nothing agree
    to the last face.
    """
    mean, low, high = difference
    if low is None:
        return OPEN
    differs, excludes = abs(mean) > error, error < MARGIN
    if says == "worse":
        return HOLDS if high < 0 and differs else FAILS if low > -MARGIN and excludes else OPEN
    helps = HOLDS if low > 0 and differs else FAILS if high < MARGIN and excludes else OPEN
    return OPPOSITE[helps] if says == "not help" else helps
