"""`model.py` of the networks of space `nasnet`: two cells, a line a block, and how they are stacked."""

import re

from jaxnas.export.body import Body
from jaxnas.networks.nasnet import STEM, Structure, scanned
from jaxnas.spaces.nasnet import Block, hidden_states

LONGEST = 89  # characters of a block in one line

CONV = '''
def conv(x, F, window, name, stride=1, dilation=1):
    x = nn.Conv(F, window, stride, kernel_dilation=dilation, use_bias=False, name=name)(nn.relu(x))
    return nn.BatchNorm(use_running_average=True, name=f"{name}_norm")(x)


def match(x, like, F, name):
    """An input of a cell, with F filters and the height and width of `like`."""
    if x.shape[1:3] == like.shape[1:3]:
        return x if x.shape[-1] == F else conv(x, F, (1, 1), name)
    below = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
    even = conv(x, F // 2, (1, 1), f"{name}_even", 2)
    return jnp.concatenate([even, conv(below, F - F // 2, (1, 1), f"{name}_odd", 2)], -1)
'''
SEPARABLE = """

def sep(x, F, k, name, stride=1):
    for part, s in ((f"{name}_1", stride), (f"{name}_2", 1)):
        settings = {"feature_group_count": x.shape[-1], "use_bias": False, "name": f"{part}_depthwise"}
        x = nn.Conv(x.shape[-1], (k, k), s, **settings)(nn.relu(x))
        x = nn.Dense(F, use_bias=False, name=f"{part}_pointwise")(x)
        x = nn.BatchNorm(use_running_average=True, name=f"{part}_norm")(x)
    return x
"""
CELL = """

class Cell(nn.Module):
    filters: int
    reduction: bool = False

    @nn.compact
    def __call__(self, at, _=None):
        F, (h, before) = self.filters, at
{lines}
        return (jnp.concatenate(made, -1), h), None
"""
LOAD = """flat = {}
    for name, value in load_file(path).items():
        name = name.replace("/norm/", "_norm/").replace("wise", "wise/kernel")
        name = name.replace("/depthwise", "_depthwise").replace("/pointwise", "_pointwise")
        flat[name] = value[..., None, :] if "depthwise" in name else value
    params = unflatten_dict(flat, sep="/")"""
SCAN = """
CELLS = nn.scan(Cell, {{"params": 0, "batch_stats": 0}}, split_rngs={{"params": True}}, length={length})
"""


def of_nasnet(s: Structure, hook: list[str]) -> Body:
    """Stem, stages of cells, head."""
    count, F = s.stages[0], s.filters
    in_loop = scanned(s, count)
    blocks = _blocks(s.normal, 1)
    if len(s.stages) > 1:
        blocks = ["if self.reduction:", *_indented(_blocks(s.reduction, 2)), "else:", *_indented(blocks)]
    cell = CELL.format(lines="\n".join(f"        {line}" for line in blocks))
    helpers = CONV + (SEPARABLE if re.search(r"\bsep\(", cell) else "") + cell
    helpers += SCAN.format(length=in_loop) if in_loop else ""
    filters = ", ".join(str(F * 2**i) for i in range(len(s.stages)))
    lines = [
        f'x = nn.Conv({STEM * F}, (3, 3), use_bias=False, name="stem")(x)',
        'x = nn.BatchNorm(use_running_average=True, name="stem_norm")(x)',
        "at = (x, x)",
        f"for stage, F in enumerate(({filters},), 1):",
    ]
    if len(s.stages) > 1:
        lines += ["    if stage > 1:", '        at, _ = Cell(F, True, name=f"reduction_{stage - 1}")(at)']
    lines += [
        f"    for i in range({count - in_loop}):",
        '        at, _ = Cell(F, name=f"stage_{stage}_cell_{i + 1}")(at)',
    ]
    lines += ['    at, _ = CELLS(F, name=f"stage_{stage}_cells")(at, None)'] if in_loop else []
    lines += ["x = nn.relu(at[0])", *hook, f'x = nn.Dense({s.num_outputs}, name="head")(x.mean(axis=(1, 2)))']
    return Body(f"\n{helpers}", lines, True, LOAD)


def _blocks(blocks: tuple[Block, ...], stride: int) -> list[str]:
    """The lines of a cell from its inputs h and `before` to the states that it `made` and did not use."""
    used = {source for block in blocks for source in block[:2]}
    names = ["h0", "h1", *hidden_states(len(blocks))[2:]]
    inputs = ('match(h, h, F, "h")', 'match(before, h, F, "h-1")')
    taken = [i for i in (0, 1) if i in used]
    lines = [f"{', '.join(names[i] for i in taken)} = {', '.join(inputs[i] for i in taken)}"]
    width = [1, 1]  # of each state, in F
    for b, block in enumerate(blocks):
        made = [
            _operation(names[source], width[source], operation, stride if source < 2 else 1, f"b{b + 1}_{i}")
            for i, (source, operation) in enumerate(zip(block[:2], block[2:4], strict=True), 1)
        ]
        added = block.combine == "add"
        width.append(1 if added else 2)
        value = " + ".join(made) if added else f"jnp.concatenate([{', '.join(made)}], -1)"
        if len(value) > LONGEST:
            lines.append(f"a = {made[0]}")
            value = f"a + {made[1]}" if added else f"jnp.concatenate([a, {made[1]}], -1)"
        lines.append(f"{names[b + 2]} = {value}")
    unused = ", ".join(names[i] for i in range(2, len(names)) if i not in used)
    return [*lines, f"made = [{unused}]"]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _operation(x: str, width: int, operation: str, stride: int, name: str) -> str:
    """An expression whose value has F filters."""
    further = f", {stride}" if stride > 1 else ""
    if operation == "identity":
        return x if (stride, width) == (1, 1) else f'conv({x}, F, (1, 1), "{name}"{further})'
    kind, k = operation[:-1], operation[-1]
    if kind == "sep":
        return f'sep({x}, F, {k}, "{name}"{further})'
    if kind in ("avg", "max"):
        counted = ", count_include_pad=False" if kind == "avg" else ""
        x = f'nn.{kind}_pool({x}, ({k}, {k}), ({stride}, {stride}), "SAME"{counted})'
        return x if width == 1 else f'conv({x}, F, (1, 1), "{name}")'
    if kind == "conv1x":
        first, second = (f", (1, {stride})", f", ({stride}, 1)") if stride > 1 else ("", "")
        x = f'conv({x}, F, (1, {k}), "{name}_1"{first})'
        return f'conv({x}, F, ({k}, 1), "{name}_2"{second})'
    dilation = ", dilation=2" if kind == "dil" else ""
    return f'conv({x}, F, ({k}, {k}), "{name}"{further}{dilation})'
