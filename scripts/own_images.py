"""The README's section on your own images, run word for word on synthetic leaves in image files.

    python scripts/own_images.py

In a new folder: 200 images of each class in `leaves/CLASS/`, and in `new/` images that only the last command
sees. Then the commands of the section, by bash. The last one's answers are compared with the truth; an
accuracy below 0.95 is an error.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from jaxnas.data import leaves

ROOT = Path(__file__).resolve().parents[1]
EACH, NEW, SEED = 200, 2000, 7  # images a class, images to classify
LEAST = 0.95


def commands(readme: str) -> list[str]:
    """The commands of the section."""
    section = re.search(r"<!-- own images -->\n```sh\n(.*?)```", readme, re.DOTALL)
    if section is None:
        raise SystemExit("README.md has no block of commands after <!-- own images -->")
    return section[1].splitlines()


def write_images(folder: Path, each: int, new: int) -> None:
    """`folder/leaves/CLASS/NUMBER.png`, and `folder/new/CLASS-NUMBER.png`."""
    images, labels, _ = leaves.generate(3 * each + new, seed=SEED)  # more than enough of either class
    count, others = dict.fromkeys(leaves.CLASSES, 0), 0
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = leaves.CLASSES[label]
        if count[name] < each:
            path, count[name] = folder / "leaves" / name / f"{i:05}.png", count[name] + 1
        elif others < new:
            path, others = folder / "new" / f"{name}-{i:05}.png", others + 1
        else:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)


def accuracy(answers: str) -> float:
    """The share of lines `new/CLASS-NUMBER.png: CLASS PROBABILITY, …` that name the image's class first."""
    found = re.findall(r"^new/(\w+)-\d+\.png: *(\w+)", answers, re.MULTILINE)
    if len(found) != answers.count("new/"):
        raise SystemExit(f"not an answer an image: {answers[:200]!r}")
    return sum(truth == answer for truth, answer in found) / max(len(found), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="a new folder to work in; by default a temporary one")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="own_images_"))
    write_images(folder, EACH, NEW)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    out = ""
    for command in commands((ROOT / "README.md").read_text("utf-8")):
        print(f"+ {command}", flush=True)
        began = time.perf_counter()
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        out = done.stdout
        print("\n".join(out.splitlines()[-12:]))
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)
        if done.returncode:
            return done.returncode
    right = accuracy(out)
    print(f"accuracy on {out.count('new/')} new images: {right:.4f}")
    return 0 if right >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
