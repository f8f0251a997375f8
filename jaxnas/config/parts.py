"""The parts of a search: who makes them, what they ask for, and how they are put together.

A factory's keyword-only parameters are the options of its section. An evaluator's factory says by the names
of its other parameters what else it needs: any of `GIVEN`, and `[trainer]` by a last parameter
`**trainer: Annotated[Any, factory]`, which takes the options of that factory. A space's factory asks likewise
for any of `GIVEN_TO_SPACES`.
"""

import contextlib
import functools
import importlib
import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, get_origin

from jaxnas.config import options
from jaxnas.config.sections import Config
from jaxnas.errors import InputError, unknown
from jaxnas.types import Controller, Dataset, Evaluator, Network, Space, Task

# What an evaluator can ask for, and the sections that each puts to use.
GIVEN: dict[str, tuple[str, ...]] = {
    "space": (),
    "network": ("network", "data"),  # its inputs and outputs are those of the data
    "dataset": ("data",),  # without its test split
    "limits": (),  # {measure: most} of [constraints], for an evaluator that rejects before it measures
}
# What a space can ask for by the names of parameters with defaults, which hold where there are no data.
GIVEN_TO_SPACES = ("image_shape", "num_outputs", "limits")
TRAINER = "trainer"  # a factory's last parameter, and the section of its options


class Parts(NamedTuple):
    """What a search is made of."""

    space: Space
    controller: Controller
    evaluator: Evaluator
    reward: Callable  # measures {name: [B]} → [B]
    rejected: float  # the reward beyond the constraints
    network: Network | None  # None, as is the dataset, with an evaluator that trains nothing
    dataset: Dataset | None


class Needs(NamedTuple):
    """What an evaluator's factory asks for."""

    given: tuple[str, ...]  # names of GIVEN
    trainer: Callable | None  # the factory whose options are those of [trainer]
    sections: tuple[str, ...]  # that it puts to use beside its own, in the order of a configuration


def registries() -> dict[str, dict[str, Callable]]:
    """{section: {name: factory}} of the sections that name their part."""
    from jaxnas import controllers, evaluators, networks, rewards, spaces

    return {
        "space": spaces.REGISTRY,
        "controller": controllers.REGISTRY,
        "evaluator": evaluators.REGISTRY,
        "reward": rewards.REGISTRY,
        "network": networks.REGISTRY,
    }


def factory_of(section: str, name: Any) -> Callable:
    """The factory of that name: of a registry, or package.module:factory.

    Raises:
      InputError: there is none.
    """
    registry, key = registries()[section], f"{section}.name"
    if not isinstance(name, str):
        problem = "missing" if name is None else f"found {options.show(name)}"
        raise InputError(
            f"{key}: {problem}; it takes one of: {', '.join(sorted(registry))}; or package.module:factory"
        )
    if name in registry:
        return registry[name]
    module, _, attribute = name.partition(":")
    if not all(word.isidentifier() for word in (*module.split("."), attribute)):
        raise unknown(key, name, [*registry, "package.module:factory"])
    try:
        factory = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise InputError(f"{key}: cannot import {module!r} ({error}); is it on PYTHONPATH?") from None
    if not callable(factory):
        raise InputError(f"{key}: module {module!r} has no function {attribute!r}")
    return factory


def needs(name: Any) -> Needs:
    """What the evaluator of that name asks for.

    Raises:
      InputError: there is no such evaluator, or it asks for what nobody can give.
    """
    given, trainer = [], None
    for parameter in inspect.signature(factory_of("evaluator", name), eval_str=True).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD and parameter.name == TRAINER:
            if get_origin(parameter.annotation) is not Annotated:
                raise InputError(
                    f"evaluator.name: {name} does not say what its **{TRAINER} is; it takes "
                    f"**{TRAINER}: Annotated[Any, factory], a function whose options are those of [{TRAINER}]"
                )
            trainer = parameter.annotation.__metadata__[0]
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name in GIVEN:
            given.append(parameter.name)
        elif parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise InputError(
                f"evaluator.name: {name} asks for {parameter.name!r}; it can ask for {', '.join(GIVEN)}, "
                "and its own options follow a *"
            )
    asked = {section for part in given for section in GIVEN[part]} | ({TRAINER} if trainer else set())
    return Needs(tuple(given), trainer, tuple(s for s in ("network", "data", TRAINER) if s in asked))


@functools.cache  # `options.declare` makes one class of one function
def without_trainer(factory: Callable) -> Callable:
    """A function that takes only the options of an evaluator's own section."""
    signature = inspect.signature(factory, eval_str=True)
    own_options = [
        parameter for parameter in signature.parameters.values() if parameter.kind is parameter.KEYWORD_ONLY
    ]

    def takes_own_options() -> None:
        pass

    takes_own_options.__signature__ = signature.replace(parameters=own_options)  # type: ignore[attr-defined]
    takes_own_options.__doc__ = factory.__doc__
    return takes_own_options


