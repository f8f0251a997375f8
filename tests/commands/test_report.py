import jax
import numpy as np

from jaxnas import config, controllers, evaluators, loop, report, rewards
from jaxnas.commands import report_page
from jaxnas.runs import run
from jaxnas.spaces import blocks
from tests.report.test_page import data_of

MOCK = (
    '[space]\nname = "blocks"\n[controller]\nname = "reinforce"\nbatch_size = 4\n[evaluator]\nname = "mock"\n'
)


def read(folder):
    return data_of((folder / "report.html").read_text("utf-8"))[0]


def test_the_page_is_there_from_the_first_round_and_a_search_does_not_change_by_it(tmp_path):
    space = blocks()
    search = loop.make(
        space,
        controllers.reinforce(space, batch_size=4),
        evaluators.mock(space)._replace(jittable=False),
        rewards.accuracy,
    )
    counts, ledgers = [], []
    for name in ("watched", "alone"):
        folder = tmp_path / name
        folder.mkdir()
        page = report_page.Page(folder, report.Source(space))

        def watch(now, page=page):
            page.began -= 3600  # its turn has always come
            page.update()
            counts.append((now.trials, read(page.folder)["count"]))

        callback = watch if name == "watched" else lambda _: None
        stop = run.Stop(12)
        run.execute(folder, search, seed=0, stop=stop, text=MOCK, watch=callback)
        files = sorted(p for p in folder.glob("*") if p.name in ("trials.csv", "rounds.csv", "policy.npz"))
        ledgers.append([p.read_bytes() for p in files])
    assert counts == [(4, 4), (8, 8), (12, 12)]
    report_page.Page(tmp_path / "watched", report.Source(space)).write()  # the policy is saved at the end
    assert ledgers[0] == ledgers[1]
    heat = read(tmp_path / "watched")["policy"]
    assert heat["at"] == [0, 4, 8]
    assert [row["name"] for row in heat["rows"]] == ["filters", "kernel", "dropout"]
    np.testing.assert_allclose([sum(p) for p in heat["percent"]], 300, atol=5)


def test_the_page_waits_until_its_cost_is_little(tmp_path):
    page = report_page.Page(tmp_path, report.Source(blocks()))
    page.cost = 1e6
    page.update()
    assert not (tmp_path / "report.html").exists()


def test_a_search_does_not_end_for_a_page_that_cannot_be_written(tmp_path, capsys):
    page = report_page.Page(tmp_path / "no run", report.Source(blocks()))
    for _ in range(2):
        page.update()
    assert capsys.readouterr().err == (
        f"jaxnas: {tmp_path / 'no run'}: not a run: no such folder; "
        "give a run's folder, such as checkpoints/quickstart\n"
    )


def test_sources_say_as_much_as_can_be_known(tmp_path):
    def make(name, text):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.toml").write_text(text)
        (folder / "trials.csv").write_text("")
        return report.read(folder)

    network = '[space]\nname = "blocks"\n[controller]\nname = "random"\n[data]\nsource = '
    mock, digits = make("mock", MOCK), make("digits", network + '"digits"\n')
    away, odd = make("away", network + '"npz:nowhere.npz"\n'), make("odd", '[controller]\nname = "other"\n')
    found = report_page.sources([mock, digits, away, odd])
    assert set(found) == {mock.path, digits.path, away.path}
    assert [found[run.path].image_shape for run in (mock, digits, away)] == [None, (8, 8, 1), None]
    assert found[digits.path].network is not None
    assert config.build_space(config.load(away.path / "config.toml")).name == "blocks"


def test_a_report_keeps_off_the_accelerators():
    from jaxnas import machine

    before = jax.config.values["jax_platforms"]
    try:
        machine.use_cpu()
        assert jax.config.values["jax_platforms"] == "cpu"
    finally:
        jax.config.update("jax_platforms", before)


def test_a_source_comes_from_the_parts_of_a_search(tmp_path):
    (tmp_path / "a.toml").write_text(MOCK)
    source = report_page.source_of(config.build(config.load(tmp_path / "a.toml")))
    assert (source.space.name, source.network, source.image_shape) == ("blocks", None, None)
