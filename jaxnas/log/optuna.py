"""A run as an Optuna study, for optuna-dashboard and Optuna's own analyses."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas import report
from jaxnas.errors import InputError
from jaxnas.report.runs import Run, column

MARK = "jaxnas"  # the attribute of a study that this module wrote


def execute(folder: Path, storage: str) -> tuple[str, int]:
    """Write the trials of the run in `folder`, and of its twin, as studies; the run's name and its trials.

    A decision is a categorical parameter, which a trial lacks that did not come to it; the reward is what
    is maximized; measures, architecture and reasons are attributes. A study that came from an earlier export
    of the run is replaced.

    Args:
      folder: the run's.
      storage: as Optuna takes it, such as sqlite:///study.db.

    Raises:
      InputError: Optuna is not installed, the storage cannot be used, or has another study of that name.
    """
    try:
        optuna: Any = importlib.import_module("optuna")
        sqlalchemy: Any = importlib.import_module("sqlalchemy.exc")
    except ImportError:
        raise InputError("--optuna: needs optuna: pip install 'jaxnas[optuna]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run = report.read(folder)
    try:
        opened = optuna.storages.get_storage(storage)
        for exported in (run, run.twin):
            if exported is not None:
                _write(optuna, opened, exported)
    except InputError:
        raise
    except (sqlalchemy.SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise InputError(
            f"--optuna: cannot use {storage!r}: {what}; it takes a storage such as sqlite:///study.db"
        ) from None
    return run.name, len(run.trials["reward"])


def _write(optuna: Any, storage: Any, run: Run) -> None:
    names = {study.study_name: study for study in optuna.get_all_study_summaries(storage)}
    if run.name in names:
        if MARK not in names[run.name].user_attrs:
            raise InputError(
                f"--optuna: the storage has another study named {run.name!r}; take another storage"
            )
        optuna.delete_study(study_name=run.name, storage=storage)
    study = optuna.create_study(study_name=run.name, storage=storage, direction="maximize")
    study.set_user_attr(MARK, True)
    study.set_user_attr("controller", run.controller)
    study.add_trials(_trials(optuna, run))


def _trials(optuna: Any, run: Run) -> list[Any]:
    values = {name: [v for v in np.unique(run.trials[name]).tolist() if v] for name in run.choices}
    known = {
        name: optuna.distributions.CategoricalDistribution(choices)
        for name, choices in values.items()
        if choices
    }
    reward, state = column(run, "reward"), optuna.trial.TrialState
    trials = []
    for i in range(len(reward)):
        taken = {name: str(run.trials[name][i]) for name in known if run.trials[name][i]}
        attributes = {m: float(run.trials[m][i]) for m in run.measures if np.isfinite(run.trials[m][i])}
        attributes |= {name: str(run.trials[name][i]) for name in ("architecture", "status", "reason")}
        done = run.trials["status"][i] == "ok" and np.isfinite(reward[i])
        trials.append(
            optuna.trial.create_trial(
                params=taken,
                distributions={name: known[name] for name in taken},
                state=state.COMPLETE if done else state.FAIL,
                values=[float(reward[i])] if done else None,
                user_attrs=attributes,
            )
        )
    return trials
