"""Beside the network that a search ends with: what less effort reaches, RUN/final/twins.csv.

Rows are the best network of the search, that of its random twin, a network by hand that was trained by the
same recipe, and, where images have classes, simple methods on their pixels. A method whose row is there is
not fitted again. `remark` says in words where a row is better than the search.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxnas.runs import ledger, pixels
from jaxnas.types import Dataset

FILE = "twins.csv"
FOUND, RANDOM, BY_HAND = "search", "random search", "by hand"
# How a sentence begins that says that a row is better.
SUBJECTS = {
    RANDOM: "The network that random search found",
    BY_HAND: "The network by hand",
    "SVC": "An SVC on pixels",
    "logistic regression": "Logistic regression on pixels",
}
Row = dict[str, str]


def write(
    folder: Path,
    searches: Sequence[Path],
    dataset: Dataset,
    watch: Callable[[int], None] = lambda _: None,
) -> list[Row]:
    """Measure what is not measured yet, write the table, and return its rows.

    Args:
      folder: of the table.
      searches: the folder of the search, and that of its random twin if it has one, whose best networks have
        been trained to the end, with the network by hand beside the first.
      dataset: what they were trained on.
      watch: is told how many methods are done.
    """
    before = {row["name"]: row for row in ledger.read(folder / FILE)}
    pairs = [_found(path, name) for path, name in zip(searches, (FOUND, RANDOM), strict=False)]
    rows = [row for row in (*(found for found, _ in pairs), pairs[0][1]) if row]
    for row in rows:
        row["images"] = str(len(dataset.train.inputs))
    methods = pixels.METHODS if dataset.kind == "image" and dataset.task.predict is not None else ()
    for done, name in enumerate(methods, 1):
        rows.append(before.get(name) or _fitted(name, dataset))
        _write(folder / FILE, rows, dataset.task.names)
        watch(done)
    sentences = remarks(rows, dataset.task.names[0], dataset.task.more_is_better)
    rows = [{**row, "remark": sentences.get(row["name"], "")} for row in rows]
    _write(folder / FILE, rows, dataset.task.names)
    return rows


def remarks(rows: Sequence[Row], measure: str, more_is_better: bool) -> dict[str, str]:
    """{name of a row: a sentence} of those that are better than the search by a measure of validation.

    The network by hand is better, too, where it is as good with half of the parameters. The commonest class
    is none of them: best/ says by itself where its network is no better than that.
    """
    rows_by_name, sentences = {row["name"]: row for row in rows}, {}
    found, words = rows_by_name.get(FOUND), measure.replace("_", " ")
    for name, subject in SUBJECTS.items():
        row = rows_by_name.get(name)
        if found is None or row is None or not row[f"validation_{measure}"]:
            continue
        own, other = (float(each[f"validation_{measure}"]) for each in (found, row))
        if other > own if more_is_better else other < own:
            degree = "higher" if more_is_better else "lower"
            is_better = "is more accurate" if measure == "accuracy" else f"has a {degree} {words}"
            sentences[name] = (
                f"{subject} {is_better} than the network that was found: {other:.4f} against {own:.4f}"
            )
        elif other == own and name == BY_HAND and 2 * float(row["params"]) <= float(found["params"]):
            sizes = " against ".join(f"{int(float(each['params'])):,}" for each in (row, found))
            sentences[name] = (
                f"{subject} has the same {words} as the network that was found, {own:.4f}, with {sizes} "
                "parameters"
            )
    return sentences


def _found(path: Path, name: str) -> tuple[Row | None, Row | None]:
    """The best network of a search, and the one by hand that was trained beside it, where there are any.

    The seconds of the first are those of the search and of all final trainings.
    """
    results = [row for row in ledger.read(path / "final" / "results.csv") if row["status"] == "ok"]
    seconds = {row["name"]: float(row["seconds"]) for row in ledger.read(path / "final" / "costs.csv")}
    best = next((row for row in results if row["trial"]), None)
    by_hand = next((row for row in results if not row["trial"]), None)
    whole = sum(float(row["seconds"] or 0) for row in ledger.read(path / "timings.csv"))
    whole += sum(seconds.get(row["name"], 0.0) for row in results if row["trial"])
    return (
        best and _row(name, best, whole),
        by_hand and _row(BY_HAND, by_hand, seconds.get(by_hand["name"], 0.0)),
    )


def _row(name: str, result: Row, seconds: float) -> Row:
    measures = {key: value for key, value in result.items() if key.startswith(("validation_", "test_"))}
    return {"name": name, "params": result["params"], "seconds": f"{seconds:.2f}", "images": "", **measures}


def _fitted(name: str, dataset: Dataset) -> Row:
    measured = pixels.measure(name, dataset)
    nothing, values = float("nan"), {}
    for split, measures in (("validation", measured.validation), ("test", measured.test)):
        values |= {f"{split}_{n}": ledger.number(measures.get(n, nothing)) for n in dataset.task.names}
    sizes = {"params": str(measured.params), "seconds": f"{measured.seconds:.2f}"}
    return {"name": name, **sizes, "images": str(measured.images), **values}


def _write(path: Path, rows: list[Row], measures: Sequence[str]) -> None:
    columns = [f"{split}_{name}" for split in ("validation", "test") for name in measures]
    heading = ["name", "params", "seconds", "images", *columns, "remark"]
    ledger.write(path, [heading, *([row.get(column, "") for column in heading] for row in rows)])
