"""A run is a folder: a search whose state, ledgers and best child are on the disk, round by round.

    config.toml  environment.json  state/  best/  figures/
    trials.csv  rounds.csv  policy.npz  what repeats to the bit
    timings.csv  costs.csv  what does not: seconds, and bytes by the compiler's account

One process owns a run at a time. Stopped at any moment, by any means, it goes on from its last checkpoint
and ends with the files of a run that was never stopped.
"""

import contextlib
import fcntl
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas import loop, masks
from jaxnas.errors import InputError
from jaxnas.runs import checkpoint, ledger
from jaxnas.runs.files import repair, write_folder
from jaxnas.types import OK, PyTree

# (folder, what best/architecture.json says, weights, outputs on the validation split) → the files of best/
Keep = Callable[[Path, dict[str, Any], PyTree, np.ndarray | None], dict[str, bytes]]


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


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own the run in `folder`: by a lock that ends with the process, however it ends.

    Raises:
      InputError: another process owns it, or the folder cannot be written to.
    """
    try:
        lock = open(folder / ".lock", "ab")  # noqa: SIM115 (the context below closes it)
    except OSError as error:
        raise InputError(f"{folder}: cannot write there: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{folder}: another process is running this search; wait for it or stop it"
            ) from None
        yield


def check_budget(folder: Path, budget: int) -> None:
    """Raise an InputError if the run in `folder` already has more trials than `budget`."""
    done = len(ledger.read(folder / "trials.csv"))
    if budget < done:
        raise InputError(
            f"search.budget: found {budget}; {folder} already has {done} trials, it takes {done} or more"
        )


def latest(folder: Path, search: loop.Search, seed: int) -> loop.SearchState:
    """The state of the run in `folder` after its last checkpoint.

    Raises:
      InputError: it has none that fits the search.
    """
    fresh = search.init(jax.random.key(seed))
    with contextlib.closing(checkpoint.open_folder(folder / "state")) as checkpoints:
        steps = [c.step for c in checkpoints.checkpoints]
        restored = checkpoint.restore(checkpoints, fresh, max(steps)) if steps else None
    if restored is None:
        raise InputError(f"{folder}: no checkpoint to read the policy from; `jaxnas resume {folder}` first")
    return restored[1]


def execute(
    folder: Path,
    search: loop.Search,
    *,
    seed: int,
    stop: Stop,
    text: str = "",
    watch: Callable[[Progress], None] = lambda _: None,
    keep: Keep | None = None,
) -> Summary:
    """Run a search in `folder`, from its last checkpoint if it has one, until something ends it.

    The caller has the folder `owned`. `text`, if any, becomes config.toml once nothing is in the way of
    going on; `watch` is told of finished rounds; `keep` makes the files of best/ where the best child has
    weights. A last round that the budget cuts short is recorded but not learned from, so that the run can be
    extended later as if the budget had always been larger.

    Raises:
      InputError: fewer trials are wanted than there are, or no checkpoint fits the search and the ledgers.
      Interrupted: SIGINT or SIGTERM; the run is saved.
    """
    B = search.controller.batch_size
    full, rest = divmod(stop.budget, B)
    files = ("trials", "rounds", "timings", "costs")
    trials, rounds, timings, costs = (folder / f"{name}.csv" for name in files)
    unsteady = search.evaluator.costs
    policy = jax.jit(search.controller.policy)
    began = time.perf_counter()
    check_budget(folder, stop.budget)
    with Signals() as signals, contextlib.closing(checkpoint.open_folder(folder / "state")) as checkpoints:
        snapshots = ledger.load_policy(folder / "policy.npz")
        round, state, about = _restore(checkpoints, folder, search.init(jax.random.key(seed)), B, snapshots)
        rows = ledger.read(trials)
        if round == full and len(rows) == stop.budget:
            return _summary("the budget is spent", rows)
        if text:
            ledger.write_atomic(folder / "config.toml", text.encode())
        accuracies = [float(row["accuracy"]) for row in rows[: round * B] if row.get("accuracy")]
        top_accuracy = max(accuracies, default=0.0)
        repair(folder / "best")
        for path in (trials, rounds, timings, costs):
            ledger.cut(path, "round", round)
        snapshots = {r: snapshot for r, snapshot in snapshots.items() if r < round}
        saver = _Saver(checkpoints, round if about else None)

        def seconds() -> float:
            return about.get("seconds", 0.0) + time.perf_counter() - began

        def save() -> None:
            if saver.last != round:  # the policy first: a checkpoint never counts a round that it lacks
                ledger.save_policy(folder / "policy.npz", snapshots)
                saver.save(round, state, {"seconds": seconds()})

        try:
            why = _reached(stop, state, round * B, top_accuracy, seconds())
            while not why and round < full:
                if ledger.is_policy_round(round):
                    snapshots[round] = jax.device_get(policy(state.controller))
                started = time.perf_counter()
                with signals.raised():
                    after, records = loop.run(search, state, _stride(search, stop, round, full))
                _check_legal(search, records)
                done = list(ledger.rounds_of(records))
                if unsteady:
                    ledger.append(costs, [row for r in done for row in ledger.cost_rows(r, B, unsteady)])
                ledger.append(
                    trials, [row for r in done for row in ledger.trial_rows(search.space, r, B, unsteady)]
                )
                ledger.append(rounds, [ledger.round_row(r, B) for r in done])
                ledger.append(timings, [_timing(search, round, len(done), time.perf_counter() - started)])
                if after.best_trial != state.best_trial:
                    row, lane = divmod(int(after.best_trial) - round * B, B)
                    _write_best(folder, search, after, done[row], lane, keep)
                # From here on the rounds count. Whatever comes before this line, they are done again.
                state, round = after, round + len(done)
                top_accuracy = np.nanmax(records.measures.get("accuracy", 0.0), initial=top_accuracy)
                if saver.is_due(time.perf_counter() - began):
                    save()
                watch(_progress(search, state, done[-1]))
                signals.check()
                why = _reached(stop, state, round * B, top_accuracy, seconds())
            if not why and rest:
                save()
                with signals.raised():
                    record = jax.device_get(search.preview(state, rest))
                _check_legal(search, record)
                if record.best_reward > state.best_reward:
                    eligible = np.where(record.measures["status"] == OK, record.reward, np.nan)
                    _write_best(folder, search, state, record, int(np.nanargmax(eligible)), keep)
                if unsteady:
                    ledger.append(costs, ledger.cost_rows(record, B, unsteady))
                # Last, for these rows are what says that the run is complete.
                ledger.append(trials, ledger.trial_rows(search.space, record, B, unsteady))
        finally:
            save()
            saver.wait()
    return _summary(why or "the budget is spent", ledger.read(trials))


def _restore(
    checkpoints: Any, folder: Path, fresh: loop.SearchState, batch_size: int, snapshots: Mapping[int, Any]
) -> tuple[int, loop.SearchState, dict[str, Any]]:
    """(round, state, what the checkpoint says) of the newest checkpoint whose rounds all files still have."""
    steps = [c.step for c in checkpoints.checkpoints]
    if not steps:
        return 0, fresh, {}
    covered = {
        "trials.csv": ledger.count(folder / "trials.csv", "trial") // batch_size,
        "rounds.csv": ledger.count(folder / "rounds.csv", "round"),
        "policy.npz": next(
            (r for r in range(max(steps)) if ledger.is_policy_round(r) and r not in snapshots), max(steps)
        ),
    }
    restored = checkpoint.restore(checkpoints, fresh, min(covered.values()))
    short = [name for name, end in covered.items() if end < max(steps)]
    what = f"{', '.join(short)} damaged or cut short" if short else "the newest checkpoint is damaged"
    if restored is None:
        raise InputError(
            f"{folder}: {what}, and no older checkpoint can be used; delete {folder / 'state'} to begin "
            "again from the first trial, with the same results"
        )
    if restored[0] < max(steps):
        print(f"jaxnas: {folder}: {what}; going on from round {restored[0]}", file=sys.stderr)
    return restored


def _check_legal(search: loop.Search, records: loop.Record) -> None:
    if not records.legal.all():
        masks.check(search.space, records.arch[~records.legal])


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

    def __init__(self, checkpoints: Any, last: int | None):
        self.checkpoints, self.last, self.pending, self.cost = checkpoints, last, None, 0.0

    def is_due(self, seconds: float) -> bool:
        return self.cost <= 0.05 * seconds

    def save(self, round: int, state: loop.SearchState, about: dict[str, Any]) -> None:
        self.wait()
        started = time.perf_counter()
        self.pending, self.last = checkpoint.save(self.checkpoints, round, state, about), round
        self.cost += time.perf_counter() - started

    def wait(self) -> None:
        pending, self.pending = self.pending, None
        if pending is not None:
            started = time.perf_counter()
            pending.result()
            self.cost += time.perf_counter() - started


class Signals:
    """SIGINT and SIGTERM: raised at once where a round can be given up, otherwise when asked for."""

    def __init__(self) -> None:
        self.number, self.at_once, self.previous = 0, False, {}

    def __enter__(self) -> "Signals":
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
        self.at_once = True  # before the check, or a signal between the two would wait for the round
        try:
            self.check()
            yield
        finally:
            self.at_once = False

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.number:
            raise Interrupted(self.number)


def _progress(search: loop.Search, state: loop.SearchState, record: loop.Record) -> Progress:
    best = search.space.describe(np.asarray(state.best_arch)) if int(state.best_trial) >= 0 else ""
    reward = record.reward[np.isfinite(record.reward)]
    mean = float(reward.mean()) if len(reward) else float("nan")
    trials = int(state.round) * search.controller.batch_size
    return Progress(trials, int(state.round), mean, float(state.best_reward), best)


def _timing(search: loop.Search, round: int, rounds: int, seconds: float) -> dict[str, Any]:
    stats = search.evaluator.stats() if search.evaluator.stats else {}
    counted = {name: stats.get(name, 0) for name in ("programs", "cached")}
    timed = ("compile_seconds", "waited_seconds", "training_seconds", "evaluate_seconds")
    timed = {name: f"{stats.get(name, 0.0):.6f}" for name in timed}
    return {"round": round, "rounds": rounds, "seconds": f"{seconds:.6f}", **counted, **timed}


def _write_best(
    folder: Path,
    search: loop.Search,
    state: loop.SearchState,
    record: loop.Record,
    lane: int,
    keep: Keep | None,
) -> None:
    """best/: the architecture, and its weights where the evaluator has any, or what `keep` makes of them."""
    arch = np.asarray(record.arch[lane])
    about = {
        "trial": int(record.round) * search.controller.batch_size + lane,
        "space": search.space.name,
        "architecture": search.space.describe(arch),
        "arch": arch.tolist(),
        "decisions": search.space.decode(arch),
        "reward": float(record.reward[lane]),
        "measures": {m: float(record.measures[m][lane]) for m in search.evaluator.measures},
    }
    files = {"architecture.json": (json.dumps(about, indent=2) + "\n").encode()}
    evaluator = search.evaluator
    weights = evaluator.weights(state.evaluator, lane) if evaluator.weights else None
    if weights is not None:
        metadata = {"trial": str(about["trial"])}  # its order of several is random
        files["weights.safetensors"] = checkpoint.to_safetensors(weights, metadata)
        if keep is not None:
            outputs = evaluator.outputs(state.evaluator, lane) if evaluator.outputs else None
            try:
                files = keep(folder, about, weights, outputs)
            except Exception as error:  # an export is no reason to lose a search
                print(f"jaxnas: {folder / 'best'}: not exported: {error}", file=sys.stderr)
    write_folder(folder / "best", files)


def _summary(why: str, rows: list[dict[str, str]]) -> Summary:
    scored = [row for row in rows if row["reward"] and row["status"] == "ok"]
    return Summary(why, len(rows), max(scored, key=lambda row: float(row["reward"]), default={}))
