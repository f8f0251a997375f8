"""`model.py` of the networks of space `stages`: a class for each kind of block, a line for each block."""

from jaxnas.export.body import Body
from jaxnas.networks.stages import Structure, scanned
from jaxnas.spaces.layers import Stage
from jaxnas.spaces.stages_parts import EXPANSION, SE_REDUCTION

HELPERS = '''

def conv_norm(x, filters, size, name):
    """A convolution, then batch normalization."""
    x = nn.Conv(filters, (size, size), use_bias=False, name=name)(x)
    return nn.BatchNorm(use_running_average=True, name=f"{name}_norm")(x)


class Block(nn.Module):
    filters: int
    size: int  # of its windows
    first: bool = True  # of a stage: it changes the number of channels
'''
EXCITE = f"""    attention: bool = False

    def excite(self, x):  # channels weighted by what all of the image shows (Hu et al. 2018)
        if not self.attention:
            return x
        C = x.shape[-1]
        squeezed = nn.relu(nn.Dense(max(1, C // {SE_REDUCTION}), name="squeeze")(x.mean(axis=(1, 2))))
        return x * nn.sigmoid(nn.Dense(C, name="excite")(squeezed))[:, None, None, :]
"""
DEPTHWISE = """
    def depthwise(self, x):
        C, k = x.shape[-1], self.size
        return nn.Conv(C, (k, k), feature_group_count=C, use_bias=False, name="depthwise")(nn.relu(x))
"""
CLASSES = {
    "conv": """
class Conv(Block):
    @nn.compact
    def __call__(self, x, _=None):
        y = nn.relu(conv_norm(x, self.filters, self.size, "conv"))
        y = self.excite(y)
        return y, None
""",
    "residual": """
class Residual(Block):  # He et al. 2016
    @nn.compact
    def __call__(self, x, _=None):
        y = nn.relu(conv_norm(x, self.filters, self.size, "conv_1"))
        y = conv_norm(y, self.filters, self.size, "conv_2")
        y = self.excite(y)
        return nn.relu(y + (conv_norm(x, self.filters, 1, "skip") if self.first else x)), None
""",
    "separable": """
class Separable(Block):
    @nn.compact
    def __call__(self, x, _=None):
        y = conv_norm(self.depthwise(x), self.filters, 1, "project")
        y = nn.relu(y) if self.first else y
        y = self.excite(y)
        return (y if self.first else nn.relu(x + y)), None
""",
    "inverted": """
class Inverted(Block):  # Sandler et al. 2018
    expansion: int = 1

    @nn.compact
    def __call__(self, x, _=None):
        y = conv_norm(x, self.expansion * x.shape[-1], 1, "expand") if self.expansion > 1 else x
        y = nn.BatchNorm(use_running_average=True, name="depthwise_norm")(self.depthwise(y))
        y = conv_norm(nn.relu(y), self.filters, 1, "project")
        y = self.excite(y)
        return (y if self.first else x + y), None
""",
}
SCAN = 'nn.scan({cls}, {{"params": 0, "batch_stats": 0}}, split_rngs={{"params": True}}, length={length})'
LOAD = """flat = {k.replace("/norm/", "_norm/"): v for k, v in load_file(path).items()}
    flat = {k: v[..., None, :] if "depthwise/" in k else v for k, v in flat.items()}
    params = unflatten_dict(flat, sep="/")"""


def of_stages(s: Structure, hook: list[str]) -> Body:
    """The stem, the blocks of each stage, the head."""
    kinds = [kind for kind in CLASSES if any(_kind(stage) == kind for stage in s.stages)]
    attends = any(stage.attention for stage in s.stages)
    helpers = HELPERS + (EXCITE if attends else "")
    helpers += DEPTHWISE if {"separable", "inverted"} & set(kinds) else ""
    helpers += "".join(f"\n{CLASSES[kind]}" for kind in kinds)
    helpers = helpers if attends else helpers.replace("        y = self.excite(y)\n", "")
    lines = [f'x = nn.relu(conv_norm(x, {s.stem}, 3, "stem"))']
    for i, stage in enumerate(s.stages, 1):
        lines.append("x = nn.max_pool(x, (2, 2), (2, 2))")
        cls, in_loop = _kind(stage).capitalize(), scanned(stage)
        further = ", attention=True" if stage.attention else ""
        further += f", expansion={EXPANSION[stage.block]}" if EXPANSION.get(stage.block, 1) > 1 else ""
        for j in range(stage.repeats - in_loop):
            settings = f"{stage.filters}, {stage.kernel}{', False' if j else ''}{further}"
            lines.append(f'x, _ = {cls}({settings}, name="stage_{i}_block_{j + 1}")(x)')
        if in_loop:
            settings = f'{stage.filters}, {stage.kernel}, False{further}, name="stage_{i}_blocks"'
            lines.append(f"blocks = {SCAN.format(cls=cls, length=in_loop)}")
            lines.append(f"x, _ = blocks({settings})(x, None)")
    lines += [*hook, f'x = nn.Dense({s.num_outputs}, name="head")(x.mean(axis=(1, 2)))']
    return Body(helpers, lines, True, LOAD)


def _kind(stage: Stage) -> str:
    return "inverted" if stage.block in EXPANSION else stage.block
