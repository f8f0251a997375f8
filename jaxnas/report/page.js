// The report page: what is in the data, section by section. Text is set as text, never as markup.
const TONES = 6;
const LIVE = Boolean(document.documentElement.dataset.live);
const ui = { run: 0, source: "policy", at: null, sort: "trial", down: false, only: "all", find: "", shown: 50 };
let data = { runs: [] };

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

const label = (run) => `${run.name} (${run.controller})`;
const tone = (run) => run.tone;
const card = (title, about, ...children) =>
  make("section.card", { "aria-label": title }, make("h2", null, title), about ? make("p", null, about) : null, ...children);
const wide = (element) => { element.classList.add("wide"); return element; };
const legend = () => make("div.legend", null, data.runs.map((run) =>
  make(run.twin ? "span.dashed" : "span", { style: `--tone:var(--${tone(run)})` }, make("i"), label(run))));

function tiles(run) {
  const best = run.best[0], at = best ? best.numbers : {};
  const random = data.runs.find((other) => other !== run && other.controller === "random" && other.count === run.count);
  const gain = random && run.later_mean !== null && random.later_mean !== null ? run.later_mean - random.later_mean : null;
  const seconds = run.times.reduce((sum, [, value]) => sum + value, 0);
  const all = [
    ["best reward", number(at.reward), best ? `trial ${number(best.trial)}` : "no trial succeeded"],
    ["its accuracy", number(at.accuracy), ""],
    ["its parameters", number(at.params), ""],
    ["mean reward, later half", number(run.later_mean), gain === null ? "" : `${gain < 0 ? "−" : "+"}${number(Math.abs(gain))} against random search`],
    ["trials", number(run.count), `${run.budget && run.budget !== run.count ? `of ${number(run.budget)}, ` : ""}${number(run.failed)} failed`],
    ["time", duration(seconds), ""],
  ];
  return wide(make("section.card", { "aria-label": "summary" }, make("div.tiles", null, all.filter(([, value]) => value !== "–").map(([name, value, note]) =>
    make("div.tile", null, make("span.muted", null, name), make("b", null, value), make("small", null, note)))),
    best ? make("p", { style: "margin:12px 0 0" }, "Best: ", make("code", null, best.architecture)) : null));
}

