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
let photo = null, sent = null;  // the key of the photograph, and when it was sent

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

// Open parts are loaded one after the other, the answers first. Another photograph or another epoch
// leaves what is still to come of the one before it.
async function refresh(state, chosen) {
  const turn = ++state.turn;
  state.requests.leave((purpose) => purpose !== "curves");
  const parts = [...state.article.querySelectorAll(".part")];
  for (const one of parts.filter(chosen)) one.dataset.old = "1";
  for (const one of parts) {  // also those that an earlier turn has left
    if (!one.open || one.dataset.old === "0") continue;
    const loaded = load(state, one);
    if (one.dataset.part !== "nearest") await loaded;  // a search takes its time
    if (turn !== state.turn) return;
  }
  if (state.map && photo) await showMap(state);
}

async function load(state, one) {
  if (one.dataset.photo === "1" && !photo) return;
  one.loads = (one.loads || 0) + 1;
  one.classList.add("busy");
  const layers = [...one.querySelectorAll('[data-part="layer"]')];
  await (layers.length ? loadLayers(state, one, layers) : loadPart(state, one));
  if (--one.loads === 0) one.classList.remove("busy");
}

async function loadPart(state, one) {
  const name = one.dataset.part, turn = state.turn, content = one.querySelector(".content");
  const more = name === "looks" && state.label !== null ? {label: state.label} : {};
  let answer;
  do {  // a search answers with what it has found so far
    answer = await part(state, name, more);
    if (answer === null || turn !== state.turn) return;  // it stays old, and is loaded again
    content.innerHTML = answer.body;
  } while (answer.more && one.open);
  one.dataset.old = answer.ok && !answer.more ? "0" : "1";
  if (name === "answers" && answer.ok) sayWhen(content);
}

// The list of layers stays; the maps of those that are open are replaced.
async function loadLayers(state, one, layers) {
  const turn = state.turn;
  for (const layer of layers) {
    if (layer.open) await loadLayer(state, layer);
    else layer.querySelector(".maps")?.remove();
    if (turn !== state.turn) return;
  }
  one.dataset.old = "0";
}

// How long the answer took.
function sayWhen(content) {
  if (sent === null) return;
  const line = document.createElement("p");
  line.className = "quiet";
  const seconds = ((performance.now() - sent) / 1000).toFixed(2);
  line.textContent = `${seconds} s after the photograph was sent`;
  content.append(line);
}

async function loadLayer(state, layer) {
  const name = layer.dataset.layer;
  const answer = await part(state, "layer", {layer: name}, `layer ${name}`);
  if (answer === null) return;
  let maps = layer.querySelector(".maps");
  if (!maps) {
    maps = document.createElement("div");
    maps.className = "maps";
    layer.querySelector("summary").after(maps);
  }
  maps.innerHTML = answer.body;
  maps.dataset.old = answer.ok ? "0" : "1";
  if (state.map?.within === name) mark(maps, state.map);
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
    loadLayer(state, one);
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
  looks.dataset.old = "1";
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
  if (answer === null) return;
  const about = board.closest(".chosen-map");
  about.querySelector(".arithmetic").outerHTML = answer.body;
  addUp(about);
});

// All about the map that was clicked, below its layer's maps.
async function showMap(state) {
  const chosen = state.map, holder = state.article.querySelector(".chosen-map");
  const {within, ...asked} = chosen;
  holder.classList.add("busy");
  state.requests.leave((purpose) => ["unit", "covered", "strongest"].includes(purpose));
  const answer = await part(state, "channel", asked);
  if (chosen !== state.map) return;
  holder.classList.remove("busy");
  if (answer === null) return;
  holder.innerHTML = answer.body;
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

// Fills a place with a part; again, as long as a search finds more.
async function fill(state, name, asked, place) {
  let answer;
  do {
    answer = await part(state, name, asked);
    if (answer !== null && place.isConnected) place.innerHTML = answer.body;
  } while (answer?.more && place.isConnected);
}

// A canvas does not follow the page's width and colours by itself.
function redraw() {
  for (const {article} of states) addUp(article, true);
}
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// ---------------------------------------------------------------- start

choosing((key, begun) => {
  [photo, sent] = [key, begun];
  document.body.classList.add("with-photo");
  for (const state of states) {
    state.label = null;
    refresh(state, (one) => one.dataset.photo === "1");
  }
});

const renew = (state) => {
  sent = null;
  return refresh(state, (one) => one.dataset.part !== "curves");
};
for (const state of states) slider(state, renew);

async function curves(state) {
  const one = state.article.querySelector('[data-part="curves"]');
  if (!one.open) return;
  const answer = await part(state, "curves");
  if (answer === null || state.curves === answer.body) return;
  state.curves = answer.body;
  one.querySelector(".content").innerHTML = answer.body;
  one.dataset.old = "0";
}

for (const state of states) refresh(state, (one) => one.dataset.photo === "0");
follow(states, renew, curves);
