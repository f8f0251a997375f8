"""The host loop, the compiled loop, a scan and a vmap of scans run the same search."""

import csv
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import config, controllers, evaluators, loop, masks, rewards
from jaxnas.errors import InputError
from jaxnas.spaces import blocks
from jaxnas.types import MOCK_FAILURE, OK, REJECTED, Controller, Evaluator, Outcome, Proposal
from tests.helpers import (
    FORBID,
    assert_identical,
    chain,
    chain_space,
    differs,
    every_prefix,
    gain,
    quick_jit,
    takes,
    to_numpy,
)

GOLDEN = Path(__file__).parent / "golden"
ROUNDS, B = 12, 4
SPACE = blocks(forbid=FORBID)
POLICIES = {
    "free_logits": {"policy": "free_logits", "learning_rate": 0.1},
    "lstm": {"policy": "lstm", "units": 16},
}


def write_table(path, space=SPACE):
    """Two rows for each architecture that the mock has measured."""
    archs = jax.vmap(lambda key: masks.sample(key, space))(jax.random.split(jax.random.key(0), 300))
    archs = np.unique(np.asarray(archs), axis=0)
    assert len(archs) == space.size
    found = evaluators.mock(space).evaluate(
        jax.random.split(jax.random.key(0), len(archs)), (), jnp.asarray(archs)
    )[1]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "accuracy", "params"])
        for arch, accuracy, params in zip(archs, found["accuracy"], found["params"], strict=True):
            for shift in (0, 0.01):
                writer.writerow([space.describe(arch), float(accuracy) - shift, float(params)])
    return str(path)


