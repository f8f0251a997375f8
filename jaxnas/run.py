"""A run is a folder: a search whose state, ledgers and best child are on the disk, round by round.

    config.toml  environment.json  trials.csv  rounds.csv  timings.csv  policy.npz  state/  best/  figures/

One process owns a run at a time. Stopped at any moment, by any means, it goes on from its last checkpoint
and ends with the files of a run that was never stopped.
"""

import contextlib
import csv
import fcntl
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors.numpy import save as to_safetensors

from jaxnas import checkpoint, ledger, loop, masks
from jaxnas.errors import InputError


class Stop(NamedTuple):
    """What ends a search; None does not."""

    budget: int  # trials
    accuracy: float | None = None  # of any trial
    stalled_trials: int | None = None  # since the best one
    hours: float | None = None  # of running, all processes together


class Progress(NamedTuple):
    """Where a run stands after some rounds."""

    trials: int
    round: int
    mean_reward: float  # of the last round, NaN if every child failed
    best_reward: float
    best: str  # notation of the best architecture


class Summary(NamedTuple):
    """How a run ended."""

    why: str
    trials: int
    best: dict[str, str]  # the best trial's row of trials.csv; empty if every trial failed


class Interrupted(Exception):
    """SIGINT or SIGTERM came; everything up to the last finished round is saved."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def execute(
    folder: Path,
    search: loop.Search,
    *,
    seed: int,
    stop: Stop,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Run a search in `folder`, from its last checkpoint if it has one, until something ends it.

    A last round that the budget cuts short is recorded but not learned from, so that the run can be
    extended later as if the budget had always been larger.

    Raises:
      InputError: another process owns the run, or a checkpoint has other shapes.
      Interrupted: SIGINT or SIGTERM; the run is saved.
    """
    B = search.controller.batch_size
    full, rest = divmod(stop.budget, B)
    trials, rounds, timings = (folder / f"{name}.csv" for name in ("trials", "rounds", "timings"))
    policy = jax.jit(search.controller.policy)
    began = time.perf_counter()
    with _owned(folder), contextlib.closing(checkpoint.open_folder(folder / "state")) as checkpoints:
        fresh = search.init(jax.random.key(seed))
        state, about = checkpoint.restore(checkpoints, fresh) or (fresh, {})
        round = int(state.round)
        rows = _rows(trials)
        if round == full and len(rows) == stop.budget:
            return _summary("the budget is spent", rows)
        accuracies = [
            float(row["accuracy"]) for row in rows if row.get("accuracy") and int(row["round"]) < round
        ]
        top_accuracy = max(accuracies, default=0.0)
        for path in (trials, rounds, timings):
            ledger.cut(path, "round", round)
        snapshots = ledger.load_policy(folder / "policy.npz", round)
        saver = _Saver(checkpoints)

        def seconds() -> float:
            return about.get("seconds", 0.0) + time.perf_counter() - began

        def save() -> None:
            ledger.save_policy(folder / "policy.npz", snapshots)
            saver.save(round, state, {"seconds": seconds()})

        with _Signals() as signals:
            try:
                why = _reached(stop, state, round * B, top_accuracy, seconds())
                while not why and round < full:
                    if ledger.is_policy_round(round):
                        snapshots[round] = jax.device_get(policy(state.controller))
                    started, best_before = time.perf_counter(), int(state.best_trial)
                    with signals.raised():
                        state, records = loop.run(search, state, _stride(search, stop, round, full))
                    done = list(ledger.rounds_of(records))
                    _check_legal(search, records)
                    ledger.append(
                        trials, [row for r in done for row in ledger.trial_rows(search.space, r, B)]
                    )
                    ledger.append(rounds, [ledger.round_row(r, B) for r in done])
                    ledger.append(timings, [_timing(search, round, len(done), time.perf_counter() - started)])
                    best_trial = int(state.best_trial)
                    if best_trial != best_before:
                        _write_best(folder, search, state, done[best_trial // B - round], best_trial % B)
                    round += len(done)
                    top_accuracy = np.nanmax(records.measures.get("accuracy", 0.0), initial=top_accuracy)
                    if saver.is_due(time.perf_counter() - began):
                        save()
                    watch(_progress(search, state, done[-1]))
                    signals.check()
                    why = _reached(stop, state, round * B, top_accuracy, seconds())
                if not why and rest:
                    with signals.raised():
                        record = jax.device_get(search.preview(state, rest))
                    ledger.append(trials, ledger.trial_rows(search.space, record, B))
                    if record.best_reward > state.best_reward:
                        _write_best(folder, search, state, record, int(np.nanargmax(record.reward)))
            finally:
                save()
                saver.wait()
    return _summary(why or "the budget is spent", _rows(trials))


def _check_legal(search: loop.Search, records: loop.Record) -> None:
    if not records.legal.all():
        masks.check(search.space, records.arch[~records.legal.all(axis=-1)][0])


def _reached(stop: Stop, state: loop.SearchState, trials: int, accuracy: float, seconds: float) -> str:
    """Why a search ends here, or an empty text."""
    if stop.accuracy is not None and accuracy >= stop.accuracy:
        return f"a trial reached accuracy {accuracy:.4f}"
    if stop.stalled_trials is not None and trials - int(state.best_trial) > stop.stalled_trials:
        return f"no better trial in the last {stop.stalled_trials}"
    if stop.hours is not None and seconds >= stop.hours * 3600:
        return f"{stop.hours:g} hours are over"
    return ""


def _stride(search: loop.Search, stop: Stop, round: int, full: int) -> int:
    """Rounds until something has to be looked at: a policy to keep, a condition to end, the end."""
    if not search.evaluator.jittable or stop != Stop(stop.budget):
        return 1
    end = min(full, round + loop.CHUNK)
    return next((r for r in range(round + 1, end) if ledger.is_policy_round(r)), end) - round


class _Saver:
    """Saves in the background, as often as it costs less than a twentieth of the time."""

    def __init__(self, checkpoints: Any):
        self.checkpoints, self.pending, self.cost, self.last = checkpoints, None, 0.0, -1

    def is_due(self, seconds: float) -> bool:
        return self.cost <= 0.05 * seconds

    def save(self, round: int, state: loop.SearchState, about: dict[str, Any]) -> None:
        self.wait()
        if round == self.last:
            return
        started = time.perf_counter()
        self.pending, self.last = checkpoint.save(self.checkpoints, round, state, about), round
        self.cost += time.perf_counter() - started

    def wait(self) -> None:
        started = time.perf_counter()
        if self.pending is not None:
            self.pending.result()
        self.cost += time.perf_counter() - started
        self.pending = None


class _Signals:
    """SIGINT and SIGTERM: raised at once where a round can be given up, otherwise when asked for."""

    def __init__(self) -> None:
        self.number, self.at_once, self.previous = 0, False, {}

    def __enter__(self) -> "_Signals":
        with contextlib.suppress(ValueError):  # only the main thread may
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: Any) -> None:
        self.number = number
        if self.at_once:
            self.at_once = False
            raise Interrupted(number)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Within this block a signal raises Interrupted wherever it comes."""
        self.check()
        self.at_once = True
        try:
            yield
        finally:
            self.at_once = False

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.number:
            raise Interrupted(self.number)


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Hold the run's lock, which ends with the process however it ends."""
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{folder}: another process is running this search; wait for it or stop it"
            ) from None
        yield


