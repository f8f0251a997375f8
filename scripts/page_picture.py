"""Photograph a run's page in headless Chromium, and say how long it took to open.

    python scripts/page_picture.py checkpoints/quickstart/report.html docs/figures/page.png [--dark]

Needs Debian's chromium and chromium-driver, and selenium (`pip install 'jaxnas[dev]'`).
"""

import argparse
import importlib
import io
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

webdriver: Any = importlib.import_module("selenium.webdriver")
FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")
FLAGS += ("disable-background-networking", "disable-component-update")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1350)
    asked = parser.parse_args()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    with tempfile.TemporaryDirectory() as empty:
        for flag in (*FLAGS, f"user-data-dir={empty}"):
            options.add_argument(f"--{flag}")
        browser = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
        )
        try:
            size = {"width": asked.width, "height": asked.height, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if asked.dark else "light"}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            opened = [_open(browser, asked.page.resolve().as_uri()) for _ in range(7)]
            picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        finally:
            browser.quit()
    picture.quantize(128).save(asked.picture, optimize=True)
    kilobytes, middle = asked.page.stat().st_size / 1000, statistics.median(opened)
    drawn = f"drawn after {min(opened)} to {max(opened)} ms, median {middle:.0f}"
    print(f"{asked.page}: {kilobytes:.0f} kB, {drawn}")


def _open(browser: Any, address: str) -> int:
    """Milliseconds until the page is drawn, as the page itself counts them."""
    browser.get(address)
    while not (ready := browser.execute_script("return document.documentElement.dataset.ready")):
        time.sleep(0.01)
    return int(ready)


if __name__ == "__main__":
    main()