@pytest.fixture(scope="module")
def table_path(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table") / "table.csv")


def on_host(search):
    evaluator = search.evaluator._replace(jittable=False, evaluate=jax.jit(search.evaluator.evaluate))
    return loop.make(search.space, search.controller, evaluator, rewards.accuracy_minus_params)


def make(evaluator, policy="free_logits", batch_size=B, **options):
    controller = controllers.reinforce(SPACE, batch_size=batch_size, **{**POLICIES[policy], **options})
    return loop.make(SPACE, controller, evaluator, rewards.accuracy_minus_params)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("mock", "free_logits"), marks=pytest.mark.optimized),
        pytest.param(("table", "lstm"), marks=pytest.mark.optimized),
        pytest.param(("mock", "lstm"), marks=pytest.mark.slow),
        pytest.param(("table", "free_logits"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def subject(request, table_path):
    """A search and its trials in the compiled loop."""
    name, policy = request.param
    noisy = {"noise": 0.02, "failure_rate": 0.1}
    evaluator = (
        evaluators.table(SPACE, path=table_path) if name == "table" else evaluators.mock(SPACE, **noisy)
    )
    search = make(evaluator, policy)
    start = search.init(jax.random.key(3))
    return search, start, *loop.run(search, start, ROUNDS)


def trials(records):
    return {
        "arch": records.arch,
        "reward": records.reward,
        "round": records.round,
        "measures": records.measures,
    }


def test_the_host_loop_gives_the_same_trials(subject):
    search, start, end, records = subject
    state, found = loop.run(on_host(search), start, ROUNDS)
    assert_identical(trials(found), trials(records))
    assert_identical(
        (state.best_arch, state.best_reward, state.best_trial),
        (end.best_arch, end.best_reward, end.best_trial),
    )


def test_a_scan_gives_the_same_trials(subject):
    search, start, _, records = subject
    _, found = jax.jit(lambda state: loop.scan(search, state, ROUNDS))(start)
    assert_identical(trials(found), trials(records))


def test_a_vmap_of_scans_gives_the_same_trials(subject):
    search, start, _, records = subject
    others = [search.init(jax.random.key(seed)) for seed in (8, 9)]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[others[0], start, others[1]])
    _, found = jax.jit(jax.vmap(lambda state: loop.scan(search, state, ROUNDS)))(states)
    assert_identical(jax.tree.map(lambda x: x[1], trials(found)), trials(records))
    assert differs(found.arch[0], found.arch[1])


def test_runs_in_parts_equal_one_run(subject):
    search, start, end, records = subject
    state, parts = start, []
    for rounds in (1, 4, 2, 5):
        state, part = loop.run(search, state, rounds)
        parts.append(part)
    assert_identical(jax.tree.map(lambda *x: np.concatenate(x), *parts), records)
    assert_identical(state, end)
    assert search.rounds._cache_size() == 1


def test_a_stored_state_continues_the_search(subject):
    search, start, end, _ = subject
    state, _ = loop.run(search, start, 7)
    leaves, treedef = jax.tree.flatten(state._replace(root=None))
    restored = jax.tree.unflatten(treedef, [jnp.asarray(x) for x in to_numpy(leaves)])
    restored = restored._replace(root=jax.random.wrap_key_data(jnp.asarray(to_numpy(state.root))))
    assert_identical(loop.run(search, restored, ROUNDS - 7)[0], end)


def test_the_records(subject):
    search, _, end, records = subject
    assert records.arch.shape == (ROUNDS, B, 3)
    assert records.round.tolist() == list(range(ROUNDS))
    masks.check(SPACE, records.arch.reshape(-1, 3))
    status = records.measures["status"]
    score = records.measures["accuracy"] - np.float32(1e-6) * records.measures["params"]
    np.testing.assert_allclose(records.reward, np.where(status == OK, score, np.nan), rtol=1e-5)
    np.testing.assert_array_equal(np.isnan(records.reward), status != OK)
    best = int(np.nanargmax(records.reward))
    assert int(end.best_trial) == best
    assert float(end.best_reward) == records.reward.ravel()[best]
    np.testing.assert_array_equal(end.best_arch, records.arch.reshape(-1, 3)[best])
    assert int(end.round) == ROUNDS
    assert set(records.metrics) == {"loss", "baseline", "entropy", "gradient_norm", "temperature"}
    assert all(x.shape == (ROUNDS,) and np.isfinite(x).all() for x in records.metrics.values())
    if "mock" in search.evaluator.evaluate.__qualname__:
        assert (status == MOCK_FAILURE).any()


def test_more_rounds_than_one_call_records():
    search = loop.make(
        SPACE, controllers.random(SPACE, batch_size=2), evaluators.mock(SPACE), rewards.accuracy
    )
    start = search.init(jax.random.key(0))
    n = loop.CHUNK + 3
    end, records = loop.run(search, start, n)
    assert records.round.tolist() == list(range(n))
    assert int(end.round) == n
    with pytest.raises(InputError, match=r"^rounds: got 0; it takes 1 or more$"):
        loop.run(search, start, 0)


def test_a_trial_has_its_own_key_whatever_the_batch():
    """Trial i's measure under batches of 2, 4 and 8, from an evaluator that reports its key alone."""

    def evaluate(keys, state, arch):
        ones = jnp.ones(arch.shape[0])
        return state, {
            "accuracy": jax.vmap(jax.random.uniform)(keys),
            "params": ones,
            "status": jnp.zeros(len(arch), jnp.int32),
        }

    evaluator = Evaluator(lambda key: (), evaluate, ("accuracy", "params"), True)
    found = []
    for batch_size in (2, 4, 8):
        search = loop.make(
            SPACE, controllers.random(SPACE, batch_size=batch_size), evaluator, rewards.accuracy
        )
        _, records = loop.run(search, search.init(jax.random.key(0)), 16 // batch_size)
        found.append(records.reward.ravel())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert len(np.unique(found[0])) == 16


def test_the_reward_is_told_at_the_last_live_decision():
    space = chain(3)
    arch = jnp.array([[1, 0, 0], [3, 2, 1], [2, 2, 0]])

    def tell(key, state, proposal, outcome):
        return {"reward": outcome.reward}, {}

    controller = Controller(
        3,
        lambda key: {"reward": jnp.zeros((3, 3))},
        lambda key, state: Proposal(arch, ()),
        tell,
        lambda state: None,
    )

    def evaluate(keys, state, arch):
        # The third child has failed, whatever accuracy it has.
        return state, {"accuracy": jnp.array([0.5, 0.75, 0.9]), "status": jnp.array([OK, OK, MOCK_FAILURE])}

    evaluator = Evaluator(lambda key: (), evaluate, ("accuracy",), True)
    search = loop.make(space, controller, evaluator, rewards.accuracy)
    end, records = loop.run(search, search.init(jax.random.key(0)), 1)
    nan = np.nan
    # (2, 2, stop) ends with its third decision, the stop itself.
    np.testing.assert_array_equal(end.controller["reward"], [[0, 0.5, 0], [0, 0, 0.75], [nan, nan, nan]])
    np.testing.assert_array_equal(records.reward, [[0.5, 0.75, nan]])
    assert (int(end.best_trial), float(end.best_reward)) == (1, 0.75)


def recorder(arch):
    """A controller that proposes `arch` [B, T] and keeps the outcome that it is told."""

    def tell(key, state, proposal, outcome):
        return outcome, {}

    B, T = arch.shape
    nothing = Outcome(
        jnp.zeros((B, T)), {"gain": jnp.zeros(B), "depth": jnp.zeros(B)}, jnp.zeros(B, jnp.int32)
    )
    return Controller(
        B, lambda key: nothing, lambda key, state: Proposal(arch, ()), tell, lambda state: (arch[0], arch)
    )


def test_rewards_at_every_decision_by_hand():
    space = chain(3)
    # Live decisions: two and the stop, three, two and the stop, one and the stop, three.
    arch = jnp.array([[1, 1, 0], [3, 2, 1], [2, 2, 0], [1, 0, 0], [1, 2, 3]])
    values = jnp.array([[1.0, 2, 4], [0.5, 0.25, 0.125], [9, 9, 9], [8, -16, 99], [1, jnp.nan, 1]])
    nan = np.nan

    def evaluate(keys, state, arch):
        status = jnp.array([OK, OK, MOCK_FAILURE, REJECTED, OK])
        return state, {"gain": values, "depth": jnp.array([3.0, 3, 3, 2, 3]), "status": status}

    evaluator = Evaluator(
        lambda key: (), evaluate, measures=("gain", "depth"), jittable=True, prefix=("gain",)
    )
    # A measure of the whole architecture is the same at each of its decisions.
    search = loop.make(
        space, recorder(arch), evaluator, lambda m: m["gain"] - 0.5 * m["depth"], rejected=-1.0
    )
    end, records = loop.run(search, search.init(jax.random.key(0)), 1)
    told = end.controller
    # Rejected: its reward stands at the last live decision. Failed, or NaN at a decision: a row of NaN.
    np.testing.assert_array_equal(
        told.reward, [[-0.5, 0.5, 2.5], [-1, -1.25, -1.375], [nan] * 3, [0, -1, 0], [nan] * 3]
    )
    assert told.status.tolist() == [OK, OK, MOCK_FAILURE, REJECTED, OK]
    np.testing.assert_array_equal(told.measures["gain"], [4, 0.125, 9, -16, 1])  # at the last live decision
    np.testing.assert_array_equal(records.reward, [[2.5, -3.625, nan, -1, nan]])  # the sums
    np.testing.assert_array_equal(records.measures["gain"], [[4, 0.125, 9, -16, 1]])
    assert (int(end.best_trial), float(end.best_reward), end.best_arch.tolist()) == (0, 2.5, [1, 1, 0])
    assert records.prefixes["live"][0].sum(-1).tolist() == [3, 3, 3, 2, 3]
    np.testing.assert_array_equal(records.prefixes["gain"][0, 3], [8, -16, nan])
    np.testing.assert_array_equal(records.prefixes["reward"][0, 3], [0, -1, nan])


def test_a_controller_reads_measures_and_tells_rejected_from_failed():
    """It takes the architecture of the greatest depth, and counts what was rejected and what failed."""
    space = chain(3)

    def tell(key, state, proposal, outcome):
        deepest = jnp.argmax(jnp.where(outcome.status == OK, outcome.measures["depth"], -1.0))
        counts = (outcome.status == REJECTED, (outcome.status != OK) & (outcome.status != REJECTED))
        state = {"arch": proposal.arch[deepest], "counts": state["counts"] + jnp.stack(counts).sum(-1)}
        return state, {}

    first = controllers.random(space, batch_size=16)
    controller = first._replace(
        init=lambda key: {"arch": jnp.zeros(3, jnp.int32), "counts": jnp.zeros(2, jnp.int32)}, tell=tell
    )
    evaluator = evaluators.constrain(every_prefix(space, failure_rate=0.3), {"depth": 2})
    search = loop.make(space, controller, evaluator, gain)
    end, records = loop.run(search, search.init(jax.random.key(0)), 1)
    status = records.measures["status"][0]
    rejected, failed = (status == REJECTED).sum(), (status == MOCK_FAILURE).sum()
    assert end.controller["counts"].tolist() == [rejected, failed]
    assert min(rejected, failed) > 0
    assert np.isnan(records.reward[0, status != OK]).all()  # what the rewards alone do not tell apart
    assert masks.walk(space, end.controller["arch"]).live.sum() == 2


@pytest.mark.parametrize("name", ["a2c", "ppo", "q_learning", "reinforce", "sarsa"])
def test_what_learns_from_rewards_at_every_decision(name):
    """Always right is worth 1, a uniform walk about 0.23; each of three seeds comes to 0.75 at least."""
    space, factory = chain_space(), controllers.REGISTRY[name]
    quick = {"units": 16, "epsilon": (0.1,), "epsilon_networks": (1,)}
    controller = factory(space, **takes(factory, **quick))
    search = loop.make(space, controller, every_prefix(space, failure_rate=0.1), gain)
    starts = [search.init(jax.random.key(seed)) for seed in range(3)]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    end, records = quick_jit(jax.vmap(lambda state: loop.scan(search, state, 60)))(states)
    last = np.asarray(records.reward)[:, -10:].reshape(3, -1)
    assert np.isnan(last).any()
    assert (np.nanmean(last, axis=-1) > 0.75).all()
    assert (np.asarray(end.best_reward) == 1.0).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(end.controller))


def test_the_host_loop_and_the_compiled_one_agree_on_prefixes():
    space = chain_space()
    controller = controllers.a2c(space, batch_size=4, policy="free_logits")
    evaluator = every_prefix(space, failure_rate=0.3)
    slow = evaluator._replace(jittable=False, evaluate=jax.jit(evaluator.evaluate))
    searches = [loop.make(space, controller, each, gain) for each in (evaluator, slow)]
    ends = [loop.run(search, search.init(jax.random.key(0)), 5) for search in searches]
    assert_identical(*ends)
    for search, (end, _) in zip(searches, ends, strict=True):
        assert_identical(
            search.preview(end, 3).prefixes["reward"],
            np.asarray(search.step(end)[1].prefixes["reward"])[:3],
        )


def test_a_prefix_that_is_no_measure():
    space = chain(3)
    evaluator = every_prefix(space)._replace(prefix=("gain", "size"))
    with pytest.raises(InputError, match=r"^evaluator\.prefix: got 'size'; it takes .* gain, depth$"):
        loop.make(space, controllers.random(space), evaluator, gain)


def test_measures_of_a_wrong_shape():
    space = chain(3)
    evaluator = every_prefix(space)._replace(prefix=())
    search = loop.make(space, controllers.random(space), evaluator, gain)
    with pytest.raises(AssertionError, match=r"has shape \(8, 3\) but expected \(8.* \[measure 'gain'\]"):
        search.step(search.init(jax.random.key(0)))


def test_a_search_in_which_everything_fails():
    search = make(evaluators.mock(SPACE, failure_rate=1.0))
    start = search.init(jax.random.key(0))
    end, records = loop.run(search, start, 3)
    assert np.isnan(records.reward).all()
    assert int(end.best_trial) == -1
    assert float(end.best_reward) == -np.inf
    assert_identical(end.controller.params, start.controller.params)
    assert all(np.isfinite(x).all() for x in records.metrics.values())


Q = {"batch_size": 4, "replays": 8, "memory": 64}
FREE = {"batch_size": 4, "policy": "free_logits", "learning_rate": 0.1}
GOLDEN_SEARCHES = {  # space, controller, its options
    "random": (SPACE, "random", {"batch_size": 4}),
    "reinforce_free_logits": (SPACE, "reinforce", FREE),
    "reinforce_lstm": (chain(), "reinforce", {"batch_size": 4, "units": 16, "entropy_weight": 0.01}),
    "a2c_free_logits": (SPACE, "a2c", FREE),
    "ppo_lstm": (chain(), "ppo", {"batch_size": 4, "units": 16, "rollout": 8, "minibatch_size": 4}),
    "q_learning": (SPACE, "q_learning", {**Q, "epsilon_total": 10}),
    "double_q": (chain(), "double_q", {**Q, "epsilon_total": 20}),
    "sarsa": (chain(), "sarsa", {"batch_size": 4, "memory": 64, "epsilon_total": 20}),
    "dqn": (SPACE, "dqn", {"batch_size": 4, "units": 16, "epsilon_trials": 50, "updates": 8}),
    "evolution": (chain(), "evolution", {"batch_size": 4}),
    "local_search": (chain(), "local_search", {"batch_size": 4}),
    "priority_queue_free_logits": (SPACE, "priority_queue", {"batch_size": 4}),
    "priority_queue_lstm": (
        chain(),
        "priority_queue",
        {"batch_size": 4, "policy": "lstm", "units": 16, "learning_rate": 0.01, "updates": 2},
    ),
}


def trace(name):
    space, controller, options = GOLDEN_SEARCHES[name]
    controller = controllers.REGISTRY[controller](space, **options)
    evaluator = evaluators.mock(space, noise=0.02, failure_rate=0 if name == "reinforce_lstm" else 0.1)
    search = loop.make(space, controller, evaluator, rewards.accuracy)
    _, records = loop.run(search, search.init(jax.random.key(42)), 25)
    return {
        "arch": records.arch.reshape(100, -1).tolist(),
        "reward": [None if np.isnan(r) else round(float(r), 6) for r in records.reward.ravel()],
    }


OPTIMIZED = ("q_learning", "reinforce_lstm", "evolution")  # one of each kind, with XLA as users have it


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.optimized) for name in OPTIMIZED),
        *(name for name in GOLDEN_SEARCHES if name not in OPTIMIZED),
    ],
)
def test_golden_traces(name):
    """Whole searches are as they were when stored; `python -m tests.test_loop` stores them anew."""
    golden, found = json.loads((GOLDEN / f"{name}.json").read_text()), trace(name)
    assert found["arch"] == golden["arch"]
    assert [r is None for r in found["reward"]] == [r is None for r in golden["reward"]]
    rewards_of = [np.array(t["reward"], float) for t in (found, golden)]
    np.testing.assert_allclose(*rewards_of, rtol=0, atol=2e-6)


