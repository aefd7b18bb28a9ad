"""How each network is trained unless told otherwise, and the options that say otherwise. Imports no Keras."""

import argparse
import os
import re
from pathlib import Path

from utils.cli import UserError, add_classes, data_path, number
from utils.files import read_json

REPORT = {  # the course report: Adam, batch 80, 10 epochs, nothing else
    "epochs": 10, "batch_size": 80, "optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant",
    "warmup": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0, "ema": 0.0, "augment": False,
    "rotation": 12.0, "scale": 0.12, "shift": 4.0, "light": 0.2, "erase": 0.0, "mix": 0.0, "mix_until": 1.0,
    "keep": "best",
}
# At the report's 1e-3 this wide DNN only predicts the largest class.
MATCHED = REPORT | {"learning_rate": 1e-4}
COMPACT = REPORT | {  # two CPU cores; models/README.md has what its parts buy in a short run
    "epochs": 40, "batch_size": 128, "optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine",
    "warmup": 0.1, "weight_decay": 5e-3, "label_smoothing": 0.1, "ema": 0.998, "augment": True, "erase": 0.25,
    "keep": "last",
}
LARGE = COMPACT | {"epochs": 150, "batch_size": 256, "learning_rate": 0.2, "warmup": 0.04, "ema": 0.999,
                   "mix": 0.5, "mix_until": 0.85}
# The networks of train_cnn.py and train_dnn.py, the default first: NAME stands for the builder NAME_cnn or
# NAME_dnn in training/networks.py.
CNNS = {"report": REPORT, "compact": COMPACT, "large": LARGE}
DNNS = {"matched": MATCHED, "report": REPORT}
NOT_IN_A_RECIPE = ("data", "classes", "name", "resume", "recipe", "folds", "help")  # where, not how
DISTILLATION = {"distill_weight": 0.7, "temperature": 2.0}
NEEDED = {**dict.fromkeys(("rotation", "scale", "shift", "light", "erase"), "augment"), "mix_until": "mix",
          **dict.fromkeys(DISTILLATION, "distill")}  # what an option has no effect without


def add_arguments(parser, recipes, name):
    """The options of train_cnn.py and train_dnn.py; recipes: CNNS or DNNS; name: default of --name."""
    share = number(float, 0, 1)
    parser.add_argument("--network", choices=tuple(recipes), default=next(iter(recipes)),
                        help="which network; it brings its own recipe")
    parser.add_argument("--data", type=data_path,
                        help="CSV or image folder to train on (default: data/*.csv, else the built-in "
                             "sample)")
    add_classes(parser)
    parser.add_argument("--labels-from", type=Path, metavar="fer2013new.csv",
                        help="learn the votes of FER+ for these faces in place of the labels of --data")
    parser.add_argument("--name", default=name, help="models/NAME.h5 and so on")
    parser.add_argument("--validation", default="0.1", metavar="SHARE|FOLD/K|PublicTest|FILE",
                        help="share of the training data, or one of K equal folds of it (1/5), stratified, "
                             "identical images on one side; or the rows of that Usage; or a labelled file")
    parser.add_argument("--validation-labels", type=Path,
                        help="id,label CSV for a validation FILE without labels")
    parser.add_argument("--seed", type=number(int, 0), default=0,
                        help="seed of split, initial weights, order and augmentation")
    parser.add_argument("--limit", type=number(int, 1),
                        help="use only the first LIMIT faces, to try things out")
    parser.add_argument("--precision", choices=("auto", "float32", "mixed_bfloat16"), default="auto",
                        help="auto: bfloat16 where the processor or accelerator multiplies it natively")
    parser.add_argument("--half", action=argparse.BooleanOptionalAction, default=False,
                        help="store the weights as float16: half the size")
    parser.add_argument("--resume", action="store_true",
                        help="continue models/NAME from its last finished epoch")
    parser.add_argument("--start-from", type=Path, metavar="MODEL.h5",
                        help="begin with the weights of this model: a second cycle, or fine-tuning")
    parser.add_argument("--recipe", type=Path, help="take every option not given here from this model card")

    recipe = parser.add_argument_group(
        "recipe", "what is not given follows the network's own recipe (training/recipes.py)")
    recipe.add_argument("--epochs", type=number(int, 1), help="passes over the training faces")
    recipe.add_argument("--batch-size", type=number(int, 1), help="faces per step")
    recipe.add_argument("--optimizer", choices=("adam", "sgd"), help="sgd: Nesterov momentum 0.9")
    recipe.add_argument("--learning-rate", type=number(float, 0, open_low=True),
                        help="the peak of the schedule")
    recipe.add_argument("--schedule", choices=("constant", "cosine"),
                        help="cosine: after the warm-up down to 0")
    recipe.add_argument("--warmup", type=share,
                        help="share of a cosine schedule in which the rate rises from 0")
    recipe.add_argument("--weight-decay", type=number(float, 0),
                        help="decoupled, on kernels only, times the learning rate")
    recipe.add_argument("--label-smoothing", type=share,
                        help="share of each label spread evenly over all classes")
    recipe.add_argument("--ema", type=number(float, 0, 0.99999),
                        help="decay per step of the averaged weights; 0: none")
    recipe.add_argument("--keep", choices=("best", "last"),
                        help="the epoch that is saved: best validation accuracy, or last")
    recipe.add_argument("--dropout", type=number(float, 0, 0.95), help="rate of every dropout layer")
    recipe.add_argument("--l2", type=number(float, 0), default=0.0, help="L2 penalty on every kernel")
    recipe.add_argument("--dropconnect", type=number(float, 0, 0.95), default=0.0,
                        help="share of dense weights dropped")
    recipe.add_argument("--oversample", action=argparse.BooleanOptionalAction, default=False,
                        help="augmented copies, new in each epoch, until each class of the training part has "
                             "as many images as the largest")
    recipe.add_argument("--augment", action=argparse.BooleanOptionalAction,
                        help="random transforms, new in each epoch")
    recipe.add_argument("--rotation", type=number(float, 0, 180), help="largest angle in degrees, either way")
    recipe.add_argument("--scale", type=share, help="largest relative change of size, either way")
    recipe.add_argument("--shift", type=number(float, 0, 24), help="largest shift in pixels, either way")
    recipe.add_argument("--light", type=share,
                        help="largest relative change of contrast and brightness, either way")
    recipe.add_argument("--erase", type=share, help="probability of random erasing")
    recipe.add_argument("--mix", type=share, help="probability that a batch is mixed by mixup or CutMix")
    recipe.add_argument("--mix-until", type=share, help="share of the epochs after which no batch is mixed")
    recipe.add_argument("--distill", type=Path, nargs="+", metavar="TEACHER.h5",
                        help="learn also from the outputs of these models, one teacher per step, in turn")
    recipe.add_argument("--distill-weight", type=share, help="share of the loss that follows the teachers")
    recipe.add_argument("--temperature", type=number(float, 0, open_low=True),
                        help="softmax temperature of teachers and student")


