"""The page as one self-contained HTML file, from results, sentences and figures."""

import hashlib
import itertools
import re
from pathlib import Path

import jinja2
import pandas as pd

from reporting.findings import FAILS, HOLDS, OPEN, all_findings
from reporting.pictures import PNG, to_base64
from reporting.text import ORIGINAL, WORDS, asset, fill, label, sentence
from utils.files import relative_path
from utils.metrics import percent


def compose(results, commands, drawn, language):
    """The page's contents, ready for JSON: {"language", "results", "notes": [sentence], "answers" and
    "sections": {section: [sentence]}, "figures": {section: [{"path", "label", "command"}]},
    "commands": [str]}. A sentence is what `reporting.text.sentence` returns; results get a tally of verdicts.
    commands: {what was drawn or trained: command}; drawn: {section: paths of its figures}."""
    answers, sections = ({section: [sentence(one, results, language) for one in listed]
                          for section, listed in part.items()} for part in all_findings(results))
    notes = sections.pop("notes")
    verdicts = [one["verdict"] for one in itertools.chain(*sections.values())]
    is_judged = results["original"] and not results["data"]["is_sample"]
    with_seeds = [claim["verdict"] for claim in claim_rows(results["claims"], language) if is_judged]
    tally = {verdict: (verdicts + with_seeds).count(verdict) for verdict in (HOLDS, FAILS, OPEN)}
    tally = {"claims": sum(tally.values()), "with_seeds": len(with_seeds)} | tally
    figures = {section: [{"path": relative_path(path), "label": caption(section, path, results, language),
                          "command": commands[section]} for path in drawn.get(section, ())]
               for section in sections}
    return {"language": language, "results": results | {"tally": tally}, "notes": notes, "answers": answers,
            "sections": sections, "commands": [*dict.fromkeys(commands.values())],
            "figures": figures}


def caption(section, path, results, language):
    """What a script's figure shows, by what its name says last."""
    kinds = {key.split("_")[1]: words[language] for key, words in WORDS["captions"].items()
             if key.startswith(f"{section}_")}
    *_, kind = re.findall(rf"_({'|'.join(kinds)})(?=_|$)", Path(path).stem)
    part = next((f"filters.{i}" for i, layer in enumerate(results["filters"])
                 if f"_{layer['layer']}_" in Path(path).stem), "")
    return fill(kinds[kind], results, language, part)[0]


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


def claim_rows(claims, language):
    """Any claims as dicts of text: what the original states, mean ± sd, difference, verdict."""
    return [claim | {
        "claim": ORIGINAL["claims"][claim["key"]][language],
        "score": " ± ".join(percent(claim[key]) for key in ("mean", "sd") if claim[key] is not None),
        "points": percent([claim["difference"], claim["low"], claim["high"]], "+z.1f").replace("-", "\u2212"),
    } for claim in (claims["claims"] if claims else ())]


def render(contents, drawings):
    """The page as HTML (str); contents: what `compose` returns, drawings: what `all_pictures` does."""
    results, language = contents["results"], contents["language"]
    environment = jinja2.Environment(loader=jinja2.FunctionLoader(asset), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {  # sha256: of a script, as a Content-Security-Policy wants it
        "data_uri": lambda path: PNG + to_base64(Path(path).read_bytes()),
        "sha256": lambda text: to_base64(hashlib.sha256(text.encode()).digest()),
        "words": lambda command: re.split(r" (?=-)", command),  # an option and its value stay together
        "percent": percent, "class_name": lambda name: WORDS["classes"][name][language]}
    trained = model_table(results, language)
    trained.iloc[:, 0] += " [" + trained.pop(label("file", language)) + "]"
    tables = {"data": (label("networks", language), trained)}
    for role in ("cnn", "dnn"):
        network = results["models"][role]
        tables[role] = (label("layers", language, role.upper(), network["layer_count"],
                              f"{network['parameters']:,}"), translated(network["layers"], language))
    return environment.get_template("page.html").render(
        contents, tables=tables, words=WORDS, claims=claim_rows(results["claims"], language),
        label=lambda key, *values: label(key, language, *values), **drawings).strip() + "\n"
