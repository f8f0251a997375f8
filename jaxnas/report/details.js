// What a run found, and how to repeat it: networks, trials, times, environment.

const HUES = [
  [/^image/, "twin"], [/^convolution|^stem/, "c0"], [/pool|mean of/, "c1"], [/^dense|^head/, "c2"], [/^reduction/, "c4"],
];
const hueOf = (name) => hue((HUES.find(([pattern]) => pattern.test(name)) || [0, "c3"])[1]);

function part([name, shape, params]) {
  const words = [shape.map((n) => number(n)).join(" × "), params ? `${number(params)} parameters` : "\u00a0"];
  return make("div.part", { style: hueOf(name) }, make("b", null, name), words.map((line) => make("span", null, line)));
}

function networks(run) {
  if (!run.best.length) return null;
  const drawn = run.best.map((net, i) => {
    const { reward, accuracy, params } = net.numbers;
    const facts = [`reward ${number(reward)}`, accuracy !== null && `accuracy ${number(accuracy)}`];
    facts.push(params !== null && `${number(params)} parameters`);
    const boxes = net.parts.length ? [["image", net.image, 0], ...net.parts].map(part) : [];
    const flow = boxes.flatMap((box, k) => [k ? make("i", { "aria-hidden": true }, "→") : null, box]);
    const cells = i < 2 ? net.cells.map((cell) => make("div", null, make("h3", null, cell.name), graph(cell))) : [];
    return make("div.net", null,
      make("b", null, `${i + 1}. trial ${number(net.trial)}`),
      make("span.muted", null, `  ${facts.filter(Boolean).join(", ")}`),
      make("div", null, make("code", null, net.architecture)),
      flow.length ? make("div.flow", null, flow) : null,
      cells.length ? make("div.cells", null, cells) : null);
  });
  const shaped = run.best[0].parts.length;
  const about = shaped
    ? "Each layer with the shape of its output and its parameters."
    : "Layers have shapes where the run trains networks.";
  return wide(card("The best networks", `Of each distinct architecture its best trial. ${about}`, drawn));
}

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
    const button = make("button", { type: "button", "data-sort": name, click: sort(name) }, name);
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