def build(config: Config, *, dataset: Dataset | None = None) -> Parts:
    """The objects that `config` describes. The evaluator does not get the test split.

    Args:
      config: what to build.
      dataset: used in place of loading `[data]`.

    Raises:
      InputError: a factory refuses a value, or the data cannot be had.
    """
    from jaxnas import data, evaluators
    from jaxnas.training import measured

    def part(section: str) -> functools.partial:
        settings = dict(vars(getattr(config, section)))
        return functools.partial(factory_of(section, settings.pop("name")), **settings)

    limits = limits_of(config)
    rejected = math.nan if config.constraints.reward is None else config.constraints.reward
    if dataset is None and config.data is not None and _asks_of_data(config):
        dataset = data.load(**vars(config.data))
    space, network = _space(config, dataset), None
    controller = resampling(config, space, part("controller")(space))
    asked = needs(config.evaluator.name)
    if config.data is None:
        dataset = None
    elif dataset is None:
        dataset = data.load(**vars(config.data))
    if dataset is not None and (rewarded := getattr(config.reward, "measure", None)):
        dataset = dataset._replace(task=measured.reporting(dataset.task, rewarded))
    if config.network is not None:
        assert dataset is not None
        network = part("network")(space, dataset.input_shape, dataset.num_outputs)
    seen = dataset and dataset._replace(test=None)
    available = {"space": space, "network": network, "dataset": seen, "limits": limits}
    trainer = {} if config.trainer is None else vars(config.trainer)
    evaluator = part("evaluator")(**{name: available[name] for name in asked.given}, **trainer)
    if "limits" not in asked.given:
        evaluator = evaluators.constrain(evaluator, limits)
    if config.search.duplicates == "reuse":
        evaluator = evaluators.reuse(evaluator, space, memory=config.search.memory)
    reward = functools.partial(part("reward"), **_followed(config, dataset and dataset.task))
    return Parts(space, controller, evaluator, reward, rejected, network, dataset)


def _followed(config: Config, task: Task | None) -> dict[str, str]:
    """The reward's option `measure`, where the data name a measure and the reward does not.

    Raises:
      InputError: the reward makes a measure large that is to be small, or the other way round.
    """
    from jaxnas import rewards

    measure, name = getattr(config.data, "measure", None), config.reward.name
    if task is None or measure is None or getattr(config.reward, "measure", "") is not None:
        return {}
    if name in rewards.REGISTRY and (rewards.REGISTRY[name] is rewards.negative) == task.more_is_better:
        size, fix = ("small", "accuracy") if task.more_is_better else ("large", "negative")
        raise InputError(
            f"reward.name: {name!r} makes data.measure {measure!r} {size}; it takes {fix}, "
            "or set reward.measure"
        )
    return {"measure": measure}


def build_space(config: Config) -> Space:
    """The space alone. Without the data, one that asks for the shape of images has its defaults."""
    from jaxnas import data

    dataset = None
    if config.data is not None and _asks_of_data(config):
        with contextlib.suppress(InputError):
            dataset = data.load(**vars(config.data))
    return _space(config, dataset)


def limits_of(config: Config) -> dict[str, float]:
    """{measure: most} of `[constraints]`."""
    return {m: most for m in ("params", "flops") if (most := getattr(config.constraints, m)) is not None}


def _space(config: Config, dataset: Dataset | None) -> Space:
    settings = dict(vars(config.space))
    factory = factory_of("space", settings.pop("name"))
    available: dict[str, Any] = {"limits": limits_of(config)}
    if dataset is not None and config.data is not None:
        available |= {"image_shape": dataset.input_shape, "num_outputs": dataset.num_outputs}
    given = {name: available[name] for name in _asks(factory) if name in available}
    return factory(**given, **settings)


def _asks_of_data(config: Config) -> bool:
    return bool({"image_shape", "num_outputs"} & set(_asks(factory_of("space", config.space.name))))


def _asks(factory: Callable) -> list[str]:
    """What a space's factory asks for."""
    parameters = inspect.signature(factory).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return [name for name in positional if name in GIVEN_TO_SPACES]


def resampling(config: Config, space: Space, controller: Controller) -> Controller:
    """A controller that proposes what is new where `config` asks for that, else the controller itself."""
    from jaxnas import controllers

    if config.search.duplicates != "resample":
        return controller
    return controllers.distinct(controller, space, memory=config.search.memory)
