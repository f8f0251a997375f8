"""A configuration for a user's own images: what is seen in them, and what follows from it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnas import config, data
from jaxnas.commands import cli, init
from jaxnas.data.survey import Survey, survey
from jaxnas.errors import InputError


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def draw(path, size=(12, 10), color=None, count=1):
    """`count` images of height × width; gray ones, or of one colour."""
    Path(path).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.full((*size, 3) if color else size, color or i, np.uint8)
        Image.fromarray(pixels).save(Path(path) / f"{i:03}.png")


def counted(classes, sizes=((64, 64),), is_gray=True, damaged=(), **splits):
    """A survey of so many images in each class."""
    parts = {"train": classes, **splits}
    return Survey(
        {s: dict(zip("abcdefgh", n, strict=False)) for s, n in parts.items()},
        np.array(sizes),
        is_gray,
        damaged,
    )


def test_a_survey_by_hand():
    draw("pets/cat", count=3)
    draw("pets/dog", (8, 20), (7, 7, 7), count=2)
    Path("pets/dog/notes.txt").write_text("no image")
    whole = Path("pets/cat/000.png").read_bytes()
    Path("pets/cat/cut.png").write_bytes(whole[:-30])
    found = survey("pets")
    assert found.counts == {"train": {"cat": 3, "dog": 2}}
    assert found.sizes.tolist() == [[12, 10]] * 3 + [[8, 20]] * 2
    assert found.is_gray  # three equal channels are gray too
    assert [text.partition(":")[0] for text in found.damaged] == ["pets/cat/cut.png", "pets/dog/notes.txt"]
    assert init.describe(found) == [
        "train: 5 images of 2 classes, 2 (dog) to 3 (cat) a class",
        "8 × 10 to 12 × 20 pixels (height × width), gray",
    ]
    draw("pets/dog", (8, 20), (7, 7, 8))
    assert not survey("pets").is_gray


def test_splits_are_seen():
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        draw(f"pets/{split}/cat", count=count)
        draw(f"pets/{split}/dog", count=count)
    found = survey("pets")
    assert {split: sum(n.values()) for split, n in found.counts.items()} == {
        "train": 8,
        "validation": 4,
        "test": 6,
    }
    assert init.describe(found)[0] == "train: 8 images of 2 classes, 4 a class"
    text = init.configuration("pets", found, Path("pets.toml"))
    assert "fraction" not in text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # A fifth each for validation and test leave 240 to train on. Half of 840 core-seconds at 1.5 ms an
        # image are 280,454 images: 390 epochs for each of three networks, at most 200; 97 for each trial.
        (counted((200, 200)), {"limit": 0, "train": 240, "validation": 80, "epochs": 50}),
        (counted((200, 200)), {"final_epochs": 200, "class_weights": "none"}),
        (counted((200, 200)), {"image_size": 48, "color": "gray", "stages": 4}),
        (counted((500, 500), validation=(9, 9)), {"train": 800, "validation": 18, "epochs": 29}),
        (counted((9000, 9000)), {"limit": 5843, "train": 5843, "validation": 3600, "epochs": 4}),
        (counted((9000, 9000)), {"final_epochs": 9}),
        (counted((99990, 10)), {"limit": 20000, "train": 20000, "class_weights": "balanced"}),
        (counted((20, 11)), {"class_weights": "none"}),
        (counted((20, 10)), {"class_weights": "balanced"}),
        (counted((20, 20), ((28, 28),)), {"image_size": 28, "stages": 3}),
        (counted((20, 20), ((8, 8),)), {"image_size": 8, "stages": 2}),
        (counted((20, 20), ((300, 200),), False), {"image_size": 64, "color": "rgb"}),
    ],
)  # fmt: skip
def test_choices_by_hand(found, expected):
    chosen = init.choose(found)._asdict()
    assert {name: chosen[name] for name in expected} == expected


def test_the_configuration_is_one_that_builds(capsys):
    draw("own images/a", (30, 40), (200, 10, 10), count=12)
    draw("own images/b#\n2", (40, 30), (10, 200, 10), count=24)
    assert cli.main(["init", "own images"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == "own images.toml is written. Next: jaxnas search 'own images.toml'"
    settings = config.load("own images.toml")
    assert settings.search.name == "own images"
    assert vars(settings.data) | {"source": "folder:own images", "image_size": 30, "color": "rgb"} == vars(
        settings.data
    )
    assert (settings.data.class_weights, settings.data.measure) == ("balanced", "balanced_accuracy")
    dataset = data.load(**vars(settings.data))
    assert dataset.train.inputs.shape[1:] == (30, 30, 3)
    parts = config.build(settings, dataset=dataset)
    assert parts.space.name == "stages" and settings.final.top == 3
    lines = Path("own images.toml").read_text().splitlines()
    assert "# train: 36 images of 2 classes, 12 (a) to 24 ('b#\\n2') a class" in lines
    for line, before in zip(lines[1:], lines, strict=False):  # a reason stands over every choice
        unsaid = ("source",)
        assert " = " not in line or line.startswith(("#", *unsaid)) or before.startswith("# "), line


def test_damaged_files_are_told_of_and_the_rest_counts(capsys):
    draw("pets/cat", count=3)
    draw("pets/dog", count=3)
    for i in range(7):
        Path(f"pets/dog/broken{i}.png").write_bytes(b"")
    assert cli.main(["init", "pets"]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("jaxnas: pets/dog/broken0.png: not a readable image")
    assert "and 6 more: remove what cannot be read" in err
    text = Path("pets.toml").read_text()
    assert "# 7 files are no readable images; a search stops at them:" in text
    assert text.count("#     pets/dog/broken") == 5


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["none"], "none: no such folder"),
        (["empty"], "has no folders of classes"),
        (["one"], "has one class, 'cat'; it takes two or more"),
        (["bad"], "class 'dog' has no readable training image"),
        (["good"], "good.toml: exists already; delete it, or give another name by --out FILE.toml"),
        (["good", "--out", "good.txt"], "it takes a file name that ends in .toml"),
        (["good", "--out", "no/new.toml"], "no/new.toml: cannot write the configuration"),
    ],
)
def test_bad_folders(arguments, match, capsys):
    Path("empty").mkdir()
    for folder in ("one", "bad", "good"):
        draw(f"{folder}/cat")
    draw("good/dog")
    Path("bad/dog").mkdir()
    Path("bad/dog/1.png").write_bytes(b"")
    Path("good.toml").write_text("mine")
    assert cli.main(["init", *arguments]) == 2
    out, err = capsys.readouterr()
    assert match in err and err.count("\n") == 1 and out == ""
    assert Path("good.toml").read_text() == "mine"
    assert [path.name for path in Path().glob("*.toml")] == ["good.toml"]


def test_a_file_that_appears_meanwhile_is_kept():
    Path("a.toml").write_text("mine")
    with pytest.raises(InputError, match=r"a\.toml: cannot write the configuration: File exists"):
        init.write(Path("a.toml"), "ours")
    assert Path("a.toml").read_text() == "mine"
