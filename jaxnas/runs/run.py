"""A run is a folder: a search whose state, ledgers and best child are on the disk, round by round.

    config.toml  environment.json  state/  best/  figures/
    trials.csv  rounds.csv  policy.npz  what repeats to the bit
    prefixes.csv  that too, where the evaluator measures every prefix of an architecture
    timings.csv  costs.csv  what does not: seconds, and bytes by the compiler's account

One process owns a run at a time. Stopped at any moment, by any means, it goes on from its last checkpoint
and ends with the files of a run that was never stopped.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas import evaluators, loop, masks
from jaxnas.runs import best, checkpoint, ledger, restore
from jaxnas.runs.process import Signals


class Stop(NamedTuple):
    """What ends a search; None does not."""

    budget: int  # trials
    accuracy: float | None = None  # of any trial, by `measure`
    stalled_trials: int | None = None  # since the best one
    hours: float | None = None  # of running, all processes together
    measure: str = "accuracy"  # that is compared with `accuracy`
    more_is_better: bool = (
        True  # of this measure; False: a trial ends the search with as little as `accuracy`
    )


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


def execute(
    folder: Path,
    search: loop.Search,
    *,
    seed: int,
    stop: Stop,
    text: str = "",
    watch: Callable[[Progress], None] = lambda _: None,
    keep: best.Keep | None = None,
) -> Summary:
    """Run a search in `folder`, from its last checkpoint if it has one, until something ends it.

    A last round that the budget cuts short is recorded but not learned from, so that the run can be
    extended later as if the budget had always been larger.

    Args:
      folder: the run's, which the caller has `owned`.
      search: what to run.
      seed: of everything random in it.
      stop: what ends it.
      text: if any, becomes config.toml once nothing is in the way of going on.
      watch: is told of finished rounds.
      keep: makes the files of best/ where the best child has weights.

    Raises:
      InputError: fewer trials are wanted than there are, or no checkpoint fits the search and the ledgers.
      Interrupted: SIGINT or SIGTERM; the run is saved.
    """
    batch_size = search.controller.batch_size
    full, rest = divmod(stop.budget, batch_size)  # whole rounds, and trials of one that is cut short
    began = time.perf_counter()
    search = search._replace(evaluator=evaluators.from_now(search.evaluator))
    restore.check_budget(folder, stop.budget)
    with Signals() as signals, checkpoint.open_folder(folder / "state") as checkpoints:
        snapshots = ledger.load_policy(folder / "policy.npz")
        fresh = search.init(jax.random.key(seed))
        round, state, about = restore.newest(checkpoints, folder, search, fresh, snapshots)
        rows = ledger.read(folder / "trials.csv")
        if round == full and len(rows) == stop.budget:
            return _summary("the budget is spent", rows)
        if text:
            ledger.write_atomic(folder / "config.toml", text.encode())
        restore.cut_back(folder, round)
        running = _Running(
            folder,
            search,
            keep,
            signals,
            checkpoint.Saver(checkpoints, round if about else None),
            round=round,
            state=state,
            snapshots={r: snapshot for r, snapshot in snapshots.items() if r < round},
            stop=stop,
            top=_top(stop, rows[: round * batch_size]),
            best_so_far=best.of_rows(rows[: round * batch_size]),
            began=began - about.get("seconds", 0.0),
        )
        try:
            why = running.reached()
            while not why and running.round < full:
                record = running.advance(_stride(search, stop, running.round, full))
                if running.saver.is_due(time.perf_counter() - began):
                    running.save()
                watch(running.progress(record))
                signals.check()
                why = running.reached()
            if not why and rest:
                running.save()
                running.cut_short(rest)
        finally:
            running.save()
            running.saver.wait()
    return _summary(why or "the budget is spent", ledger.read(folder / "trials.csv"))


class _Running:
    """A search that goes on in its folder: where it stands, and all that it writes there.

    `began` is the moment at which the search would have begun if this process had run all of it.
    """

    def __init__(
        self,
        folder: Path,
        search: loop.Search,
        keep: best.Keep | None,
        signals: Signals,
        saver: checkpoint.Saver,
        *,
        round: int,
        state: loop.SearchState,
        snapshots: dict[int, Any],
        stop: Stop,
        top: float,
        best_so_far: best.Best | None,
        began: float,
    ):
        self.folder, self.search, self.keep, self.signals, self.saver = folder, search, keep, signals, saver
        self.round, self.state, self.snapshots = round, state, snapshots
        self.stop, self.top, self.best_so_far, self.began = stop, top, best_so_far, began
        self.policy = jax.jit(search.controller.policy)

    def reached(self) -> str:
        """Why the search ends here, or an empty text."""
        trials = self.round * self.search.controller.batch_size
        best_trial = -1 if self.best_so_far is None else self.best_so_far.trial
        return _reached(self.stop, trials, best_trial, self.top, time.perf_counter() - self.began)

    def save(self) -> None:
        """Save the finished rounds; the policy first, for a checkpoint never counts a round that it lacks."""
        if self.saver.last != self.round:
            ledger.save_policy(self.folder / "policy.npz", self.snapshots)
            about = {"seconds": time.perf_counter() - self.began}
            self.saver.save(self.round, self.state, about)

    def advance(self, rounds: int) -> loop.Record:
        """Run whole rounds and write their rows, and best/ if they have a better child: the last record."""
        batch_size = self.search.controller.batch_size
        if ledger.is_policy_round(self.round):
            self.snapshots[self.round] = jax.device_get(self.policy(self.state.controller))
        started = time.perf_counter()
        with self.signals.raised():
            after, records = loop.run(self.search, self.state, rounds)
        _check_legal(self.search, records)
        record_of_round = list(ledger.rounds_of(records))
        self._append_costs(record_of_round)
        self._append_trials(record_of_round)
        self._append("rounds", [ledger.round_row(record, batch_size) for record in record_of_round])
        seconds = time.perf_counter() - started
        self._append("timings", [_timing(self.search, self.round, rounds, seconds)])
        self._keep_best(after, record_of_round)
        # From here on the rounds count. Whatever comes before this line, they are done again.
        self.state, self.round = after, self.round + rounds
        if self.stop.measure in records.measures:
            values = np.asarray(records.measures[self.stop.measure])
            self.top = np.nanmax(_signed(self.stop, values), initial=self.top)
        return record_of_round[-1]

    def cut_short(self, trials: int) -> None:
        """Evaluate the first trials of a round and write them down; the state stays as it is."""
        with self.signals.raised():
            record = jax.device_get(self.search.preview(self.state, trials))
        _check_legal(self.search, record)
        self._keep_best(self.state, [record])
        self._append_costs([record])
        self._append_trials([record])  # last, for these rows are what says that the run is complete

    def _keep_best(self, state: loop.SearchState, records: list[loop.Record]) -> None:
        """Write best/ if these rounds have a better child; `state` is the one after them."""
        batch_size = self.search.controller.batch_size
        now = best.of_records(records, self.search.space, batch_size, self.best_so_far)
        if now is not None and now != self.best_so_far:
            round, lane = divmod(now.trial, batch_size)
            record = records[round - int(records[0].round)]
            best.write(self.folder, self.search, state, record, lane, self.keep)
            self.best_so_far = now

    def progress(self, record: loop.Record) -> Progress:
        """Where the run stands after its last round's record."""
        best_so_far = self.best_so_far or best.Best(-1, -np.inf, "", False)
        reward = record.reward[np.isfinite(record.reward)]
        mean = float(reward.mean()) if len(reward) else float("nan")
        trials = self.round * self.search.controller.batch_size
        return Progress(trials, self.round, mean, best_so_far.reward, best_so_far.architecture)

    def _append_costs(self, records: list[loop.Record]) -> None:
        batch_size, measures = self.search.controller.batch_size, self.search.evaluator.costs
        if measures:
            self._append("costs", [row for r in records for row in ledger.cost_rows(r, batch_size, measures)])

    def _append_trials(self, records: list[loop.Record]) -> None:
        space, B, costs = self.search.space, self.search.controller.batch_size, self.search.evaluator.costs
        self._append("prefixes", [row for r in records for row in ledger.prefix_rows(r, B)])
        self._append("trials", [row for r in records for row in ledger.trial_rows(space, r, B, costs)])

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            ledger.append(self.folder / f"{name}.csv", rows)


