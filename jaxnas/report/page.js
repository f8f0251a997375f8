// The page as a whole: unpacks the data, puts the sections together, follows a run that is watched.
const TONES = 6;
const LIVE = Boolean(document.documentElement.dataset.live);

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function draw() {
  const run = data.runs[Math.min(ui.run, data.runs.length - 1)], focus = document.activeElement?.id;
  document.documentElement.classList.toggle("one", data.runs.length < 2);
  const options = data.runs.map((each, i) => make("option", { value: i, selected: each === run }, label(each)));
  document.getElementById("run").replaceChildren(...options);
  const pairs = [[rewards(), sizes()], [times(run), environment(run)]];
  for (const [a, b] of pairs) if (!a || !b) wide(a || b); // alone in its row
  const details = [quality(run), twins(run), heat(run), controller(run), networks(run), trials(run)];
  hideTip();
  const sections = [tiles(run), ...pairs[0], ...details, ...pairs[1]].filter(Boolean);
  document.getElementById("page").replaceChildren(...sections);
  if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
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

const DARK = matchMedia("(prefers-color-scheme: dark)");

function dress() {
  const { asked } = dress, dark = asked === "dark" || (asked === "system" && DARK.matches);
  document.documentElement.classList.toggle("dark", dark);
  document.getElementById("theme").textContent = `theme: ${asked}`;
}
dress.asked = "system";
try {
  dress.asked = localStorage.getItem("jaxnas-theme") || "system";
} catch { /* a page may have no storage: then it is not remembered */ }
document.getElementById("theme").addEventListener("click", () => {
  dress.asked = { system: "dark", dark: "light", light: "system" }[dress.asked] || "system";
  try { localStorage.setItem("jaxnas-theme", dress.asked); } catch { /* as above */ }
  dress();
});
DARK.addEventListener("change", dress);
document.getElementById("run").addEventListener("change", (event) => {
  Object.assign(ui, { run: Number(event.target.value), at: null });
  draw();
});

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
  // The plots are drawn once they have a width. In milliseconds since the page was asked for:
  const drawn = () => { document.documentElement.dataset.ready = Math.round(performance.now()); };
  requestAnimationFrame(() => requestAnimationFrame(drawn));
  if (LIVE) follow(null);
});
