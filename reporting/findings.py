"""Which sentences the report may state, and whether the claims of the original report hold here.

A finding names a sentence of `reporting.text`, whose numbers come from the results.
"""

import math
from typing import NamedTuple

HOLDS, FAILS, OPEN = "holds", "fails", "open"
OPPOSITE = {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}
SIGNIFICANCE = 0.05  # level of McNemar's and of the binomial test
RING_IS_DARK = 0.1  # the outer ring is near zero when its mean is at most this share of the centre's
TOP_PAIRS = 3  # confusions that get a sentence
ANSWERS = {  # the finding whose verdict stands beside each question's answer
    "cnn": "overfitting", "dnn": "dnn_matched", "confusion": "sad_for_fear", "saliency": "saliency_centre",
    "filters": None}


class Finding(NamedTuple):
    """key: of the sentence; verdict: on the original report's claim, None where it makes none; part: path in
    the results to what the sentence is about, of a sentence that is used several times."""

    key: str
    verdict: str | None = None
    part: str = ""


def all_findings(results):
    """Every finding of the report's results: {section: [Finding]}, in order.

    Faces of the built-in sample decide nothing about claims on photographs: no finding has a verdict then.
    """
    findings = {
        "cnn": cnn_findings(results),
        "sweep": sweep_findings(results["sweep"]),
        "dnn": dnn_findings(results),
        "confusion": confusion_findings(results["confusion"], results["data"]),
        "saliency": saliency_findings(results["saliency"]),
        "filters": filter_findings(results["filters"]),
        "claims": [Finding("claims_intro" if results["claims"] else "claims_none")],
        "data": data_findings(results),
    }
    if results["data"]["is_sample"]:
        return {section: [finding._replace(verdict=None) for finding in listed]
                for section, listed in findings.items()}
    return findings


def answers(results, findings):
    """The answer to each question in one sentence: {section: Finding}; findings: of `all_findings`."""
    verdicts = {one.key.removesuffix("_same"): one.verdict for listed in findings.values() for one in listed}
    empty = {"confusion": not results["confusion"]["pairs"], "filters": not results["filters"]}
    parts = {"filters": f"filters.{len(results['filters']) - 1}"}
    return {section: Finding(f"answer_{section}" + "_none" * empty.get(section, False),
                             verdicts.get(key), parts.get(section, ""))
            for section, key in ANSWERS.items()}


def tally(findings):
    """How many claims hold, fail and stay open: {"claims", "holds", "fails", "open"}."""
    verdicts = [finding.verdict for listed in findings.values() for finding in listed if finding.verdict]
    return {"claims": len(verdicts)} | {verdict: verdicts.count(verdict) for verdict in (HOLDS, FAILS, OPEN)}


# ---- sections ----------------------------------------------------------------------------------------------


def data_findings(results):
    data, on_other_data = results["data"], results["evaluated"]["on_other_data"]
    is_best_epoch = results["models"]["cnn"]["keep"] == "best"
    split = "evaluated_on_split_of_best_epoch" if is_best_epoch else "evaluated_on_split"
    sentences = {"data": True, "data_is_drawn": data["is_sample"], "data_is_limited": data["limit"],
                 "evaluated_on_other_data" if on_other_data else split: True}
    return [Finding(key) for key, applies in sentences.items() if applies]


def cnn_findings(results):
    network, oversampled = results["models"]["cnn"], results["models"]["oversampled"]
    findings = [Finding("cnn_size"), Finding("cnn_time"), Finding("cnn_accuracy")]
    if network["test"]:
        beats_kaggle = compare(network["test"]["accuracy"], results["original"]["kaggle"])
        findings.append(Finding({HOLDS: "cnn_test_above", FAILS: "cnn_test_below",
                                 OPEN: "cnn_test_same"}[beats_kaggle]))
    end, lowest_loss = network["end"], network["lowest_loss"]
    error = standard_error(end["val_accuracy"], network["validation_rows"])
    overfits = end["gap"] > 2 * error and lowest_loss["epoch"] < end["epoch"]
    findings += [Finding("overfitting", decide(overfits, end["gap"] <= 0)),
                 Finding("oversampling", is_better(oversampled["against_cnn"]))]
    return findings + [Finding("oversampling_test")] * bool(oversampled["test"])


def sweep_findings(sweep):
    if not sweep:
        return [Finding("sweep_none")]
    keys = ["sweep", *["sweep_confirmed"] * bool(sweep["confirmed"]), "sweep_effects"]
    return [Finding(key) for key in keys]


