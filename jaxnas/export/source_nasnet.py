"""`model.py` of the networks of space `nasnet`: two cells, a line a block, and how they are stacked."""

from jaxnas.export.body import Body
from jaxnas.networks.nasnet import STEM, Structure, scanned
from jaxnas.spaces.layers import Block

LONGEST = 93  # characters of a block in one line

CELL = """

class Cell(nn.Module):
    filters: int
    reduction: bool = False

    @nn.compact
    def __call__(self, at, _=None):
        h, before = at
{lines}
        return (jnp.concatenate(made, -1), h), None

    def conv(self, x, height, width, name, stride=1, dilation=1, F=None):
        settings = {{"kernel_dilation": dilation, "use_bias": False, "name": name}}
        x = nn.Conv(F or self.filters, (height, width), stride, **settings)(nn.relu(x))
        return nn.BatchNorm(use_running_average=True, name=f"{{name}}_norm")(x)

    def match(self, x, like, name):  # an input with the cell's filters, and height and width of `like`
        if x.shape[1:3] == like.shape[1:3]:
            return x if x.shape[-1] == self.filters else self.conv(x, 1, 1, name)
        below, half = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0))), self.filters // 2
        odd = self.conv(below, 1, 1, f"{{name}}_odd", 2, F=self.filters - half)
        return jnp.concatenate([self.conv(x, 1, 1, f"{{name}}_even", 2, F=half), odd], -1)
"""
METHODS = {
    "sep": """
    def sep(self, x, k, name, stride=1):
        for part, s in ((f"{name}_1", stride), (f"{name}_2", 1)):
            settings = {"feature_group_count": x.shape[-1], "use_bias": False, "name": f"{part}_depthwise"}
            x = nn.Conv(x.shape[-1], (k, k), s, **settings)(nn.relu(x))
            x = nn.Dense(self.filters, use_bias=False, name=f"{part}_pointwise")(x)
            x = nn.BatchNorm(use_running_average=True, name=f"{part}_norm")(x)
        return x
""",
    "pool": """
    def pool(self, x, kind, k, name, stride=1):
        counted = {"count_include_pad": False} if kind == "avg" else {}
        x = getattr(nn, f"{kind}_pool")(x, (k, k), (stride, stride), "SAME", **counted)
        return x if x.shape[-1] == self.filters else self.conv(x, 1, 1, name)
""",
    "conv1x": """
    def conv1x(self, x, k, name, s=1):
        return self.conv(self.conv(x, 1, k, f"{name}_1", (1, s)), k, 1, f"{name}_2", (s, 1))
""",
}
RENAMED = {"/norm/": "_norm/", "/depth": "_depth", "/point": "_point", "wise": "wise/kernel"}
LOAD = """flat = {{k: v[..., None, :] if "depthwise" in k else v for k, v in load_file(path).items()}}
    for a, b in ({renamed}):
        flat = {{k.replace(a, b): v for k, v in flat.items()}}
    params = unflatten_dict(flat, sep="/")"""
SCAN = (
    'cells = nn.scan(Cell, {{"params": 0, "batch_stats": 0}}, split_rngs={{"params": True}}, length={length})'
)


def of_nasnet(s: Structure, hook: list[str]) -> Body:
    """Stem, stages of cells, head."""
    count, F = s.stages[0], s.filters
    in_loop = scanned(s, count)
    blocks = _blocks(s.normal, 1)
    if len(s.stages) > 1:
        blocks = ["if self.reduction:", *_indented(_blocks(s.reduction, 2)), "else:", *_indented(blocks)]
    cell = CELL.format(lines="\n".join(f"        {line}" for line in blocks))
    cell += "".join(text for name, text in METHODS.items() if f"self.{name}(" in cell)
    filters = ", ".join(str(F * 2**i) for i in range(len(s.stages)))
    lines = [
        f'x = nn.Conv({STEM * F}, (3, 3), use_bias=False, name="stem")(x)',
        'at = (nn.BatchNorm(use_running_average=True, name="stem_norm")(x),) * 2',
        f"for stage, F in enumerate(({filters},), 1):",
    ]
    if len(s.stages) > 1:
        lines += ["    if stage > 1:", '        at, _ = Cell(F, True, name=f"reduction_{stage - 1}")(at)']
    lines += [
        f"    for i in range({count - in_loop}):",
        '        at, _ = Cell(F, name=f"stage_{stage}_cell_{i + 1}")(at)',
    ]
    if in_loop:
        scan = SCAN.format(length=in_loop)
        lines += [f"    {scan}", '    at, _ = cells(F, name=f"stage_{stage}_cells")(at, None)']
    lines += ["x = nn.relu(at[0])", *hook, f'x = nn.Dense({s.num_outputs}, name="head")(x.mean(axis=(1, 2)))']
    renamed = ", ".join(f'("{old}", "{new}")' for old, new in RENAMED.items())
    return Body(cell, lines, True, LOAD.format(renamed=renamed))


def _blocks(blocks: tuple[Block, ...], stride: int) -> list[str]:
    """The lines of a cell from its inputs h and `before` to the states that it `made` and did not use."""
    used = {source for block in blocks for source in block.inputs}
    names = ["h0", "h1", *(f"b{b + 1}" for b in range(len(blocks)))]
    inputs = ('self.match(h, h, "h")', 'self.match(before, h, "h-1")')
    taken = [i for i in (0, 1) if i in used]
    lines = [f"{', '.join(names[i] for i in taken)} = {', '.join(inputs[i] for i in taken)}"]
    width = [1, 1]  # of each state, in F
    for b, block in enumerate(blocks):
        operands = [
            _operation(names[source], width[source], operation, stride if source < 2 else 1, f"b{b + 1}_{i}")
            for i, (source, operation) in enumerate(zip(block.inputs, block.operations, strict=True), 1)
        ]
        added = block.combine == "add"
        width.append(1 if added else 2)
        value = " + ".join(operands) if added else f"jnp.concatenate([{', '.join(operands)}], -1)"
        if len(value) > LONGEST:
            lines.append(f"a = {operands[0]}")
            value = f"a + {operands[1]}" if added else f"jnp.concatenate([a, {operands[1]}], -1)"
        lines.append(f"{names[b + 2]} = {value}")
    unused = ", ".join(names[i] for i in range(2, len(names)) if i not in used)
    return [*lines, f"made = [{unused}]"]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _operation(x: str, width: int, operation: str, stride: int, name: str) -> str:
    """An expression whose value has the cell's filters."""
    further = f'"{name}", {stride}' if stride > 1 else f'"{name}"'
    if operation == "identity":
        return x if (stride, width) == (1, 1) else f"self.conv({x}, 1, 1, {further})"
    kind, k = operation[:-1], operation[-1]
    if kind in ("sep", "conv1x"):
        return f"self.{kind}({x}, {k}, {further})"
    if kind in ("avg", "max"):
        return f'self.pool({x}, "{kind}", {k}, {further})'
    if kind == "dil":
        return f'self.conv({x}, {k}, {k}, "{name}", {stride}, 2)'
    return f"self.conv({x}, {k}, {k}, {further})"
