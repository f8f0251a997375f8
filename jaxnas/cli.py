"""The command line: search, resume, report, list.

Bad input ends in one line on stderr and exit code 2; an interrupt in a saved run and exit code 128 + signal.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxnas.errors import InputError

EXAMPLES = {
    "search": "jaxnas search configs/quickstart.toml --search.budget 40 --controller.learning-rate 0.02",
    "resume": "jaxnas resume checkpoints/quickstart --budget 200",
    "report": "jaxnas report checkpoints/rlmednas_random checkpoints/rlmednas_masked",
    "list": "jaxnas list controllers",
}


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are InputErrors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    sys.path.insert(0, os.getcwd())  # a user's own parts, package.module:factory, may lie here
    try:
        options, rest = _parser().parse_known_args(arguments)
        if rest and options.command != "search":
            raise InputError(f"jaxnas {options.command}: unknown argument {rest[0]!r}; see --help")
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
            name, help=text, description=text, epilog=epilog, allow_abbrev=False, **settings
        )

    search = command("search", "Run the search that a configuration describes.", add_help=False)
    search.add_argument("config", nargs="?", help="a TOML file, such as configs/quickstart.toml")
    search.add_argument("--folder", default="checkpoints", help="where runs are written")
    search.add_argument(
        "--dry-run", action="store_true", help="show size, first architectures, memory and time"
    )
    search.add_argument(
        "-h", "--help", action="store_true", help="with CONFIG, show every flag that it takes"
    )
    resume = command("resume", "Go on with a run from its last checkpoint.")
    resume.add_argument("run", type=Path, help="the run's folder")
    resume.add_argument("--budget", type=int, help="trials in all; by default what the run began with")
    report = command("report", "Compare runs: print a table, write figures.")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    report.add_argument("--out", type=Path, help="where the figures go; by default the first run's folder")
    listing = command("list", "Show what a configuration can name.")
    listing.add_argument("kind", nargs="?", help="spaces, controllers, evaluators, rewards, networks or data")
    search.set_defaults(parser=search)
    return parser


def _search(options: argparse.Namespace, overrides: list[str]) -> int:
    from jaxnas import config, environment, progress

    if options.config is None:
        if options.help:
            print(options.parser.format_help())
            return 0
        raise InputError(
            "jaxnas search: no configuration; it takes a TOML file such as configs/quickstart.toml"
        )
    if options.help:
        print(options.parser.format_help())
        print(config.usage(options.config, overrides))
        return 0
    settings = config.load(options.config, overrides)
    environment.prepare(
        cpu_devices=settings.runtime.cpu_devices, deterministic=settings.runtime.deterministic
    )
    if options.dry_run:
        progress.preview(settings)
        return 0
    named = any(word.split("=")[0] == "--search.name" for word in overrides)
    folder = _free_folder(Path(options.folder), settings.search.name, named)
    parts = config.build(settings)
    searches = _searches(settings, parts, folder)
    for path, text, _, _ in searches:
        path.mkdir(parents=True)
        _write_run(path, text)
    return _execute(searches, folder)


def _resume(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import config, environment, ledger

    folder = options.run
    environment.read(folder)
    flags = [] if options.budget is None else ["--search.budget", str(options.budget)]
    path = folder / "config.toml"
    settings = config.load(path, flags)
    began_with = folder / ".config.toml"
    if began_with.exists() and (lines := config.differences(config.load(began_with), settings)):
        raise InputError(
            f"{path}: does not fit the run that it began: {lines[0]}; undo that, or start a new run"
        )
    runtime = settings.runtime
    environment.prepare(cpu_devices=runtime.cpu_devices, deterministic=runtime.deterministic, folder=folder)
    searches = _searches(settings, config.build(settings), folder)
    for run_path, text, _, _ in searches:
        ledger.write_atomic(run_path / "config.toml", text.encode())
    return _execute(searches, folder)


def _searches(settings: Any, parts: Any, folder: Path) -> list[tuple[Path, str, Any, Any]]:
    """The run, and its random twin if it has one: (folder, config.toml, search, stop) of each."""
    from jaxnas import config, controllers, loop, run

    limits = settings.search.stop
    stop = run.Stop(settings.search.budget, limits.accuracy, limits.stalled_trials, limits.hours)
    search = loop.make(parts.space, parts.controller, parts.evaluator, parts.reward)
    searches = [(folder, config.dump(settings), (search, settings.search.seed), stop)]
    if settings.search.twin:
        random = controllers.random(parts.space, batch_size=parts.controller.batch_size)
        twin = loop.make(parts.space, random, parts.evaluator, parts.reward)
        text = config.dump(config.twin(settings, parts.controller.batch_size))
        searches.append((folder / "twin", text, (twin, settings.search.seed), run.Stop(stop.budget)))
    return searches


def _write_run(path: Path, text: str) -> None:
    import json

    from jaxnas import environment, ledger

    ledger.write_atomic(path / "config.toml", text.encode())
    ledger.write_atomic(path / ".config.toml", text.encode())
    content = json.dumps(environment.describe(), indent=2) + "\n"
    ledger.write_atomic(path / "environment.json", content.encode())


def _execute(searches: list[tuple[Path, str, Any, Any]], folder: Path) -> int:
    from jaxnas import progress, report, run

    try:
        for path, _, (search, seed), stop in searches:
            with progress.Display(path, search, stop.budget) as display:
                summary = run.execute(path, search, seed=seed, stop=stop, watch=display.update)
            display.finish(summary)
    except run.Interrupted as interrupt:
        line = f"interrupted, saved; go on with: jaxnas resume {shlex.quote(str(folder))}"
        print(line, file=sys.stderr, flush=True)
        # Children may still be training in threads that Python would wait for.
        sys.stdout.flush()
        os._exit(128 + interrupt.number)
    runs = [report.read(folder)]
    report.write(runs, folder)
    if len(searches) > 1:
        report.show(report.compare(runs))
    print(f"\nThe run lies in {folder}. Next: jaxnas report {shlex.quote(str(folder))}")
    return 0


def _report(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import report

    runs = [report.read(path) for path in options.runs]
    report.show(report.compare(runs))
    for path in report.write(runs, options.out or options.runs[0]):
        print(path)
    return 0


def _list(options: argparse.Namespace, _: list[str]) -> int:
    from jaxnas import config, data
    from jaxnas.errors import unknown

    kinds = {f"{section}s": registry for section, registry in config.registries().items()}
    kinds["data"] = data.REGISTRY
    if options.kind is not None and options.kind not in kinds:
        raise unknown("jaxnas list", options.kind, kinds)
    for kind, registry in kinds.items():
        if options.kind in (None, kind):
            print(f"{kind}:")
            for name, factory in sorted(registry.items()):
                print(f"  {name:24} {(factory.__doc__ or '').strip().splitlines()[0]}")
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
    "search": _search,
    "resume": _resume,
    "report": _report,
    "list": _list,
}

if __name__ == "__main__":
    sys.exit(main())
