"""The page in headless Chromium. Without it the tests are skipped, unless JAXNAS_REQUIRE_CHROMIUM is set."""

import os
import shutil
import threading
import time

import pytest

from jaxnas import report, spaces
from jaxnas.commands import watch
from jaxnas.spaces.layers import Conv, Softmax
from tests.report.test_report import FOUR, long, make

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
READY = "return document.documentElement.dataset.ready"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    required = bool(os.environ.get("JAXNAS_REQUIRE_CHROMIUM"))
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    if webdriver is None or not all(programs.values()):
        what = "chromium, chromedriver and selenium are not all here"
        pytest.fail(what) if required else pytest.skip(what)
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(programs["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_window_size(1200, 900)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser):
    """Opens an address and waits until the page is drawn; nothing may have gone wrong at the end."""

    def show(address):
        browser.get(address)
        wait(browser, READY)
        return browser

    yield show
    assert browser.get_log("browser") == []


def wait(browser, script, *arguments):
    for _ in range(200):
        if result := browser.execute_script(script, *arguments):
            return result
        time.sleep(0.05)
    raise AssertionError(f"never true: {script}")


def click(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def texts(browser, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
    return browser.execute_script(script, selector)


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    folder = tmp_path_factory.mktemp("big")
    long(folder / "twin", 2000, 2, controller="random")
    (long(folder, 2000, 2) / "rounds.csv").write_text(
        "round,trials,entropy\n" + "".join(f"{r},{8 * r + 8},{1 / (r + 1)}\n" for r in range(250))
    )
    return report.write_page([report.read(folder)], folder, {})


def test_two_thousand_trials_open_within_a_second(page, big):
    assert big.stat().st_size < 1_000_000
    for _ in range(5):  # the machine may be busy
        shown = page(big.as_uri())
        if int(shown.execute_script(READY)) < 1000:  # ms since the page was asked for
            break
    assert int(shown.execute_script(READY)) < 1000
    assert texts(shown, ".tile b")[-1] == "2,000"
    assert texts(shown, "section h2") == [
        "Reward over trials", "Accuracy against parameters", "Policy over time", "Inside the controller",
        "The best networks", "Trials", "Repeat it",
    ]  # fmt: skip


def test_the_slider_moves_the_heat_map(page, big):
    shown = page(big.as_uri())

    def at(place):
        script = """const s = document.getElementById('slider'); s.value = arguments[0];
            s.dispatchEvent(new Event('input')); return document.querySelector('.heat b').style.cssText"""
        return shown.execute_script(script, place), texts(shown, "#policy output")

    (first, words), (last, later) = at(0), at(59)
    assert first != last  # the first choices came to be preferred
    assert (words, later) == (["up to trial 100"], ["up to trial 2,000"])


def test_the_table_sorts_searches_and_grows(page, big):
    shown = page(big.as_uri())
    rewards = "#trials tbody td:nth-child(2)"
    click(shown, "[data-sort=reward]")
    best = [float(value) for value in texts(shown, rewards)]
    click(shown, "[data-sort=reward]")
    worst = [float(value) for value in texts(shown, rewards)]
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)
    assert max(worst) < min(best)
    assert len(best) == 50
    click(shown, "#more")
    assert len(texts(shown, rewards)) == 250


def test_failures_are_listed_with_their_reasons(page, tmp_path):
    path = report.write_page([report.read(make(tmp_path))], tmp_path, {})
    shown = page(path.as_uri())
    shown.execute_script(
        "const s = document.getElementById('only'); s.value = 'failed'; s.dispatchEvent(new Event('change'))"
    )
    assert texts(shown, "#trials tbody tr td:last-child") == ["the loss became NaN, or infinite"]


def test_a_dot_tells_its_architecture(page, tmp_path):
    path = report.write_page([report.read(make(tmp_path))], tmp_path, {})
    shown = page(path.as_uri())
    wait(shown, "return document.querySelector('path.dots')")
    shown.execute_script(
        """const svg = document.querySelector('path.dots').closest('svg');
        const [x, y] = svg.querySelector('path.dots').getAttribute('d').match(/[\\d.]+/g).map(Number);
        const box = svg.getBoundingClientRect();
        svg.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + x, clientY: box.top + y}))"""
    )
    assert texts(shown, "#tip")[0].startswith("C(16,3) SM\naccuracy 0.5, 100 parameters")


def test_arcs_end_at_the_layers_that_add_an_earlier_output(page, tmp_path):
    line = '0,0,16,3,"C(8,3,1) - C(8,3,1)+skip1 - C(8,3,1)+skip3 - SM()",0.5,100,0.4,ok,'
    run = report.read(make(tmp_path, [line]))
    layers = (Conv(8, 3), Conv(8, 3, skip=1), Conv(8, 3, skip=3), Softmax())
    source = report.Source(spaces.blocks()._replace(parse=lambda text: None, layers=lambda arch: layers))
    shown = page(report.write_page([run], tmp_path, {run.path: source}).as_uri())
    wait(shown, "return document.querySelectorAll('svg.arcs .plus').length === 2")
    found = shown.execute_script(
        """const boxes = [...document.querySelectorAll('.part')].map(e => e.getBoundingClientRect());
        const middle = (box) => [box.left + box.width / 2, box.top + box.height / 2];
        return [boxes.map((box) => [box.right, ...middle(box)]),
                [...document.querySelectorAll('.plus')].map(e => middle(e.getBoundingClientRect()))]"""
    )
    boxes, ends = found
    for (x, y), target in zip(ends, (2, 3), strict=True):  # box 0 is the image
        assert abs(x - boxes[target][0]) < 1.5 and abs(y - boxes[target][2]) < 1.5
    (told,) = shown.execute_script(
        "return [...document.querySelectorAll('.column')].map(e => e.getAttribute('aria-label'))"
    )
    assert told == "layer 2 adds the output of layer 1, layer 3 adds the output of the image"


def test_the_theme_turns_and_a_phone_has_nothing_beside_the_screen(page, big):
    shown = page(big.as_uri())
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = shown.execute_script(ground)
    click(shown, "#theme")
    assert shown.execute_script(ground) != light
    size = {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wait(shown, "return document.documentElement.scrollWidth <= 380")
    finally:
        shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        click(shown, "#theme")


def test_several_runs_are_chosen_from(page, tmp_path):
    runs = [report.read(make(tmp_path / name, FOUR[:n])) for name, n in (("a", 4), ("b", 1))]
    shown = page(report.write_page(runs, tmp_path, {}).as_uri())
    assert texts(shown, "#run option") == ["a (reinforce)", "b (reinforce)"]
    shown.execute_script(
        "const s = document.getElementById('run'); s.value = 1; s.dispatchEvent(new Event('change'))"
    )
    assert len(texts(shown, "#trials tbody tr")) == 1


def test_a_watched_page_grows_with_its_run(page, tmp_path):
    make(tmp_path, FOUR[:2])
    with watch.server(watch.Live(tmp_path), "127.0.0.1", 0) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        shown = page(f"http://127.0.0.1:{served.server_address[1]}/")
        assert len(texts(shown, "#trials tbody tr")) == 2
        make(tmp_path, FOUR)
        wait(shown, "return document.querySelectorAll('#trials tbody tr').length === 4")
        shown.get("about:blank")
        served.shutdown()
        thread.join()
