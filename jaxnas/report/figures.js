// What a run did: its curves, its sizes, its policy, its controller. Text is set as text, never as markup.
const NONE = "–";
// What the reader has chosen, which outlives new data: a run, a source and a time of the policy, a table's view.
const ui = { run: 0, source: "policy", at: null, sort: "trial", down: false, only: "all", find: "", shown: 50 };
let data = { runs: [] };

const label = (run) => `${run.name} (${run.controller})`;
const card = (title, about, ...children) =>
  make("section.card", { "aria-label": title }, make("h2", null, title), about && make("p", null, about), children);
const wide = (element) => { element.classList.add("wide"); return element; };
const hue = (colour) => `--tone:var(--${colour})`;
const legend = () => make("div.legend", null, data.runs.map((run) =>
  make(run.twin ? "span.dashed" : "span", { style: hue(run.tone) }, make("i"), label(run))));

function duration(seconds) {
  const whole = Math.round(seconds);
  if (seconds < 60) return seconds < 1 ? "< 1 s" : `${seconds.toFixed(1)} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

// What a constant answer reaches, for an accuracy to stand beside; nothing where it is not known.
function constant(run, name) {
  const value = run.quality?.base.validation?.[name];
  const answer = run.quality?.of_classes ? "always the commonest class" : "the best constant answer";
  return value === undefined ? "" : `${answer}: ${number(value)}`;
}

function tiles(run) {
  const best = run.best[0], at = best ? best.numbers : {};
  const isTwin = (other) => other !== run && other.controller === "random" && other.count === run.count;
  const random = data.runs.find(isTwin);
  const gain = random && run.later_mean !== null && random.later_mean !== null && run.later_mean - random.later_mean;
  const sign = gain < 0 ? "−" : "+";
  const gained = typeof gain === "number" ? `${sign}${number(Math.abs(gain))} over random search` : "";
  const of = run.budget && run.budget !== run.count ? `of ${number(run.budget)}, ` : "";
  const seconds = run.times.reduce((sum, [, value]) => sum + value, 0);
  const all = [
    ["best reward", number(at.reward), best ? `trial ${number(best.trial)}` : ""],
    ...[...new Set([run.measure, "accuracy"])].map((name) =>
      [`its ${name.replaceAll("_", " ")}`, number(at[name]), constant(run, name)]),
    ["its parameters", number(at.params), ""],
    ["mean reward, later half", number(run.later_mean), gained],
    ["trials", number(run.count), `${of}${number(run.failed)} failed`],
    ["time", seconds ? duration(seconds) : NONE, ""],
  ].filter(([, value]) => value !== NONE);
  const boxes = all.map(([name, value, note]) =>
    make("div.tile", null, make("span.muted", null, name), make("b", null, value), make("small", null, note)));
  const notation = best && make("p", { style: "margin:12px 0 0" }, "Best: ", make("code", null, best.architecture));
  const remarks = (run.quality?.remarks || []).map((text) => make("p.remark", null, text));
  return wide(make("section.card", { "aria-label": "summary" }, make("div.tiles", null, boxes), notation, remarks));
}

function rewards() {
  const series = [...data.runs].reverse().flatMap((run) => [
    { tone: run.tone, ...run.mean, kind: "line", dashed: run.twin },
    { tone: run.tone, ...run.best_so_far, kind: "steps", thin: true, dashed: run.twin, end: run.count },
  ]);
  const { x } = data.runs.reduce((a, run) => (run.count > a.count ? run : a)).mean;
  const near = (line, trial) => number(line.y[line.x.findLastIndex((at) => at <= trial)]);
  const told = (run, trial) => `${run.name}: mean ${near(run.mean, trial)}, best ${near(run.best_so_far, trial)}`;
  const text = (i) =>
    [`trial ${number(x[i])}`, ...data.runs.filter((run) => run.count >= x[i]).map((run) => told(run, x[i]))].join("\n");
  const about = `Thick: mean of the last ${data.runs[0].window} trials. Thin: best so far.`;
  return card("Reward over trials", about, legend(), plot({
    label: "Reward over trials", xName: "trials", yName: "reward", height: 290, series,
    x: linear([0, most(data.runs.map((run) => run.count)) || 1], { tight: true }),
    y: linear(known(series.flatMap((each) => each.y))),
    hover: { column: true, at: { x, y: x.map(() => 0) }, text },
  }));
}

function sizes() {
  const name = data.runs.some((run) => run.trials.numbers.accuracy) ? "accuracy" : "reward";
  const points = data.runs.flatMap((run) => {
    const { numbers: { params = [], [name]: value = [] }, architecture, trial } = run.trials;
    return params.map((x, i) => ({ run, x, y: value[i] ?? null, architecture: architecture[i], trial: trial[i] }));
  }).filter((p) => p.x > 0 && p.y !== null);
  if (!points.length) return null;
  const columns = (list) => ({ x: list.map((p) => p.x), y: list.map((p) => p.y) });
  const series = [];
  for (const run of data.runs) {
    const own = points.filter((p) => p.run === run).sort((a, b) => a.x - b.x || b.y - a.y), front = [];
    for (const p of own) if (!front.length || p.y > front[front.length - 1].y) front.push(p);
    series.push({ tone: run.tone, ...columns(front), kind: "steps", dashed: run.twin });
    series.unshift({ tone: run.tone, ...columns(own), kind: "dots", faint: run.twin });
  }
  const told = ({ run, x, y, architecture, trial }) =>
    `${architecture}\n${name} ${number(y)}, ${number(x)} parameters\n${run.name}, trial ${number(trial)}`;
  const title = `${name === "accuracy" ? "Accuracy" : "Reward"} against parameters`;
  const about = "A dot a trial; line: Pareto front, the best of at most that size. Point at a dot for its architecture.";
  return card(title, about, legend(), plot({
    label: title, xName: "parameters", yName: name, height: 290, series,
    x: logarithmic(points.map((p) => p.x)), y: linear(points.map((p) => p.y)),
    hover: { at: columns(points), text: (i) => told(points[i]) },
  }));
}

const SOURCES = {
  policy: ["policy", "after", `The controller's probability of each choice, decision by decision along its own
    likeliest architecture; the fuller the colour, the likelier. ${NONE} is a decision that is not reached.`],
  shares: ["share of proposals", "up to", `How often each choice was proposed in a rolling window of trials; the fuller the
    colour, the oftener. ${NONE} is a decision that was not reached.`],
};

function heat(run) {
  const sources = Object.keys(SOURCES).filter((name) => run[name] && run[name].at.length);
  if (!sources.length) return null;
  const source = sources.includes(ui.source) ? ui.source : sources[0];
  const { at, rows, percent } = run[source], last = at.length - 1, cells = [];
  // Where all decisions have the same choices, these are columns.
  const columns = rows.reduce((a, row) => (row.values.length > a.length ? row.values : a), []);
  const isShared = (row) => row.values.every((value) => columns.includes(value));
  const shared = rows.length > 1 && columns.length > 6 && rows.every(isShared);
  const style = `--columns:${columns.length}`;
  const grid = make(shared ? "div.heat.matrix" : "div.heat", { role: "img", "aria-label": "policy over time", style });
  if (shared) grid.append(make("span"), make("div", null, columns.map((value) => make("em", null, value))));
  for (const row of rows) {
    const values = shared ? columns : row.values, own = values.map((value) =>
      make(value === NONE ? "b.none" : "b", null, shared ? "" : value));
    for (const value of row.values) cells.push([own[values.indexOf(value)], `${row.name} = ${value}`]);
    grid.append(make("span", null, row.name.replaceAll("_", " ")), make("div", null, own));
  }
  const output = make("output");
  const show = (point) => {
    output.value = `${SOURCES[source][1]} trial ${number(at[point])}`;
    cells.forEach(([cell, title], i) => {
      const share = percent[point][i];
      cell.style.setProperty("--p", share / 100);
      cell.classList.toggle("strong", share >= 50);
      cell.classList.toggle("full", share >= 75 && !cell.matches(".none"));
      cell.title = `${title}: ${share} %`;
      if (shared) cell.textContent = share >= 10 ? share : "";
    });
  };
  const now = ui.at === null ? last : Math.min(ui.at, last);
  const slide = (event) => {
    const point = Number(event.target.value);
    ui.at = point === last ? null : point; // at the end it follows the search
    show(point);
  };
  const slider = { type: "range", id: "slider", min: 0, max: last, value: now, "aria-label": "time", input: slide };
  const choose = (event) => { Object.assign(ui, { source: event.target.value, at: null }); draw(); };
  const options = sources.map((name) => make("option", { value: name, selected: name === source }, SOURCES[name][0]));
  const select = make("select", { id: "source", "aria-label": "what is shown", change: choose }, options);
  show(now);
  const controls = make("div.controls", null, select, make("input", slider), output);
  const box = wide(card("Policy over time", SOURCES[source][2], controls, grid));
  box.id = "policy";
  return box;
}

// What the measures of a controller are, and their units.
const MEASURES = {
  approx_kl: "old policy from new, nats a decision", baseline: "a reward", clip_fraction: "of decisions, 0–1",
  entropy: "nats a decision", epsilon: "how often it explores, 0–1", explained_variance: "of returns, at most 1",
  population_best: "a reward", population_mean: "a reward", queue_worst: "a reward", center: "a reward",
  td_error: "mean size, in units of reward", unique: "distinct architectures so far",
};

function controller(run) {
  const plain = (name) => name.replaceAll("_", " ").replace(/^td /, "TD ").replace(/ kl$/, " KL");
  const measures = Object.entries(run.rounds), varies = ({ y }) => most(known(y)) > least(known(y));
  const charts = measures.filter(([, line]) => varies(line)).map(([name, { x, y }]) => {
    const text = (i) => `trial ${number(x[i])}: ${number(y[i], 6)}`;
    const chart = plot({
      label: name, height: 146, xName: "trials", series: [{ tone: "c0", x, y, kind: "line" }],
      x: linear([0, most(x)], { tight: true, count: 4 }), y: linear(known(y), { count: 3 }),
      hover: { column: true, at: { x, y: x.map(() => 0) }, text },
    });
    const unit = MEASURES[name] && make("small", null, ` ${MEASURES[name]}`);
    return make("div", null, make("h3", null, plain(name), unit), chart);
  });
  const fixed = measures.filter(([, line]) => !varies(line));
  const told = fixed.map(([name, { y }]) => `${plain(name)} ${number(known(y)[0])}`).join(", ");
  const about = `What ${run.controller} reported after each round.${told && ` All the time: ${told}.`}`;
  return measures.length ? wide(card("Inside the controller", about, make("div.small", null, charts))) : null;
}
