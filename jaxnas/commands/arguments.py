"""What the commands take: the parser of `jaxnas`, with an example of each."""

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from jaxnas.errors import InputError, unknown

EXAMPLES = {
    "init": "jaxnas init my_images",
    "search": "jaxnas search configs/quickstart.toml --search.budget 40 --controller.learning-rate 0.02",
    "resume": "jaxnas resume checkpoints/quickstart --budget 200",
    "compare": "jaxnas compare configs/compare_mock.toml --compare.seeds 50",
    "sample": "jaxnas sample checkpoints/quickstart -n 50",
    "retrain": "jaxnas retrain checkpoints/quickstart --top 5 --data.limit 500 --name small",
    "export": "jaxnas export checkpoints/quickstart --trial 17",
    "predict": "jaxnas predict checkpoints/quickstart digit.png --explain reasons.png",
    "report": "jaxnas report checkpoints/rlmednas_random checkpoints/rlmednas_masked",
    "watch": "jaxnas watch checkpoints/quickstart",
    "tabulate": "jaxnas tabulate checkpoints/rlmednas_random checkpoints/rlmednas_masked --out measured.csv",
    "list": "jaxnas list controllers",
    "cache": "jaxnas cache clear",
    "complete": "jaxnas complete bash > jaxnas.bash",
}


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are InputErrors."""

    def error(self, message: str) -> NoReturn:
        if found := re.match(r"argument COMMAND: invalid choice: '(.*?)'", message):
            raise unknown("jaxnas", found[1], EXAMPLES)
        raise InputError(f"{message}; see `{self.prog} --help`")


def parser() -> argparse.ArgumentParser:
    """Of all commands."""
    top = _Parser(
        "jaxnas", description="Neural architecture search by reinforcement learning.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(dest="command", required=True, parser_class=_Parser, metavar="COMMAND")

    def command(name: str, text: str, **settings: Any) -> argparse.ArgumentParser:
        epilog = f"example: {EXAMPLES[name]}"
        return commands.add_parser(
            name,
            help=f"{text.split('. ')[0].rstrip('.')}.",
            description=text,
            epilog=epilog,
            allow_abbrev=False,
            **settings,
        )

    init = command("init", "Look at a folder of images and write a configuration for it.")
    init.add_argument("images", metavar="FOLDER", help="CLASS/IMAGE…, or train/CLASS/IMAGE… and test/ beside")
    init.add_argument("--out", type=Path, metavar="FILE.toml", help="by default FOLDER.toml, here")
    search = command("search", "Run the search that a configuration describes.", add_help=False)
    search.add_argument(
        "config", nargs="?", metavar="CONFIG", help="a TOML file, such as configs/quickstart.toml"
    )
    search.add_argument("--folder", default="checkpoints", help="where runs are written")
    search.add_argument(
        "--seeds", metavar="N", help="run N searches at once, for their statistics: --search.seeds N"
    )
    search.add_argument("--ledgers", action="store_true", help="with --seeds: keep the trials.csv of each")
    search.add_argument("--log", metavar="WHERE", help="tensorboard: event files too: --search.log WHERE")
    search.add_argument(
        "--dry-run", action="store_true", help="show size, first architectures, memory and time"
    )
    search.add_argument(
        "-h", "--help", action="store_true", help="with CONFIG, show every flag that it takes"
    )
    resume = command("resume", "Go on with a run from its last checkpoint.")
    resume.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    resume.add_argument("--budget", type=int, help="trials in all; by default what the run began with")
    compare = command("compare", "Run controllers at equal budget, many searches each.")
    compare.add_argument(
        "config", metavar="CONFIG", help="a TOML file with arms, such as configs/compare_mock.toml"
    )
    compare.add_argument("--folder", default="checkpoints", help="where comparisons are written")
    sample = command("sample", "Measure networks that a run's policy proposes. Its greedy one too.")
    sample.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    sample.add_argument("-n", type=int, default=50, help="how many networks (default: 50)")
    retrain = command(
        "retrain",
        "Train a run's best networks for longer, with test accuracies. "
        "Options of network, data and trainer can be given anew, such as --data.fraction 1.0.",
    )
    retrain.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    retrain.add_argument("--top", type=int, default=10, help="how many distinct architectures (default: 10)")
    retrain.add_argument("--epochs", type=int, help="at most; by default twice the search's")
    retrain.add_argument(
        "--final", action="store_true", help="train on the validation images too, for all of the epochs"
    )
    retrain.add_argument("--cells", metavar="N", help="short for --network.cells: a deeper network")
    retrain.add_argument("--filters", metavar="F", help="short for --network.filters: a wider network")
    retrain.add_argument("--name", default="", help="of the results' folder, RUN/retrained-NAME")
    export = command("export", "Write a trial of a run as a folder that runs without jaxnas.")
    export.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    export.add_argument(
        "--trial", type=int, metavar="N", help="which one; trained again from its key (default: the best)"
    )
    export.add_argument(
        "--out", type=Path, metavar="FOLDER", help="by default RUN/best, RUN/exported/trial_N"
    )
    export.add_argument(
        "--optuna", metavar="STORAGE", help="instead, all trials as a study, such as sqlite:///study.db"
    )
    export.add_argument("--onnx", action="store_true", help="write model.onnx too")
    predict = command("predict", "Classify image files by a network of a run; show its reasons.")
    predict.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a run, its best/, or a folder of `jaxnas export`"
    )
    predict.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="an image file")
    predict.add_argument(
        "--explain",
        type=Path,
        metavar="FILE.png",
        help="draw Grad-CAM over the images, else over correct and wrong validation images",
    )
    report = command("report", "Compare runs: a table, figures and a page.")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    report.add_argument("--out", type=Path, help="where the figures go; by default the first run's folder")
    watch = command("watch", "Show a run's page on localhost while its search goes on.")
    watch.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    watch.add_argument("--host", default="127.0.0.1", help="address (default: this machine alone)")
    watch.add_argument("--port", type=int, default=8765, help="default: 8765")
    tabulate = command("tabulate", "Write what runs measured as a table to search.")
    tabulate.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    tabulate.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="the table")
    listing = command("list", "Show what a configuration can name.")
    listing.add_argument("kind", nargs="?", help="spaces, controllers, evaluators, rewards, networks or data")
    cache = command("cache", "Show where compiled programs are kept, or delete them.")
    cache.add_argument("action", nargs="?", choices=("clear",), help="clear: delete them")
    complete = command("complete", "Print a script by which a shell completes commands and flags.")
    complete.add_argument("shell", choices=("bash", "zsh"), help="which shell")
    search.set_defaults(parser=search)
    return top


def _version() -> str:
    from jaxnas import __version__

    return f"jaxnas {__version__}"
