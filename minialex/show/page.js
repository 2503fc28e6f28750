// The live page: asks for the parts that are open, and for what is clicked.
import {Requests, ask, say} from "/assets/asking.js";
import {choosing} from "/assets/choosing.js";
import {follow, slider} from "/assets/epochs.js";
import {addUp} from "/assets/sums.js";

const states = [...document.querySelectorAll("article")].map((article, run) => {
  const epochs = JSON.parse(article.dataset.epochs);
  return {
    article, run, epochs, index: epochs.length - 1, stamp: null, playing: null,
    label: null,  // the class whose evidence is shown; null: the first answer
    map: null,  // {layer, channel} of the map that is shown, and the layer it is shown `within`
    turn: 0,  // another one for each photograph and epoch
    requests: new Requests(),
  };
});
let photo = null;  // the key of the photograph

const stateOf = (element) => states[Number(element.closest("article").dataset.run)];

// A part of the page, {ok, html, body}; null if there is none, or it is no longer wanted.
async function part(state, name, more = {}, purpose = name) {
  const query = new URLSearchParams({run: state.run, epoch: state.epochs[state.index], ...more});
  if (photo) query.set("photo", photo);
  const answer = await ask(`/part/${name}?${query}`, {signal: state.requests.begin(purpose)});
  if (answer === null || answer.html) return answer;
  say(answer.body);
  return null;
}

// ---------------------------------------------------------------- parts

// Loads the open parts one after the other, the answers first. Another photograph or epoch ends
// what is still loading for the one before it. `sent`: when the photograph was sent.
async function refresh(state, chosen, sent = null) {
  const turn = ++state.turn;
  state.requests.abort((purpose) => purpose !== "curves");
  const parts = [...state.article.querySelectorAll(".part")];
  for (const one of parts.filter(chosen)) expire(one);
  if (state.map) state.article.querySelector(".chosen-map").classList.add("stale");
  for (const one of parts) {  // also those that an earlier turn has left
    if (!one.open || one.dataset.old === "0") continue;
    const loaded = load(state, one, sent);
    if (one.dataset.part !== "nearest") await loaded;  // a search takes its time
    if (turn !== state.turn) return;
  }
  if (state.map && photo) await showMap(state);
}

// Marks what a part shows as outdated; it is loaded again if it is open.
function expire(one) {
  one.dataset.old = "1";
  for (const content of one.querySelectorAll(".content, .maps")) {
    content.dataset.old = "1";
    if (!content.querySelector(".maps")) content.classList.add("stale");
  }
}

// Shows new content, of an answer that may be a sentence about what went wrong.
function fresh(content, answer) {
  content.innerHTML = answer.body;
  content.dataset.old = answer.ok && !answer.more ? "0" : "1";
  content.classList.remove("stale");
}

// What is being loaded in this turn already is not asked for twice.
function once(state, one, start) {
  if (one.loading?.turn === state.turn) return one.loading.done;
  const loading = one.loading = {turn: state.turn};
  one.classList.add("busy");
  loading.done = start().finally(() => {
    if (one.loading !== loading) return;
    one.loading = null;
    one.classList.remove("busy");
  });
  return loading.done;
}

async function load(state, one, sent = null) {
  if (one.dataset.photo === "1" && !photo) return;
  const layers = [...one.querySelectorAll('[data-part="layer"]')];
  await once(state, one, () =>
    layers.length ? loadLayers(state, one, layers) : loadPart(state, one, sent));
}

async function loadPart(state, one, sent) {
  const name = one.dataset.part, turn = state.turn, content = one.querySelector(".content");
  const more = name === "looks" && state.label !== null ? {label: state.label} : {};
  let answer;
  do {  // a search answers with what it has found so far
    answer = await part(state, name, more);
    if (answer === null || turn !== state.turn) return;  // it stays old, and is loaded again
    fresh(content, answer);
  } while (answer.more && one.open);
  one.dataset.old = content.dataset.old;
  if (name === "answers" && answer.ok && sent !== null) sayWhen(content, sent);
}

