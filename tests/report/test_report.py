import csv
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jaxnas import report
from jaxnas.errors import InputError
from jaxnas.report import curves, svg

SVG = "{http://www.w3.org/2000/svg}"
HEADER = "trial,round,filters,kernel,architecture,accuracy,params,reward,status,reason"
FOUR = (
    '0,0,16,3,"C(16,3) SM",0.5,100,0.4,ok,',
    '1,0,32,3,"C(32,3) SM",,,,failed,"the loss became NaN, or infinite"',
    '2,1,16,5,"C(16,5) SM",0.9,300,0.6,ok,',
    '3,1,32,5,"C(32,5) SM",0.7,800,0.8,ok,',
)


def make(folder: Path, lines=FOUR, *, controller="reinforce", header=HEADER, end="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(f'[controller]\nname = "{controller}"\n')
    (folder / "trials.csv").write_text("\n".join([header, *lines]) + end)
    return folder


def long(folder: Path, n: int, blocks: int, **options):
    """A plausible run of n trials that comes to prefer the first choices."""
    rng, lines = np.random.default_rng(n), []
    names = [f"{field}_{b}" for b in range(blocks) for field in ("filters", "kernel", "dropout")]
    values = ((16, 32, 64, 128), (3, 5), (0.1, 0.25, 0.5)) * blocks
    for t in range(n):
        taken = [v[int(len(v) * rng.random() ** (1 + 3 * t / n))] for v in values]
        notation = " ".join(f"C({f},{k}) P(2,2) D({d})" for f, k, d in zip(*[iter(taken)] * 3, strict=True))
        measures = f"{rng.beta(20, 3):.6f},{rng.integers(10_000, 500_000)},{rng.beta(20, 3):.6f}"
        lines.append(f'{t},{t // 8},{",".join(map(str, taken))},"{notation}",{measures},ok,')
    header = f"trial,round,{','.join(names)},architecture,accuracy,params,reward,status,reason"
    return make(folder, lines, header=header, **options)


def path_of(figure: str, style: str) -> list[str]:
    return [p.get("d", "") for p in ET.fromstring(figure).iter(f"{SVG}path") if p.get("class") == style]


# READ


def test_a_run_is_read_by_column(tmp_path):
    run = report.read(make(tmp_path / "first"))
    assert (run.name, run.controller, run.twin) == ("first", "reinforce", None)
    assert (run.choices, run.measures) == (("filters", "kernel"), ("accuracy", "params"))
    np.testing.assert_array_equal(run.trials["reward"], [0.4, np.nan, 0.6, 0.8])
    assert run.trials["filters"].tolist() == ["16", "32", "16", "32"]
    assert run.trials["reason"][1] == "the loss became NaN, or infinite"


@pytest.mark.parametrize("cut", [1, 5, 20, 30])
def test_a_torn_last_line_is_left_out(tmp_path, cut):
    folder = make(tmp_path)
    ledger = folder / "trials.csv"
    ledger.write_bytes(ledger.read_bytes()[:-cut])
    assert len(report.read(folder).trials["trial"]) == 3


@pytest.mark.parametrize("text", ["", HEADER[:20], HEADER + "\n", HEADER + "\n0,0,16"])
def test_a_run_that_has_just_begun_is_no_error(tmp_path, text):
    make(tmp_path / "twin", controller="random")
    (make(tmp_path) / "trials.csv").write_text(text)
    run = report.read(tmp_path)
    row, twin = report.compare([run])
    assert (row.trials, row.best_architecture, twin.trials) == (0, "", 4)
    assert np.isnan([row.mean_reward, row.mean_params, row.best_reward]).all()
    report.write([run], tmp_path)
    report.write([run._replace(twin=None)], tmp_path)


@pytest.mark.parametrize(
    ("break_it", "names"),
    [
        (lambda f: (f / "config.toml").unlink(), "lacks config.toml;"),
        (lambda f: (f / "trials.csv").unlink(), "has no trial yet; `jaxnas resume "),
        (lambda f: [p.unlink() for p in f.iterdir()], "lacks config.toml and trials.csv;"),
        (lambda f: (f / "config.toml").write_text("[controller"), "config.toml: not the configuration"),
        (lambda f: (f / "config.toml").write_text("a = 1"), "config.toml: not the configuration"),
        (lambda f: (f / "trials.csv").write_bytes(b"\xff\n"), "trials.csv: not a readable table"),
        (lambda f: (f / "trials.csv").write_text("a,b\n"), "found the columns a, b"),
        (lambda f: make(f, ["0,0,16"]), "trial 0 has 3 fields; it takes 10"),
        (lambda f: make(f, [FOUR[0].replace("0.4", "good")]), "column reward: .*'good'"),
    ],
)
def test_what_is_no_run_is_an_error_that_says_why(tmp_path, break_it, names):
    break_it(make(tmp_path))
    with pytest.raises(InputError, match=names):
        report.read(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        report.read(tmp_path / "nowhere")


# COMPARE


def test_the_comparison_by_hand(tmp_path):
    make(tmp_path / "a" / "twin", FOUR[:1], controller="random")
    row, twin = report.compare([report.read(make(tmp_path / "a"))])
    assert row[:4] == ("a", "reinforce", 4, 1)
    np.testing.assert_allclose(row[4:10], [0.6, 0.7, 400, 0.7, 0.8, 0.7])  # the best by reward, not accuracy
    assert row.best_architecture == "C(32,5) SM"
    assert twin[:4] == ("a/twin", "random", 1, 0)
    np.testing.assert_allclose(twin[4:10], [0.4, 0.4, 100, 0.5, 0.4, 0.5])


def test_the_table_is_whole_in_a_pipe_and_in_a_terminal(tmp_path, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    make(tmp_path / "[red]run" / "twin", FOUR[1:2], controller="random")  # all its trials failed
    rows = report.compare([report.read(make(tmp_path / "[red]run"))])
    for options in ({}, {"force_terminal": True, "width": 80}):
        file = io.StringIO()
        report.show(rows, Console(file=file, **options))
        lines = [" ".join(line.split()) for line in file.getvalue().splitlines()]
        assert "[red]run reinforce 4 1 0.6000 0.7000 400 0.7000 0.8000 0.7000" in lines
        assert "[red]run/twin random 1 1 - - - - - -" in lines
        assert "best of [red]run: C(32,5) SM" in lines
        assert options or "\x1b" not in file.getvalue()  # no colours in a pipe


def test_write_leaves_whole_files_and_nothing_else(tmp_path):
    run = report.read(make(tmp_path / "run"))
    paths = report.write([run], tmp_path / "out")
    assert sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file()) == sorted(paths)
    figures = {"reward.svg", "accuracy_params.svg", "choices.svg", "size.svg", "best.svg"}
    assert {p.name for p in paths} == {"comparison.csv", *figures}
    header, row = csv.reader((tmp_path / "out" / "comparison.csv").read_text().splitlines())
    assert dict(zip(header, row, strict=True))["best_architecture"] == "C(32,5) SM"
    with pytest.raises(InputError, match=r"config\.toml: cannot write"):
        report.write([run], tmp_path / "run" / "config.toml")


# FIGURES


def test_the_rolling_mean_leaves_failed_trials_out():
    nan = np.nan
    mean = curves.rolling_mean(np.array([1.0, nan, 3.0, nan, nan, 5.0]), 2)
    np.testing.assert_allclose(mean, [1, 3, 3, nan, 5])
    np.testing.assert_allclose(curves.rolling_mean(np.array([1.0, nan, 3.0]), 10), [2])
    assert curves.rolling_mean(np.array([]), 10).size == 0


def test_the_pareto_front_by_hand():
    cost, value = np.array([3.0, 1, 2, 2, 4, 1, 5]), np.array([0.7, 0.5, 0.6, 0.4, 0.7, 0.5, 0.9])
    assert curves.pareto(cost, value).tolist() == [1, 2, 0, 6]
    assert curves.records(np.array([np.nan, 1, 1, np.nan, 3, 2])).tolist() == [1, 4]


def test_the_shares_by_hand():
    taken = np.array(["a", "b", "b", "", "a"])  # at the fourth the walk had ended
    result = curves.shares(taken, ["a", "b"], np.array([2, 3, 4, 5]), 2)
    np.testing.assert_allclose(result, [[0.5, 0, 0, 0.5], [0.5, 1, 0.5, 0]])


def test_the_curves_lie_where_the_numbers_are(tmp_path):
    figure = report.figures([report.read(make(tmp_path))], window=2)["reward"]
    # 0 … 4 trials at x 66 … 616, rewards 0.4 … 0.8 at y 394 … 114; the means are 0.4, 0.6, 0.7
    assert path_of(figure, "line")[1:] == ["M341 394L478.5 254L616 184"]  # after the legend's sample
    assert path_of(figure, "line thin") == ["M203.5 394L478.5 394L478.5 254L616 254L616 114L616 114"]


def test_dots_name_their_architecture(tmp_path):
    twice = [*FOUR, FOUR[0].replace("0.5", "0.6").replace("0,0,", "4,2,", 1)]
    figure = report.figures([report.read(make(tmp_path, twice))])["accuracy_params"]
    titles = [title.text for title in ET.fromstring(figure).iter(f"{SVG}title")]
    assert sorted(titles) == [
        "C(16,3) SM\naccuracy 0.6000, 100 parameters, 2 trials",
        "C(16,5) SM\naccuracy 0.9000, 300 parameters",
        "C(32,5) SM\naccuracy 0.7000, 800 parameters",
    ]
    assert sum(path.count("h0") for path in path_of(figure, "dots")) == 4


def test_choices_are_coloured_by_size_and_the_rare_ones_merged(tmp_path):
    taken = [v for v in (16, 128, *range(200, 206)) for _ in range(2)] + [2, 3]
    lines = [f"{i},0,{v},3,A,0.5,100,0.4,ok," for i, v in enumerate(taken)]
    figure = report.figures([report.read(make(tmp_path, lines))])["choices"]
    group = next(g for g in ET.fromstring(figure).iter(f"{SVG}g") if g.get("class") == "small")
    names = [text.text for text in group.iter(f"{SVG}text")]
    assert names == ["other", "205", "204", "203", "202", "201", "200", "128", "16"]


@pytest.mark.parametrize("n", [1, 2, 2000])
def test_figures_are_small_well_formed_and_repeatable(tmp_path, n):
    long(tmp_path / "twin", n, 3, controller="random")
    long(tmp_path, n, 3)
    first, again = (report.figures([report.read(tmp_path)]) for _ in range(2))
    assert first == again
    for figure in first.values():
        root = ET.fromstring(figure)
        assert root.get("viewBox").startswith(f"0 0 {svg.WIDTH} ")
        assert "nan" not in figure
        assert not any("id" in element.attrib for element in root.iter())
        assert len(figure.encode()) < 150_000


@pytest.mark.parametrize("lines", [FOUR[:1], FOUR[:1] * 3, FOUR[1:2] * 3])
def test_one_trial_equal_rewards_and_nothing_but_failures_can_be_drawn(tmp_path, lines):
    for figure in report.figures([report.read(make(tmp_path, lines))]).values():
        drawn = " ".join(path.get("d", "") for path in ET.fromstring(figure).iter(f"{SVG}path"))
        assert "nan" not in drawn
        assert "inf" not in drawn


def test_two_runs_and_a_twin_are_told_apart(tmp_path):
    make(tmp_path / "x" / "run" / "twin", controller="random")
    make(tmp_path / "x" / "run")
    make(tmp_path / "y" / "run", controller="a<b> & 'c'\u0007".replace("\u0007", "\\u0007"))
    figures = report.figures([report.read(tmp_path / name / "run") for name in "xy"])
    for name in ("reward", "choices", "accuracy_params"):
        words = [text.text for text in ET.fromstring(figures[name]).iter(f"{SVG}text")]
        assert any("run/twin (random)" in word for word in words)
        assert any("a<b> & 'c'\ufffd" in word for word in words)
        assert len({word for word in words if "/run (" in word or "/run, " in word}) <= 2
    styles = [g.get("class") for g in ET.fromstring(figures["reward"]).iter(f"{SVG}g")]
    assert [s for s in styles if s != "muted"] == ["c0 d0", "twin d1", "c1 d0"] * 2


def test_without_parameters_there_is_no_figure_of_them(tmp_path):
    header, lines = HEADER.replace(",params", ""), ["0,0,16,3,A,0.5,0.4,ok,"]
    run = report.read(make(tmp_path, lines, header=header))
    assert set(report.figures([run])) == {"reward", "choices", "best"}


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.31, 0.79], ["0.3", "0.4", "0.5", "0.6", "0.7", "0.8"]),
        ([-20, 60], ["−20", "0", "20", "40", "60"]),
        ([], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([2.0, np.nan], ["1.90", "1.95", "2.00", "2.05", "2.10"]),
        ([1e6, 3e6], ["1,000,000", "1,500,000", "2,000,000", "2,500,000", "3,000,000"]),
    ],
)
def test_linear_ticks_are_round(values, labels):
    scale = svg.linear(np.array(values, float), 0, 100)
    assert [label for _, label in scale.ticks] == labels
    assert scale.at(scale.hi) == 100


def test_other_ticks_are_round():
    assert [label for _, label in svg.logarithmic(np.array([34_667, 279_307, np.nan]), 0, 1).ticks] == [
        *("20k", "50k", "100k", "200k", "500k")
    ]
    assert [label for _, label in svg.logarithmic(np.array([900.0, 3e7]), 0, 1).ticks] == [
        *("1k", "10k", "100k", "1M", "10M")
    ]
    assert [label for _, label in svg.logarithmic(np.array([1000.0]), 0, 1).ticks] == ["1k", "2k"]
    assert [label for _, label in svg.counts(3, 0, 1).ticks] == ["0", "1", "2", "3"]


def test_a_band_goes_out_along_one_edge_and_back_along_the_other():
    x, y = svg.Scale(0, 2, 0, 200, ()), svg.Scale(0, 1, 100, 0, ())
    path = svg.band(x, y, np.array([0, 1, 2]), np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7]))
    assert 'd="M0 50L100 40L200 30L200 70L100 80L0 90z"' in path
