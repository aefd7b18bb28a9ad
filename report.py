"""All five questions at once: regenerate every figure, and answer each question in numbers, sentences and verdicts.

    python report.py                              your own models; what is missing is trained first
    python report.py --models released            the released models, nothing is trained
    python report.py --language zh-Hant           the report in Traditional Chinese
    python report.py --claims --seeds 3           re-run the original report's claims about training; the next report has them
    python report.py --data sample --limit 500    a try-out in a few minutes, without any data

Training the four networks on all of FER2013 took 25 minutes on two cores (the seconds in the released model cards together).
Writes figures/report.html (one file, to be opened in a browser), report.md and report.json, and the other scripts' figures.
With --claims: figures/claims.json and claims.csv; each configuration's result is kept in models/claims/, so that an
interrupted run continues.
"""

import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from utils import cli
from utils.cli import UserError
from utils.files import PROJECT, read_json, shown, write_json, write_text
from utils.report_text import LANGUAGES, label, say

NETWORKS = {  # role in the report: own model, released model, what trains it
    "cnn": ("cnn", "fer2013-report-cnn", ("train_cnn.py",)),
    "oversampled": ("cnn-oversampled", "fer2013-report-cnn-oversampled", ("train_cnn.py", "--oversample")),
    "dnn": ("dnn", "fer2013-matched-dnn", ("train_dnn.py",)),
    "report_dnn": ("dnn-report", "fer2013-report-dnn", ("train_dnn.py", "--network", "report")),
}
HOMEWORK_IMAGE = 15  # the 16th training image
FILTER_FACES = 2000  # that the filters are measured on


def main():
    args = arguments()
    cli.start_keras()
    from utils import data

    test = data.load_labelled(args.test, args.test_labels) if args.test else None
    if args.claims:
        return rerun_claims(args, test)
    paths = networks_at_hand(args)
    subject = faces_of_the_report(args, paths)
    commands = draw(args, paths, subject)
    results, pictures = collect(args, paths, subject)
    written = write(args, results, pictures, commands)
    from utils.report_page import model_table

    header, rows = model_table(results, "en")
    print("\n" + cli.table(rows, header))
    print("Wrote " + ", ".join(shown(path) for path in written))


def arguments():
    parser = cli.Parser(__doc__)
    parser.add_argument("--models", choices=("own", "released"), default="own", help="own ones are trained where missing")
    parser.add_argument("--data", type=Path, help="faces to train and to measure on (default: data/*.csv, else the sample)")
    parser.add_argument("--limit", type=cli.number(int, 16), help="train and measure on the first LIMIT faces, to try out")
    parser.add_argument("--epochs", type=cli.number(int, 1), help="of what is trained (default: each network's recipe)")
    parser.add_argument("--test", type=Path, metavar="FILE", help="labelled test faces to score the networks on as well")
    parser.add_argument("--test-labels", type=Path, metavar="ID_LABEL.csv", help="id,label CSV for a --test without labels")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the report")
    parser.add_argument("--out", type=Path, default=Path("figures/report.html"), help="the .md and .json go beside it")
    parser.add_argument("--claims", action="store_true", help="re-run the claims about training instead: hours on all faces")
    parser.add_argument("--seeds", type=cli.number(int, 1), default=3, help="of every configuration of --claims")
    args = parser.parse_args()
    if args.out.suffix != ".html":
        raise UserError(f"--out {args.out} must end in .html")
    if args.test_labels and not args.test:
        raise UserError(f"--test-labels {args.test_labels} belongs to a --test; name the file of faces too")
    return args


def rerun_claims(args, test):
    """--claims: train every configuration, print the table and write it."""
    from utils import claims, models

    found = claims.rerun(args, test)
    claims.show(found, args.language)
    print("Wrote " + ", ".join(shown(path) for path in claims.write(found, models.FIGURES)))


def script(arguments, seen=False):
    """Run one of the project's scripts; its one-line error becomes ours. Returns the command. seen: pass its output on."""
    command, start = "python " + shlex.join(map(str, arguments)), time.monotonic()
    print(command, flush=True)
    done = cli.call([sys.executable, PROJECT / arguments[0], *map(str, arguments[1:])],
                    stdout=None if seen else subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"{arguments[0]}: exit status {done.returncode}"])[-1]
        raise UserError(said.replace(": error: ", ": ", 1))
    print(f"    {time.monotonic() - start:.0f} s", flush=True)
    return command


# ---- models and faces ------------------------------------------------------------------------------------------


