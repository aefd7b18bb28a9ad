"""All five questions on one page: every figure, and each answer in numbers, sentences and verdicts.

    python report.py                              your own models; what is missing is trained first
    python report.py --models released            the released models, nothing is trained
    python report.py --language zh-Hant           the page in Traditional Chinese
    python report.py --author NAME --student-id ID --no-original    to hand in
    python report.py --data sample --limit 500    a try-out in a few minutes, without any data

Training the four networks on all of FER2013 took 21 minutes on two cores (the seconds in the released model
cards). Writes figures/report.html (one file, to be opened in a browser), figures/report.json, and the other
scripts' figures in figures/report/. What sweep.py and benchmarks/claims.py found is shown, too.
"""

import shlex
from pathlib import Path

import pandas as pd

from reporting.scripts import given, run_script
from reporting.text import LANGUAGES, ORIGINAL
from utils import cli, data, files, models
from utils.cli import UserError

NETWORKS = {  # role on the page: own model, released model, what trains it
    "cnn": ("cnn", "fer2013-report-cnn", ["train_cnn.py"]),
    "oversampled": ("cnn-oversampled", "fer2013-report-cnn-oversampled", ["train_cnn.py", "--oversample"]),
    "dnn": ("dnn", "fer2013-matched-dnn", ["train_dnn.py"]),
    "report_dnn": ("dnn-report", "fer2013-report-dnn", ["train_dnn.py", "--network", "report"]),
}


def main(argv=None):
    """Write the page; returns what is written as JSON (dict)."""
    args = parse_args(argv)
    out_folder = args.out_folder or files.FIGURES
    folder, page_path, json_path = (out_folder / name for name in ("report", "report.html", "report.json"))
    files.check_outputs([page_path, json_path])
    cli.start_keras()
    from reporting import page, pictures, results
    from utils import evaluation, metrics, structure

    test = evaluation.faces_to_evaluate([], args.test, args.test_labels) if args.test else None
    sweep, claims = (earlier_results(args, name) for name in ("sweep", "claims"))
    if claims and [claim["key"] for claim in claims["claims"]] != [*ORIGINAL["claims"]]:
        raise UserError("claims.json is of an earlier version, with other claims: run python -m "
                        "benchmarks.claims again, or move the file away")

    # ---- Networks, the user's own trained where they are missing; the faces to measure them on
    runs = find_networks(args)
    networks = {role: results.read_network(run) for role, run in runs.items()}
    training, evaluated, evaluation_options = choose_faces(args, runs)
    loaded = {role: evaluation.load_networks([run.model]) for role, run in runs.items()}

    # ---- What each network reaches: of the stored file, as in all that follows
    probabilities = {role: evaluation.probabilities(network, evaluated.images)
                     for role, network in loaded.items()}
    networks = results.compare_networks(networks, probabilities, evaluated.labels)
    for role, network in loaded.items():
        networks[role] |= results.describe_network(network[0])
        if "--data" not in evaluation_options:  # else the model card's
            networks[role]["validation_accuracy"] = networks[role]["evaluated"][0]
        if test:
            scores = metrics.measure(evaluation.probabilities(network, test.images), test.labels)
            networks[role]["test"] = {"data": test.source, "rows": len(test), "accuracy": scores["accuracy"]}

    # ---- Figures: of training, and those of the scripts that answer questions 3 to 5
    figures = draw_training(runs, networks, loaded, folder)
    cnn, dnn = (files.relative_path(runs[role].model) for role in ("cnn", "dnn"))
    filter_faces = args.limit or 2000  # as filter_vis.py has it
    homework = ["--model", cnn, "--index", str(results.HOMEWORK_IMAGE), *given(data=args.data)]
    where = ["--out-folder", files.relative_path(folder), *given(vector=args.vector)]
    scripts = {
        "confusion": ["plot_confusion.py", "--model", cnn, "--compare", dnn, *evaluation_options, *where],
        "saliency": ["saliency.py", *homework, *where],
        "filters": ["filter_vis.py", *homework, "--patches", "--limit", str(filter_faces), *where],
    }
    confusion, saliency, filters = map(run_script, scripts.values())
    figures |= {"confusion": confusion["figures"], "saliency": saliency.attrs["figures"],
                "filters": [path for table in filters.values() if isinstance(table, pd.DataFrame)
                            for path in table.attrs.get("figures", ())]}
    commands = {role: network["command"] for role, network in networks.items()} | {
        section: shlex.join(["python", *command]) for section, command in scripts.items()}

    # ---- Results: of the scripts, of earlier runs, and what is measured here
    if sweep:
        commands["sweep"] = sweep["search"]
        drawn = f"{sweep['name']}_*.png"
        figures["sweep"] = sorted([*out_folder.glob(drawn)] or files.FIGURES.glob(drawn))
    if claims and not args.no_original:
        commands["claims"] = claims["command"]
    trained_on = results.data_results(training, evaluation.split_of(runs["cnn"].model)["limit"])
    measured = {
        "data": trained_on,
        "evaluated": {"source": evaluated.source, "rows": len(evaluated),
                      "on_other_data": "--data" in evaluation_options},
        "original": None if args.no_original else ORIGINAL["results"],
        "models": networks,
        "confusion": results.confusion_results(confusion, trained_on),
        "saliency": results.saliency_results(structure.logits_model(loaded["cnn"][0]), evaluated, saliency),
        "filters": results.filter_results(filters, min(filter_faces, len(training))),
        "sweep": sweep,
        "claims": claims,
    }

    # ---- The page
    contents = page.compose(measured, commands, figures, args.language)
    contents |= {"author": args.author, "student_id": args.student_id}
    drawings = pictures.all_pictures(measured, loaded["cnn"][0], probabilities["cnn"], evaluated, training,
                                     filters, args.language)
    files.write_text(page_path, page.render(contents, drawings))
    files.write_json(json_path, contents)
    print()
    cli.print_table(page.model_table(measured, "en").drop(columns="file"))
    cli.print_written([page_path, json_path])
    return contents


