"""Whether best/ of a run does what it says in an environment that holds only its requirements.txt.

    python scripts/check_best.py checkpoints/quickstart

Makes a virtual environment, installs requirements.txt there, writes the validation images as PNG files, and
runs there, without jaxnas: predict.py on those files, and model.py on their pixels. The accuracy of both has
to be the recorded one.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
from PIL import Image

from jaxnas import data

WITHOUT_JAXNAS = """
import importlib.util, pathlib, sys
import numpy as np
assert importlib.util.find_spec("jaxnas") is None
import model, predict
classifier = predict.Classifier(pathlib.Path(predict.__file__).parent)
files = sorted(pathlib.Path(sys.argv[1]).glob("*.png"))
images = np.stack([classifier.read(path) for path in files])
outputs = classifier.outputs(images)
logits = np.asarray(model.Model().apply(model.load(), model.preprocess(images)))
np.savez(sys.argv[2], outputs=outputs, logits=logits)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="a run, or its best/")
    folder = parser.parse_args().folder
    folder = folder / "best" if (folder / "best").exists() else folder
    about = json.loads((folder / "architecture.json").read_text("utf-8"))
    recorded = json.loads((folder / "metrics.json").read_text("utf-8"))["validation"]["accuracy"]
    images, labels = data.load(**about["data"]).validation
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        shutil.copytree(folder, scratch / "best")
        (scratch / "images").mkdir()
        for i, image in enumerate(images):
            picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
            picture.save(scratch / "images" / f"{i:06}.png")
        venv.create(scratch / "venv", with_pip=True)
        python = scratch / "venv" / "bin" / "python"
        best = scratch / "best"
        install = [python, "-m", "pip", "install", "-q", "-r", best / "requirements.txt"]
        subprocess.run(install, check=True)
        freeze = subprocess.run([python, "-m", "pip", "list"], check=True, capture_output=True, text=True)
        print(f"{len(freeze.stdout.splitlines()) - 2} packages, {sys.version.split()[0]}")
        code = [python, "-c", WITHOUT_JAXNAS, scratch / "images", scratch / "out.npz"]
        subprocess.run(code, check=True, cwd=best, env={"PATH": "/usr/bin:/bin"})
        with np.load(scratch / "out.npz") as found:
            measured = {"predict.py": found["outputs"], "model.py": found["logits"]}
        one = [python, best / "predict.py", scratch / "images" / "000000.png"]
        print(subprocess.run(one, check=True, capture_output=True, text=True).stdout.splitlines()[-1][-60:])
    print(f"recorded: {recorded:.6f} on {len(labels)} validation images")
    for name, outputs in measured.items():
        predicted = outputs.argmax(axis=1) if about["task"] == "multiclass" else outputs[:, 0] > 0
        accuracy = float(np.mean(predicted == labels))
        print(f"{name}: {accuracy:.6f}")
        if abs(accuracy - recorded) > 1e-6:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