def networks_at_hand(args):
    """The report's networks, {role: path}; own ones are trained where they are missing."""
    from utils import models

    if args.models == "released":
        paths = {role: models.MODELS / f"{released}.h5" for role, (_, released, _) in NETWORKS.items()}
        missing = [shown(path) for path in paths.values() if not path.exists()]
        if missing:
            raise UserError(f"{missing[0]} is missing; restore it, or leave out --models released")
        return paths
    options = [part for name in ("data", "limit", "epochs") if getattr(args, name) is not None
               for part in (f"--{name}", getattr(args, name))]
    paths = {role: models.MODELS / f"{own}.h5" for role, (own, _, _) in NETWORKS.items()}
    for role, (own, _, training) in NETWORKS.items():
        if not (paths[role].exists() and models.card_path(paths[role]).exists()):
            script([*training, "--name", own, *options], seen=True)
    return paths


def faces_of_the_report(args, paths):
    """The training faces, and the faces that the networks are judged on: their common validation split where the data are
    those that they were trained on, else all of --data."""
    from utils import data, evaluation

    training = data.training_part(data.find_data(args.data))
    if training.labels is None:
        raise UserError(f"{training.source} has no labels; expected a column label or emotion")
    if len(training) <= HOMEWORK_IMAGE:
        raise UserError(f"{training.source} has {len(training)} training faces; expected more than {HOMEWORK_IMAGE}, "
                        "because the homework asks about the 16th")
    split = evaluation.split_of(paths["cnn"])
    first = training.take(slice(0, split["limit"]))
    own = first.fingerprint() == split["fingerprint"]
    where = [] if args.data is None else ["--training-data" if own else "--data", args.data]
    if args.data is None and not own:
        where = ["--data", "sample" if training.source == "built-in sample" else training.source]
    if where == ["--training-data", Path("sample")]:
        where = []  # the model card says so already
    named = dict(zip(where[::2], where[1::2]))
    judged = evaluation.faces_to_judge(SimpleNamespace(
        data=named.get("--data"), labels=None, usage=None, training_data=named.get("--training-data")), list(paths.values()))
    return SimpleNamespace(training=training, judged=judged, is_own=own, where=where,
                           data=[] if args.data is None else ["--data", args.data])


# ---- figures ---------------------------------------------------------------------------------------------------


def draw(args, paths, subject):
    """Draw every figure by its own script; returns {kind: command}."""
    from utils import figures, models

    cnn, dnn, commands = paths["cnn"], paths["dnn"], {}
    for role in ("cnn", "dnn"):
        figures.training_figures(models.read_card(paths[role]))
        commands[role] = models.read_card(paths[role])["command"]
    figures.draw_curves({"CNN": figures.read_history(cnn.with_name(f"{cnn.stem}_history.csv")),
                         "DNN": figures.read_history(dnn.with_name(f"{dnn.stem}_history.csv"))},
                        models.FIGURES / f"{dnn.stem}_comparison.png")
    commands["confusion"] = script(["plot_confusion.py", "--model", shown(cnn), "--compare", shown(dnn), *subject.where,
                                    "--out", shown(models.FIGURES / "confusion.png")])
    commands["saliency"] = script(["saliency.py", "--model", shown(cnn), "--index", HOMEWORK_IMAGE, *subject.data])
    commands["filters"] = script(["filter_vis.py", "--model", shown(cnn), "--patches", "--index", HOMEWORK_IMAGE, "--limit",
                                  args.limit or FILTER_FACES, *subject.data])
    if args.test:
        labels = ["--labels", args.test_labels] if args.test_labels else []
        commands["test"] = script(["evaluate.py", "--model", *map(shown, paths.values()), "--data", args.test, *labels,
                                   "--out", shown(models.FIGURES / "models.png")])
    return commands


def figure_files(results, say_of):
    """The figures of each section: {section: [(path, label, command's kind, alternative text)]}.

    say_of(key, where) gives the text of a finding, if there is one, by which an alternative text says what is to be seen.
    """
    from utils import models

    cnn, dnn = results["models"]["cnn"]["name"], results["models"]["dnn"]["name"]

    def figure(name, words, kind, *keys, where=None, detail=""):
        found = " ".join(filter(None, (say_of(key, where) for key in keys)))
        title = label(words, say_of.language) + detail
        return {"path": models.FIGURES / name, "label": title, "kind": kind,
                "alt": label("alt", say_of.language, title, found) if found else title}

    filters = []
    for i, layer in enumerate(results["filters"]):
        name, where = layer["layer"], f"filters.{i}"
        filters += [figure(f"{cnn}_{kind}_{name}.png", f"filter_{words}", "filters", key, where=where, detail=f", {name}")
                    for kind, words, key in (("filters", "images", "filters_"), ("outputs", "outputs", "filters_outputs"),
                                             ("patches", "patches", "filters_classes"))]
    found = {
        "cnn": [figure(f"{cnn}_architecture.png", "architecture", "cnn", "cnn_size"),
                figure(f"{cnn}_curves.png", "curves", "cnn", "cnn_accuracy", "overfitting")],
        "dnn": [figure(f"{dnn}_comparison.png", "comparison", "dnn", "dnn_matched"),
                figure(f"{dnn}_architecture.png", "dnn_architecture", "dnn", "dnn_size")],
        "confusion": [figure("confusion.png", "matrix", "confusion", "best_class", "worst_class"),
                      figure("confusion_reliability.png", "reliability", "confusion", "calibration"),
                      figure("confusion_gallery.png", "gallery", "confusion", "pair"),
                      figure("confusion_comparison.png", "matrix_difference", "confusion", "dnn_matched")],
        "saliency": [figure(f"{cnn}_saliency.png", "triptych", "saliency", "saliency_image", "saliency_image_kept")],
        "filters": filters}
    return {section: [f for f in listed if f["path"].exists()] for section, listed in found.items()}


