"""The parts of space `stages`: its options, what a network of its parts costs, their notation."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.errors import InputError
from jaxnas.spaces import budgets, chains
from jaxnas.spaces.budgets import Cost
from jaxnas.spaces.layers import GlobalPool, Setting, Softmax, Stage, Stem

BLOCKS = ("conv", "residual", "inverted1", "inverted3", "inverted6", "separable")
# Decisions of a stage that is on, in the order of `Stage`, and the options that are their choices.
AXES = {
    "block": "blocks", "width": "widths", "kernel": "kernels", "repeats": "repeats", "attention": "attention",
}  # fmt: skip
TRAINING = ("mirror", "light")
ANSWERS = ("no", "yes")
SE_REDUCTION = 4  # of channels within squeeze and excitation
EXPANSION = {"inverted1": 1, "inverted3": 3, "inverted6": 6}


class Settings(NamedTuple):
    """All options; hashable."""

    image_shape: tuple[int, int, int]
    num_outputs: int
    stem: tuple[int, ...]
    stages: int  # most
    min_stages: int
    blocks: tuple[str, ...]
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    repeats: tuple[int, ...]
    attention: tuple[bool, ...]
    training: tuple[str, ...]  # those of TRAINING that are decided
    max_params: int
    max_flops: int


def cost_of(parts: Sequence[Any], s: Settings) -> Cost:
    """Parameters and operations of a network of these parts, exactly."""
    height, width, channels = s.image_shape
    costs = []
    for i, part in enumerate(parts):
        if isinstance(part, Stem):
            costs.append(stem_cost(part.filters, s.image_shape))
        elif isinstance(part, Stage):
            costs.append(stage_cost(part, channels, (height >> i) * (width >> i)))
        channels = part.filters if isinstance(part, Stem | Stage) else channels
    params, multiply_adds = (
        sum(column) for column in zip(*costs, head_cost(channels, s.num_outputs), strict=True)
    )
    return params, 2 * multiply_adds


def stage_cost(stage: Stage, channels: int, pixels: int) -> Cost:
    """Of a stage that gets so many channels of so many pixels, after its pooling."""
    w, area, params, multiply_adds = stage.filters, stage.kernel**2, 0, 0

    def add(weights: int, further: int) -> None:  # weights that every pixel is multiplied by, and others
        nonlocal params, multiply_adds
        params, multiply_adds = params + weights + further, multiply_adds + weights * pixels

    for c in (channels, *[w] * (stage.repeats - 1)):
        inner = c * EXPANSION.get(stage.block, 1)
        if stage.block == "conv":
            add(area * c * w, 2 * w)
        elif stage.block == "residual":
            add(area * (c + w) * w, 4 * w)
        elif stage.block == "separable":
            add(area * c + c * w, 2 * w)
        else:
            add(
                (inner > c) * c * inner + area * inner + inner * w,
                2 * (inner > c) * inner + 2 * inner + 2 * w,
            )
        if stage.attention:
            squeezed = max(1, w // SE_REDUCTION)
            params, multiply_adds = params + 2 * w * squeezed + squeezed + w, multiply_adds + 2 * w * squeezed
    if stage.block == "residual":  # the first one's skip changes the number of channels
        add(channels * w, 2 * w)
    return params, multiply_adds


def stem_cost(filters: int, image_shape: tuple[int, ...]) -> Cost:
    """Of the first convolution."""
    height, width, channels = image_shape
    return (9 * channels + 2) * filters, 9 * channels * filters * height * width


def head_cost(channels: int, num_outputs: int) -> Cost:
    """Of the dense layer at the end."""
    return (channels + 1) * num_outputs, channels * num_outputs


def decode(arch: Any, s: Settings, names: tuple[str, ...]) -> dict[str, Any]:
    """{decision: value}; "" where a stage is off."""
    shown: dict[str, Any] = {}
    is_off = False
    for name, choice in zip(names, map(int, arch), strict=True):
        kind, *_ = name.split("_")
        if kind in ("on", *TRAINING):
            shown[name] = ANSWERS[choice]
            is_off |= kind == "on" and not choice
        elif kind == "stem":
            shown[name] = s.stem[choice]
        else:
            value = getattr(s, AXES[kind])[choice]
            shown[name] = "" if is_off else ANSWERS[value] if kind == "attention" else value
    return shown


def parts_of(arch: Any, s: Settings, names: tuple[str, ...]) -> tuple[Any, ...]:
    """The stem, the stages that are on, the head, and what is decided of the training."""
    chosen = dict(zip(names, map(int, arch), strict=True))
    parts: list[Any] = [Stem(s.stem[chosen.get("stem", 0)])]
    for i in range(1, s.stages + 1):
        if not chosen.get(f"on_{i}", 1):
            break
        values = (getattr(s, option)[chosen.get(f"{axis}_{i}", 0)] for axis, option in AXES.items())
        parts.append(Stage(*values))
    return (*parts, GlobalPool(), Softmax(), *(Setting(name, ANSWERS[chosen[name]]) for name in s.training))


def parse(text: str, s: Settings, names: tuple[str, ...]) -> np.ndarray:
    """The inverse of `describe`; an InputError points at the offending token."""
    tokens = [token.strip() for token in text.split(" - ")]
    number = len(tokens) - 3 - len(s.training)
    endings = ["GAP()", "SM()", *(f"{name}=" for name in s.training)]
    if not s.min_stages <= number <= s.stages:
        raise InputError(
            f"architecture {text!r}: it takes stem(WIDTH), {s.min_stages} to {s.stages} stages, "
            f"{', '.join(endings)}, with ' - ' between them"
        )
    choices: dict[str, int] = {f"on_{i}": int(i <= number) for i in range(1, s.stages + 1)}

    def choose(where: str, name: str, value: Any, options: tuple) -> None:
        if value not in options:
            known = ", ".join(map(str, options))
            raise InputError(f"{where}: {name.partition('_')[0]} {value} is not one of {known}")
        choices[name] = options.index(value)

    for i, token in enumerate(tokens):
        where = f"architecture {text!r}: token {i + 1} is {token!r}"
        stem = re.fullmatch(r"stem\((\d{1,9})\)", token)
        stage = re.fullmatch(r"([a-z]+\d?)\((\d{1,9}),(\d{1,9})\)(?:x(\d{1,9}))?(\+se)?", token)
        if i == 0 and stem:
            choose(where, "stem", int(stem[1]), s.stem)
        elif 0 < i <= number and stage:
            block, width, kernel, repeats, attention = stage.groups()
            values = (block, int(width), int(kernel), int(repeats or 1), bool(attention))
            for (axis, option), value in zip(AXES.items(), values, strict=True):
                choose(where, f"{axis}_{i}", value, getattr(s, option))
        elif i > number + 2 and token.startswith(endings[i - number - 1]):
            name, _, answer = token.partition("=")
            choose(where, name, answer, ANSWERS)
        elif i <= number or not token.startswith(endings[i - number - 1].rstrip("()")):
            expected = "stem(12)" if i == 0 else "conv(24,3)x2+se" if i <= number else endings[i - number - 1]
            raise InputError(f"{where}, expected {expected}")
    arch = np.array([choices.get(name, 0) for name in names], np.int32)
    for name, cost, most in zip(
        ("parameters", "operations"),
        cost_of(parts_of(arch, s, names), s),
        (s.max_params, s.max_flops),
        strict=True,
    ):
        if most and cost > most:
            raise InputError(
                f"architecture {text!r}: it has {cost} {name}; space stages takes {most} at most"
            )
    return arch


def stages_of(image_shape: tuple[int, ...]) -> int:
    """Stages at most by the size of the images, each of which halves it.

    Raises:
      InputError: what is given is no shape of an image.
    """
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise InputError(f"space.name: stages takes images of height, width and channels, not {image_shape}")
    pixels = min(image_shape[:2])
    return min(2 if pixels < 16 else 3 if pixels < 48 else 4, pixels.bit_length() - 1)


def check(s: Settings) -> None:
    """An InputError for a value out of its range."""
    most = min(s.image_shape[:2]).bit_length() - 1
    if not 1 <= s.stages <= most:
        raise InputError(
            f"space.stages: got {s.stages}; images of {s.image_shape[0]} × {s.image_shape[1]} pixels take "
            f"1 to {most}, each of which halves height and width"
        )
    if not 1 <= s.min_stages <= s.stages:
        raise InputError(f"space.min_stages: got {s.min_stages}; it takes 1 to {s.stages}")
    chains.check_positive(stem=s.stem, widths=s.widths, kernels=s.kernels, repeats=s.repeats)
    for name, known in (("blocks", BLOCKS), ("attention", (False, True))):
        options = getattr(s, name)
        if not options or len(set(options)) < len(options) or set(options) - set(known):
            takes = ", ".join(map(str, known))
            raise InputError(f"space.{name}: got {options}; it takes distinct values of {takes}")
    for name, most in (("max_params", budgets.MOST), ("max_flops", 2 * budgets.MOST)):
        if not 0 <= getattr(s, name) <= most:
            raise InputError(f"space.{name}: got {getattr(s, name)}; it takes 0, for no limit, to {most}")
