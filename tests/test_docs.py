"""Every Python snippet of the README and the documentation runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SNIPPETS = [
    pytest.param(code, id=f"{path.name}-{number}")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL))
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_a_snippet_runs(code: str) -> None:
    exec(compile(code, "snippet", "exec"), {})


def test_the_readme_shows_the_loop_in_its_first_twenty_lines() -> None:
    head = "\n".join((ROOT / "README.md").read_text("utf-8").splitlines()[:20])
    assert "jaxnas.loop.run" in head
    assert len(SNIPPETS) >= 4
