"""`model.py` of the networks whose layers have norms, attention, skips and dropout of their own."""

from jaxnas.export.body import Body
from jaxnas.networks.layers import REDUCTION, Structure, name_of
from jaxnas.spaces.layers import Conv, Dense, GlobalPool, Pool

SQUEEZE_EXCITE = '''
def squeeze_excite(x, name):
    """Channels weighted by what all of the image shows (Hu et al. 2018)."""
    C = x.shape[-1]
    squeezed = nn.relu(nn.Dense(max(1, C // {reduction}), name=f"{{name}}_squeeze")(x.mean(axis=(1, 2))))
    return x * nn.sigmoid(nn.Dense(C, name=f"{{name}}_excite")(squeezed))[:, None, None, :]
'''
SELF_ATTENTION = '''
def self_attention(x, name):
    """Every pixel looks at all of them (Wang et al. 2018)."""
    N, H, W, C = x.shape
    inner, pixels = max(1, C // {reduction}), x.reshape(N, H * W, C)
    query = nn.Dense(inner, use_bias=False, name=f"{{name}}_query")(pixels)
    keys = nn.Dense(inner, use_bias=False, name=f"{{name}}_key")(pixels)
    value = nn.Dense(C, name=f"{{name}}_value")(pixels)
    weights = nn.softmax(query @ keys.transpose(0, 2, 1) * inner**-0.5)
    return x + (weights @ value).reshape(x.shape)
'''
HELPERS = {"se": ("squeeze_excite", SQUEEZE_EXCITE), "self": ("self_attention", SELF_ATTENTION)}
NORMS = {"batch": "nn.BatchNorm(use_running_average=True, {})(x)", "layer": "nn.LayerNorm({})(x)"}


def of_layers(s: Structure, hook: list[str]) -> Body:
    """A line or two a property of a layer, then the head."""
    flat, channels = False, [s.image_shape[-1]]  # after each layer
    convolutions = [i for i, layer in enumerate(s.layers) if isinstance(layer, Conv)]
    reaches = [layer.skip if isinstance(layer, Conv) else 0 for layer in s.layers]
    skips = {i: i + 1 - reach for i, reach in enumerate(reaches) if reach}  # to the outputs that they add
    lines = [] if convolutions else list(hook)
    for i, layer in enumerate(s.layers):
        lines += [f"x{i} = x"] if i in skips.values() else []
        name, width = name_of(layer, i), channels[-1]
        if isinstance(layer, Pool):
            window, stride = f"({layer.kernel}, {layer.kernel})", f"({layer.stride}, {layer.stride})"
            padding = ', padding="SAME"' if layer.padding == "same" else ""
            lines.append(f"x = nn.max_pool(x, {window}, strides={stride}{padding})")
        elif isinstance(layer, GlobalPool):
            lines.append("x = x.mean(axis=(1, 2))")
            flat = True
        elif isinstance(layer, Conv):
            width, k = layer.filters, layer.kernel
            strides = f", strides=({layer.stride}, {layer.stride})" if layer.stride > 1 else ""
            padding = f'padding="{layer.padding.upper()}"'
            lines += _affine(
                f'nn.Conv({width}, ({k}, {k}){strides}, {padding}, name="{name}")(x)', layer, name
            )
            if layer.attention != "none":
                lines.append(f'x = {HELPERS[layer.attention][0]}(x, "{name}_attention")')
            if layer.skip:
                other = f"x{skips[i]}"
                if channels[skips[i]] != width:
                    other = f'nn.Dense({width}, name="{name}_skip")({other})'
                lines.append(f"x = x + {other}")
        elif isinstance(layer, Dense):
            width = layer.units
            x = "x" if flat else "x.reshape(x.shape[0], -1)"
            lines += _affine(f'nn.Dense({width}, name="{name}")({x})', layer, name)
            flat = True
        lines += hook if convolutions[-1:] == [i] else []
        channels.append(width)
    lines.append(
        f'x = nn.Dense({s.num_outputs}, name="head")({"x" if flat else "x.reshape(x.shape[0], -1)"})'
    )
    used = {layer.attention for layer in s.layers if isinstance(layer, Conv)} & set(HELPERS)
    helpers = "\n".join(HELPERS[name][1].format(reduction=REDUCTION) for name in sorted(used))
    return Body(f"\n{helpers}" if helpers else "", lines, True)


def _affine(call: str, layer: Conv | Dense, name: str) -> list[str]:
    """A convolution or dense layer with its norm and activation."""
    lines = []
    if layer.norm != "none":
        lines.append(f"x = {call}")
        call = NORMS[layer.norm].format(f'name="{name}_norm"')
    return [*lines, f"x = {call}" if layer.activation == "none" else f"x = nn.{layer.activation}({call})"]
