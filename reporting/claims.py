"""The original report's claims about training, tested again over several seeds, and a verdict on each.

Each result is kept in models/claims/, so that an interrupted run continues.
"""

import hashlib
import itertools
import json
import shlex

import numpy as np
import pandas as pd

from reporting.findings import OPEN, OPPOSITE, decide
from reporting.page import claim_table
from reporting.scripts import given, run_script
from reporting.text import ORIGINAL
from training import recipes
from utils import cli, data, evaluation, metrics, models
from utils.files import check_outputs, read_json, relative_path, write_json, write_table

BASELINE = "train_cnn.py"
MARGIN = 0.01  # a gain of so much is help; about one standard error on a validation split of 10 %


def output_paths():
    """The files that `rerun` writes: {path: first key or column}."""
    return {models.MODELS / "claims.json": "command", models.MODELS / "claims.csv": "claim"}


def rerun(options, test=None):
    """Train what is missing, print a line a run and a table of verdicts; returns what claims.json holds.

    options: data (path or None), limit, epochs, seeds (how many), language; test: labelled Faces, or None.
    Verdicts rest on the test faces where there are any, else on each seed's validation split.
    """
    check_outputs(output_paths())
    faces = data.training_part(data.find_data(options.data))
    fingerprints = [faces.fingerprint(), None if test is None else test.fingerprint()]
    commands = [BASELINE, *(claim["command"] for claim in ORIGINAL["claims"].values())]
    runs, count = [], len(commands) * options.seeds
    cli.interruption.outer = "the same command continues where this one stopped"
    for seed, command in itertools.product(range(options.seeds), commands):
        run = train_once(command, seed, options, fingerprints, test)
        runs.append(run)
        accuracies = [f"{kind} {100 * run[kind]:5.2f} %" for kind in ("validation", "test")
                      if run[kind] is not None]
        origin = "earlier result" if run.pop("from_cache") else f"{run['seconds']:.0f} s"
        line = f"{len(runs):3d}/{count}  seed {seed}  {command:<36}"
        print(line, *accuracies, origin, sep="  ", flush=True)
    cli.interruption.outer = ""

    score, rows = "validation" if test is None else "test", min(options.limit or len(faces), len(faces))
    evaluated = f"the validation split of {faces.source}" if test is None else test.source
    claims = [test_claim(key, pd.DataFrame(runs), score) for key in ORIGINAL["claims"]]
    command = ["python", "report.py", "--claims", "--seeds", str(options.seeds),
               *given(options, "limit", "epochs", "data", "test", "test_labels")]
    result = {"command": shlex.join(command), "data": faces.source, "fingerprint": fingerprints[0],
              "rows": rows, "limit": options.limit, "seeds": options.seeds, "score": score,
              "evaluated": evaluated, "evaluated_rows": runs[0][f"{score}_rows"],
              "margin_points": 100 * MARGIN, "level": metrics.LEVEL, "runs": runs, "claims": claims}
    print(f"\n{score} accuracy, {options.seeds} seeds, {rows:,} faces of {relative_path(faces.source)}; "
          f"{BASELINE} as it is: {100 * claims[0]['baseline_mean']:.1f} %")
    cli.print_table(claim_table(result, options.language))
    json_path, table_path = output_paths()
    write_json(json_path, result)
    write_table(table_path, pd.DataFrame(claims).drop(columns="key"))
    print("Wrote " + ", ".join(map(relative_path, output_paths())))
    return result


# ---- training ----------------------------------------------------------------------------------------------


def train_once(command, seed, options, fingerprints, test):
    """Train one configuration with one seed, or read its earlier result; returns scores and settings (dict).

    fingerprints: of the data and of the test faces; test: labelled Faces or None.
    """
    script, *arguments = command.split()
    arguments += ["--seed", str(seed), *given(options, "limit", "epochs")]
    key = json.dumps([script, arguments, fingerprints, recipes.CNNS, recipes.DNNS])
    name = f"claim-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    earlier = models.MODELS / "claims" / f"{name}.json"
    if earlier.exists():
        return read_json(earlier) | {"from_cache": True}
    arguments += ["--name", name, *given(options, "data")]
    if script == "train_dnn.py" and models.RELEASED_CNN.exists():
        # Of whose size the matched DNN is, not of models/cnn.h5
        arguments += ["--cnn", str(models.RELEASED_CNN)]
    if (models.MODELS / f"{name}.checkpoint.npz").exists():
        arguments.append("--resume")
    run_script(script, arguments)
    result = {"configuration": command, "seed": seed} | score_model(models.MODELS / f"{name}.h5", test)
    write_json(earlier, result)
    for path in [*models.MODELS.glob(f"{name}*"), *models.FIGURES.glob(f"{name}*")]:
        path.unlink()
    return result | {"from_cache": False}


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
    difference, rate = metrics.interval_of_mean(own - baseline), baseline.mean()
    error = float(np.sqrt(rate * (1 - rate) / runs[f"{score}_rows"].iloc[0]))
    own_sd, baseline_sd = (float(values.std()) if len(values) > 1 else None for values in (own, baseline))
    return {"key": key, "claim": claim["en"], "configuration": claim["command"], "baseline": BASELINE,
            "score": score, "seeds": len(scores), "mean": float(own.mean()), "sd": own_sd,
            "baseline_mean": float(rate), "baseline_sd": baseline_sd,
            **dict(zip(("difference", "low", "high"), difference)),
            "verdict": verdict(claim["says"], difference, error)}


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
        return decide(high < 0 and differs, low > -MARGIN and excludes)
    helps = decide(low > 0 and differs, high < MARGIN and excludes)
    return OPPOSITE[helps] if says == "not help" else helps