const duration = (s) => s ? s < 1 ? "< 1 s" : s < 60 ? `${s.toFixed(1)} s` : s < 3600 ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.round(s % 3600 / 60)} min` : "–";

function rewards() {
  const series = [...data.runs].reverse().flatMap((run) => [
    { tone: tone(run), x: run.mean.x, y: run.mean.y, kind: "line", dashed: run.twin },
    { tone: tone(run), x: run.best_so_far.x, y: run.best_so_far.y, kind: "steps", thin: true, dashed: run.twin, end: run.count },
  ]);
  const longest = [...data.runs].sort((a, b) => b.mean.x.length - a.mean.x.length)[0];
  const near = (line, trial) => line.y[line.x.findLastIndex((x) => x <= trial)];
  const text = (i) => [`trial ${number(longest.mean.x[i])}`, ...data.runs.filter((run) => run.count >= longest.mean.x[i]).map((run) =>
    `${run.name}: mean ${number(near(run.mean, longest.mean.x[i]))}, best ${number(near(run.best_so_far, longest.mean.x[i]))}`)].join("\n");
  return card("Reward over trials", `Thick: mean of the last ${data.runs[0].window} trials. Thin: best so far.`, legend(), plot({
    label: "Reward over trials", xName: "trials", yName: "reward", height: 290, series,
    x: linear([0, most(data.runs.map((run) => run.count)) || 1], { tight: true }), y: linear(known(series.flatMap((each) => each.y))),
    hover: { column: true, at: { x: longest.mean.x, y: longest.mean.x.map(() => 0) }, text },
  }));
}

function sizes() {
  const name = data.runs.some((run) => run.trials.numbers.accuracy) ? "accuracy" : "reward";
  const points = data.runs.flatMap((run) => {
    const { numbers: { params = [], [name]: value = [] }, architecture, trial } = run.trials;
    return params.map((size, i) => ({ run, size, value: value[i], architecture: architecture[i], trial: trial[i] }));
  }).filter((p) => p.size > 0 && p.value !== null && p.value !== undefined);
  if (!points.length) return null;
  const fronts = data.runs.map((run) => {
    const front = { tone: tone(run), x: [], y: [], kind: "steps", dashed: run.twin };
    for (const p of points.filter((q) => q.run === run).sort((a, b) => a.size - b.size || b.value - a.value))
      if (!front.y.length || p.value > front.y[front.y.length - 1]) { front.x.push(p.size); front.y.push(p.value); }
    return front;
  }).filter((front) => front.x.length);
  const dots = data.runs.map((run) => {
    const own = points.filter((p) => p.run === run);
    return { tone: tone(run), kind: "dots", faint: run.twin, x: own.map((p) => p.size), y: own.map((p) => p.value) };
  });
  return card(`${name === "accuracy" ? "Accuracy" : "Reward"} against parameters`, "A dot a trial; line: Pareto front, the best of at most that size. Point at a dot for its architecture.", legend(), plot({
    label: `${name} against parameters`, xName: "parameters", yName: name, height: 290, series: [...dots.reverse(), ...fronts.reverse()],
    x: logarithmic(points.map((p) => p.size)), y: linear(points.map((p) => p.value)),
    hover: {
      at: { x: points.map((p) => p.size), y: points.map((p) => p.value) },
      text: (i) => `${points[i].architecture}\n${name} ${number(points[i].value)}, ${number(points[i].size)} parameters\n${points[i].run.name}, trial ${number(points[i].trial)}`,
    },
  }));
}

const ABOUT = {
  policy: "The controller's probability of each choice, decision by decision along its own likeliest architecture, as it was kept before rounds of the search.",
  shares: "How often each choice was proposed in a rolling window of trials; – is a decision that was not reached.",
};

function heat(run) {
  const sources = ["policy", "shares"].filter((name) => run[name] && run[name].at.length);
  if (!sources.length) return null;
  const source = sources.includes(ui.source) ? ui.source : sources[0];
  const { at, rows, percent } = run[source];
  const last = at.length - 1;
  const now = ui.at === null ? last : Math.min(ui.at, last);
  const cells = [], output = make("output"), about = make("p", null, ABOUT[source]);
  const columns = rows.reduce((a, row) => row.values.length > a.length ? row.values : a, []);
  const shared = rows.length > 1 && columns.length > 6 && rows.every((row) => row.values.every((value) => columns.includes(value)));
  const grid = make(shared ? "div.heat.matrix" : "div.heat", { role: "img", "aria-label": "policy over time", style: `--columns:${columns.length}` });
  if (shared) grid.append(make("span"), make("div", null, columns.map((value) => make("em", null, value))));
  rows.forEach((row) => {
    const values = shared ? columns : row.values;
    const own = values.map((value) => make("b", null, shared ? "" : value));
    row.values.forEach((value) => cells.push([own[values.indexOf(value)], `${row.name} = ${value}`]));
    grid.append(make("span", null, row.name.replaceAll("_", " ")), make("div", null, own));
  });
  const show = (point) => {
    output.value = `${source === "policy" ? "after" : "up to"} trial ${number(at[point])}`;
    cells.forEach(([cell, title], i) => {
      const share = percent[point][i];
      cell.style.setProperty("--p", share / 100);
      cell.classList.toggle("strong", share >= 50);
      cell.classList.toggle("full", share >= 75);
      cell.title = `${title}: ${share} %`;
      if (shared) cell.textContent = share >= 10 ? share : "";
    });
  };
  const slide = make("input", { type: "range", id: "slider", min: 0, max: last, value: now, "aria-label": "time", input: (event) => {
    const point = Number(event.target.value);
    ui.at = point === last ? null : point;
    show(point);
  } });
  const select = make("select", { id: "source", "aria-label": "what is shown", change: (event) => { ui.source = event.target.value; ui.at = null; draw(); } },
    sources.map((name) => make("option", { value: name, selected: name === source }, name === "policy" ? "policy" : "share of proposals")));
  show(now);
  const box = wide(card("Policy over time", "", about, make("div.controls", null, select, slide, output), grid));
  box.id = "policy";
  return box;
}

function controller(run) {
  const names = Object.keys(run.rounds);
  if (!names.length) return null;
  const charts = names.map((name) => {
    const { x, y } = run.rounds[name];
    return make("div", null, make("h3", null, name.replaceAll("_", " ")), plot({
      label: name, height: 130, x: linear([0, most(x)], { tight: true, count: 4 }), y: linear(known(y), { count: 3 }),
      series: [{ tone: "c0", x, y, kind: "line" }],
      hover: { column: true, at: { x, y: x.map(() => 0) }, text: (i) => `trial ${number(x[i])}: ${number(y[i], 6)}` },
    }));
  });
  return wide(card("Inside the controller", `What ${run.controller} reported after each round, over trials.`, make("div.small", null, charts)));
}

const HUES = [[/^convolution|^stem/, "c0"], [/pool|mean of/, "c1"], [/^dense|^head/, "c2"], [/^reduction/, "c4"]];
const hue = (name) => (HUES.find(([pattern]) => pattern.test(name)) || [0, "c3"])[1];
const shape = (sizes) => sizes.map((n) => number(n)).join(" × ");

function networks(run) {
  if (!run.best.length) return null;
  const drawn = run.best.map((net, i) => {
    const { reward, accuracy, params } = net.numbers;
    const facts = [`reward ${number(reward)}`, accuracy === null ? "" : `accuracy ${number(accuracy)}`, params === null ? "" : `${number(params)} parameters`];
    const notation = [net.image && ["image", net.image, 0], ...net.parts].filter(Boolean);
    const boxes = notation.flatMap(([name, sizes, own], k) => [
      k ? make("i", { "aria-hidden": true }, "→") : null,
      make("div.part", { style: `--tone:var(--${k || !net.image ? hue(name) : "twin"})` }, make("b", null, name), make("span", null, shape(sizes)),
        make("span", null, own ? `${number(own)} parameters` : "\u00a0")),
    ]);
    const cells = net.cells.length ? make("div.cells", null, net.cells.map((cell) => make("div", null, make("h3", null, cell.name), graph(cell)))) : null;
    return make("div.net", null, make("b", null, `${i + 1}. trial ${number(net.trial)}`), make("span.muted", null, `  ${facts.filter(Boolean).join(", ")}`),
      make("div", null, make("code", null, net.architecture)), net.parts.length ? make("div.flow", null, boxes) : null, i < 2 ? cells : null);
  });
  return wide(card("The best networks", run.best[0].parts.length ? "Of each distinct architecture its best trial; each layer with the shape of its output and its parameters." : "Of each distinct architecture its best trial. Layers have shapes where the run trains networks.", drawn));
}

function trials(run) {
  const { numbers, status, reason, architecture, trial, left_out: left } = run.trials;
  const names = Object.keys(numbers);
  const columns = { trial, ...numbers, status, architecture, reason };
  if (!columns[ui.sort]) ui.sort = "trial";
  const body = make("tbody"), count = make("span.muted"), more = make("button", { type: "button", id: "more", click: () => { ui.shown += 200; fill(); } }, "show more");
  const words = new Set(["status", "architecture", "reason"]);
  const anyReason = reason.some(Boolean);
  const shown = ["trial", ...names, "status", "architecture", ...(anyReason ? ["reason"] : [])];
  const heads = shown.map((name) => make(words.has(name) ? "th.text" : "th", null, make("button", { type: "button", "data-sort": name, click: () => {
    ui.down = ui.sort === name ? !ui.down : !words.has(name) && name !== "trial";
    ui.sort = name;
    fill();
  } }, name.replaceAll("_", " "))));
  function fill() {
    const values = columns[ui.sort], find = ui.find.toLowerCase();
    let order = trial.map((_, i) => i).filter((i) => (ui.only === "all" || status[i] === ui.only) && (!find || `${architecture[i]} ${reason[i]}`.toLowerCase().includes(find)));
    const empty = (i) => values[i] === null || values[i] === "";
    order.sort((a, b) => empty(a) - empty(b) || (ui.down ? -1 : 1) * (values[a] > values[b] ? 1 : values[a] < values[b] ? -1 : 0) || a - b);
    count.textContent = `${order.length.toLocaleString("en-US")} trials${left ? `; ${left.toLocaleString("en-US")} of middling reward are left out here, trials.csv has them` : ""}`;
    more.hidden = order.length <= ui.shown;
    heads.forEach((head, k) => {
      head.setAttribute("aria-sort", shown[k] === ui.sort ? ui.down ? "descending" : "ascending" : "none");
      head.firstChild.textContent = shown[k].replaceAll("_", " ") + (shown[k] === ui.sort ? ui.down ? " ↓" : " ↑" : "");
    });
    body.replaceChildren(...order.slice(0, ui.shown).map((i) => make(`tr.${status[i]}`, null, shown.map((name) =>
      make(name === "architecture" || name === "reason" ? "td.text.long" : words.has(name) ? "td.text" : "td", null, words.has(name) ? columns[name][i] : number(columns[name][i]))))));
  }
  const kinds = [...new Set(status)];
  const only = make("select", { id: "only", "aria-label": "which trials", change: (event) => { ui.only = event.target.value; fill(); } },
    ["all", ...kinds].map((name) => make("option", { value: name, selected: name === ui.only }, name === "all" ? "all trials" : name)));
  const search = make("input", { type: "search", id: "find", placeholder: "find an architecture", value: ui.find, "aria-label": "find an architecture", input: (event) => { ui.find = event.target.value; fill(); } });
  if (ui.only !== "all" && !kinds.includes(ui.only)) ui.only = "all";
  fill();
  const box = wide(card("Trials", "A row a child network. Click on a heading to sort by it.", make("div.controls", null, only, search, count),
    make("div.scroll", null, make("table", { id: "trials" }, make("thead", null, make("tr", null, heads)), body)), more));
  return box;
}

const TIMES = {
  compile: ["compiling, while nothing trains", "c4"], train: ["training and measuring children", "c0"], prepare: ["preparing and collecting children", "c5"],
  controller: ["controller and bookkeeping", "c3"], search: ["controller and evaluator, which are one compiled program", "c0"],
};

function times(run) {
  const total = run.times.reduce((sum, [, seconds]) => sum + seconds, 0);
  if (!total) return null;
  const parts = run.times.map(([name, seconds]) => [...TIMES[name], seconds]);
  return card("Where the time went", `${duration(total)} of rounds.`,
    make("div.bar", { role: "img", "aria-label": "shares of the time" }, parts.map(([, colour, seconds]) => make("span", { style: `--tone:var(--${colour});flex:${seconds / total}` }))),
    make("dl", null, parts.flatMap(([name, colour, seconds]) => [
      make("dt.bar", { style: `--tone:var(--${colour});display:block;height:auto;margin:0;overflow:visible` }, make("i"), name),
      make("dd", null, `${duration(seconds)}, ${(100 * seconds / total).toFixed(seconds / total < 0.1 ? 1 : 0)} %`)])));
}

function environment(run) {
  const rows = Object.entries(run.environment).flatMap(([key, value]) => [make("dt", null, key.replaceAll("_", " ")), make("dd", null, value)]);
  const box = card("Repeat it", "The same configuration, seed, versions and back end give the same trials, to the bit.", make("pre", null, run.command), rows.length ? make("dl", null, rows) : null,
    make("details", null, make("summary", null, "configuration"), make("pre", null, run.config)));
  return times(run) ? box : wide(box);
}

function draw() {
  const run = data.runs[Math.min(ui.run, data.runs.length - 1)];
  document.documentElement.classList.toggle("one", data.runs.length < 2);
  document.getElementById("run").replaceChildren(...data.runs.map((each, i) => make("option", { value: i, selected: each === run }, label(each))));
  const focus = document.activeElement && document.activeElement.id;
  const curves = [rewards(), sizes()];
  if (!curves[1]) wide(curves[0]);
  const sections = [tiles(run), ...curves, heat(run), controller(run), networks(run), trials(run), times(run), environment(run)];
  hideTip();
  document.getElementById("page").replaceChildren(...sections.filter(Boolean));
  if (focus && document.getElementById(focus)) document.getElementById(focus).focus({ preventScroll: true });
}

async function take(text) {
  data = await unpack(text);
  const several = data.runs.filter((run) => run.twin).length > 1; // then a twin has its run's colour
  let colour = -1;
  for (const run of data.runs) {
    if (!run.twin) colour++;
    run.tone = run.twin && !several ? "twin" : `c${colour % TONES}`;
  }
  draw();
}

function dress() {
  const asked = dress.asked, dark = asked === "dark" || (asked === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.classList.toggle("dark", dark);
  document.getElementById("theme").textContent = `theme: ${asked}`;
}
dress.asked = "system";
try { dress.asked = localStorage.getItem("jaxnas-theme") || "system"; } catch { /* a page from a file may have no storage */ }
document.getElementById("theme").addEventListener("click", () => {
  dress.asked = { system: "dark", dark: "light", light: "system" }[dress.asked] || "system";
  try { localStorage.setItem("jaxnas-theme", dress.asked); } catch { /* then it is not remembered */ }
  dress();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
document.getElementById("run").addEventListener("change", (event) => { ui.run = Number(event.target.value); ui.at = null; draw(); });

async function follow(tag) {
  const status = document.getElementById("live");
  try {
    const response = await fetch("data", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (response.status === 200) {
      await take(await response.text());
      tag = response.headers.get("ETag");
    }
    status.textContent = `live, ${new Date().toLocaleTimeString()}`;
  } catch {
    status.textContent = "the server has stopped";
  }
  setTimeout(follow, 2000, tag);
}

dress();
take(document.getElementById("data").textContent).then(() => {
  const drawn = () => { document.documentElement.dataset.ready = Math.round(performance.now()); }; // ms since asked for
  requestAnimationFrame(() => requestAnimationFrame(drawn)); // the plots are drawn once they have a width
  if (LIVE) follow(null);
});
