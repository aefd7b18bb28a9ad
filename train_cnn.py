"""Question 1: the CNN. Its architecture, how training goes, and how accurate it is.

    python train_cnn.py                                    the homework's CNN: 10 epochs, batch 80, Adam;
                                                           4 min on two cores, 57 % on PublicTest
    python train_cnn.py --oversample                       the same on classes evened out by augmented copies
    python train_cnn.py --network compact --name compact   our best network for two CPU cores: 16 min, 68 %
                                                           when trained on all Training faces

Writes models/NAME.h5 (raw 0-255 faces in, probabilities out), models/NAME.json (model card),
models/NAME_history.csv, figures/NAME_architecture.png and figures/NAME_curves.png, and adds a row to
models/experiments.csv, the list of all runs. --resume continues a stopped run. Cross-validation is five runs,
--validation 1/5 to 5/5.
"""

from training import recipes
from utils import cli, files


def main(argv=None):
    """Train the CNN; returns its model card (dict)."""
    options = parse_options(argv)
    cli.start_keras()
    from training import networks
    from training.run import Run, RunFiles, add_to_experiments, print_summary

    run_files = RunFiles(options.name, options.out_folder)
    files.check_outputs(run_files.results)
    with run_files.locked():
        # ---- Faces, their split, the network, its loss and its optimiser
        run = Run(options, lambda: networks.build_cnn(options))

        # ---- Keras' fit(), with a checkpoint after each epoch
        run.fit_with_checkpoints()

        # ---- Model, model card, history, and the figures of architecture and curves
        card = run.save()
    print_summary(card, run_files.results + add_to_experiments(card, run_files.experiments))
    return card


def parse_options(argv):
    parser = cli.Parser(__doc__)
    recipes.add_arguments(parser, recipes.CNNS, name="cnn")
    parser.add_argument_group("the homework's network").add_argument(
        "--extra-conv", type=cli.number(int, 0, 16), default=0,
        help="additional convolutions of 64 filters")
    return recipes.training_options(parser.parse_args(argv), recipes.CNNS)


if __name__ == "__main__":
    cli.run(main)
