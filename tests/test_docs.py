"""Every snippet of the README and the documentation is tried, and the notebook runs.

Python runs. TOML has to load, on top of a small configuration where it is a part of one. Commands are not
run, for they may need data or minutes: their flags, their configurations in configs/ with every override,
their scripts and extras have to exist. `scripts/own_images.py` runs the README's section on your own images.
"""

import contextlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import jaxnas
from jaxnas import config
from jaxnas.commands import compare_config
from jaxnas.commands.arguments import parser
from jaxnas.errors import InputError
from tests.helpers import UNOPTIMIZED_FLAGS
from tests.test_scripts import load

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TEXTS = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "checkpoints" / "README.md")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def snippets(language):
    return [
        pytest.param(code, id=f"{path.name}-{number}")
        for path in PAGES
        for number, code in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        )
    ]


def commands():
    return [
        pytest.param(words, id=f"{block.id}: {' '.join(words)}")
        for block in snippets("sh")
        for line in block.values[0].replace("\\\n", " ").splitlines()
        for part in line.split(" && ")
        if (words := shlex.split(part, comments=True))
    ]


@pytest.mark.parametrize("code", snippets("python"))
def test_a_snippet_runs(code: str, workplace) -> None:
    exec(compile(code, "snippet", "exec"), {})


@pytest.mark.parametrize("code", snippets("toml"))
def test_a_configuration_loads(code: str, tmp_path) -> None:
    table = tomllib.loads(code)
    base = {"space": {"name": "blocks"}, "controller": {"name": "random"}}
    missing = [section for section in base if section not in table and "arms" not in table]
    text = "".join(f'[{section}]\nname = "{base[section]["name"]}"\n' for section in missing) + code
    if "arms" in table:
        text += '[space]\nname = "blocks"\n[evaluator]\nname = "mock"\n'
    (tmp_path / "snippet.toml").write_text(text)
    (compare_config.load if "arms" in table else config.load)(tmp_path / "snippet.toml")


@pytest.mark.parametrize("words", commands())
def test_a_command_is_one(words: list[str]) -> None:
    program, *arguments = (word for word in words if "=" not in word or word.startswith("-"))
    name = Path(program).name
    if name == "jaxnas":
        check_jaxnas(arguments)
    elif name == "python" and arguments[0].startswith("scripts/"):
        assert (ROOT / arguments[0]).is_file()
        text = (ROOT / arguments[0]).read_text("utf-8")
        assert all(word in text for word in arguments if word.startswith("--"))
    elif name == "pip":
        extras = re.findall(r"\[(\w+)\]$", arguments[-1]) if arguments[-1].startswith(".") else []
        assert set(extras) <= {*PROJECT["optional-dependencies"]}
    else:  # environments, and the interpreter's own modules
        assert name in ("python3", "python", "source", "tensorboard", "optuna-dashboard") and arguments


def check_jaxnas(arguments: list[str]) -> None:
    arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
    with contextlib.suppress(SystemExit):  # --help
        options, rest = parser().parse_known_args(arguments)
        assert not rest or options.command in ("search", "compare", "retrain")
        if options.command in ("search", "compare") and options.config.startswith("configs/"):
            seeds = ["--search.seeds", options.seeds] if getattr(options, "seeds", None) else []
            loads = compare_config.load if options.command == "compare" else config.load
            loads(ROOT / options.config, [*rest, *seeds])


@pytest.mark.parametrize(
    "line",
    [
        "jaxnas serach configs/quickstart.toml",
        "jaxnas search configs/none.toml",
        "jaxnas search configs/quickstart.toml --search.bugdet 4",
        "jaxnas resume checkpoints/quickstart --bugdet 4",
        "python scripts/none.py",
        "python scripts/own_images.py --none",
        "pip install .[none]",
        "rm quickstart.toml",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises((AssertionError, InputError)):
        test_a_command_is_one(shlex.split(line))


def test_the_readme_shows_the_loop_in_its_first_twenty_lines() -> None:
    head = "\n".join((ROOT / "README.md").read_text("utf-8").splitlines()[:20])
    assert "jaxnas.loop.run" in head
    assert len(snippets("python")) >= 8
    assert len(commands()) >= 20


def test_every_configuration_is_said_what_it_is_after() -> None:
    page = (ROOT / "docs" / "reproducing.md").read_text("utf-8")
    named = {
        name
        for row in page.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named == {path.stem for path in (ROOT / "configs").glob("*.toml")}


def test_links_lead_somewhere() -> None:
    for path in TEXTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_files_that_are_named_exist() -> None:
    """Paths in jaxnas/, tests/ and so on, and modules such as `jaxnas.loop`; NAME stands for any."""
    for path in TEXTS:
        text = path.read_text("utf-8")
        for name in re.findall(r"\b(?:jaxnas|tests|scripts|configs|docs)/[\w/]*(?:\.[a-z]+|/)", text):
            assert "NAME" in name or (ROOT / name).exists(), f"{path.name}: {name}"
        for name in re.findall(r"`(jaxnas\.\w+)", text):
            assert hasattr(jaxnas, name.split(".")[1]), f"{path.name}: {name}"


def test_contributing_fits_a_screen() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert len(text.splitlines()) <= 50
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    markers = re.findall(r"pytest .*-m (\w+)", text)
    assert markers and all(f'"{marker}: ' in project for marker in markers)


def test_the_notebook_runs(workplace, tmp_path, monkeypatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XLA_FLAGS", UNOPTIMIZED_FLAGS)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(ROOT / "docs" / "examples" / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pages = [output.data.get("text/html", "") for output in shown if "data" in output]
    lines = [output.data.get("text/plain", "") for output in shown if "data" in output]
    assert any("<th>best reward</th>" in page for page in pages)
    assert any("data:image/svg+xml" in page for page in pages)
    assert any(line.startswith("round ") and "trial 16/16" in line for line in lines)


def test_the_script_runs_the_commands_of_the_readme(tmp_path) -> None:
    script = load("own_images")
    lines = script.commands((ROOT / "README.md").read_text("utf-8"))
    assert [line.split()[:2] for line in lines] == [
        ["jaxnas", name] for name in ("init", "search", "predict")
    ]
    script.write_images(tmp_path, 2, 3)
    assert {p.name: len(list(p.iterdir())) for p in (tmp_path / "leaves").iterdir()} == {
        "ground": 2,
        "leaf": 2,
    }
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert len(names) == 3
    answers = "\n".join(f"new/{name}: leaf 0.9, ground 0.1" for name in names)
    assert script.accuracy(answers) == sum(name.startswith("leaf") for name in names) / 3
    with pytest.raises(SystemExit, match="not an answer an image"):
        script.accuracy("new/what")
