"""The page as one self-contained HTML file, from results, sentences and figures."""

import hashlib
import re
from pathlib import Path

import jinja2
import pandas as pd

from reporting.findings import FAILS, HOLDS, OPEN, all_findings
from reporting.pictures import PNG, to_base64
from reporting.text import ORIGINAL, WORDS, asset, class_name, fill, label, sentence
from utils.files import relative_path
from utils.metrics import percent

FIGURES = {  # what names of figures say, the last of them counts: keys of findings that tell what is in it
    "architecture": ("cnn_architecture", "dnn_size", "dnn_size_differs"),
    "comparison": ("dnn_matched", "both_ways"), "curves": ("overfitting", "dnn_underfits", "dnn_fit"),
    "confusion": ("both_ways",), "gallery": ("both_ways",), "reliability": ("calibration",),
    "saliency": ("saliency_image",), "filters": ("filters_stripes", "filters_images"),
    "outputs": ("filters_outputs", "filters_outputs_silent"),
    "patches": ("filters_strength", "filters_strength_all"),
    **dict.fromkeys(("history", "importance", "parallel"), ("sweep", "sweep_helps", "sweep_best"))}


def compose(results, commands, drawn, language):
    """The page's contents, ready for JSON: {"language", "results", "notes": [sentence], "answers" and
    "sections": {section: [sentence]}, "figures": {section: [{"path", "label", "alt", "command"}]},
    "commands": [str]}. A sentence is what `reporting.text.sentence` returns; the results have a tally of the
    verdicts, too.

    commands: {what was drawn or trained: command}; drawn: {section: paths of its figures}.
    """
    findings = all_findings(results)
    answers, sections = ({section: [sentence(one, results, language) for one in listed]
                          for section, listed in part.items()} for part in findings)
    verdicts = [one["verdict"] for listed in sections.values() for one in listed]
    claims = claim_rows(results["claims"], language) if tests_claims(results) else []
    claims = [claim["verdict"] for claim in claims if claim["verdict"]]
    tally = {verdict: (verdicts + claims).count(verdict) for verdict in (HOLDS, FAILS, OPEN)}
    tally = {"claims": sum(tally.values()), "with_seeds": len(claims)} | tally
    notes = sections.pop("notes")
    return {"language": language, "results": results | {"tally": tally}, "notes": notes, "answers": answers,
            "sections": sections,
            "figures": {section: [describe_figure(section, path, results, findings[1][section], language)
                                  | {"command": commands[section]} for path in drawn.get(section, ())]
                        for section in sections},
            "commands": [*dict.fromkeys(commands.values())]}


def tests_claims(results):
    """Whether the page has claims of the original report that were tested with several seeds."""
    return bool(results["original"] and results["claims"] and not results["data"]["is_sample"])


def describe_figure(section, path, results, findings, language):
    """A script's figure: {"path", "label": its caption, "alt": that and what was found in it}; findings: of
    its section."""
    path = Path(path)
    part = next((f"filters.{i}" for i, layer in enumerate(results["filters"])
                 if f"_{layer['layer']}_" in path.stem), "")
    *_, kind = re.findall(rf"_({'|'.join(FIGURES)})(?=_|$)", path.stem)
    caption, _ = fill(WORDS["captions"][f"{section}_{kind}"][language], results, language, part)
    found = next((sentence(one, results, language)["text"] for one in findings
                  if one.key in FIGURES[kind] and one.part in ("", part)), "")
    return {"path": relative_path(path), "label": caption, "alt": f"{caption} {found}"}


def translated(rows, language):
    """A DataFrame of rows (dicts of text) whose columns are named by labels in the language."""
    return pd.DataFrame(rows).rename(columns=lambda key: label(key, language))


def model_table(results, language):
    """The networks as a DataFrame of text, one row each."""
    evaluated = "evaluated" if results["evaluated"]["on_other_data"] else "validation"
    return translated([{
        "role": label(f"role_{role}", language), "file": network["name"],
        "parameters": f"{network['parameters']:,}", "training": percent(network["training_accuracy"]),
        evaluated: percent(network["evaluated"]),
        "test": percent(network["test"] and network["test"]["accuracy"]),
    } for role, network in results["models"].items()], language)


def region_table(saliency, language):
    """The parts of the face as a DataFrame of text: shares of saliency and area, and their ratio."""
    return translated([{
        "region": WORDS["regions"][part["region"]][language], "share": percent(part["share"]),
        "area": percent(part["area"]), "density": f"{part['density']:.1f}",
    } for part in saliency["regions"]], language)


def claim_rows(claims, language):
    """The claims as a list of dicts of text: what the original states, mean ± sd, paired difference; verdict,
    None where nothing is claimed."""
    return [claim | {
        "verdict": claim["verdict"] if "says" in ORIGINAL["claims"][claim["key"]] else None,
        "claim": ORIGINAL["claims"][claim["key"]][language],
        "score": " ± ".join(percent(claim[key]) for key in ("mean", "sd") if claim[key] is not None),
        "points": percent([claim["difference"], claim["low"], claim["high"]], "+.1f").replace("-", "\u2212"),
    } for claim in claims["claims"]]


def render(contents, drawings):
    """The page as HTML (str); contents: what `compose` returns, drawings: what `all_pictures` does."""
    results, language = contents["results"], contents["language"]
    environment = jinja2.Environment(loader=jinja2.FunctionLoader(asset), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {  # sha256: of a script, as a Content-Security-Policy wants it
        "data_uri": lambda path: PNG + to_base64(Path(path).read_bytes()),
        "sha256": lambda text: to_base64(hashlib.sha256(text.encode()).digest()),
        "words": lambda command: re.split(r" (?=-)", command),  # an option and its value stay together
        "class_name": lambda name: class_name(name, language)}
    trained = model_table(results, language)
    trained.iloc[:, 0] += " [" + trained.pop(label("file", language)) + "]"
    tables = {"data": (label("networks", language), trained),
              "saliency": (label("regions", language, results["saliency"]["faces"]),
                           region_table(results["saliency"], language))}
    for role in ("cnn", "dnn"):
        network = results["models"][role]
        tables[role] = (label("layers", language, role.upper(), network["layer_count"],
                              f"{network['parameters']:,}"), translated(network["layers"], language))
    claims = claim_rows(results["claims"], language) if results["claims"] else []
    return environment.get_template("page.html").render(
        contents, tables=tables, claims=claims, verdicts=WORDS["verdicts"], badges=WORDS["badges"],
        label=lambda key, *values: label(key, language, *values), **drawings).strip() + "\n"
