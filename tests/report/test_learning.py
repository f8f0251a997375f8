"""Figures of one run: by ε, by what the controller reports, by size; and the drawing of its best network."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jaxnas import report
from jaxnas.report import drawing, learning
from jaxnas.report.runs import depth
from jaxnas.spaces.layers import Conv, Dense, Dropout, GlobalPool, Pool, Setting, Softmax

SVG = "{http://www.w3.org/2000/svg}"
HEADER = "trial,round,layer_1,layer_2,architecture,accuracy,constant,params,reward,status,reason"
ROWS = (
    ("C(8,3,1)", "SM()", 0.5, 1, 90),
    ("C(8,3,1)", "FC(4)", 0.5, 1, 400),
    ("P(2,2)", "FC(4)", 0.7, 0, 60),
    ("C(8,3,1)", "P(2,2)", 0.9, 0, 90),
)


def make(folder, epsilon=("1", "0.5"), rounds=2):
    (folder / "config.toml").write_text('[controller]\nname = "q_learning"\n')
    lines = [HEADER]
    for i, (first, second, accuracy, constant, params) in enumerate(ROWS):
        text = " - ".join([first, second]) if second != "SM()" else f"{first} - SM()"
        lines.append(
            f'{i},{i // 2},"{first}","{second}","{text}",{accuracy},{constant},{params},{accuracy},ok,'
        )
    (folder / "trials.csv").write_text("\n".join(lines) + "\n")
    own = [f"{r},{2 * r + 2},0.5,0.5,{e},0.{r}" for r, e in enumerate(epsilon[:rounds])]
    text = "\n".join(["round,trials,mean_reward,best_reward,epsilon,entropy", *own]) + "\n"
    (folder / "rounds.csv").write_text(text)
    return report.read(folder)


def test_the_stages_of_epsilon(tmp_path):
    found = learning.stages(make(tmp_path))
    assert [(e, at.tolist()) for e, at in found] == [(1.0, [0, 1]), (0.5, [2, 3])]
    # The last round was cut short by the budget: what its ε was is not recorded.
    assert [(e, at.tolist()) for e, at in learning.stages(make(tmp_path, rounds=1))] == [(1.0, [0, 1])]
    assert learning.stages(make(tmp_path, rounds=0)) == []


def test_many_values_of_epsilon_are_gathered(tmp_path):
    run = make(tmp_path)
    rounds = np.arange(40.0)
    run = run._replace(trials={**run.trials, "round": rounds}, rounds={"epsilon": 1 - rounds / 100})
    found = learning.stages(run)
    assert [e for e, _ in found] == pytest.approx([1.0, 0.9, 0.8, 0.7])
    assert [len(at) for _, at in found] == [10, 10, 10, 10]


def test_a_torn_or_damaged_ledger_of_rounds(tmp_path):
    make(tmp_path)
    whole = (tmp_path / "rounds.csv").read_text()
    (tmp_path / "rounds.csv").write_text(whole + "2,6,0.5")
    np.testing.assert_array_equal(report.read(tmp_path).rounds["epsilon"], [1, 0.5])
    (tmp_path / "rounds.csv").write_text(whole + "a,b,c,d,e,f\n")
    assert report.read(tmp_path).rounds == {}


def test_the_depth_leaves_out_what_adds_no_layer(tmp_path):
    np.testing.assert_array_equal(depth(make(tmp_path)), [1, 2, 2, 2])


def test_the_figures_of_a_run(tmp_path):
    figures = report.figures([make(tmp_path)], window=2)
    assert {"epsilon", "controller", "size", "best"} <= set(figures)
    for figure in figures.values():
        assert "nan" not in " ".join(p.get("d", "") for p in ET.fromstring(figure).iter(f"{SVG}path"))
    root = ET.fromstring(figures["epsilon"])
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert titles == [
        "ε = 1: mean 0.5000, median 0.5000, 2 trials",
        "ε = 0.5: mean 0.8000, median 0.8000, 2 trials",
    ]
    [bars] = [g for g in root.iter(f"{SVG}g") if g.get("class") == "c3"]
    # All of the first two predict one class alone, none of the others: 100 % is at y 390, 0 % at 470.
    assert bars[0].get("d") == "M185.5 470V390H221.5V470zM460.5 470V470H496.5V470z"
    words = [text.text for text in ET.fromstring(figures["controller"]).iter(f"{SVG}text")]
    assert {"epsilon", "entropy"} <= set(words)
    words = [text.text for text in ET.fromstring(figures["best"]).iter(f"{SVG}text")]
    assert words[:2] == [
        f"The best network of {tmp_path.name}",
        "trial 3, reward 0.9000, accuracy 0.9, params 90",
    ]
    assert [word for word in words if "(" in word] == ["C(8,3,1) - P(2,2)"]  # no space says what it is


def test_without_an_epsilon_there_is_no_figure_of_it(tmp_path):
    make(tmp_path)
    (tmp_path / "rounds.csv").unlink()
    assert {"epsilon", "controller"}.isdisjoint(report.figures([report.read(tmp_path)]))


@pytest.mark.parametrize(
    ("parts", "layers"),
    [
        ((Conv(256, 5), Pool(2, 2), Dense(128), Softmax()), ["C(256,5,1)", "P(2,2)", "FC(128)", "SM()"]),
        ((Setting("optimizer", "sgd"), Dropout(0.1), GlobalPool()), ["optimizer=sgd", "D(0.1)", "GAP()"]),
        ((Conv(8, 3, norm="batch"),) * 12, ["C(8,3,1)+batch-norm"] * 12),
        ((), ["64-32"]),  # nobody knows what it is made of
    ],
)
def test_a_network_is_drawn_layer_by_layer(parts, layers):
    root = ET.fromstring(drawing.draw(parts, "64-32", "A network", ""))
    words = [t.text for t in root.iter(f"{SVG}text") if "strong" in t.get("class")]
    assert words == ["image", *layers]
    boxes = [r for r in root.iter(f"{SVG}rect") if r.get("rx")]
    assert len({(r.get("x"), r.get("y")) for r in boxes}) == len(layers) + 1
    height = float(root.get("viewBox").split()[3])
    assert max(float(r.get("y")) + float(r.get("height")) for r in boxes) < height
    assert max(float(r.get("x")) + float(r.get("width")) for r in boxes) < 640
    arrows = [p for p in root.iter(f"{SVG}path") if p.get("class") == "line thin"]
    assert len(arrows) == len(layers)
