"""NATS-Bench's topology benchmark (NAS-Bench-201) → a CSV file for the evaluator `table`.

    python nats_to_csv.py NATS-tss-v1_0-3ffb9-simple nasbench201.csv.gz

Runs where `nats_bench` (https://github.com/D-X-Y/NATS-Bench) is installed and needs nothing of jaxnas. The
benchmark comes as pickles, a folder of them or one large file, which nats_bench opens: take them from its
authors only. A row an architecture; accuracies in percent, means over the benchmark's trainings. A figure
that the benchmark lacks for some architecture has no column.
"""

import argparse
import csv
import gzip
import io
import os
import sys

# Our name of a data set; the benchmark's, trained on its training images; and with validation images added.
DATASETS = (
    ("cifar10", "cifar10-valid", "cifar10"),
    ("cifar100", "cifar100", "cifar100"),
    ("imagenet16_120", "ImageNet16-120", "ImageNet16-120"),
)


def row(api, index: int) -> dict:
    """The figures of one architecture, None where the benchmark has none."""
    found = {"index": index, "architecture": api.arch(index)}
    searched = {name: _info(api, index, key, "12") for name, key, _ in DATASETS}
    for name, info in searched.items():
        found[f"{name}_valid_acc_12ep"] = info.get("valid-accuracy")
    for name, _, key in DATASETS:
        found[f"{name}_test_acc_200ep"] = _info(api, index, key, "200").get("test-accuracy")
    for name, info in searched.items():  # what NATS-Bench counts as the time of an evaluation
        train, valid = info.get("train-all-time"), info.get("valid-per-time")
        found[f"{name}_seconds_12ep"] = None if train is None or valid is None else train + valid
    cost = api.get_cost_info(index, "cifar10", "12")  # both in millions
    params, multiply_adds = cost.get("params"), cost.get("flops")
    found["params"] = None if params is None else round(1e6 * float(params))
    found["flops"] = None if multiply_adds is None else round(2e6 * float(multiply_adds))
    return found


def _info(api, index: int, dataset: str, epochs: str) -> dict:
    return api.get_more_info(index, dataset, hp=epochs, is_random=False)


def write(path: str, rows: list) -> list:
    """Write the rows, whole or not at all; returns the names of the columns."""
    names = [name for name in rows[0] if all(each[name] is not None for each in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for each in rows:
        cells = (each[name] for name in names)
        writer.writerow([f"{cell:.4f}" if isinstance(cell, float) else cell for cell in cells])
    content = text.getvalue().encode()
    unfinished = f"{path}.tmp"
    with open(unfinished, "wb") as file:
        file.write(gzip.compress(content, mtime=0) if path.endswith(".gz") else content)
    os.replace(unfinished, path)
    return names


def main(arguments: "list[str] | None" = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("benchmark", help="the folder NATS-tss-…-simple, or the file NATS-tss-….pickle.pbz2")
    parser.add_argument("out", help="the table, FILE.csv or FILE.csv.gz")
    options = parser.parse_args(arguments)
    if not options.out.endswith((".csv", ".csv.gz")):
        parser.error(f"out: got {options.out!r}; it takes a file name that ends in .csv or .csv.gz")
    if not os.path.exists(options.benchmark):
        parser.error(f"benchmark: no file or folder {options.benchmark!r}")
    try:
        from nats_bench import create  # pyright: ignore[reportMissingImports]
    except ImportError:
        parser.error("nats_bench is not installed here: pip install nats_bench")
    api = create(options.benchmark, "tss", fast_mode=os.path.isdir(options.benchmark), verbose=False)
    rows = []
    for index in range(len(api)):
        rows.append(row(api, index))
        if len(rows) % 500 == 0 or len(rows) == len(api):
            print(f"{len(rows)}/{len(api)}", file=sys.stderr, flush=True)
    names = write(options.out, rows)
    print(f"{options.out}: {len(rows)} architectures; {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
