"""Axes, lines, dots and stacked areas as SVG text, without a plotting package.

Colours are CSS classes with a dark variant, which the page around a figure can restyle; nothing has an id,
so that one page can hold many figures. Coordinates are rounded to a tenth: equal data gives equal bytes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np

WIDTH = 640  # of every figure, in the unit of all coordinates
COLOURS = 6  # classes c0 … c5, with the hues of Okabe & Ito, which the colour-blind can tell apart

_STYLE = """
svg.jaxnas{font:12px system-ui,sans-serif;color:#1f2328;background:#fff}
.jaxnas text{fill:currentColor}.jaxnas .paper{fill:#fff}.jaxnas .muted{color:#59636e}
.jaxnas .title{font-size:15px}.jaxnas .title,.jaxnas .strong{font-weight:600}.jaxnas .small{font-size:10px}
.jaxnas .end{text-anchor:end}.jaxnas .middle{text-anchor:middle}.jaxnas .grid{stroke:#d9dee3}
.jaxnas .line,.jaxnas .dots{fill:none;stroke:currentColor;stroke-linecap:round;stroke-linejoin:round}
.jaxnas .dots{stroke-width:6;opacity:.6}
.jaxnas .line{stroke-width:2;pointer-events:none}.jaxnas .thin{stroke-width:1.1}
.jaxnas .box{fill:none;stroke:currentColor;stroke-width:1.3;pointer-events:all}
.jaxnas .band{fill:currentColor;opacity:.16}
.jaxnas .c0{color:#0072b2}.jaxnas .c1{color:#d55e00}.jaxnas .c2{color:#009e73}
.jaxnas .c3{color:#b8588f}.jaxnas .c4{color:#b27a00}.jaxnas .c5{color:#3a9bd9}.jaxnas .twin{color:#78818b}
.jaxnas .d1 .line{stroke-dasharray:5 4}.jaxnas .d2 .line{stroke-dasharray:1 4}
.jaxnas .d3 .line{stroke-dasharray:9 4 1 4}
@media(prefers-color-scheme:dark){svg.jaxnas{color:#e6edf3;background:#12161c}
.jaxnas .paper{fill:#12161c}.jaxnas .muted{color:#9aa4af}.jaxnas .grid{stroke:#2d343d}
.jaxnas .c0{color:#4aa8e0}.jaxnas .c1{color:#f0803c}.jaxnas .c2{color:#2bc498}
.jaxnas .c3{color:#e08fc0}.jaxnas .c4{color:#e6a817}.jaxnas .c5{color:#8fcdf5}}
"""


class Scale(NamedTuple):
    """Data → coordinates along one axis: lo … hi lie at start … end."""

    lo: float
    hi: float
    start: float
    end: float
    ticks: Sequence[tuple[float, str]]  # values and their labels
    transform: Callable = np.asarray  # np.log for a logarithmic axis

    def at(self, values: np.ndarray | float) -> np.ndarray:
        """The coordinates of values of any shape."""
        lo, hi, values = map(self.transform, (self.lo, self.hi, values))
        return self.start + (values - lo) / (hi - lo) * (self.end - self.start)


def linear(values: np.ndarray, start: float, end: float) -> Scale:
    """An axis between round numbers around the values; all may be equal, NaN, or missing."""
    finite = values[np.isfinite(values)]
    lo, hi = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if hi - lo <= 1e-6 * max(abs(lo), abs(hi)):  # labels could not tell them apart
        lo, hi = lo - (abs(lo) / 20 or 0.5), hi + (abs(hi) / 20 or 0.5)
    step = _step((hi - lo) / 5)
    first, last = math.floor(round(lo / step, 6)), math.ceil(round(hi / step, 6))
    return Scale(first * step, last * step, start, end, _ticks(range(first, last + 1), step))


def counts(n: int, start: float, end: float, most: int = 8) -> Scale:
    """An axis from 0 to exactly n, with about `most` ticks, at whole numbers."""
    step = max(1, _step(max(n, 1) / most))
    return Scale(0, max(n, 1), start, end, _ticks(range(int(n / step) + 1), step))


def logarithmic(values: np.ndarray, start: float, end: float) -> Scale:
    """A logarithmic axis around the positive values, with ticks at 1, 2 and 5 times powers of ten."""
    positive = values[values > 0]
    lo, hi = (float(positive.min()), float(positive.max())) if positive.size else (1e3, 1e6)
    decades = range(math.floor(math.log10(lo)) - 1, math.ceil(math.log10(hi)) + 2)
    marks = [m * 10.0**e for e in decades for m in (1, 2, 5)]
    first = max(i for i, mark in enumerate(marks) if mark <= lo)
    last = max(first + 1, min(i for i, mark in enumerate(marks) if mark >= hi))
    marks = marks[first : last + 1]
    shown = marks if len(marks) < 9 else [m for m in marks if math.log10(m).is_integer()]
    return Scale(marks[0], marks[-1], start, end, [(m, _si(m)) for m in shown], np.log)


def document(title: str, subtitle: str, height: float, body: Iterable[str]) -> str:
    """A whole figure: `body` below two lines of heading, on a sheet of WIDTH × height."""
    sheet = f'class="jaxnas" viewBox="0 0 {WIDTH} {_n(height)}" role="img" aria-label={quoteattr(title)}'
    paper = f'<rect class="paper" width="{WIDTH}" height="{_n(height)}"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {sheet}><style>{_STYLE}</style>{paper}'
    lines = text(16, 26, title, "title"), text(16, 44, subtitle, "muted")
    return "\n".join([head, *lines, *body, "</svg>\n"])


def group(style: str, parts: Iterable[str]) -> str:
    """Parts that share a style."""
    return f'<g class="{style}">{"".join(parts)}</g>'


def text(x: float, y: float, words: str, style: str = "ink") -> str:
    """A line of text that begins at (x, y), or ends or is centred there in the style `end` or `middle`."""
    return f'<text x="{_n(x)}" y="{_n(y)}" class="{style}">{_escape(words)}</text>' if words else ""


def axes(x: Scale, y: Scale, x_label: str = "", y_label: str = "") -> str:
    """The frame of a plot: a grid line a tick of y, and the labels of both axes."""
    parts = [text((x.start + x.end) / 2, y.start + 36, x_label, "middle"), text(16, y.end - 12, y_label)]
    for value, label in y.ticks:
        height = float(y.at(value))
        parts.append(f'<path class="grid" d="M{_n(x.start)} {_n(height)}H{_n(x.end)}"/>')
        parts.append(text(x.start - 6, height + 4, label, "end"))
    for value, label in x.ticks:
        place = float(x.at(value))
        parts.append(f'<path class="grid" d="M{_n(place)} {_n(y.start)}v4"/>')
        parts.append(text(place, y.start + 17, label, "middle"))
    return group("muted", parts)


def line(x: Scale, y: Scale, xs: np.ndarray, ys: np.ndarray, style: str = "line") -> str:
    """A line through the points, interrupted where ys is NaN; a point on its own is a short dash."""
    known, parts = np.flatnonzero(np.isfinite(ys)), []
    for piece in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if known.size else []:
        points = _points(x, y, xs[piece], ys[piece])
        parts.append(f"M{'L'.join(points)}" + ("m-2 0h4" if len(points) == 1 else ""))
    return f'<path class="{style}" d="{"".join(parts)}"/>' if parts else ""


def band(x: Scale, y: Scale, xs: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """The area between two lines over xs, left out where one of them is NaN."""
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return ""
    upper, lower = _points(x, y, xs[known], high[known]), _points(x, y, xs[known], low[known])
    return f'<path class="band" d="M{"L".join([*upper, *lower[::-1]])}z"/>'


def steps(x: Scale, y: Scale, xs: np.ndarray, ys: np.ndarray, end: float, style: str = "line") -> str:
    """A staircase: each of ys holds from its xs to the next, the last to `end`."""
    return line(x, y, np.append(xs, end).repeat(2)[1:-1], ys.repeat(2), style)


def dots(x: Scale, y: Scale, xs: np.ndarray, ys: np.ndarray, title: str = "") -> str:
    """A dot a point, those in one place once; the title shows when the pointer is over one."""
    places = "".join(f"M{point}h0" for point in dict.fromkeys(_points(x, y, xs, ys)))
    words = f"<title>{_escape(title)}</title>" if title else ""
    return f'<path class="dots" d="{places}">{words}</path>' if places else ""


def box(x: Scale, y: Scale, centre: float, five: np.ndarray, title: str = "") -> str:
    """A box from five quantiles around `centre`: whiskers to the first and last, a line at the middle one."""
    half = min(18.0, abs(float(x.at(1) - x.at(0))) / 4)
    middle = float(x.at(centre))
    low, lower, median, upper, high = (_n(v) for v in y.at(five).tolist())
    left, right = _n(middle - half), _n(middle + half)
    path = (
        f"M{_n(middle)} {low}V{lower}M{_n(middle)} {upper}V{high}"
        f"M{left} {lower}H{right}V{upper}H{left}zM{left} {median}H{right}"
    )
    words = f"<title>{_escape(title)}</title>" if title else ""
    return f'<path class="box" d="{path}">{words}</path>'


def bars(x: Scale, y: Scale, xs: np.ndarray, ys: np.ndarray) -> str:
    """A bar from the axis to each of ys."""
    half = min(18.0, abs(float(x.at(1) - x.at(0))) / 4)
    base = _n(y.start)
    parts = [
        f"M{_n(a - half)} {base}V{_n(b)}H{_n(a + half)}V{base}z"
        for a, b in zip(x.at(xs).tolist(), y.at(ys).tolist(), strict=True)
    ]
    return f'<path fill="currentColor" d="{"".join(parts)}"/>'


def rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A box with a rim of that colour and a breath of it inside."""
    size = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="6"'
    paper = f'<rect class="paper" {size}/>'  # hides what passes behind
    return f'{paper}<rect {size} fill="{colour}" fill-opacity=".12" stroke="{colour}"/>'


def arrow(path: str) -> str:
    """A thin line along a path whose last step is a relative one, h or v, with a head at its end."""
    head = "m-4 -4l4 4l-4 4" if "h" in path else "m-4 -4l4 4l4 -4"
    return f'<path class="line thin" d="{path}{head}"/>'


def stack(x: Scale, y: Scale, xs: np.ndarray, shares: np.ndarray, colours: Sequence[str]) -> list[str]:
    """Areas on top of each other: shares [layers, points] at xs [points], the first layer lowest.

    Each area reaches down to the axis and those below are painted over it: half the coordinates.
    """
    parts = []
    for edge, colour in zip(np.cumsum(shares, axis=0)[::-1], colours[::-1], strict=True):
        points, base = "L".join(_points(x, y, xs, edge)), _n(y.start)
        parts.append(f'<path fill="{colour}" d="M{_n(x.start)} {base}L{points}V{base}z"/>')
    return parts


def legend(entries: Sequence[tuple[str, str]], top: float) -> tuple[str, float]:
    """Rows of (style, words), each after a sample of its line; and where they end."""
    parts, x, y = [], 16.0, top
    for style, words in entries:
        width = 52 + 6.8 * len(words)  # of a wide font, so that no entry runs into the next
        if x > 16 and x + width > WIDTH:
            x, y = 16.0, y + 20
        parts.append(group(style, [f'<path class="line" d="M{_n(x)} {_n(y)}h26"/>']))
        parts.append(text(x + 34, y + 4, words))
        x += width
    return "".join(parts), y + 10


def swatches(entries: Sequence[tuple[str, str]], x: float, top: float, pitch: float) -> str:
    """A column of (colour, words) in small type, the first lowest, as `stack` paints them."""
    parts = []
    for row, (colour, words) in enumerate(reversed(entries)):
        y = top + row * pitch
        parts.append(f'<rect x="{_n(x)}" y="{_n(y)}" width="9" height="9" fill="{colour}"/>')
        parts.append(text(x + 13, y + 8, words))
    return group("small", parts)


def ramp(n: int) -> list[str]:
    """n colours from dark blue over green to sand, in order of lightness (a muted viridis)."""
    anchors = np.array([[58, 76, 138], [45, 127, 150], [63, 168, 138], [148, 203, 125], [236, 221, 140]])
    stops = np.linspace(0, 4, n) if n != 1 else np.ones(1)
    channels = [np.interp(stops, range(5), channel) for channel in anchors.T]
    return ["#" + "".join(f"{round(c):02x}" for c in colour) for colour in zip(*channels, strict=True)]


def _points(x: Scale, y: Scale, xs: np.ndarray, ys: np.ndarray) -> list[str]:
    return [f"{_n(a)} {_n(b)}" for a, b in zip(x.at(xs).tolist(), y.at(ys).tolist(), strict=True)]


def _step(least: float) -> float:  # the smallest of 1, 2, 5 and 10 × a power of ten that is not below
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def _ticks(marks: Iterable[int], step: float) -> list[tuple[float, str]]:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(i * step, f"{i * step:,.{decimals}f}".replace("-", "−")) for i in marks]


def _si(value: float) -> str:
    power = min(max(math.floor(math.log10(value) + 1e-9) // 3, 0), 3)
    return f"{value / 1000**power:g}{['', 'k', 'M', 'G'][power]}"


def _n(coordinate: float) -> str:
    return f"{round(coordinate, 1) + 0.0:g}"  # + 0.0: no −0


def _escape(words: str) -> str:  # nor does XML have control characters
    return escape("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in words))
