"""Which sentences of `reporting.text` the page states, and whether the original report's claims hold here."""

import math
from typing import NamedTuple

from utils.metrics import wilson

HOLDS, FAILS, OPEN = "holds", "fails", "open"
OPPOSITE = {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}
RING_IS_DARK = 0.1  # the outer ring is near zero when its mean is at most this share of the centre's


class Finding(NamedTuple):
    """verdict: on the original report's claim, None where it makes none; part: path in the results to what
    the sentence is about, of a sentence that is used several times."""

    key: str
    verdict: str | None = None
    part: str = ""


def all_findings(results):
    """{section: [Finding]} in the page's order: notes, the answer to each question, then the sections. Of
    drawn faces, which decide nothing about claims on photographs, no finding has a verdict."""
    data, models, saliency, sweep = (results[key] for key in ("data", "models", "saliency", "sweep"))
    confusion, layers = results["confusion"], results["filters"]
    is_same_size = models["report_dnn"]["parameters"] == results["original"]["dnn_parameters"]
    findings = {
        "notes": ([Finding("data_is_drawn")] * data["is_sample"]
                  + [Finding("data_is_limited")] * bool(data["limit"])),
        "answers": [
            Finding("answer_cnn", overfits(models["cnn"])),
            Finding("answer_dnn", is_better(models["dnn"]["cnn_against"])),
            Finding("answer_confusion" if confusion["pairs"] else "answer_confusion_none",
                    has_highest("fear", confusion["sad_as"])),
            Finding("answer_saliency", compare(saliency["centre"], saliency["centre_area"])),
            Finding("answer_filters", part=f"filters.{len(layers) - 1}") if layers else
            Finding("answer_filters_none")],
        "cnn": cnn_findings(models["cnn"], models["oversampled"], results["original"]["kaggle"]),
        "sweep": ([Finding("sweep")] + [Finding("sweep_confirmed")] * bool(sweep["confirmed"]) if sweep else
                  [Finding("sweep_none")]),
        "dnn": [Finding("dnn_size", decide(is_same_size, not is_same_size)),
                Finding("dnn_matched", is_better(models["dnn"]["cnn_against"])),
                Finding("dnn_report", is_better(models["report_dnn"]["cnn_against"])),
                Finding("dnn_end", falls_near_end(models["report_dnn"]))],
        "confusion": confusion_findings(confusion, data),
        "saliency": [Finding("saliency_image"),
                     Finding("saliency_centre", compare(saliency["centre"], saliency["centre_area"])),
                     Finding("saliency_ring", OPPOSITE[compare(saliency["ring_to_centre"], RING_IS_DARK)]),
                     Finding("saliency_image_kept"),
                     Finding("saliency_kept", compare(saliency["kept_above_controls"], 0))],
        "filters": [Finding(key, part=f"filters.{i}") for i, layer in enumerate(layers)
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


def cnn_findings(network, oversampled, kaggle):
    findings = [Finding("cnn_size"), Finding("cnn_time"), Finding("cnn_accuracy"),
                Finding("overfitting", overfits(network)),
                Finding("oversampling", is_better(oversampled["against_cnn"]))]
    findings += [Finding("oversampling_test")] * bool(oversampled["test"])
    if network["test"]:
        keys = {HOLDS: "cnn_test_above", FAILS: "cnn_test_below", OPEN: "cnn_test_same"}
        findings.insert(3, Finding(keys[compare(network["test"]["accuracy"], kaggle)]))
    return findings


def confusion_findings(confusion, data):
    recall = {name: interval for name, interval in confusion["recall"].items() if interval[0] is not None}
    lowest = {name: [-value, -high, -low] for name, (value, low, high) in recall.items()}
    findings = [Finding("accuracy"), Finding("calibration")]
    for key, claimed, shares in (("best_class", "surprise", recall), ("worst_class", "sad", lowest),
                                 ("sad_for_fear", "fear", confusion["sad_as"])):
        if claimed in shares:
            leader = max(shares, key=lambda name: shares[name][0])
            findings.append(Finding(key + "_same" * (leader == claimed), has_highest(claimed, shares)))
    if confusion["errors"]:
        key = "fear_attracts" + "_same" * (confusion["attracts"]["class"] == "fear")
        shares = {name: [count / confusion["errors"], *wilson(count, confusion["errors"])]
                  for name, count in confusion["wrong_predictions"].items()}
        findings.append(Finding(key, has_highest("fear", shares)))
    largest, smallest = data["largest"]["class"], data["smallest"]["class"]
    if largest in recall:
        findings.append(Finding("largest_not_best", OPPOSITE[has_highest(largest, recall)]))
    if smallest in recall:
        (_, low, high), mean = confusion["smallest_class"]["recall"], confusion["mean_recall"]
        findings.append(Finding("smallest_not_bad", decide(low >= mean, high < mean)))
    return findings + [Finding("pair", part=f"confusion.pairs.{i}")
                       for i in range(len(confusion["pairs"][:3]))]


# ---- verdicts ----------------------------------------------------------------------------------------------


def decide(holds, fails):
    """The verdict on a claim, given whether the results show that it holds and that it fails."""
    return HOLDS if holds else FAILS if fails else OPEN


def compare(interval, threshold):
    """Whether [value, low, high] lies above a threshold."""
    return decide(interval[1] > threshold, interval[2] < threshold)


def standard_error(network):
    """Standard error of the validation accuracy at the end, never quite zero."""
    share = network["end"]["val_accuracy"]
    return math.sqrt(max(share * (1 - share), 1e-9) / network["validation_rows"])


def overfits(network):
    """Whether training accuracy ends clearly above validation accuracy, whose loss has risen by then."""
    gap, has_risen = network["end"]["gap"], network["lowest_loss"]["epoch"] < network["end"]["epoch"]
    return decide(gap > 2 * standard_error(network) and has_risen, gap <= 0)


def falls_near_end(network):
    """Whether validation accuracy ends clearly below its best."""
    fall = network["best"]["val_accuracy"] - network["end"]["val_accuracy"]
    return decide(fall > standard_error(network), fall <= 0)


def is_better(paired):
    """Whether the first of two networks is better on the same faces, by McNemar's test at a level of 5 %."""
    is_significant = paired["p"] < 0.05
    return decide(is_significant and paired["difference"] > 0, is_significant)


def has_highest(name, intervals):
    """Whether `name` has the highest of {name: [value, low, high]}; open where intervals overlap, None where
    it is not among them."""
    if name not in intervals:
        return None
    _, low, high = intervals[name]
    others = [interval for other, interval in intervals.items() if other != name]
    return decide(all(other[2] < low for other in others), any(other[1] > high for other in others))