def parse_args(argv):
    parser = cli.Parser(__doc__)
    option = parser.add_argument
    option("--models", choices=("own", "released"), default="own", help="own ones are trained where missing")
    option("--data", type=cli.data_path,
           help="faces to train and to measure on (default: data/*.csv, else the built-in sample)")
    option("--limit", type=cli.number(int, 16),
           help="train, and measure filters, on a sample of LIMIT faces, to try out")
    option("--epochs", type=cli.number(int, 1),
           help="epochs of the networks that are trained (default: each one's recipe)")
    option("--test", type=Path, metavar="FILE", help="labelled test faces to score the networks on as well")
    option("--test-labels", type=Path, metavar="ID_LABEL.csv",
           help="id,label CSV for a --test without labels")
    option("--author", help="name for the head of the page")
    option("--student-id", metavar="ID", help="student ID for the head of the page")
    option("--no-original", action="store_true", help="leave out the comparison with the original report")
    option("--language", choices=LANGUAGES, default="en", help="language of the page")
    cli.add_out_folder(parser, "figures/", "for what is trained models/")
    args = parser.parse_args(argv)
    if args.test_labels and not args.test:
        raise UserError(f"--test-labels {args.test_labels} belongs to a --test; name the file of faces too")
    return args


def find_networks(args):
    """The networks' {role: RunFiles}, in --out-folder or models/; own ones are trained where missing."""
    from training.run import RunFiles
    from utils import evaluation

    runs = {}
    for role, (own, released, script) in NETWORKS.items():
        if args.no_original and role == "report_dnn":
            continue
        name = released if args.models == "released" else own
        places = RunFiles(name, args.out_folder), RunFiles(name)
        found = [run for run in places if run.model.exists() and run.card.exists()]
        if not found and args.models == "released":
            raise UserError(f"{files.relative_path(places[1].model)} is missing; restore it, or leave out "
                            "--models released")
        if not found:
            options = {"data": args.data, "limit": args.limit}
            if "cnn" in runs:  # on its faces, or the networks could not be compared
                split = evaluation.split_of(runs["cnn"].model)
                options = {key: split[key] for key in ("seed", "validation", *evaluation.SPLIT_ARGUMENTS)}
                options["data"] = args.data or evaluation.place_of(split)
            run_script([*script, "--name", name, *given(
                epochs=args.epochs, **options, out_folder=args.out_folder)], quiet=False)
        runs[role] = [*found, *places][0]
    return runs


def choose_faces(args, runs):
    """The training faces, the faces that the networks are evaluated on, and plot_confusion.py's options for
    these: the networks' validation split where the data are what they were trained on, else all of --data."""
    from utils import evaluation

    paths = [run.model for run in runs.values()]
    split = evaluation.split_of(runs["cnn"].model)
    training = data.training_part(data.find_data(args.data, split["labels_from"]))
    if data.draw_sample(training, split["limit"], split["seed"]).fingerprint() == split["fingerprint"]:
        evaluated = evaluation.faces_to_evaluate(paths, training_data=args.data)
        return training, evaluated, ["--training-data", str(args.data)] if args.data else []
    source = args.data or ("sample" if training.source == "built-in sample" else training.source)
    return training, evaluation.faces_to_evaluate(paths, source), ["--data", str(source)]


def draw_training(runs, networks, loaded, folder):
    """Architecture and curves of CNN and DNN, and both in one figure: {section: paths}. networks: {role: what
    `results.compare_networks` returns}; loaded: {role: [keras.Model]}."""
    from training import figures

    drawn, histories, accuracies = {}, {}, {}
    for role in ("cnn", "dnn"):
        run, network, name = runs[role], networks[role], role.upper()
        histories[name], accuracies[name] = pd.DataFrame(network["history"]), network["validation_accuracy"]
        drawn[role] = [figures.draw_architecture(loaded[role][0], folder / run.architecture.name),
                       figures.draw_curves({models.title(run.model): histories[name]},
                                           folder / run.curves.name, network | {"metrics": network})]
    path = folder / f"{runs['dnn'].model.stem}_comparison.png"
    drawn["dnn"].append(figures.draw_curves(histories, path, accuracies=accuracies))
    return drawn


def earlier_results(args, name):
    """What sweep.py or benchmarks/claims.py wrote (dict), None where there is nothing."""
    name = "fer2013-" * (args.models == "released") + f"{name}.json"
    paths = [folder / name for folder in (args.out_folder, files.MODELS) if folder]
    return next((files.read_json(path) for path in paths if path.exists()), None)


if __name__ == "__main__":
    cli.run(main)