def _signed(stop: Stop, values: Any) -> Any:
    """Values of the measure that a search stops by, or an error's negatives: the more the better."""
    return values if stop.more_is_better else -values


def _top(stop: Stop, rows: list[dict[str, str]]) -> float:
    """The best value, signed, of the measure that a search stops by."""
    values = (float(row[stop.measure]) for row in rows if row.get(stop.measure))
    return max((_signed(stop, value) for value in values), default=-np.inf)


def _check_legal(search: loop.Search, records: loop.Record) -> None:
    if not records.legal.all():
        masks.check(search.space, records.arch[~records.legal])


def _reached(stop: Stop, trials: int, best_trial: int, top: float, seconds: float) -> str:
    """Why a search ends here, or an empty text."""
    if stop.accuracy is not None and top >= _signed(stop, stop.accuracy):
        return f"a trial reached {stop.measure.replace('_', ' ')} {abs(top):.4f}"
    if stop.stalled_trials is not None and trials - best_trial > stop.stalled_trials:
        return f"no better trial in the last {stop.stalled_trials}"
    if stop.hours is not None and seconds >= stop.hours * 3600:
        return f"{stop.hours:g} hours are over"
    return ""


def _has_condition(stop: Stop) -> bool:
    return (stop.accuracy, stop.stalled_trials, stop.hours) != (None, None, None)


def _stride(search: loop.Search, stop: Stop, round: int, full: int) -> int:
    """Rounds until something has to be looked at: a policy to keep, a condition to end, the end."""
    if not search.evaluator.jittable or _has_condition(stop):
        return 1
    end = min(full, round + loop.CHUNK)
    return next((r for r in range(round + 1, end) if ledger.is_policy_round(r)), end) - round


def _timing(search: loop.Search, round: int, rounds: int, seconds: float) -> dict[str, Any]:
    """A row of timings.csv: the rounds, and whatever the evaluator has counted since the search began."""
    counted = {
        name: f"{value:.6f}" if isinstance(value, float) else value
        for name, value in search.evaluator.stats().items()
    }
    return {"round": round, "rounds": rounds, "seconds": f"{seconds:.6f}", **counted}


def _summary(why: str, rows: list[dict[str, str]]) -> Summary:
    return Summary(why, len(rows), next(iter(ledger.ranked(rows)), {}))
