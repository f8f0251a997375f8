// Axes, lines, dots and graphs as SVG, drawn at the width that there is: type has one size everywhere.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const tip = document.getElementById("tip");

// An element: "tag.class", its attributes (functions are listeners), its children.
function make(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const svg = make.svg.has(tag);
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (key === "style") element.style.cssText = value;
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return element;
}
make.svg = new Set(["svg", "g", "path", "text", "rect", "line", "circle"]);

const number = (value, digits = 4) =>
  value === null || value === undefined
    ? "–"
    : Number.isInteger(value)
      ? value.toLocaleString("en-US")
      : Math.abs(value) >= 1e4
        ? Math.round(value).toLocaleString("en-US")
        : String(+value.toFixed(digits));

function short(value) {
  // 0.05, 20k, 1.5M
  const size = Math.abs(value);
  if (size >= 1e9) return `${+(value / 1e9).toPrecision(3)}G`;
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return String(+value.toPrecision(4)).replace("-", "−");
}

const known = (values) => values.filter((value) => value !== null && Number.isFinite(value));
const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);

// An axis around the values: {lo, hi, ticks, part: value → 0 … 1}.
function linear(values, { count = 5, tight = false } = {}) {
  let [lo, hi] = values.length ? [least(values), most(values)] : [0, 1];
  if (hi - lo <= 1e-9 * Math.max(Math.abs(lo), Math.abs(hi))) {
    const room = Math.abs(lo) / 20 || 0.5;
    [lo, hi] = tight ? [lo, lo + 1] : [lo - room, hi + room];
  }
  const power = 10 ** Math.floor(Math.log10((hi - lo) / count));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= ((hi - lo) / count) * (1 - 1e-9));
  if (!tight) [lo, hi] = [Math.floor(lo / step + 1e-6) * step, Math.ceil(hi / step - 1e-6) * step];
  const ticks = [];
  for (let i = Math.ceil(lo / step - 1e-6); i * step <= hi + step * 1e-6; i++)
    ticks.push(+(i * step).toPrecision(10));
  return { lo, hi, ticks, part: (value) => (value - lo) / (hi - lo) };
}

function logarithmic(values) {
  const positive = values.filter((value) => value > 0);
  const [lo, hi] = positive.length ? [least(positive), most(positive)] : [1e3, 1e6];
  const marks = [];
  for (let e = Math.floor(Math.log10(lo)) - 1; e <= Math.ceil(Math.log10(hi)) + 1; e++)
    for (const m of [1, 2, 5]) marks.push(+`${m}e${e}`);
  const first = marks.findLastIndex((mark) => mark <= lo);
  const last = Math.max(
    first + 1,
    marks.findIndex((mark) => mark >= hi),
  );
  const shown = marks.slice(first, last + 1);
  const [from, to] = [Math.log(shown[0]), Math.log(shown[shown.length - 1])];
  const ticks = shown.length < 8 ? shown : shown.filter((mark) => Number.isInteger(Math.log10(mark)));
  return {
    lo: shown[0],
    hi: shown[shown.length - 1],
    ticks,
    part: (value) => (Math.log(value) - from) / (to - from),
  };
}

function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const left = event.clientX + 14 + width > innerWidth ? event.clientX - width - 14 : event.clientX + 14;
  const top = event.clientY + 16 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}
const hideTip = () => {
  tip.hidden = true;
};

// A plot that redraws itself when its width changes. `options`: label, height, x, y (axes, from linear or
// logarithmic), xName, yName, series [{tone, x, y, kind: line, steps or dots, thin, dashed, faint}], hover.
// A point of `hover.at` {x, y} is found from a place, and `hover.text(i)` says what it is.
function plot(options) {
  const place = make("div.plot");
  new ResizeObserver(() => {
    if (place.clientWidth) place.replaceChildren(drawPlot(options, place.clientWidth));
  }).observe(place);
  return place;
}

