"""The command line: init, search, resume, compare, sample, retrain, export, predict, report, and more.

Bad input ends in one line on stderr and exit code 2; an interrupt in a saved run and exit code 128 + signal.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxnas.commands import arguments
from jaxnas.commands import search as searching
from jaxnas.errors import InputError


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    if os.getcwd() not in sys.path:  # a user's own parts, package.module:factory, may lie here
        sys.path.append(os.getcwd())
    try:
        options, rest = arguments.parser().parse_known_args(words)
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


def _init(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas.commands import init as starter
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
    from jaxnas import config
    from jaxnas.commands import progress
    from jaxnas.runs import environment, process

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
    settings, searches, folder, parts = searching.begin(settings, Path(options.folder), named)
    with process.owned(folder):
        return _execute(settings, searches, folder, parts)


def _resume(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import config
    from jaxnas.runs import environment, process, run

    folder = options.run
    environment.read(folder)
    with process.owned(folder):
        settings = searching.reopen(
            folder, [] if options.budget is None else ["--search.budget", str(options.budget)]
        )
        parts = config.build(settings)
        settings, searches = searching.searches_of(settings, parts)
        for each in searches:
            run.check_budget(folder / each.folder, each.stop.budget)
        if changes := environment.changes(folder):
            print(
                f"jaxnas: {folder}: {', '.join(changes)}: results may differ in their bits", file=sys.stderr
            )
        return _execute(settings, searches, folder, parts)


def _execute(settings: Any, searches: list[Any], folder: Path, parts: Any) -> int:
    from jaxnas import report

    if settings.search.seeds > 1:
        return _execute_many(settings, searches[0], folder)
    with _saved(f"jaxnas resume {shlex.quote(str(folder))}"):
        searching.perform(settings, searches, folder, parts)
    runs = [report.read(folder)]
    report.write(runs, folder)
    if len(searches) > 1:
        report.show(report.compare(runs))
    has_network, path = (folder / "best" / "model.stablehlo").exists(), shlex.quote(str(folder))
    parts = "its page is report.html" + ", its best network best/" * has_network
    after = f"jaxnas predict {path} IMAGE…" if has_network else f"jaxnas report {path}"
    print(f"\nThe run lies in {folder}, {parts}. Next: {after}")
    return 0


def _execute_many(settings: Any, one: Any, folder: Path) -> int:
    from jaxnas.commands import progress
    from jaxnas.runs import seeds

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
def _saved(command: str) -> Iterator[None]:
    """Where an interrupt ends the process with one line, which says how to go on."""
    from jaxnas.runs import process

    try:
        yield
    except (process.Interrupted, KeyboardInterrupt) as interrupt:
        print(f"interrupted, saved; go on with: {command}", file=sys.stderr, flush=True)
        # Children may still be training in threads that Python would wait for.
        sys.stdout.flush()
        os._exit(128 + getattr(interrupt, "number", signal.SIGINT))


def _compare(options: argparse.Namespace, overrides: list[str]) -> int:
    from jaxnas.commands import compare as comparison
    from jaxnas.commands import progress
    from jaxnas.runs import environment, process

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
    with process.owned(folder):
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
    from jaxnas import config
    from jaxnas.commands import progress
    from jaxnas.commands import sample as sampling
    from jaxnas.runs import environment, process, restore

    if options.n < 1:
        raise InputError(f"-n: got {options.n}; it takes 1 or more")
    environment.read(options.run)
    with process.owned(options.run):
        settings = searching.reopen(options.run, [])
        parts = config.build(settings)
        state = restore.latest(
            options.run, searching.searches_of(settings, parts)[1][0].search, settings.search.seed
        )
        with progress.Counter("sampled", options.n) as counter:
            rows, greedy = sampling.execute(options.run, parts, state, options.n, counter.update)
        progress.show_samples(sampling.summary(rows), greedy[0])
    return 0


def _retrain(options: argparse.Namespace, overrides: list[str]) -> int:
    from jaxnas import config, data
    from jaxnas.commands import export as exporting
    from jaxnas.commands import progress
    from jaxnas.commands import retrain as retraining
    from jaxnas.runs import environment, ledger, process

    if options.top < 1:
        raise InputError(f"--top: got {options.top}; it takes 1 or more")
    if options.name and not config.is_folder_name(options.name):
        raise InputError(f"--name: got {options.name!r}; it takes part of a folder's name: no path")
    for name in ("cells", "filters"):
        if (value := getattr(options, name)) is not None:
            overrides = [f"--network.{name}", value, *overrides]
    environment.read(options.run)
    with process.owned(options.run):
        settings = searching.reopen(options.run, [])
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
            searching.tell_check(*checked)
    return 0


def _export(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas.commands import export as exporting
    from jaxnas.runs import environment, process

    if options.optuna is not None:
        from jaxnas.log import optuna

        name, trials = optuna.execute(options.run, options.optuna)
        print(f"{options.optuna}: study {name!r}, {trials} trials")
        return 0
    if options.onnx:
        from jaxnas.export import to_onnx

        to_onnx.package()  # an InputError comes now
    environment.read(options.run)
    with process.owned(options.run):
        path, agrees, text = exporting.execute(
            options.run, searching.reopen(options.run, []), options.trial, options.out, options.onnx
        )
    searching.tell_check(agrees, text)
    print(f"{path}: {', '.join(sorted(file.name for file in path.iterdir()))}")
    return 0 if agrees else 1


def _predict(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas.export import explain

    if not options.images and options.explain is None:
        raise InputError("predict: no image; it takes image files, or --explain FILE.png")
    if options.explain is not None:
        explain.check(options.explain)
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
    from jaxnas import machine, report
    from jaxnas.commands import report as reporting

    machine.use_cpu()
    runs = [report.read(path) for path in options.runs]
    folder = options.out or options.runs[0]
    written = report.write(runs, folder)
    report.show(report.compare(runs))
    for path in (*written, report.write_page(runs, folder, reporting.sources(runs))):
        print(path)
    return 0


def _watch(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import machine
    from jaxnas.commands import watch

    machine.use_cpu()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background commands ignore it
    watch.execute(options.run, options.host, options.port, lambda text: print(text, flush=True))
    return 0


def _tabulate(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas.commands import tabulate

    rows, architectures = tabulate.execute(options.runs, options.out)
    print(f"{options.out}: {rows} trials of {architectures} architectures")
    return 0


def _list(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import config, data
    from jaxnas.config import listing
    from jaxnas.errors import unknown

    kinds = {f"{section}s": registry for section, registry in config.registries().items()}
    kinds["data"] = data.REGISTRY
    if options.kind is not None and options.kind not in kinds:
        raise unknown("list", options.kind, kinds)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for kind, registry in kinds.items():
        if options.kind in (None, kind):
            print(f"{kind}:")
            print("\n".join(listing.lines(registry, details=options.kind is not None, width=width)))
    return 0


def _cache(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import machine

    folder = machine.programs_folder()
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

    parser = arguments.parser()
    (commands,) = (each.choices for each in parser._actions if isinstance(each.choices, dict))
    for command in commands.values():
        for action in command._actions:
            if action.dest in ("config", "out"):
                action.complete = shtab.FILE
            elif action.dest in ("run", "runs", "folder", "images"):
                action.complete = shtab.DIRECTORY
    print(shtab.complete(parser, options.shell))
    return 0


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