def dnn_findings(results):
    matched, original = results["models"]["dnn"], results["models"]["report_dnn"]
    best, end = (original[epoch]["val_accuracy"] for epoch in ("best", "end"))
    falls = best - end > standard_error(end, original["validation_rows"])
    is_same_size = original["parameters"] == results["original"]["dnn_parameters"]
    return [
        Finding("dnn_size", decide(is_same_size, not is_same_size)),
        Finding("dnn_matched", is_better(matched["cnn_against"])),
        Finding("dnn_report", is_better(original["cnn_against"])),
        Finding("dnn_end", decide(falls, best <= end)),
    ]


def confusion_findings(confusion, data):
    recall = {name: interval for name, interval in confusion["recall"].items() if interval[0] is not None}
    negative = {name: [-value, -high, -low] for name, (value, low, high) in recall.items()}
    findings = [Finding("accuracy"), Finding("calibration")]
    for key, claimed, shares in (("best_class", "surprise", recall), ("worst_class", "sad", negative),
                                 ("sad_for_fear", "fear", confusion["sad_as"])):
        if claimed in shares:
            leader = max(shares, key=lambda name: shares[name][0])
            findings.append(Finding(key + "_same" * (leader == claimed), has_highest(claimed, shares)))
    if confusion["errors"]:
        key = "fear_attracts" + "_same" * (confusion["attracts"]["class"] == "fear")
        findings.append(Finding(key, has_most("fear", confusion["wrong_predictions"])))
    largest, smallest = data["largest"]["class"], data["smallest"]["class"]
    if largest in recall:
        findings.append(Finding("largest_not_best", OPPOSITE[has_highest(largest, recall)]))
    if smallest in recall:
        (_, low, high), mean = confusion["smallest_class"]["recall"], confusion["mean_recall"]
        findings.append(Finding("smallest_not_bad", decide(low >= mean, high < mean)))
    return findings + [Finding("pair", part=f"confusion.pairs.{i}")
                       for i in range(min(TOP_PAIRS, len(confusion["pairs"])))]


def saliency_findings(saliency):
    return [
        Finding("saliency_image"),
        Finding("saliency_centre", compare(saliency["centre"], saliency["centre_area"])),
        Finding("saliency_ring", OPPOSITE[compare(saliency["ring_to_centre"], RING_IS_DARK)]),
        Finding("saliency_image_kept"),
        Finding("saliency_kept", compare(saliency["kept_above_random"], 0)),
    ]


def filter_findings(layers):
    return [Finding(key, part=f"filters.{i}") for i, layer in enumerate(layers)
            for key in ("filters_some" if layer["left_out"] else "filters_all",
                        "filters_classes", "filters_outputs" + "_silent" * bool(layer["image_silent"]))]


# ---- verdicts ----------------------------------------------------------------------------------------------


def decide(holds, fails):
    """The verdict on a claim, given whether the results show that it holds and that it fails."""
    return HOLDS if holds else FAILS if fails else OPEN


def compare(interval, threshold):
    """Whether [value, low, high] lies above a threshold."""
    _, low, high = interval
    return decide(low > threshold, high < threshold)


def standard_error(share, rows):
    """Standard error of a share measured on so many rows, never quite zero."""
    return math.sqrt(max(share * (1 - share), 1e-9) / rows)


def is_better(paired):
    """Whether the first of two networks is better on the same faces, by McNemar's test."""
    is_significant = paired["p"] < SIGNIFICANCE
    return decide(is_significant and paired["difference"] > 0, is_significant)


def has_highest(name, intervals):
    """Whether `name` has the highest of {name: [value, low, high]}; open where intervals overlap."""
    _, low, high = intervals[name]
    others = [interval for other, interval in intervals.items() if other != name]
    return decide(all(other[2] < low for other in others), any(other[1] > high for other in others))


def has_most(name, counts):
    """Whether `name` has the highest of {name: count}, not all 0, by the binomial test against the highest
    other one; where that is higher, with Bonferroni's correction, since it is the highest of several."""
    from scipy.stats import binomtest

    others = [count for key, count in counts.items() if key != name]
    p = binomtest(counts[name], counts[name] + max(others)).pvalue
    if counts[name] > max(others):
        return decide(p < SIGNIFICANCE, False)
    return decide(False, p * len(others) < SIGNIFICANCE)
