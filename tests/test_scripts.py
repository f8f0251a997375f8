"""The scripts that make tables: the shipped one is made again, NATS-Bench's API becomes a CSV file."""

import csv
import gzip
import importlib.util
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import config
from jaxnas.evaluators import table
from jaxnas.spaces import nasbench201
from tests.helpers import quick_jit

SCRIPTS = Path(__file__).parents[1] / "scripts"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_row_of_the_shipped_table_is_made_again():
    """As far as another machine's rounding lets it: the same child but for an image or two of 449."""
    script = load("make_rlmednas_table")
    settings = config.load(script.ROOT / "configs" / "digits_reinforce.toml", script.SPACE)
    parts = config.build(settings)
    arch = parts.space.parse("C(16,3) P(2,2) D(0.1) SM")
    (made,) = script.measured(parts, settings, np.array([arch]), seed=0)
    with open(script.OUT, newline="") as file:
        shipped = next(csv.DictReader(file))
    assert list(made) == list(shipped)
    assert {k: made[k] for k in ("architecture", "params", "flops", "epochs")} == {
        k: shipped[k] for k in ("architecture", "params", "flops", "epochs")
    }
    for name in ("accuracy", "test_accuracy", "auc", "loss"):
        np.testing.assert_allclose(float(made[name]), float(shipped[name]), atol=0.01, err_msg=name)


# NATS-BENCH

ARCHITECTURES = (
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
)
NUMBERS = {"cifar10-valid": 1, "cifar10": 2, "cifar100": 3, "ImageNet16-120": 4}


class Api:
    """What of nats_bench's API the script calls, with a number for every question.

    As there, hp is 12 and is_random True unless told, and cifar10, trained on all images, has no validation.
    """

    def __init__(self, seconds=True):
        self.seconds = seconds

    def __len__(self):
        return len(ARCHITECTURES)

    def arch(self, index):
        return ARCHITECTURES[index]

    def get_more_info(self, index, dataset, iepoch=None, hp="12", is_random=True):
        assert iepoch is None and is_random is False and isinstance(hp, str)
        base = np.float64(10 * NUMBERS[dataset] + index + (0.5 if hp == "200" else 0))
        found = {"train-all-time": 12 * base if self.seconds else None, "test-accuracy": base}
        found["comment"] = "as the newer versions have it"
        if dataset != "cifar10":
            found |= {"valid-accuracy": base + 0.25, "valid-per-time": 1.0 if self.seconds else None}
        return found

    def get_cost_info(self, index, dataset, hp="12"):
        assert (dataset, hp) == ("cifar10", "12")
        return {"params": np.float64(0.129306), "flops": np.float64(15.64737 + index), "latency": None}


@pytest.fixture
def convert(monkeypatch, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.pickle.pbz2").touch()
    script = load("nats_to_csv")

    def run(name, out, **options):
        asked = []

        def create(path, space, fast_mode=False, verbose=True):
            asked.append((Path(path).name, space, fast_mode, verbose))
            return Api(**options)

        monkeypatch.setitem(sys.modules, "nats_bench", types.SimpleNamespace(create=create))
        assert script.main([str(tmp_path / name), str(tmp_path / out)]) == 0
        return asked

    return run


def test_nats_bench_by_hand(convert, tmp_path, capsys):
    assert convert("folder", "t.csv") == [("folder", "tss", True, False)]
    with open(tmp_path / "t.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "index": "0",
        "architecture": ARCHITECTURES[0],
        "cifar10_valid_acc_12ep": "10.2500",
        "cifar100_valid_acc_12ep": "30.2500",
        "imagenet16_120_valid_acc_12ep": "40.2500",
        "cifar10_test_acc_200ep": "20.5000",
        "cifar100_test_acc_200ep": "30.5000",
        "imagenet16_120_test_acc_200ep": "40.5000",
        "cifar10_seconds_12ep": "121.0000",  # 12 · 10 to train, 1 to validate
        "cifar100_seconds_12ep": "361.0000",
        "imagenet16_120_seconds_12ep": "481.0000",
        "params": "129306",
        "flops": "31294740",  # twice the multiply-adds
    }
    assert (second["architecture"], second["cifar10_valid_acc_12ep"]) == (ARCHITECTURES[1], "11.2500")
    assert "2 architectures" in capsys.readouterr().out


def test_what_nats_bench_lacks_has_no_column_and_the_table_is_read(convert, tmp_path):
    assert convert("file.pickle.pbz2", "t.csv.gz", seconds=False)[0][2] is False
    with gzip.open(tmp_path / "t.csv.gz", "rt") as file:
        assert "seconds" not in file.readline()
    space = nasbench201()
    evaluator = table(space, path=str(tmp_path / "t.csv.gz"), accuracy="cifar10_valid_acc_12ep", percent=True)
    arch = jnp.asarray(np.stack([space.parse(text) for text in ARCHITECTURES]))
    found = quick_jit(evaluator.evaluate)(jnp.zeros(2), (), arch)[1]
    np.testing.assert_allclose(found["accuracy"], [0.1025, 0.1125], rtol=1e-6)
    np.testing.assert_allclose(found["cifar10_test_acc_200ep"], [0.205, 0.215], rtol=1e-6)
    np.testing.assert_array_equal(found["params"], 129306)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("folder", "t.txt"), "it takes a file name that ends in .csv or .csv.gz"),
        (("nothing", "t.csv"), "no file or folder"),
        (("folder", "t.csv"), "nats_bench is not installed"),
    ],
)
def test_bad_arguments_of_nats_to_csv(arguments, message, convert, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "nats_bench", None)
    with pytest.raises(SystemExit, match="2"):
        load("nats_to_csv").main([str(tmp_path / argument) for argument in arguments])
    assert message in capsys.readouterr().err
