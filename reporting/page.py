"""The report as one self-contained HTML file and as Markdown, from results, sentences and figures."""

import functools
import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote

import jinja2
import pandas as pd

from reporting.findings import Finding, all_findings, tally
from reporting.pictures import to_base64
from reporting.text import FIGURES, ORIGINAL, WORDS, asset, class_name, label, sentence
from utils import models
from utils.files import GENERATOR, relative_path


def compose(results, commands, language):
    """The report, ready for JSON: {"language", "results", "sections": {section: [what
    `reporting.text.sentence` returns]}, "figures" as `list_figures` returns them, "commands": [str]}. The
    results get a tally of verdicts.

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
    """The figures of assets/figures.toml: {section: [{"path", "label", "alt", "command"}]}."""
    names = {role: results["models"][role]["name"] for role in ("cnn", "dnn")}
    layers = {f"filters.{i}.": layer["layer"] for i, layer in enumerate(results["filters"])}
    sentences = [one for listed in sections.values() for one in listed]
    figures = {section: [] for section in sections}
    for part, layer in {"": "", **layers}.items():
        texts = {one["key"].removesuffix("_same"): one["text"] for one in reversed(sentences)
                 if any(path.startswith(part) for path in one["values"])}
        for entry in (entry for entry in FIGURES if ("{layer}" in entry["file"]) == bool(layer)):
            file = entry["file"].format(**names, layer=layer.replace("/", "_"))
            title = ", ".join(filter(None, [label(entry["label"], language), layer]))
            seen = " ".join(texts[key] for key in entry["findings"] if key in texts)
            figures[entry["section"]].append({
                "path": relative_path(models.FIGURES / f"{file}.png"), "label": title,
                "alt": label("alt", language, title, seen) if seen else title,
                "command": commands[entry["command"]]})
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
    return translated([layer | {"parameters": f"{layer['parameters']:,}"}
                       for layer in results["models"]["cnn"]["layers"]], language)


def claim_table(claims, language):
    """The claims as a DataFrame of text: what the original states, mean ± sd, paired difference, verdict."""

    def spread(mean, sd):
        return percent(mean) + (f" ± {percent(sd)}" if sd is not None else "")

    return translated([{
        "claim": ORIGINAL["claims"][claim["key"]][language], "changed": claim["configuration"],
        "score": spread(claim["mean"], claim["sd"]), "baseline": claim["baseline"],
        "baseline_score": spread(claim["baseline_mean"], claim["baseline_sd"]),
        "difference": percent([claim["difference"], claim["low"], claim["high"]], "+.1f"),
        "verdict": WORDS["badges"][claim["verdict"]][language],
    } for claim in claims["claims"]], language)


# ---- HTML and Markdown -------------------------------------------------------------------------------------


def render(template, report, **values):
    """Fill page.html or page.md of assets/; the first escapes what is text. Returns str.

    report: what `compose` returns; values: of page.html `pictures`, {"confusion": what
    `reporting.pictures.confusion_cells` returns, "saliency": what `saliency_faces` returns}; of page.md
    `folder`, to which the figures' paths are relative.
    """
    results, language = report["results"], report["language"]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset), autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"data_uri": data_uri, "sha256": sha256, "relative_url": relative_url,
                            "escape_markdown": escape_markdown, "code_span": code_span,
                            "class_name": functools.partial(class_name, language=language)}
    tables = {"data": (label("networks", language), model_table(results, language)),
              "cnn": (label("layers", language), layer_table(results, language))}
    if results["claims"]:
        tables["claims"] = label("claims", language), claim_table(results["claims"], language)
    return environment.get_template(template).render(
        report, tables=tables, generator=GENERATOR, verdicts=WORDS["verdicts"],
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