# ---- results and the page --------------------------------------------------------------------------------------


def collect(args, paths, subject):
    """Every result of the report as plain values, and the pictures of its interactive parts."""
    import numpy as np

    from utils import feature_visualization as fv
    from utils import models, report_faces
    from utils import report_results as measured
    from utils.data import CLASSES

    faces, judged = subject.training, subject.judged
    counts = dict(zip(CLASSES, np.bincount(faces.labels, minlength=len(CLASSES)).tolist()))
    present = {name: count for name, count in counts.items() if count}
    largest, smallest = max(present, key=present.get), min(present, key=present.get)
    networks = {role: measured.model_result(path) for role, path in paths.items()}
    outputs = {role: report_faces.own_probabilities(path, judged) for role, path in paths.items()}
    measured.judge(networks, outputs, judged.labels)
    if args.test:
        tests = measured.test_results(models.FIGURES / "models.json")
        for network in networks.values():
            network["test"] = tests[network["name"]]
    networks["cnn"]["layers"] = measured.layers_of(paths["cnn"])

    model = fv.unfolded(models.load(paths["cnn"]))
    logits = models.logits_model(model)
    _, nodes = fv.trace(model, model.input_shape[1:3])
    layers = fv.stage_activations(nodes)
    name, measured_on = paths["cnn"].stem, min(args.limit or FILTER_FACES, len(faces))
    claims = models.FIGURES / "claims.json"
    results = {
        "data": {"source": faces.source, "faces": len(faces), "fingerprint": faces.fingerprint(), "counts": counts,
                 "largest": {"class": largest, "faces": counts[largest]}, "is_sample": faces.source == "built-in sample",
                 "smallest": {"class": smallest, "faces": counts[smallest]}, "limit": args.limit,
                 "is_limited": args.limit is not None},
        "judged": {"source": judged.source, "rows": len(judged), "on_other_data": not subject.is_own},
        "original": measured.ORIGINAL, "models": networks,
        "confusion": measured.confusion_result(read_json(models.FIGURES / "confusion.json"), counts),
        "saliency": measured.saliency_result(models.FIGURES / f"{name}_saliency.csv", HOMEWORK_IMAGE, logits, judged),
        "filters": measured.filter_results(name, layers, {layer: nodes[layer].output.shape[-1] for layer in layers},
                                           measured_on),
        "claims": read_json(claims) if claims.exists() else None,
    }
    pictures = {"confusion": report_faces.confusion_cells(outputs["cnn"], judged),
                "saliency": report_faces.saliency_faces(logits, faces, HOMEWORK_IMAGE),
                "filters": report_faces.filter_tiles(paths["cnn"], layers, faces)}
    return results, pictures


def write(args, results, pictures, commands):
    """Write the report as HTML, Markdown and JSON; returns their paths."""
    from utils import report_page
    from utils.report_findings import Finding, findings, tally

    found = findings(results)
    results["tally"] = tally(found)
    if results["tally"]["claims"]:
        found["data"].append(Finding("tally"))
    sections = {section: [say(finding, results, args.language) for finding in listed] for section, listed in found.items()}

    def say_of(key, where=None):
        matching = [say(finding, results, args.language)["text"] for listed in found.values() for finding in listed
                    if finding.key.startswith(key) and (where is None or where in finding.where.values())]
        return matching[0] if matching else ""

    say_of.language = args.language
    figures = figure_files(results, say_of)
    for listed in figures.values():
        for figure in listed:
            figure["command"] = commands[figure.pop("kind")]
    report = {"language": args.language, "results": results, "sections": sections, "figures": figures,
              "commands": [*dict.fromkeys([*(network["command"] for network in results["models"].values()),
                                           *commands.values()])]}
    written = [args.out, args.out.with_suffix(".md"), args.out.with_suffix(".json")]
    write_text(written[0], report_page.page(report, pictures, args.language))
    write_text(written[1], report_page.markdown(report, args.out.parent, args.language))
    write_json(written[2], report | {"figures": {section: [figure | {"path": shown(figure["path"])} for figure in listed]
                                                 for section, listed in figures.items()}})
    return written


if __name__ == "__main__":
    cli.run(main)
