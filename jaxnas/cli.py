"""The command line: init, search, resume, compare, sample, retrain, export, predict, report, and more.

Bad input ends in one line on stderr and exit code 2; an interrupt in a saved run and exit code 128 + signal.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from jaxnas.errors import InputError

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
        raise InputError(f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    if os.getcwd() not in sys.path:  # a user's own parts, package.module:factory, may lie here
        sys.path.append(os.getcwd())
    try:
        options, rest = _parser().parse_known_args(arguments)
        if rest and options.command not in ("search", "compare", "retrain"):
            raise InputError(f"unknown argument {rest[0]!r}; see `jaxnas {options.command} --help`")
        return COMMANDS[options.command](options, rest)
    except InputError as error:
        print(f"jaxnas: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "jaxnas", description="Neural architecture search by reinforcement learning.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser, metavar="COMMAND")

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
    search.add_argument("config", nargs="?", help="a TOML file, such as configs/quickstart.toml")
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
    resume.add_argument("run", type=Path, help="the run's folder")
    resume.add_argument("--budget", type=int, help="trials in all; by default what the run began with")
    compare = command("compare", "Run controllers at equal budget, many searches each.")
    compare.add_argument("config", help="a TOML file with arms, such as configs/compare_mock.toml")
    compare.add_argument("--folder", default="checkpoints", help="where comparisons are written")
    sample = command("sample", "Measure networks that a run's policy proposes. Its greedy one too.")
    sample.add_argument("run", type=Path, help="the run's folder")
    sample.add_argument("-n", type=int, default=50, help="how many networks (default: 50)")
    retrain = command(
        "retrain",
        "Train a run's best networks for longer, with test accuracies. "
        "Options of network, data and trainer can be given anew, such as --data.fraction 1.0.",
    )
    retrain.add_argument("run", type=Path, help="the run's folder")
    retrain.add_argument("--top", type=int, default=10, help="how many distinct architectures (default: 10)")
    retrain.add_argument("--epochs", type=int, help="at most; by default twice the search's")
    retrain.add_argument(
        "--final", action="store_true", help="train on the validation images too, for all of the epochs"
    )
    retrain.add_argument("--cells", metavar="N", help="short for --network.cells: a deeper network")
    retrain.add_argument("--filters", metavar="F", help="short for --network.filters: a wider network")
    retrain.add_argument("--name", default="", help="of the results' folder, RUN/retrained-NAME")
    export = command("export", "Write a trial of a run as a folder that runs without jaxnas.")
    export.add_argument("run", type=Path, help="the run's folder")
    export.add_argument(
        "--trial", type=int, metavar="N", help="which one; trained again from its key (default: the best)"
    )
    export.add_argument(
        "--out", type=Path, metavar="FOLDER", help="by default RUN/best, RUN/exported/trial_N"
    )
    export.add_argument(
        "--optuna", metavar="STORAGE", help="instead, all trials as a study, such as sqlite:///study.db"
    )
    export.add_argument("--onnx", action="store_true", help="not possible yet; says why")
    predict = command("predict", "Classify image files by a network of a run; show its reasons.")
    predict.add_argument("folder", type=Path, help="a run, its best/, or a folder of `jaxnas export`")
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
    watch.add_argument("run", type=Path, help="the run's folder")
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
    return parser


def _init(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import starter
    from jaxnas.data.survey import survey

    file = starter.target(options.images, options.out)
    found = survey(options.images)
    starter.write(file, starter.configuration(options.images, found, file))
    print("\n".join(starter.describe(found)))
    if found.damaged:
        print(f"jaxnas: {starter.warning(found.damaged)}", file=sys.stderr)
    print(f"\n{file} is written. Next: jaxnas search {shlex.quote(str(file))}")
    return 0


def _search(options: argparse.Namespace, overrides: list[str]) -> int:
    from jaxnas import config, environment, progress, run

    if options.config is None:
        if options.help:
            print(options.parser.format_help())
            return 0
        raise InputError("search: no configuration; it takes a TOML file such as configs/quickstart.toml")
    overrides = [*overrides, *(["--search.ledgers"] if options.ledgers else [])]
    overrides += ["--search.seeds", options.seeds] if options.seeds is not None else []
    overrides += ["--search.log", options.log] if options.log is not None else []
    if options.help:
        print(options.parser.format_help())
        print(config.usage(options.config, overrides))
        return 0
    settings = config.load(options.config, overrides)
    environment.prepare(
        cpu_devices=settings.runtime.cpu_devices, deterministic=settings.runtime.deterministic
    )
    if settings.search.log == "tensorboard":
        from jaxnas.log import tensorboard

        tensorboard.package()  # an InputError comes now
    if options.dry_run:
        progress.preview(settings)
        return 0
    named = any(word.split("=")[0] == "--search.name" for word in overrides)
    settings, searches, folder, parts = begin(settings, Path(options.folder), named)
    with run.owned(folder):
        return _execute(settings, searches, folder, parts)


def begin(settings: Any, parent: Path, named: bool) -> tuple[Any, list["_One"], Path, Any]:
    """A new run: its settings, searches, folder below `parent` with all that `resume` needs, and parts.

    Raises:
      InputError: a part refuses a value, the data cannot be had, or `named` is True and the folder exists.
    """
    from jaxnas import config

    name = settings.search.name
    _free_folder(parent, name, named)
    parts = config.build(settings)
    settings, searches = _searches(settings, parts)
    return settings, searches, _create(parent, name, named, searches), parts


def _resume(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import config, environment, run

    folder = options.run
    environment.read(folder)
    with run.owned(folder):
        settings = _reopen(folder, [] if options.budget is None else ["--search.budget", str(options.budget)])
        parts = config.build(settings)
        settings, searches = _searches(settings, parts)
        for each in searches:
            run.check_budget(folder / each.folder, each.stop.budget)
        if changes := environment.changes(folder):
            print(
                f"jaxnas: {folder}: {', '.join(changes)}: results may differ in their bits", file=sys.stderr
            )
        return _execute(settings, searches, folder, parts)


def _reopen(folder: Path, flags: list[str]) -> Any:
    """The configuration of the run in `folder`, with JAX set up as it was when the run began."""
    from jaxnas import config, environment

    environment.read(folder)
    path = folder / "config.toml"
    settings = config.load(path, flags)
    if lines := config.differences(config.load(folder / ".config.toml"), settings):
        raise InputError(
            f"{path}: does not fit the run that it began: {lines[0]}; undo that, or start a new run"
        )
    runtime = settings.runtime
    environment.prepare(cpu_devices=runtime.cpu_devices, deterministic=runtime.deterministic, folder=folder)
    return settings


class _One(NamedTuple):
    """A search of a run: itself, or its random twin."""

    folder: str  # within the run's
    text: str  # of its config.toml
    search: Any
    seed: int
    stop: Any
    keeper: Any  # of best/


def _searches(settings: Any, parts: Any) -> tuple[Any, list[_One]]:
    """The settings, with a chunk where there are many searches, and the searches of a run."""
    from jaxnas import config, controllers, exporting, loop, run, seeds

    seed, stop = settings.search.seed, run.Stop(settings.search.budget, **vars(settings.search.stop))
    if stop.accuracy is not None and "accuracy" not in parts.evaluator.measures:
        names = ", ".join(parts.evaluator.measures)
        raise InputError(
            f"search.stop.accuracy: the evaluator has no accuracy to stop at, it measures {names}"
        )
    search = loop.make(parts.space, parts.controller, parts.evaluator, parts.reward, parts.rejected)
    if settings.search.seeds > 1:
        _check_many(settings)
        if not settings.search.chunk:
            chunk = seeds.chunk_of(search)
            settings = dataclasses.replace(settings, search=dataclasses.replace(settings.search, chunk=chunk))
    keeper = exporting.keeper(settings, parts)
    searches = [_One("", config.dump(settings), search, seed, stop, keeper)]
    if settings.search.twin:
        B = parts.controller.batch_size
        random = controllers.random(parts.space, batch_size=B)
        random = config.resampling(settings, parts.space, random)
        twin = loop.make(parts.space, random, parts.evaluator, parts.reward, parts.rejected)
        searches.append(
            _One("twin", config.dump(config.twin(settings, B)), twin, seed, run.Stop(stop.budget), keeper)
        )
    return settings, searches


def _check_many(settings: Any) -> None:
    search = settings.search
    if search.log != "none":
        raise InputError("search.log: not with search.seeds, whose result is the arrays of all searches")
    if search.twin:
        raise InputError("search.twin: not with search.seeds; take `jaxnas compare`, which has a random arm")
    for name, value in vars(search.stop).items():
        if value is not None:
            raise InputError(f"search.stop.{name}: not with search.seeds: many searches have one budget")


def _create(parent: Path, name: str, named: bool, searches: list[_One]) -> Path:
    """A new run's folder, which has all that `resume` needs from the moment that it has its name."""
    from jaxnas import environment

    content = json.dumps(environment.describe(), indent=2) + "\n"
    draft = parent / f".{name}.{os.getpid()}"
    try:
        for each in searches:
            (draft / each.folder).mkdir(parents=True)
            (draft / each.folder / "config.toml").write_text(each.text, "utf-8")
        (draft / ".config.toml").write_text(searches[0].text, "utf-8")
        (draft / "environment.json").write_text(content, "utf-8")
        while True:
            folder = _free_folder(parent, name, named)
            try:
                return draft.rename(folder)
            except OSError:
                if not folder.exists():  # else another search was faster
                    raise
    except OSError as error:
        raise InputError(f"--folder: cannot write a run into {str(parent)!r}: {error.strerror}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _execute(settings: Any, searches: list[_One], folder: Path, parts: Any) -> int:
    from jaxnas import report

    if settings.search.seeds > 1:
        return _execute_many(settings, searches[0], folder)
    with _saved(f"jaxnas resume {shlex.quote(str(folder))}"):
        perform(settings, searches, folder, parts)
    runs = [report.read(folder)]
    report.write(runs, folder)
    if len(searches) > 1:
        report.show(report.compare(runs))
    again = f"jaxnas report {shlex.quote(str(folder))}"
    print(f"\nThe run lies in {folder}, its page is report.html. Next: {again}")
    return 0


def perform(settings: Any, searches: list[_One], folder: Path, parts: Any) -> None:
    """Run the searches of a run, whose folder the caller has `owned`; show, log and draw their progress."""
    from jaxnas import progress, reporting, run

    page = reporting.Page(folder, reporting.source_of(parts))
    for each in searches:
        with (
            progress.Display(folder / each.folder, each.search, each.stop.budget) as display,
            _logged(settings, folder / each.folder) as log,
        ):

            def watch(now: run.Progress, told: tuple = (display.update, log)) -> None:
                for tell in told:
                    tell(now)
                page.update()

            summary = run.execute(
                folder / each.folder,
                each.search,
                seed=each.seed,
                stop=each.stop,
                text=each.text,
                watch=watch,
                keep=each.keeper.keep,
            )
        display.finish(summary)
    page.write()
    if checked := searches[0].keeper.check(folder):
        _tell(*checked)


def _tell(agrees: bool, text: str) -> None:
    """What the check of an exported network found."""
    print(f"{'' if agrees else 'jaxnas: '}{text}", file=sys.stdout if agrees else sys.stderr)


def _execute_many(settings: Any, one: _One, folder: Path) -> int:
    from jaxnas import progress, seeds

    asked = settings.search
    plan = seeds.Plan(one.seed, asked.seeds, asked.budget, asked.chunk, asked.ledgers)
    with (
        _saved(f"jaxnas resume {shlex.quote(str(folder))}"),
        progress.Many(folder.name, plan.seeds, plan.budget) as display,
    ):
        arrays = seeds.execute(folder, one.search, plan, text=one.text, watch=display.update)
    progress.show_many(one.search.space, arrays)
    print(f"\nThe arrays of all searches lie in {folder / 'searches.npz'}, a row each in summary.csv.")
    return 0


@contextlib.contextmanager
def _logged(settings: Any, folder: Path) -> Iterator[Callable[[Any], None]]:
    """What is told of a search that also writes a log elsewhere."""
    if settings.search.log == "none":
        yield lambda _: None
        return
    from jaxnas import config
    from jaxnas.log import tensorboard

    log = tensorboard.Log(folder, config.to_table(settings))
    try:
        yield lambda _: log.update()
    finally:
        log.close()


@contextlib.contextmanager
def _saved(command: str) -> Iterator[None]:
    """Where an interrupt ends the process with one line, which says how to go on."""
    from jaxnas import run

    try:
        yield
    except (run.Interrupted, KeyboardInterrupt) as interrupt:
        print(f"interrupted, saved; go on with: {command}", file=sys.stderr, flush=True)
        # Children may still be training in threads that Python would wait for.
        sys.stdout.flush()
        os._exit(128 + getattr(interrupt, "number", signal.SIGINT))


def _compare(options: argparse.Namespace, overrides: list[str]) -> int:
    from jaxnas import comparison, environment, progress, run

    chosen = comparison.load(options.config, overrides)
    folder = Path(options.folder) / chosen.name
    comparison.check_folder(folder, chosen)
    runtime = next(iter(chosen.arms.values())).runtime
    begun = folder if (folder / "environment.json").exists() else None
    environment.prepare(cpu_devices=runtime.cpu_devices, deterministic=runtime.deterministic, folder=begun)
    ready = comparison.prepare(chosen)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--folder: cannot write into {options.folder!r}: {error.strerror}") from None
    with run.owned(folder):
        if begun is None:
            (folder / "environment.json").write_text(
                json.dumps(environment.describe(), indent=2) + "\n", "utf-8"
            )
        command = shlex.join(["jaxnas", "compare", options.config, *overrides])
        with _saved(command if options.folder == "checkpoints" else f"{command} --folder {options.folder}"):
            rows = comparison.execute(folder, chosen, ready, progress.arms(len(ready)))
    progress.show_comparison(rows)
    print(f"\nTables and figures lie in {folder}.")
    return 0


def _sample(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import config, environment, progress, run, sampling

    if options.n < 1:
        raise InputError(f"-n: got {options.n}; it takes 1 or more")
    environment.read(options.run)
    with run.owned(options.run):
        settings = _reopen(options.run, [])
        parts = config.build(settings)
        state = run.latest(options.run, _searches(settings, parts)[1][0].search, settings.search.seed)
        with progress.Counter("sampled", options.n) as counter:
            rows, greedy = sampling.execute(options.run, parts, state, options.n, counter.update)
        progress.show_samples(sampling.summary(rows), greedy[0])
    return 0


def _retrain(options: argparse.Namespace, overrides: list[str]) -> int:
    from jaxnas import config, data, environment, exporting, ledger, progress, retraining, run

    if options.top < 1:
        raise InputError(f"--top: got {options.top}; it takes 1 or more")
    if options.name and not config.is_folder_name(options.name):
        raise InputError(f"--name: got {options.name!r}; it takes part of a folder's name: no path")
    for name in ("cells", "filters"):
        if (value := getattr(options, name)) is not None:
            overrides = [f"--network.{name}", value, *overrides]
    environment.read(options.run)
    with run.owned(options.run):
        settings = _reopen(options.run, [])
        settings = retraining.settings_of(settings, options.final, options.epochs, overrides)
        trials = ledger.read(options.run / "trials.csv")
        dataset = data.load(**vars(settings.data))
        with progress.Counter("trained", options.top + 1) as counter:
            folder, rows = retraining.execute(
                options.run,
                settings,
                dataset,
                trials,
                options.top,
                final=options.final,
                name=options.name,
                watch=counter.update,
            )
        progress.show_retrained(folder, rows)
        if checked := exporting.retrained(folder, settings, dataset, rows):
            _tell(*checked)
    return 0


def _export(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import environment, exporting, run

    if options.optuna is not None:
        from jaxnas.log import optuna

        name, trials = optuna.execute(options.run, options.optuna)
        print(f"{options.optuna}: study {name!r}, {trials} trials")
        return 0
    if options.onnx:
        raise InputError(
            "--onnx: not possible yet: the converter, jax2onnx, takes orbax-checkpoint below 0.11.37, jaxnas "
            "takes 0.12 or later; use model.stablehlo, or convert model.py in an environment of its own"
        )
    environment.read(options.run)
    with run.owned(options.run):
        path, agrees, text = exporting.execute(
            options.run, _reopen(options.run, []), options.trial, options.out
        )
    _tell(agrees, text)
    print(f"{path}: {', '.join(sorted(file.name for file in path.iterdir()))}")
    return 0 if agrees else 1


def _predict(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas.export import explain

    if not options.images and options.explain is None:
        raise InputError("predict: no image; it takes image files, or --explain FILE.png")
    folder, classifier = explain.open_folder(options.folder)
    if options.images:
        images = explain.read(classifier, options.images)
        probabilities = classifier.probabilities(classifier.outputs(images))
        for path, each in zip(options.images, probabilities, strict=True):
            print(f"{path}: {classifier.describe(each)}")
    if options.explain is not None:
        explain.write(options.explain, folder, classifier, options.images)
        print(f"reasons: {options.explain}")
    return 0


def _report(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import environment, report, reporting

    environment.use_cpu()
    runs = [report.read(path) for path in options.runs]
    report.show(report.compare(runs))
    folder = options.out or options.runs[0]
    page = report.write_page(runs, folder, reporting.sources(runs))
    for path in (*report.write(runs, folder), page):
        print(path)
    return 0


def _watch(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import environment, watch

    environment.use_cpu()
    watch.execute(options.run, options.host, options.port, lambda text: print(text, flush=True))
    return 0


def _tabulate(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import tabulate

    rows, architectures = tabulate.execute(options.runs, options.out)
    print(f"{options.out}: {rows} trials of {architectures} architectures")
    return 0


def _list(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import config, data, listing
    from jaxnas.errors import unknown

    kinds = {f"{section}s": registry for section, registry in config.registries().items()}
    kinds["data"] = data.REGISTRY
    if options.kind is not None and options.kind not in kinds:
        raise unknown("list", options.kind, kinds)
    for kind, registry in kinds.items():
        if options.kind in (None, kind):
            print(f"{kind}:")
            print("\n".join(listing.lines(registry, details=options.kind is not None)))
    return 0


def _cache(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import environment

    folder = environment.programs_folder()
    files = [path for path in folder.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 2**20
    if options.action == "clear":
        try:
            shutil.rmtree(folder, ignore_errors=not folder.exists())
        except OSError as error:
            raise InputError(f"cache: cannot delete {folder}: {error.strerror}") from None
    done = "deleted" if options.action else "kept"
    print(f"{folder}: {len(files)} files of compiled programs, {megabytes:.1f} MB, {done}")
    return 0


def _complete(options: argparse.Namespace, _: list[str]) -> int:
    import shtab

    parser = _parser()
    (commands,) = (each.choices for each in parser._actions if isinstance(each.choices, dict))
    for command in commands.values():
        for action in command._actions:
            if action.dest in ("config", "out"):
                action.complete = shtab.FILE
            elif action.dest in ("run", "runs", "folder", "images"):
                action.complete = shtab.DIRECTORY
    print(shtab.complete(parser, options.shell))
    return 0


def _free_folder(parent: Path, name: str, named: bool) -> Path:
    """The run's folder: parent/name, or parent/name-2 and so on where the name was not asked for by flag."""
    folder = parent / name
    if named and folder.exists():
        raise InputError(
            f"search.name: {folder} exists; go on with it by `jaxnas resume {folder}`, or take another name"
        )
    number = 2
    while folder.exists():
        folder, number = parent / f"{name}-{number}", number + 1
    return folder


def _version() -> str:
    from jaxnas import __version__

    return f"jaxnas {__version__}"


COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "init": _init,
    "search": _search,
    "resume": _resume,
    "compare": _compare,
    "sample": _sample,
    "retrain": _retrain,
    "export": _export,
    "predict": _predict,
    "report": _report,
    "watch": _watch,
    "tabulate": _tabulate,
    "list": _list,
    "cache": _cache,
    "complete": _complete,
}

if __name__ == "__main__":
    sys.exit(main())