// The list of layers stays; the maps of those that are open are replaced.
async function loadLayers(state, one, layers) {
  const turn = state.turn;
  let all = true;
  for (const layer of layers) {
    if (layer.open) all = await layerLoaded(state, layer) && all;
    else layer.querySelector(".maps")?.remove();
    if (turn !== state.turn) return;
  }
  if (all) one.dataset.old = "0";
}

// How long the answer took.
function sayWhen(content, sent) {
  const line = document.createElement("p");
  line.className = "quiet";
  const seconds = ((performance.now() - sent) / 1000).toFixed(2);
  line.textContent = `${seconds} s after the photograph was sent`;
  content.append(line);
}

// Loads a layer's maps; whether they are there.
const layerLoaded = (state, layer) => once(state, layer, () => loadLayer(state, layer));

async function loadLayer(state, layer) {
  const name = layer.dataset.layer, turn = state.turn;
  const answer = await part(state, "layer", {layer: name}, `layer ${name}`);
  if (answer === null || turn !== state.turn) return false;
  let maps = layer.querySelector(".maps");
  if (!maps) {
    maps = document.createElement("div");
    maps.className = "maps";
    layer.querySelector("summary").after(maps);
  }
  fresh(maps, answer);
  if (state.map?.within === name) mark(maps, state.map);
  return answer.ok;
}

// Marks the map that is shown, in maps that have been loaded again.
function mark(maps, {layer, channel}) {
  for (const board of maps.querySelectorAll(`.sheet[data-layer="${layer}"]`)) {
    const index = channel - Number(board.dataset.first);
    if (index >= 0 && index < Number(board.dataset.count)) markAt(board, index);
  }
}

const markAt = (board, index) =>
  board.dispatchEvent(new CustomEvent("mark", {bubbles: true, detail: index}));

document.addEventListener("toggle", (event) => {
  const one = event.target;
  if (!one.closest("article")) return;
  const state = stateOf(one);
  for (const other of counterparts(state, one)) other.open = one.open;
  if (!one.open) return;
  if (one.classList.contains("part")) {
    if (one.dataset.old !== "0") load(state, one);
  } else if (one.dataset.part === "layer" && one.querySelector(".maps")?.dataset.old !== "0") {
    layerLoaded(state, one);
  }
}, true);

// The same part, or layer, of the other run: both are opened, to be compared.
function counterparts(state, {dataset}) {
  const layer = dataset.layer ? `[data-layer="${dataset.layer}"]` : "";
  const same = `details[data-part="${dataset.part}"]${layer}`;
  return states.filter((other) => other !== state)
    .flatMap(({article}) => [...article.querySelectorAll(same)]);
}

// An answer: where the evidence for this class is.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-label]");
  if (!button) return;
  const state = stateOf(button), looks = state.article.querySelector('[data-part="looks"]');
  state.label = button.dataset.label;
  expire(looks);
  looks.loading = null;  // whatever is being loaded is of another class
  if (looks.open) load(state, looks);
  looks.open = true;  // which loads it
  looks.scrollIntoView({block: "nearest"});
});

// A box of figure 2: its layer.
document.addEventListener("click", async (event) => {
  const link = event.target.closest('a[href^="#layer="]');
  if (!link) return;
  event.preventDefault();
  const state = stateOf(link), layers = state.article.querySelector('[data-part="layers"]');
  const name = decodeURIComponent(link.getAttribute("href").slice("#layer=".length));
  const wanted = () => layers.querySelector(`details[data-layer="${name}"]`);
  layers.open = true;
  if (!wanted()) await load(state, layers);
  if (!wanted()) return;
  wanted().open = true;
  wanted().scrollIntoView({block: "start"});
  wanted().querySelector("summary").focus();
});

// ---------------------------------------------------------------- a map, a pixel