def _progress(search: loop.Search, state: loop.SearchState, record: loop.Record) -> Progress:
    best = search.space.describe(np.asarray(state.best_arch)) if int(state.best_trial) >= 0 else ""
    reward = record.reward[np.isfinite(record.reward)]
    mean = float(reward.mean()) if len(reward) else float("nan")
    trials = int(state.round) * search.controller.batch_size
    return Progress(trials, int(state.round), mean, float(state.best_reward), best)


def _timing(search: loop.Search, round: int, rounds: int, seconds: float) -> dict[str, Any]:
    stats = {"programs": 0, "compile_seconds": 0.0} | (
        search.evaluator.stats() if search.evaluator.stats else {}
    )
    return {
        "round": round,
        "rounds": rounds,
        "seconds": f"{seconds:.6f}",
        "programs": stats["programs"],
        "compile_seconds": f"{stats['compile_seconds']:.6f}",
    }


def _write_best(
    folder: Path, search: loop.Search, state: loop.SearchState, record: loop.Record, lane: int
) -> None:
    """best/: the architecture, and its weights where the evaluator has any; each file whole at any moment."""
    arch = np.asarray(record.arch[lane])
    about = {
        "trial": int(record.round) * search.controller.batch_size + lane,
        "space": search.space.name,
        "architecture": search.space.describe(arch),
        "arch": arch.tolist(),
        "decisions": search.space.decode(arch),
        "reward": float(record.reward[lane]),
        "measures": {m: float(v[lane]) for m, v in record.measures.items() if m != "status"},
    }
    best = folder / "best"
    best.mkdir(exist_ok=True)
    weights = search.evaluator.weights(state.evaluator, lane) if search.evaluator.weights else None
    if weights is not None:
        flat = {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.ascontiguousarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
        }
        content = to_safetensors(flat, {"trial": str(about["trial"]), "architecture": about["architecture"]})
        ledger.write_atomic(best / "weights.safetensors", content)
    ledger.write_atomic(best / "architecture.json", (json.dumps(about, indent=2) + "\n").encode())


def _rows(trials: Path) -> list[dict[str, str]]:
    if not trials.exists():
        return []
    with open(trials, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["reason"] is not None]  # a torn row has none


def _summary(why: str, rows: list[dict[str, str]]) -> Summary:
    scored = [row for row in rows if row["reward"]]
    return Summary(why, len(rows), max(scored, key=lambda row: float(row["reward"]), default={}))
