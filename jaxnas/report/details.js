// What a run found, and how to repeat it: networks, trials, times, environment.

const HUES = [
  [/^image/, "twin"], [/^convolution|^stem/, "c0"], [/pool|mean of/, "c1"], [/^dense|^head/, "c2"], [/^reduction/, "c4"],
];
const hueOf = (name) => hue((HUES.find(([pattern]) => pattern.test(name)) || [0, "c3"])[1]);

function part([name, shape, params]) {
  const words = [shape.map((n) => number(n)).join(" × "), params ? `${number(params)} parameters` : ""];
  const lines = words.filter(Boolean).map((line) => make("span", null, line));
  return make("div.part", { style: hueOf(name) }, make("b", null, name), lines);
}

// A column of layers with arcs for its skips; cells and what is around them, from the left to the right.
function layers({ parts, image, cells }) {
  if (!parts.length) return null;
  const boxes = [["image", image || [], 0], ...parts], arrow = cells.length ? "→" : "↓";
  const steps = boxes.map((box, k) =>
    make("div.step", null, k ? make("i", { "aria-hidden": true }, arrow) : null, part(box)));
  const flow = make(cells.length ? "div.flow" : "div.column", null, steps);
  const links = boxes.flatMap(([, , , skip], to) => (skip ? [[to - skip, to]] : []));
  if (links.length) {
    flow.classList.add("skips");
    flow.setAttribute("role", "group");
    const told = links.map(([from, to]) => `layer ${to} adds the output of ${from ? `layer ${from}` : "the image"}`);
    flow.setAttribute("aria-label", told.join(", "));
    flow.append(arcs(flow, links));
  }
  return flow;
}

function networks(run) {
  if (!run.best.length) return null;
  const drawn = run.best.map((net, i) => {
    const { reward, params } = net.numbers, facts = [`reward ${number(reward)}`];
    for (const name of new Set([run.measure, "accuracy"])) {
      const value = net.numbers[name], base = constant(run, name);
      facts.push(typeof value === "number" && `${name.replaceAll("_", " ")} ${number(value)}${base && ` (${base})`}`);
    }
    facts.push(params !== null && `${number(params)} parameters`);
    const cells = net.cells.map((cell) => make("div", null, make("h3", null, cell.name), graph(cell)));
    return make("div.net", null,
      make("b", null, `${i + 1}. trial ${number(net.trial)}`),
      make("span.muted", null, `  ${facts.filter(Boolean).join(", ")}`),
      make("div", null, make("code", null, net.architecture)),
      layers(net),
      cells.length ? make("div.cells", null, cells) : null);
  });
  const any = (test) => run.best.some((net) => test(net));
  const about = [
    "Of each distinct architecture its best trial.",
    any(({ parts }) => parts.some(([, shape]) => shape.length))
      && "Each layer with the shape of its output and its parameters.",
    any(({ parts }) => parts.some(([, , , skip]) => skip))
      && "An arc ends at the layer that adds the output of an earlier one, by 1 × 1 convolution if channels differ.",
    any(({ cells }) => cells.some(({ name }) => name.endsWith(" cell")))
      && "A cell's inputs are the outputs of the cell before it, h, and of the one before that, h-1.",
  ];
  const grid = any(({ cells }) => cells.length) ? "div.nets.pairs" : "div.nets";
  return wide(card("The best networks", about.filter(Boolean).join(" "), make(grid, null, drawn)));
}

// Measures of the network in best/ beside what a constant answer reaches, and the recall of each class.
function quality(run) {
  const found = run.quality;
  if (!found) return null;
  const splits = Object.keys(found.splits), rest = found.base.validation || {};
  const names = [...new Set(splits.flatMap((split) => Object.keys(found.splits[split])))];
  const answer = found.of_classes ? "always the commonest class" : "the best constant answer";
  const words = ["measure", ...splits, `${answer}, validation`];
  const heads = words.map((text, k) => make(k ? "th" : "th.text", null, text));
  const rows = names.map((name) => make("tr", null,
    make("td.text", null, name.replaceAll("_", " ")),
    splits.map((split) => make("td", null, number(found.splits[split][name]))),
    make("td", null, name in rest ? number(rest[name]) : "")));
  const recalls = Object.entries(found.recall).map(([name, value]) =>
    make("tr", null, make("td.text", null, name), make("td", null, number(value))));
  const { temperature, error, error_scaled: scaled } = found.calibration;
  const fitted = temperature && `Calibration error ${number(error)}; ${number(scaled)} with logits divided by `
    + `${number(temperature)}, which was fitted to the same validation inputs.`;
  const table = (head, body) => make("div.scroll", null,
    make("table", null, make("thead", null, make("tr", null, head)), make("tbody", null, body)));
  return wide(card("How good the best one is", `Trial ${number(found.trial)}, as best/ has it.`,
    table(heads, rows),
    recalls.length ? table([make("th.text", null, "class"), make("th", null, "recall, validation")], recalls) : null,
    fitted ? make("p", null, fitted) : null));
}

// What less effort reaches on the same images, in the order of twins.csv; sentences where that beats the search.
function twins(run) {
  if (!run.twins) return null;
  const { columns, names, values, remarks } = run.twins, first = { params: "parameters" };
  const heads = ["", ...columns.map((name) => first[name] || name.replaceAll("_", " "))];
  const rows = names.map((name, i) => make("tr", null,
    make("td.text", null, name), values[i].map((value) => make("td", null, number(value)))));
  const about = "On the same images: the network that was found, and what a search has to beat. "
    + "Parameters are the numbers that a method keeps, images those that it was fitted to.";
  return wide(card("Beside less effort", about, make("div.scroll", null, make("table", { id: "twins" },
    make("thead", null, make("tr", null, heads.map((text, k) => make(k ? "th" : "th.text", null, text)))),
    make("tbody", null, rows))), remarks.filter(Boolean).map((text) => make("p.remark", null, `${text}.`))));
}