document.addEventListener("map", async (event) => {
  const board = event.target;
  if (!board.closest("article")) return;
  const state = stateOf(board), {layer, channel} = event.detail;
  if (board.dataset.kind !== "pixels") {
    state.map = {layer, channel, within: board.closest("details").dataset.layer};
    await showMap(state);
    return;
  }
  const columns = Number(board.dataset.columns);
  const where = {row: Math.floor(channel / columns), column: channel % columns};
  const answer = await part(state, "unit", {layer, channel: board.dataset.channel, ...where});
  if (answer === null || !board.isConnected) return;  // another map is shown meanwhile
  const about = board.closest(".chosen-map"), place = about.querySelector(".arithmetic");
  if (answer.ok) place.outerHTML = answer.body;
  else place.innerHTML = answer.body;
  addUp(about);
});

// All about the map that was clicked, below its layer's maps.
async function showMap(state) {
  const {within, ...asked} = state.map, holder = state.article.querySelector(".chosen-map");
  const mine = state.showing = {};
  holder.classList.add("stale");
  state.requests.abort((purpose) => ["unit", "covered", "strongest"].includes(purpose));
  const answer = await part(state, "channel", asked);
  if (answer === null || mine !== state.showing) return;  // it stays stale
  holder.innerHTML = answer.body;
  holder.classList.remove("stale");
  const list = state.article.querySelector('[data-part="layers"]');
  list.querySelector(`details[data-layer="${within}"]`).append(holder);
  if (!answer.ok) return;
  addUp(holder);
  for (const board of holder.querySelectorAll(".sheet[data-chosen]"))
    markAt(board, Number(board.dataset.chosen));
  const later = {covered: "Covering parts of it …", strongest: "Searching the validation images …"};
  for (const [name, said] of Object.entries(later)) {
    holder.querySelector(`.${name}`).textContent = said;
    fill(state, name, asked, holder.querySelector(`.${name}`));
  }
}

// Fills a place with a part; again, as long as a search finds more. Nothing stays there that is no
// longer being done.
async function fill(state, name, asked, place) {
  let answer;
  do {
    answer = await part(state, name, asked);
    if (answer !== null) place.innerHTML = answer.body;
    else if (!place.querySelector("*")) place.textContent = "";
  } while (answer?.more && place.isConnected);
}

// A canvas does not follow the page's width and colours by itself.
function redraw() {
  for (const {article} of states) addUp(article, true);
}
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// ---------------------------------------------------------------- start

// The photograph's key in the session's storage, for a page that is loaded again; a browser may
// refuse to store anything.
function kept(key = null) {
  try {
    if (key !== null) sessionStorage.setItem("photo", key);
    return sessionStorage.getItem("photo");
  } catch {
    return null;
  }
}

function shown(key, begun) {
  photo = key;
  kept(key);
  document.body.classList.add("with-photo");
  for (const state of states) {
    state.label = null;
    refresh(state, (one) => one.dataset.photo === "1", begun);
  }
}
choosing(shown);

// The photograph that was shown before the page was loaded again, if the server still has it.
async function restore() {
  const key = kept();
  if (!key) return;
  const answer = await ask(`/photo/${encodeURIComponent(key)}`);
  if (photo || !answer?.ok) return;
  if (answer.body === "true") shown(key, null);
  else kept("");
}

const renew = (state) => refresh(state, (one) => one.dataset.part !== "curves");
const again = (state) => refresh(state, () => false);
for (const state of states) slider(state, renew);

async function curves(state) {
  const one = state.article.querySelector('[data-part="curves"]');
  if (!one.open) return;
  const answer = await part(state, "curves");
  if (answer === null || state.curves === answer.body) return;
  state.curves = answer.body;
  fresh(one.querySelector(".content"), answer);
  one.dataset.old = "0";
}

for (const state of states) refresh(state, (one) => one.dataset.photo === "0");
restore();
follow(states, {renew, again, curves});
