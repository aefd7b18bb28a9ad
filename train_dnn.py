"""Question 2: a plain DNN with about as many parameters as the CNN. How do the two compare?

    python train_dnn.py                     as many parameters as models/cnn.h5 (or as the homework's CNN):
                                            2 min on two cores, 38 % on PublicTest
    python train_dnn.py --network report    the homework's own DNN, 156,263 parameters: 14 s, 27 %

Writes the same files as train_cnn.py under models/dnn* and figures/dnn*; when the CNN's model card is there
(--cnn), it prints both side by side and draws figures/NAME_comparison.png.
"""

from pathlib import Path

import pandas as pd

from training import recipes
from utils import cli, files
from utils.cli import UserError

REPORT_CNN_PARAMETERS = 6_615_495
COMPARED = {"network", "parameters", "seconds", "metrics", "split"}  # of the model cards


def main(argv=None):
    """Train the DNN and compare it with the CNN; returns its model card (dict)."""
    options, cnn = parse_options(argv)
    cli.start_keras()
    from training import figures, networks
    from training.run import Run, RunFiles, add_to_experiments, print_summary
    from utils import models

    own = (RunFiles("cnn", folder).model for folder in (options.out_folder, None))
    cnn_path = cnn or next((path for path in (*own, models.RELEASED_CNN) if path.exists()), None)
    cnn_card, cnn_history = read_cnn(cnn_path) if cnn_path else (None, None)
    files.inputs.append(cnn_path or models.RELEASED_CNN)  # also where it is not named it may not be replaced
    run_files = RunFiles(options.name, options.out_folder)
    comparison_path = run_files.curves.with_name(f"{options.name}_comparison.png")
    files.check_outputs([*run_files.results, comparison_path])
    parameters = cnn_card["parameters"] if cnn_card else REPORT_CNN_PARAMETERS
    with run_files.locked():
        run = Run(options, lambda: networks.build_dnn(options, parameters))
        run.fit_with_checkpoints()
        card = run.save()

    written = run_files.results + add_to_experiments(card, run_files.experiments)
    if cnn_card:
        print_comparison(cnn_card, card)
        histories = {"CNN": cnn_history, "DNN": pd.read_csv(run_files.history)}
        accuracies = {name: each["metrics"]["validation_accuracy"]
                      for name, each in (("CNN", cnn_card), ("DNN", card))}
        cli.print_written([*written, figures.draw_curves(histories, comparison_path, accuracies=accuracies)])
    else:
        print("No CNN to compare with yet: python train_cnn.py, then this again")
        print_summary(card, written)
    return card


def parse_options(argv):
    """The options of the run, and the path of --cnn or None."""
    parser = cli.Parser(__doc__)
    recipes.add_arguments(parser, recipes.DNNS, name="dnn")
    parser.add_argument("--cnn", type=Path, help="CNN to compare with (default: cnn.h5 of --out-folder or of "
                                                 "models/, else the released one)")
    args = parser.parse_args(argv)
    return recipes.training_options(args, recipes.DNNS), args.cnn


def read_cnn(path):
    """The model card (dict) and the history (DataFrame) of the CNN to compare with. Raises UserError."""
    from utils import models

    card, history_path = models.read_card(path), path.with_name(f"{path.stem}_history.csv")
    if card is None or not card.keys() >= COMPARED or not history_path.exists():
        raise UserError(f"{path} lacks the model card or the _history.csv that train_cnn.py writes beside it")
    return card, pd.read_csv(history_path)


def print_comparison(cnn_card, dnn_card):
    """CNN, DNN and their difference in percentage points, as one table."""
    cards = (cnn_card, dnn_card)
    numbers = pd.DataFrame({
        "parameters": [card["parameters"] for card in cards],
        "seconds": [round(card["seconds"]) for card in cards],
        "training %": [card["metrics"]["training_accuracy"] for card in cards],
        "validation %": [card["metrics"]["validation_accuracy"] for card in cards]}, dtype=float)
    numbers.loc[2] = numbers.loc[0] - numbers.loc[1]
    table = pd.DataFrame({"": ["CNN", "DNN", "CNN minus DNN"],
                          "network": [*(card["network"] for card in cards), ""]})
    for column, values in numbers.items():
        table[column] = ["-" if pd.isna(value) else f"{100 * value:.2f}" if "%" in column else f"{value:,.0f}"
                         for value in values]
    cli.print_table(table)
    if cnn_card["split"] != dnn_card["split"]:
        print("Note: they were trained on different splits; "
              "compare them on one labelled file with evaluate.py")


if __name__ == "__main__":
    cli.run(main)
