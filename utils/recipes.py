"""How each network is trained unless told otherwise, and the options that say otherwise. Imports no Keras."""

import argparse
from pathlib import Path

from utils.cli import UserError, number
from utils.files import read_json

REPORT = {  # the course report: Adam, batch 80, 10 epochs, nothing else
    "epochs": 10, "batch_size": 80, "optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant", "warmup": 0.0,
    "weight_decay": 0.0, "label_smoothing": 0.0, "ema": 0.0, "augment": False, "rotation": 12.0, "scale": 0.12,
    "shift": 4.0, "light": 0.2, "erase": 0.0, "mix": 0.0, "keep": "best",
}
MATCHED = REPORT | {"learning_rate": 1e-4}  # at the report's 1e-3 this wide DNN stays at the largest class's share
COMPACT = REPORT | {  # two CPU cores; models/README.md has what its parts buy in a short run
    "epochs": 40, "batch_size": 128, "optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine", "warmup": 0.1,
    "weight_decay": 5e-3, "label_smoothing": 0.1, "ema": 0.998, "augment": True, "erase": 0.25, "keep": "last",
}
LARGE = COMPACT | {"epochs": 150, "batch_size": 256, "learning_rate": 0.2, "warmup": 0.04, "ema": 0.999, "mix": 0.5}
RECIPES = {"report": REPORT, "matched": MATCHED, "compact": COMPACT, "large": LARGE}
NOT_IN_A_RECIPE = ("data", "name", "resume", "recipe")  # where, not how


def add_arguments(parser, networks, name):
    """The options of train_cnn.py and train_dnn.py; `networks` are the choices, the first one the default."""
    share = number(float, 0, 1)
    parser.add_argument("--network", choices=networks, default=networks[0], help="which network")
    parser.add_argument("--data", type=Path, help="CSV or image folder to train on (default: data/*.csv, else the sample)")
    parser.add_argument("--name", default=name, help="models/NAME.h5 and so on")
    parser.add_argument("--validation", default="0.1", metavar="SHARE|PublicTest|FILE",
                        help="share of the training data, stratified, identical images on one side; or the rows of that "
                             "Usage; or a labelled file")
    parser.add_argument("--validation-labels", type=Path, help="id,label CSV for a validation FILE without labels")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="of split, initial weights, order, augmentation")
    parser.add_argument("--limit", type=number(int, 1), help="use only the first LIMIT faces, to try things out")
    parser.add_argument("--precision", choices=("auto", "float32", "mixed_bfloat16"), default="auto",
                        help="auto: bfloat16 where the processor multiplies it natively")
    parser.add_argument("--resume", action="store_true", help="continue models/NAME from its last finished epoch")
    parser.add_argument("--start-from", type=Path, metavar="MODEL.h5",
                        help="begin with this model's weights instead of random ones: a second cycle, or fine-tuning")
    parser.add_argument("--recipe", type=Path, help="take every option not given here from this model card")

    recipe = parser.add_argument_group("recipe", "what is not given follows the network's own recipe (utils/recipes.py)")
    recipe.add_argument("--epochs", type=number(int, 1))
    recipe.add_argument("--batch-size", type=number(int, 1))
    recipe.add_argument("--optimizer", choices=("adam", "sgd"), help="sgd: Nesterov momentum 0.9")
    recipe.add_argument("--learning-rate", type=number(float, 0, open_low=True), help="the peak of the schedule")
    recipe.add_argument("--schedule", choices=("constant", "cosine", "linear"), help="the last two fall to 0")
    recipe.add_argument("--warmup", type=share, help="share of the run in which the rate rises from 0")
    recipe.add_argument("--weight-decay", type=number(float, 0), help="decoupled, on kernels only, times the learning rate")
    recipe.add_argument("--label-smoothing", type=share)
    recipe.add_argument("--ema", type=number(float, 0, 0.99999), help="decay a step of the averaged weights; 0: none")
    recipe.add_argument("--keep", choices=("best", "last"), help="the epoch that is saved: best validation accuracy, or last")
    recipe.add_argument("--dropout", type=number(float, 0, 0.95), help="rate of every dropout layer")
    recipe.add_argument("--l2", type=number(float, 0), default=0.0, help="L2 penalty on every kernel")
    recipe.add_argument("--dropconnect", type=number(float, 0, 0.95), default=0.0, help="share of dense weights dropped")
    recipe.add_argument("--oversample", action="store_true",
                        help="augmented copies, drawn anew each epoch, until each class of the training part has as "
                             "many images as the largest")
    recipe.add_argument("--augment", action=argparse.BooleanOptionalAction, help="random transforms, new in every epoch")
    recipe.add_argument("--rotation", type=number(float, 0, 180), help="degrees, either way")
    recipe.add_argument("--scale", type=share, help="relative change of size, either way")
    recipe.add_argument("--shift", type=number(float, 0, 24), help="pixels, either way")
    recipe.add_argument("--light", type=share, help="relative change of contrast and brightness, either way")
    recipe.add_argument("--erase", type=share, help="probability of random erasing")
    recipe.add_argument("--mix", type=share, help="probability that a batch is mixed by mixup or CutMix")
    recipe.add_argument("--distill", type=Path, nargs="+", metavar="TEACHER.h5",
                        help="learn also from these models' averaged outputs")
    recipe.add_argument("--distill-weight", type=share, default=0.7, help="share of the loss that follows the teachers")
    recipe.add_argument("--temperature", type=number(float, 0, open_low=True), default=2.0, help="of the distilled outputs")


def settle(parser, argv=None):
    """Parse the command line and fill what it leaves open: from --recipe's card, then from the network's recipe."""
    args = parser.parse_args(argv)
    if args.recipe:
        card = read_json(args.recipe)
        if not isinstance(card, dict) or not isinstance(card.get("arguments"), dict):
            raise UserError(f"{args.recipe} is no model card; expected the JSON file beside a model")
        known = {action.dest for action in parser._actions} - set(NOT_IN_A_RECIPE)
        parser.set_defaults(**{k: v for k, v in card["arguments"].items() if k in known})
        args = parser.parse_args(argv)
    for option, value in RECIPES[args.network].items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    if not args.name.replace("-", "").replace("_", "").replace(".", "").isalnum() or args.name.startswith("."):
        raise UserError(f"--name {args.name!r} must be a plain file name of letters, digits, '-', '_' and '.'")
    return args


def plain(args):
    """The arguments as JSON-ready values, for the model card."""
    values = {}
    for option, value in sorted(vars(args).items()):
        if option not in NOT_IN_A_RECIPE:
            values[option] = [str(v) for v in value] if isinstance(value, list) else (
                str(value) if isinstance(value, Path) else value)
    return values
