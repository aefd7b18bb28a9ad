"""The report as one self-contained HTML file and as Markdown, from results, sentences and figures."""

import base64
import functools
import hashlib
import os
import re
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from reporting.findings import Finding, all_findings, tally
from reporting.text import FIGURES, WORDS, asset, class_name, label, sentence
from utils import models
from utils.files import GENERATOR, relative_path

SECTIONS = ("data", "cnn", "dnn", "confusion", "saliency", "filters", "claims")
SCRIPT_WORDS = ("slider_text", "cell_of", "surest", "patches_of", "training_image")  # that page.js needs


def compose(results, commands, language):
    """The report: {"language", "results", "sections": {section: [what `reporting.text.sentence` returns]},
    "figures" as `list_figures` returns them, "commands": [str]}. The results get a tally of verdicts.

    commands: {what was drawn or trained: command}.
    """
    findings = all_findings(results)
    results["tally"] = tally(findings)
    if results["tally"]["claims"]:
        findings["data"].append(Finding("tally"))
    sections = {section: [sentence(finding, results, language) for finding in listed]
                for section, listed in findings.items()}
    return {"language": language, "results": results, "sections": sections,
            "figures": list_figures(results, sections, commands, language),
            "commands": [*dict.fromkeys(commands.values())]}


def list_figures(results, sections, commands, language):
    """The figures of assets/figures.toml that exist: {section: [{"path", "label", "alt", "command"}]}."""
    names = {role: results["models"][role]["name"] for role in ("cnn", "dnn")}
    sentences = [one for listed in sections.values() for one in listed]
    figures = {section: [] for section in SECTIONS}

    def add(entry, layer="", results_of_layer=""):
        path = models.FIGURES / (entry["file"].format(**names, layer=layer.replace("/", "_")) + ".png")
        title = ", ".join(filter(None, [label(entry["label"], language), layer]))
        texts = {one["key"].removesuffix("_same"): one["text"] for one in reversed(sentences)
                 if any(value.startswith(results_of_layer) for value in one["values"])}
        seen = " ".join(texts[key] for key in entry["findings"] if key in texts)
        if path.exists():
            figures[entry["section"]].append({
                "path": path, "label": title, "alt": label("alt", language, title, seen) if seen else title,
                "command": commands[entry["command"]]})

    for entry in FIGURES["figures"]:
        add(entry)
    for i, layer in enumerate(results["filters"]):
        for entry in FIGURES["layer_figures"]:
            add(entry, layer["layer"], f"filters.{i}.")
    return figures


# ---- tables ------------------------------------------------------------------------------------------------


def percent(value, form=".1f"):
    """A share, alone or as [share, low, high], in per cent: `57.3 [55.7, 58.8]`; `–` where there is none."""
    value, *interval = value if isinstance(value, list) else [value]
    if value is None:
        return "–"
    ends = ", ".join(f"{100 * end:{form}}" for end in interval if end is not None)
    return f"{100 * value:{form}}" + (f" [{ends}]" if ends else "")


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


def layer_table(results, language):
    """The CNN's layers as a DataFrame of text."""
    return translated([{
        "layer": layer["name"], "kind": f"{layer['kind']} {layer['what']}".strip(), "output": layer["output"],
        "parameters": f"{layer['parameters']:,}",
    } for layer in results["models"]["cnn"]["layers"]], language)


def claim_table(claims, language):
    """The claims as a DataFrame of text: what the original states, mean ± sd, paired difference, verdict."""

    def spread(score):
        return percent(score["mean"]) + (f" ± {percent(score['sd'])}" if score["sd"] is not None else "")

    return translated([{
        "claim": claim["words"][language], "changed": claim["changed"], "score": spread(claim["score"]),
        "baseline": claim["baseline"], "baseline_score": spread(claim["baseline_score"]),
        "difference": percent(claim["difference"], "+.1f"),
        "verdict": WORDS["badges"][claim["verdict"]][language],
    } for claim in claims["claims"]], language)


def tables_of(section, results, language):
    """The tables of a section: a list of (caption, DataFrame)."""
    if section == "data":
        return [(label("networks", language), model_table(results, language))]
    if section == "cnn":
        return [(label("layers", language), layer_table(results, language))]
    if section == "claims" and results["claims"]:
        return [(label("claims", language), claim_table(results["claims"], language))]
    return []


# ---- HTML, Markdown and JSON -------------------------------------------------------------------------------


def render(template, report, **values):
    """Fill a template of assets/ with the report; an HTML template escapes what is not Markup."""
    language = report["language"]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset), autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}  # not sorted: classes are in order
    environment.filters |= {"data_uri": data_uri, "escape_markdown": escape_markdown, "code_span": code_span,
                            "class_name": functools.partial(class_name, language=language)}
    environment.globals |= report | values | {
        "section_names": SECTIONS, "generator": GENERATOR, "verdicts": WORDS["verdicts"],
        "tables_of": tables_of,
        "label": lambda key, *fields: label(key, language, *fields)}
    return environment.get_template(template).render().strip() + "\n"


def html(report, pictures):
    """The whole page as text.

    report: what `compose` returns; pictures: what `reporting.pictures.collect` returns.
    """
    language, script = report["language"], asset("page.js")
    data = {"pictures": pictures, "words": {key: label(key, language) for key in SCRIPT_WORDS},
            "classes": {name: class_name(name, language) for name in WORDS["classes"]}}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return render("page.html", report, pictures=pictures, data=data, digest=digest, script=Markup(script),
                  style=Markup(asset("page.css")))


def markdown(report, folder):
    """The report as Markdown whose figures are named relative to `folder`."""
    return render("page.md", report,
                  relative=lambda path: quote(os.path.relpath(path, folder).replace(os.sep, "/")))


def as_json(report):
    """The report ready for JSON: paths as text."""
    return report | {"figures": {
        section: [figure | {"path": relative_path(figure["path"])} for figure in figures]
        for section, figures in report["figures"].items()}}


def data_uri(path):
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def escape_markdown(text):
    """Text on one line with Markdown's own signs escaped."""
    return re.sub(r"([\\`*_~\[\]<>|#&])", r"\\\1", re.sub(r"\s*[\r\n]\s*", " ", str(text)))


def code_span(text):
    """Text as Markdown code on one line, fenced by more backticks than it has in a row (CommonMark 6.1)."""
    text = " ".join(text.split())
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"{fence}{text}{fence}"
