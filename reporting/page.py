"""The report as one self-contained HTML file and as Markdown, from results, sentences and figures."""

import functools
import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote

import jinja2
import pandas as pd

from reporting.findings import all_findings, answers, tally
from reporting.pictures import to_base64
from reporting.text import ORIGINAL, WORDS, asset, class_name, label, sentence
from utils.files import GENERATOR, relative_path
from utils.metrics import percent

NOTES = ("data_is_drawn", "data_is_limited")  # findings of which the reader must know first


def compose(results, commands, drawn, language):
    """The report, ready for JSON: {"language", "results", "notes" and "answers": [sentence], "sections":
    {section: [sentence]}, "figures": {section: [{"path", "label", "alt", "command"}]}, "commands": [str]}.
    A sentence is what `reporting.text.sentence` returns; the answers have their "section" too. The results
    get a tally of verdicts.

    commands: {what was drawn or trained: command}; drawn: {section: paths of its figures}.
    """
    findings = all_findings(results)
    results["tally"] = tally(findings)
    sections = {section: [sentence(one, results, language) for one in listed if one.key not in NOTES]
                for section, listed in findings.items()}
    listed = answers(results, findings)
    short = {section: {"section": section} | sentence(finding, results, language)
             for section, finding in listed.items()}
    texts = {section: listed[0]["text"] for section, listed in sections.items() if listed} | {
        section: answer["text"] for section, answer in short.items()}
    return {"language": language, "results": results,
            "notes": [sentence(one, results, language) for one in findings["data"] if one.key in NOTES],
            "answers": list(short.values()), "sections": sections,
            "figures": {section: [{"path": relative_path(path), "label": Path(path).stem,
                                   "alt": label("alt", language, Path(path).stem, texts[section]),
                                   "command": commands[section]} for path in drawn.get(section, ())]
                        for section in sections},
            "commands": [*dict.fromkeys(commands.values())]}


# ---- tables ------------------------------------------------------------------------------------------------


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


def sweep_table(effects, language):
    """What each value of an option was worth (see `sweep.value_effects`) as a DataFrame of text."""
    names = {None: "value_own", True: "value_yes", False: "value_no"}

    def text(value):
        is_named = value is None or isinstance(value, bool)
        return label(names[value], language) if is_named else f"{value:g}"

    return translated([{
        "option": effect["option"], "value": text(effect["value"]), "trials": str(effect["trials"]),
        "mean": percent(effect["accuracy"]),
        "difference": percent(effect["difference"], "+.1f"),
    } for effect in effects], language)


def claim_table(claims, language):
    """The claims as a DataFrame of text: what the original states, mean ± sd, paired difference, verdict."""

    def spread(mean, sd):
        return percent(mean) + (f" ± {percent(sd)}" if sd is not None else "")

    return translated([{
        "claim": ORIGINAL["claims"][claim["key"]][language], "changed": claim["configuration"],
        "score": spread(claim["mean"], claim["sd"]),
        "difference": percent([claim["difference"], claim["low"], claim["high"]], "+.1f"),
        "verdict": WORDS["badges"][claim["verdict"]][language],
    } for claim in claims["claims"]], language)


# ---- HTML and Markdown -------------------------------------------------------------------------------------


def render(template, report, **values):
    """Fill page.html or page.md of assets/; the first escapes what is text. Returns str.

    report: what `compose` returns; values: of page.html what `reporting.pictures.all_pictures` returns; of
    page.md `folder`, to which the figures' paths are relative.
    """
    results, language = report["results"], report["language"]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset), autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"data_uri": data_uri, "sha256": sha256, "relative_url": relative_url,
                            "escape_markdown": escape_markdown, "code_span": code_span,
                            "class_name": functools.partial(class_name, language=language)}
    tables = {"data": (label("networks", language), model_table(results, language)),
              **{role: (label("layers", language, results["models"][role]["name"]),
                        translated(results["models"][role]["layers"], language)) for role in ("cnn", "dnn")}}
    if results["sweep"]:
        tables["sweep"] = label("sweep_table", language), sweep_table(results["sweep"]["effects"], language)
    if results["claims"]:
        tables["claims"] = label("claim_table", language), claim_table(results["claims"], language)
    return environment.get_template(template).render(
        report, tables=tables, generator=GENERATOR, verdicts=WORDS["verdicts"], badges=WORDS["badges"],
        label=lambda key, *fields: label(key, language, *fields), **values).strip() + "\n"


def data_uri(path):
    """A PNG file as a data URI."""
    return "data:image/png;base64," + to_base64(Path(path).read_bytes())


def sha256(text):
    """The digest of a script as a Content-Security-Policy wants it."""
    return to_base64(hashlib.sha256(text.encode()).digest())


def relative_url(path, folder):
    """The address of a file in a Markdown file in `folder`."""
    return quote(os.path.relpath(path, folder).replace(os.sep, "/"))


def escape_markdown(text):
    """Text on one line with Markdown's own signs escaped."""
    return re.sub(r"([\\`*_~\[\]<>|#&])", r"\\\1", re.sub(r"\s*[\r\n]\s*", " ", str(text)))


def code_span(text):
    """Text as Markdown code on one line, fenced by more backticks than it has in a row (CommonMark 6.1)."""
    text = " ".join(text.split())
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"{fence}{text}{fence}"