def last_50(name, **options):
    """Mean reward of the last 50 of 200 trials, for 20 seeds at once."""
    space = blocks(num_blocks=2, forbid=FORBID)
    controller = controllers.REGISTRY[name](space, **options)
    search = loop.make(space, controller, evaluators.mock(space, noise=0.02), rewards.accuracy)
    run = jax.jit(jax.vmap(lambda key: loop.scan(search, search.init(key), 25)[1].reward))
    return np.asarray(run(jax.random.split(jax.random.key(0), 20))).reshape(20, -1)[:, -50:].mean(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("a2c", {"units": 16}), ("ppo", {"units": 16}), ("dqn", {"units": 32, "updates": 16})],
)
def test_it_beats_random(name, options):
    """By more than three standard errors of the difference of the means."""
    mine, random = last_50(name, **options), last_50("random")
    assert mine.mean() - random.mean() > 3 * np.sqrt((mine.var() + random.var()) / 20)


@pytest.mark.slow
def test_the_nasnet_controller_learns_its_mock_reward():
    """Last 100 episodes above the first 100 by 0.15, and above those of the update off policy (64 seeds)."""
    path, found = Path(__file__).parent.parent / "configs" / "mock_nasnet.toml", []
    for overrides in ([], ["--controller.off-policy"]):
        parts = config.build(config.load(path, overrides))
        search = loop.make(parts.space, parts.controller, parts.evaluator, parts.reward)
        run = jax.vmap(lambda key, s=search: loop.scan(s, s.init(key), 800)[1].reward)
        found.append(np.asarray(jax.jit(run)(jax.random.split(jax.random.key(0), 64)))[..., 0])
    on, off = (reward[:, -100:].mean(axis=1) for reward in found)
    assert (on - found[0][:, :100].mean(axis=1)).mean() >= 0.15
    assert on.mean() - off.mean() > 3 * np.sqrt((on.var() + off.var()) / 64)


def test_reinforce_beats_random():
    """Last 50 of 240 trials over 8 seeds: the 95 % interval of the mean difference is above 0."""
    space = blocks(num_blocks=2, forbid=FORBID)
    means = {}
    for name, controller in (
        ("random", controllers.random(space)),
        ("reinforce", controllers.reinforce(space)),
    ):
        search = loop.make(space, controller, evaluators.mock(space, noise=0.02), rewards.accuracy)
        ends = [
            loop.run(search, search.init(jax.random.key(seed)), 30)[1].reward.ravel()[-50:]
            for seed in range(8)
        ]
        means[name] = np.mean(ends, axis=1)
    difference = means["reinforce"] - means["random"]
    drawn = np.random.default_rng(0).choice(difference, (10_000, 8)).mean(axis=1)
    assert np.quantile(drawn, 0.025) > 0, difference


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in GOLDEN_SEARCHES:
        (GOLDEN / f"{name}.json").write_text(json.dumps(trace(name)) + "\n")
    sys.exit(0)
