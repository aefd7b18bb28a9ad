"""Which sentences the page may state, and whether the claims of the original report hold here.

A finding names a sentence of `reporting.text`, whose numbers come from the results.
"""

import math
from typing import NamedTuple

HOLDS, FAILS, OPEN = "holds", "fails", "open"
OPPOSITE = {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}
SIGNIFICANCE = 0.05  # level of McNemar's and of the binomial test
RING_IS_DARK = 0.1  # the outer ring is near zero when its mean is at most this share of the centre's
TOP_PAIRS = 3  # confusions that get a sentence


class Finding(NamedTuple):
    """key: of the sentence; verdict: on the original report's claim, None where it makes none; part: path in
    the results to what the sentence is about, of a sentence that is used several times."""

    key: str
    verdict: str | None = None
    part: str = ""


def all_findings(results):
    """{section: [Finding]} in the page's order: notes, which the reader must know first, the answer to each
    question, then the sections.

    Faces of the built-in sample decide nothing about claims on photographs: no finding has a verdict then.
    """
    data, models, saliency, sweep = (results[key] for key in ("data", "models", "saliency", "sweep"))
    is_same_size = models["report_dnn"]["parameters"] == results["original"]["dnn_parameters"]
    findings = {
        "notes": ([Finding("data_is_drawn")] * data["is_sample"]
                  + [Finding("data_is_limited")] * bool(data["limit"])),
        "answers": answers(results),
        "cnn": cnn_findings(models["cnn"], models["oversampled"], results["original"]["kaggle"]),
        "sweep": ([Finding("sweep")] + [Finding("sweep_confirmed")] * bool(sweep["confirmed"]) if sweep else
                  [Finding("sweep_none")]),
        "dnn": [Finding("dnn_size", decide(is_same_size, not is_same_size)),
                Finding("dnn_matched", is_better(models["dnn"]["cnn_against"])),
                Finding("dnn_report", is_better(models["report_dnn"]["cnn_against"])),
                Finding("dnn_end", falls_near_end(models["report_dnn"]))],
        "confusion": confusion_findings(results["confusion"], data),
        "saliency": [Finding("saliency_image"),
                     Finding("saliency_centre", compare(saliency["centre"], saliency["centre_area"])),
                     Finding("saliency_ring", OPPOSITE[compare(saliency["ring_to_centre"], RING_IS_DARK)]),
                     Finding("saliency_image_kept"),
                     Finding("saliency_kept", compare(saliency["kept_above_random"], 0))],
        "filters": [Finding(key, part=f"filters.{i}") for i, layer in enumerate(results["filters"])
                    for key in ("filters_some" if layer["left_out"] else "filters_all", "filters_classes",
                                "filters_outputs_silent" if layer["image_silent"] else "filters_outputs")],
        "claims": [Finding("claims_intro" if results["claims"] else "claims_none")],
        "data": [Finding("data"), Finding(
            "evaluated_on_other_data" if results["evaluated"]["on_other_data"] else
            "evaluated_on_split_of_best_epoch" if models["cnn"]["keep"] == "best" else "evaluated_on_split")],
    }
    if data["is_sample"]:
        return {section: [finding._replace(verdict=None) for finding in listed]
                for section, listed in findings.items()}
    return findings


def answers(results):
    """The answer to each question in one sentence."""
    confusion, saliency, layers = results["confusion"], results["saliency"], results["filters"]
    return [
        Finding("answer_cnn", overfits(results["models"]["cnn"])),
        Finding("answer_dnn", is_better(results["models"]["dnn"]["cnn_against"])),
        Finding("answer_confusion" if confusion["pairs"] else "answer_confusion_none",
                has_highest("fear", confusion["sad_as"])),
        Finding("answer_saliency", compare(saliency["centre"], saliency["centre_area"])),
        Finding("answer_filters" if layers else "answer_filters_none", part=f"filters.{len(layers) - 1}"),
    ]


def cnn_findings(network, oversampled, kaggle):
    findings = [Finding("cnn_size"), Finding("cnn_time"), Finding("cnn_accuracy")]
    if network["test"]:
        keys = {HOLDS: "cnn_test_above", FAILS: "cnn_test_below", OPEN: "cnn_test_same"}
        findings.append(Finding(keys[compare(network["test"]["accuracy"], kaggle)]))
    findings += [Finding("overfitting", overfits(network)),
                 Finding("oversampling", is_better(oversampled["against_cnn"]))]
    return findings + [Finding("oversampling_test")] * bool(oversampled["test"])


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


def tally(findings):
    """How many of the sections' claims hold, fail and stay open: {"claims", "holds", "fails", "open"}."""
    verdicts = [finding.verdict for section, listed in findings.items() if section != "answers"
                for finding in listed if finding.verdict]
    return {"claims": len(verdicts)} | {verdict: verdicts.count(verdict) for verdict in (HOLDS, FAILS, OPEN)}


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


def overfits(network):
    """Whether training accuracy ends clearly above validation accuracy, whose loss has risen by then."""
    end, lowest_loss = network["end"], network["lowest_loss"]
    error = standard_error(end["val_accuracy"], network["validation_rows"])
    return decide(end["gap"] > 2 * error and lowest_loss["epoch"] < end["epoch"], end["gap"] <= 0)


def falls_near_end(network):
    """Whether validation accuracy ends clearly below its best."""
    best, end = (network[epoch]["val_accuracy"] for epoch in ("best", "end"))
    return decide(best - end > standard_error(end, network["validation_rows"]), best <= end)


def is_better(paired):
    """Whether the first of two networks is better on the same faces, by McNemar's test."""
    is_significant = paired["p"] < SIGNIFICANCE
    return decide(is_significant and paired["difference"] > 0, is_significant)


def has_highest(name, intervals):
    """Whether `name` has the highest of {name: [value, low, high]}; open where intervals overlap, None where
    it is not among them."""
    if name not in intervals:
        return None
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