const COLUMNS = { // what is not said by a heading
  accuracy: "of validation, 0–1", auc: "area under the ROC curve, 0–1", constant: "1: predicts one class alone",
  balanced_accuracy: "mean recall of the classes, 0–1", macro_f1: "mean F1 of the classes, 0–1",
  calibration_error: "expected, in 15 bins of confidence, 0–1", mean_average_precision: "mean over labels, 0–1",
  flops: "floating-point operations of one image's forward pass", loss: "of validation", epochs: "that were trained",
  params: "trainable parameters", reused: "1: the result of an earlier trial of the same architecture",
};
const WORDS = new Set(["status", "architecture", "reason"]); // columns of text; all others are numbers

function trials(run) {
  const { numbers, status, reason, architecture, trial, left_out: left } = run.trials;
  const columns = { trial, ...numbers, status, architecture, ...(reason.some(Boolean) ? { reason } : {}) };
  const names = Object.keys(columns), kinds = [...new Set(status)];
  if (!columns[ui.sort]) ui.sort = "trial";
  if (!kinds.includes(ui.only)) ui.only = "all";
  const body = make("tbody"), count = make("span.muted");
  const more = make("button", { type: "button", id: "more", click: () => { ui.shown += 200; fill(); } }, "show more");
  const sort = (name) => () => {
    ui.down = ui.sort === name ? !ui.down : !WORDS.has(name) && name !== "trial";
    ui.sort = name;
    fill();
  };
  const heads = names.map((name) => {
    const about = { type: "button", "data-sort": name, title: COLUMNS[name] || null, click: sort(name) };
    const button = make("button", about, name);
    return make(WORDS.has(name) ? "th.text" : "th", null, button);
  });
  const cell = (name, i) => {
    const style = !WORDS.has(name) ? "td" : name === "status" ? "td.text" : "td.text.long";
    return make(style, null, WORDS.has(name) ? columns[name][i] : number(columns[name][i]));
  };
  function fill() {
    const values = columns[ui.sort], find = ui.find.toLowerCase();
    const empty = (i) => values[i] === null || values[i] === "";
    const isWanted = (i) => (ui.only === "all" || status[i] === ui.only)
      && `${architecture[i]} ${reason[i]}`.toLowerCase().includes(find);
    const order = trial.map((_, i) => i).filter(isWanted), sign = ui.down ? -1 : 1;
    const compare = (a, b) => (values[a] > values[b] ? sign : values[a] < values[b] ? -sign : 0);
    order.sort((a, b) => empty(a) - empty(b) || (empty(a) ? 0 : compare(a, b)) || a - b);
    const without = left ? `; ${number(left)} of middling reward are not here, trials.csv has them` : "";
    count.textContent = `${number(order.length)} trials${without}`;
    more.hidden = order.length <= ui.shown;
    heads.forEach((head, k) => {
      const chosen = names[k] === ui.sort;
      head.setAttribute("aria-sort", !chosen ? "none" : ui.down ? "descending" : "ascending");
      head.firstChild.textContent = names[k].replaceAll("_", " ") + (!chosen ? "" : ui.down ? " ↓" : " ↑");
    });
    const rows = order.slice(0, ui.shown).map((i) => make(`tr.${status[i]}`, null, names.map((name) => cell(name, i))));
    body.replaceChildren(...rows);
  }
  const options = ["all", ...kinds].map((name) =>
    make("option", { value: name, selected: name === ui.only }, name === "all" ? "all trials" : name));
  const filter = (event) => { ui.only = event.target.value; fill(); };
  const search = (event) => { ui.find = event.target.value; fill(); };
  const words = "find an architecture";
  const box = { type: "search", id: "find", value: ui.find, placeholder: words, "aria-label": words, input: search };
  const select = make("select", { id: "only", "aria-label": "which trials", change: filter }, options);
  const table = make("table", { id: "trials" }, make("thead", null, make("tr", null, heads)), body);
  fill();
  return wide(card("Trials", "A row a child network. Click on a heading to sort by it.",
    make("div.controls", null, select, make("input", box), count), make("div.scroll", null, table), more));
}

const TIMES = {
  compile: ["compiling, while nothing trains", "c4"], train: ["training and measuring children", "c0"],
  prepare: ["preparing and collecting children", "c5"], controller: ["controller and bookkeeping", "c3"],
  search: ["controller and evaluator, which are one compiled program", "c0"],
};

function times(run) {
  const total = run.times.reduce((sum, [, seconds]) => sum + seconds, 0);
  if (!total) return null;
  const parts = run.times.map(([name, seconds]) => [TIMES[name][0], hue(TIMES[name][1]), seconds / total, seconds]);
  const bar = parts.map(([, style, share]) => make("span", { style: `${style};flex:${share}` }));
  const rows = parts.flatMap(([name, style, share, seconds]) => [
    make("dt.key", { style }, make("i"), name),
    make("dd", null, `${duration(seconds)}, ${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`)]);
  return card("Where the time went", `${duration(total)} of rounds.`,
    make("div.bar", { role: "img", "aria-label": "shares of the time" }, bar), make("dl", null, rows));
}

function environment(run) {
  const rows = Object.entries(run.environment).flatMap(([key, value]) =>
    [make("dt", null, key.replaceAll("_", " ")), make("dd", null, value)]);
  return card("Repeat it", "The same configuration, seed, versions and back end give the same trials, to the bit.",
    make("pre", null, run.command), make("dl", null, rows),
    make("details", null, make("summary", null, "configuration"), make("pre", null, run.config)));
}