function drawPlot({ label, height = 260, x, y, xName = "", yName = "", series, hover, bare }, width) {
  const [left, right, top, bottom] = [
    Math.max(34, 8 + 6.6 * most(y.ticks.map((t) => short(t).length))),
    width - 14,
    yName ? 24 : 8,
    height - (xName ? 38 : 22),
  ];
  const at = { x: (v) => left + x.part(v) * (right - left), y: (v) => bottom - y.part(v) * (bottom - top) };
  const svg = make("svg", { height, role: "img", "aria-label": label });
  for (const tick of y.ticks) {
    svg.append(make("path.grid", { d: `M${left} ${at.y(tick)}H${right}` }));
    svg.append(make("text.end", { x: left - 6, y: at.y(tick) + 4 }, short(tick)));
  }
  const room = Math.max(1, Math.ceil(x.ticks.length / ((right - left) / 52)));
  x.ticks
    .filter((_, i) => i % room === 0)
    .forEach((tick) => svg.append(make("text.middle", { x: at.x(tick), y: bottom + 17 }, short(tick))));
  if (xName) svg.append(make("text.middle", { x: (left + right) / 2, y: height - 4 }, xName));
  if (yName) svg.append(make("text", { x: 0, y: 12 }, yName));
  const lines = make("g");
  for (const each of series) lines.append(drawSeries(each, at, x));
  svg.append(lines);
  const marks = make("g");
  svg.append(marks);
  if (hover) {
    const points = hover.at.x.map((value, i) => [at.x(value), at.y(hover.at.y[i])]);
    const find = (event) => {
      const box = svg.getBoundingClientRect();
      const [px, py] = [event.clientX - box.left, event.clientY - box.top];
      let [found, distance] = [-1, hover.column ? Infinity : 28 ** 2];
      points.forEach(([a, b], i) => {
        const d = hover.column ? Math.abs(a - px) : (a - px) ** 2 + (b - py) ** 2;
        if (d < distance) [found, distance] = [i, d];
      });
      marks.replaceChildren();
      if (found < 0) return hideTip();
      marks.append(
        hover.column
          ? make("line.rule", { x1: points[found][0], x2: points[found][0], y1: top, y2: bottom })
          : make("circle.mark", { cx: points[found][0], cy: points[found][1], r: 5.5 }),
      );
      showTip(event, hover.text(found));
    };
    svg.addEventListener("pointermove", find);
    svg.addEventListener("pointerdown", find);
    svg.addEventListener("pointerleave", () => {
      marks.replaceChildren();
      hideTip();
    });
  }
  return svg;
}

function drawSeries({ tone, x, y, kind, thin, dashed, faint, end }, at, axis) {
  const place = (i) => `${at.x(x[i]).toFixed(1)} ${at.y(y[i]).toFixed(1)}`;
  let path = "",
    broken = true;
  for (let i = 0; i < x.length; i++) {
    if (y[i] === null || x[i] === null) {
      broken = true;
      continue;
    }
    if (kind === "dots") {
      path += `M${place(i)}h0`;
      continue;
    }
    path += broken
      ? `M${place(i)}`
      : kind === "steps"
        ? `H${at.x(x[i]).toFixed(1)}V${at.y(y[i]).toFixed(1)}`
        : `L${place(i)}`;
    if (broken && (i + 1 === x.length || y[i + 1] === null)) path += "h1";
    broken = false;
  }
  if (kind === "steps" && path) path += `H${at.x(end ?? axis.hi).toFixed(1)}`;
  const classes =
    kind === "dots"
      ? `.dots${faint ? ".faint" : ""}`
      : `.line${thin ? ".thin" : ""}${dashed ? ".dashed" : ""}`;
  return make(`path${classes}`, { d: path, style: `--tone:var(--${tone})` });
}

// A graph that was laid out from the top down: {name, width, height, boxes, lines}; x is 0 in the middle.
function graph({ name, width, height, boxes, lines }) {
  const svg = make("svg", {
    viewBox: `${-width / 2 - 1} -1 ${width + 2} ${height + 2}`,
    role: "img",
    "aria-label": name,
    style: `max-width:${width + 2}px`,
  });
  svg.append(make("g", null, lines.map((d) => make("path.line.thin", { d, style: "--tone:var(--muted)" }))));
  for (const [x, y, w, h, words, kind] of boxes) {
    const corner = { x: x - w / 2, y: y - h / 2, width: w, height: h, rx: 6 };
    svg.append(make("rect.paper", corner), make(`rect.${kind}`, corner));
    svg.append(make("text.middle", { x, y: y + 4 }, words));
  }
  return svg;
}

// Beside a column of boxes: an arc from each box to the one that adds its output, [[from, to]].
function arcs(column, links) {
  const svg = make("svg.arcs", { "aria-hidden": "true" });
  new ResizeObserver(() => {
    const boxes = [...column.querySelectorAll(".part")];
    const paths = links.map(([from, to]) => {
      const [a, b] = [boxes[from], boxes[to]];
      const [x, y1] = [b.offsetLeft + b.offsetWidth, a.offsetTop + 0.75 * a.offsetHeight];
      const [out, y2] = [x + 16 + 14 * Math.min(to - from, 3), b.offsetTop + b.offsetHeight / 2];
      const arc = `M${x} ${y1}C${out} ${y1} ${out} ${y2} ${x + 8} ${y2}`;
      return [
        make("path.line.thin", { d: arc, style: "--tone:var(--muted)" }),
        make("circle.plus", { cx: x, cy: y2, r: 8 }),
        make("path.line.thin", { d: `M${x - 4} ${y2}h8m-4 -4v8`, style: "--tone:var(--ink)" }),
      ];
    });
    svg.replaceChildren(...paths.flat());
  }).observe(column);
  return svg;
}
