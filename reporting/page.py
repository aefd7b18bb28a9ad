"""The page as one self-contained HTML file, from results, sentences and figures."""

import hashlib
from pathlib import Path

import jinja2
import pandas as pd

from reporting.findings import FAILS, HOLDS, OPEN, all_findings
from reporting.pictures import PNG, to_base64
from reporting.text import ORIGINAL, WORDS, asset, class_name, label, sentence
from utils.files import relative_path
from utils.metrics import percent

QUESTIONS = ("cnn", "dnn", "confusion", "saliency", "filters")  # sections with an answer in one sentence


def compose(results, commands, drawn, language):
    """The page's contents, ready for JSON: {"language", "results", "notes" and "answers": [sentence],
    "sections": {section: [sentence]}, "figures": {section: [{"path", "label", "alt", "command"}]},
    "commands": [str]}. A sentence is what `reporting.text.sentence` returns; the answers have their "section"
    too, and the results a tally of the sections' verdicts.

    commands: {what was drawn or trained: command}; drawn: {section: paths of its figures}.
    """
    findings = all_findings(results)
    verdicts = [one.verdict for section in findings.keys() - {"answers"} for one in findings[section]]
    tally = {verdict: verdicts.count(verdict) for verdict in (HOLDS, FAILS, OPEN)}
    tally = {"claims": sum(tally.values())} | tally
    sections = {section: [sentence(one, results, language) for one in listed]
                for section, listed in findings.items()}
    notes, answers = sections.pop("notes"), sections.pop("answers")
    shown = {section: listed[0]["text"] for section, listed in sections.items()}  # by the section's figures
    shown |= {section: answer["text"] for section, answer in zip(QUESTIONS, answers)}
    return {"language": language, "results": results | {"tally": tally}, "notes": notes,
            "answers": [{"section": section} | answer for section, answer in zip(QUESTIONS, answers)],
            "sections": sections,
            "figures": {section: [{"path": relative_path(path), "label": Path(path).stem,
                                   "alt": label("alt", language, Path(path).stem, shown[section]),
                                   "command": commands[section]} for path in drawn.get(section, ())]
                        for section in sections},
            "commands": [*dict.fromkeys(commands.values())]}


def translated(rows, language):
    """A DataFrame of rows (dicts of text) whose columns are named by labels in the language."""
    return pd.DataFrame(rows).rename(columns=lambda key: label(key, language))


def model_table(results, language):
    """The networks as a DataFrame of text, one row each."""
    evaluated = "evaluated" if results["evaluated"]["on_other_data"] else "validation"
    return translated([{
        "role": label(f"role_{role}", language), "model": network["name"],
        "parameters": f"{network['parameters']:,}", "training": percent(network["training_accuracy"]),
        evaluated: percent(network["evaluated"]),
        "test": percent(network["test"] and network["test"]["accuracy"]),
    } for role, network in results["models"].items()], language)


def claim_table(claims, language):
    """The claims as a DataFrame of text: what the original states, mean ± sd, paired difference, verdict."""
    return translated([{
        "claim": ORIGINAL["claims"][claim["key"]][language], "changed": claim["configuration"],
        "score": " ± ".join(percent(claim[key]) for key in ("mean", "sd") if claim[key] is not None),
        "difference": percent([claim["difference"], claim["low"], claim["high"]], "+.1f"),
        "verdict": WORDS["badges"][claim["verdict"]][language],
    } for claim in claims["claims"]], language)


def render(contents, drawings):
    """The page as HTML (str); contents: what `compose` returns, drawings: what `all_pictures` does."""
    results, language = contents["results"], contents["language"]
    environment = jinja2.Environment(loader=jinja2.FunctionLoader(asset), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {  # sha256: of a script, as a Content-Security-Policy wants it
        "data_uri": lambda path: PNG + to_base64(Path(path).read_bytes()),
        "sha256": lambda text: to_base64(hashlib.sha256(text.encode()).digest()),
        "class_name": lambda name: class_name(name, language)}
    tables = {"data": (label("networks", language), model_table(results, language)),
              **{role: (label("layers", language, results["models"][role]["name"]),
                        translated(results["models"][role]["layers"], language)) for role in ("cnn", "dnn")}}
    if results["claims"]:
        tables["claims"] = label("claim_table", language), claim_table(results["claims"], language)
    return environment.get_template("page.html").render(
        contents, tables=tables, verdicts=WORDS["verdicts"], badges=WORDS["badges"],
        label=lambda key, *values: label(key, language, *values), **drawings).strip() + "\n"
