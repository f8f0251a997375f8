"""`model.py` of the networks of space `cnn`."""

from jaxnas.export.body import Body
from jaxnas.networks.cnn import REDUCTION, Structure

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


def of_cnn(s: Structure, hook: list[str]) -> Body:
    """A line or two a property of a layer, then the head."""
    lines: list[str] = []
    flat, channels = False, [s.image_shape[-1]]  # after each layer
    convolutions = [i for i, layer in enumerate(s.layers) if layer.kind == "C"]
    wanted = {i + 1 - layer.skip for i, layer in enumerate(s.layers) if layer.skip}  # outputs to keep
    lines += [] if convolutions else hook
    for i, layer in enumerate(s.layers):
        lines += [f"x{i} = x"] if i in wanted else []
        at = f"{layer.kind.lower()}_{i + 1}"
        if layer.kind == "P":
            window, stride = f"({layer.kernel}, {layer.kernel})", f"({layer.stride}, {layer.stride})"
            lines.append(f"x = nn.max_pool(x, {window}, strides={stride})")
        elif layer.kind == "GAP":
            lines.append("x = x.mean(axis=(1, 2))")
            flat = True
        else:
            if layer.kind == "C":
                strides = f", strides=({layer.stride}, {layer.stride})" if layer.stride > 1 else ""
                padding = f'padding="{layer.padding.upper()}"'
                k = layer.kernel
                made = f'nn.Conv({layer.width}, ({k}, {k}){strides}, {padding}, name="{at}")(x)'
            else:
                made = f'nn.Dense({layer.width}, name="{at}")({"x" if flat else "x.reshape(x.shape[0], -1)"})'
                flat = True
            if layer.norm != "none":
                lines.append(f"x = {made}")
                made = NORMS[layer.norm].format(f'name="{at}_norm"')
            lines.append(
                f"x = {made}" if layer.activation == "none" else f"x = nn.{layer.activation}({made})"
            )
            if layer.attention != "none":
                lines.append(f'x = {HELPERS[layer.attention][0]}(x, "{at}_attention")')
            if layer.skip:
                other = f"x{i + 1 - layer.skip}"
                if channels[i + 1 - layer.skip] != layer.width:
                    other = f'nn.Dense({layer.width}, name="{at}_skip")({other})'
                lines.append(f"x = x + {other}")
            lines += hook if convolutions[-1:] == [i] else []
        channels.append(layer.width if layer.width and layer.kind in ("C", "FC") else channels[-1])
    lines.append(
        f'x = nn.Dense({s.num_outputs}, name="head")({"x" if flat else "x.reshape(x.shape[0], -1)"})'
    )
    used = {layer.attention for layer in s.layers} & set(HELPERS)
    helpers = "\n".join(HELPERS[name][1].format(reduction=REDUCTION) for name in sorted(used))
    return Body(f"\n{helpers}" if helpers else "", lines, True)