def parse_args(parser, recipes, argv=None):
    """Parse the command line; what is left open comes from --recipe, then from the network's recipe."""
    args = parser.parse_args(argv)
    given = [option for option in (*NEEDED, "warmup", "validation_labels") if getattr(args, option)]
    if args.recipe:
        card = read_json(args.recipe)
        if not isinstance(card.get("arguments"), dict):
            raise UserError(f"{args.recipe} is no model card; expected the JSON file beside a model")
        parser.set_defaults(**checked_recipe(parser, card["arguments"], args.recipe))
        args = parser.parse_args(argv)
    for option, value in (recipes[args.network] | DISTILLATION).items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    check(args, given)
    return args


def checked_recipe(parser, arguments, path):
    """The options in a model card, parsed and checked as if they stood on the command line."""

    def refuse(message):
        raise UserError(f"{path}: {message}")

    actions = {action.dest: action for action in parser._actions if action.dest not in NOT_IN_A_RECIPE}
    known = {option: value for option, value in arguments.items() if option in actions and value is not None}
    argv = []
    for option, value in known.items():
        name = actions[option].option_strings[0]
        if actions[option].nargs == 0 and not isinstance(value, bool):
            refuse(f"argument {name}: {str(value)[:40]!r} is neither true nor false")
        if isinstance(value, bool):
            argv.append(name if value else name.replace("--", "--no-"))
        elif isinstance(value, list):
            argv += [name, *map(str, value)]
        else:
            argv.append(f"{name}={value}")
    parser.error = refuse  # argparse's own would not say which file is wrong
    try:
        parsed = vars(parser.parse_args(argv))
    finally:
        del parser.error
    return {option: parsed[option] for option in known}


def check(args, given):
    """Raise UserError for a wrong name and for options `given` that have no effect beside the others."""
    if not re.fullmatch(r"[\w-][\w.-]*", args.name):
        raise UserError(f"--name {args.name!r} must be a plain file name of letters, digits, '-', '_', '.'")
    for option in given:
        needed = NEEDED.get(option)
        if needed and not getattr(args, needed):
            raise UserError(f"--{option.replace('_', '-')} has no effect without --{needed}; give both")
    if args.schedule == "constant" and "warmup" in given:
        raise UserError("--warmup has no effect with --schedule constant; choose --schedule cosine")
    if "validation_labels" in given and not os.path.exists(args.validation):
        raise UserError("--validation-labels has no effect without a file of faces for --validation; "
                        f"{args.validation} is none")


def as_json(args):
    """The arguments as JSON-ready values, for the model card."""
    values = {}
    for option, value in sorted(vars(args).items()):
        if option not in NOT_IN_A_RECIPE:
            values[option] = [str(item) for item in value] if isinstance(value, list) else (
                str(value) if isinstance(value, Path) else value)
    return values
