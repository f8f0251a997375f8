"""Train all 24 architectures of RLMedNAS on scikit-learn's digits, five times each: the shipped table.

    python scripts/make_rlmednas_table.py [--out jaxnas/evaluators/tables/rlmednas_digits.csv]

The data and the training are those of configs/digits_reinforce.toml: 5 epochs of Adam 2e-3 in batches of
32. A row a training, five in a row of one architecture; the measures of the evaluator `trained`, which are
of the validation split, and `test_accuracy`. Takes some minutes on two cores; no download. On another
machine or with other versions of the packages the last bits of a training differ, and an image or two with
them.
"""

import argparse
import csv
import functools
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import config, data, masks, training
from jaxnas.commands import progress
from jaxnas.runs import ledger, provenance

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "jaxnas" / "evaluators" / "tables" / "rlmednas_digits.csv"
SPACE = ["--space.num-blocks", "1", "--space.filters", "16", "32", "64", "128"]
SEEDS = range(5)


def measured(parts: config.Parts, settings: config.Config, archs: np.ndarray, seed: int) -> list[dict]:
    """A row of measures for each of the architectures [B, T]; the seed is the root of all their trainings."""
    assert parts.network is not None and parts.dataset is not None and parts.evaluator.child is not None
    test = data.load(**vars(settings.data)).test
    assert test is not None
    key_order, key_children = jax.random.split(jax.random.key(seed))
    keys = jnp.stack([jax.random.fold_in(key_children, i) for i in range(len(archs))])
    state, found = parts.evaluator.evaluate(keys, parts.evaluator.init(key_order), archs)
    trainer = training.make(parts.network, parts.dataset, **training.options_of(vars(settings.trainer)))
    rows = []
    for lane, arch in enumerate(archs):
        structure, knobs = parts.network.plan(arch)
        predict = jax.jit(functools.partial(trainer.predict, structure))
        child = parts.evaluator.child(keys[lane], state, arch)
        assert child is not None, f"{parts.space.describe(arch)} failed"
        outputs = predict({"network": knobs, **trainer.rates}, child[0], jnp.asarray(test.inputs))
        accuracy = parts.dataset.task.measures(np.asarray(outputs), test.labels)["accuracy"]
        row = {name: ledger.number(found[name][lane]) for name in parts.evaluator.measures}
        rows.append(
            {"architecture": parts.space.describe(arch), **row, "test_accuracy": ledger.number(accuracy)}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    settings = config.load(ROOT / "configs" / "digits_reinforce.toml", SPACE)
    provenance.prepare(cpu_devices=1, deterministic=False)
    parts = config.build(settings)
    archs = masks.every(parts.space)
    assert archs is not None
    by_seed = []
    with progress.Counter("trained", len(SEEDS) * len(archs)) as counter:
        for seed in SEEDS:
            by_seed.append(measured(parts, settings, archs, seed))
            counter.update(len(by_seed) * len(archs))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(by_seed[0][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for repeats in zip(*by_seed, strict=True) for row in repeats)
    ledger.write_atomic(options.out, text.getvalue().encode())
    print(f"{options.out}: {len(by_seed) * len(archs)} trainings of {len(archs)} architectures")


if __name__ == "__main__":
    main()
