// The slider over a run's checkpoints, playing through them, and following a run that trains.
import {anyMissed, ask, say} from "/assets/asking.js";

const given = new URLSearchParams(location.search);
// least milliseconds for each checkpoint while playing
const PAUSE = Number(given.get("pause")) || 700;
// milliseconds between checks for a run's progress
const FOLLOW = Number(given.get("follow")) || 3000;

const within = (state, selector) => state.article.querySelector(`.slider ${selector}`);

// Selects a checkpoint; `renew` loads what depends on it.
function show(state, index, renew) {
  state.index = index;
  const epoch = state.epochs[index];
  const slider = within(state, "input");
  slider.value = index;
  const said = epoch === "best" ? "best" : `epoch ${epoch}`;
  slider.setAttribute("aria-valuetext", said);
  within(state, "output").textContent = said;
  return renew(state);
}

export function slider(state, renew) {
  const stop = () => {
    state.playing = null;
    within(state, ".play").textContent = "Play";
  };
  within(state, "input").addEventListener("input", (event) => {
    stop();
    show(state, Number(event.target.value), renew);
  });
  within(state, ".play").addEventListener("click", async () => {
    if (state.playing) return stop();
    const mine = state.playing = {};
    within(state, ".play").textContent = "Stop";
    const ended = state.index === state.epochs.length - 1;
    for (let index = ended ? 0 : state.index; index < state.epochs.length; index++) {
      const pause = new Promise((done) => setTimeout(done, PAUSE));
      await show(state, index, renew);
      await pause;
      if (state.playing !== mine) return;
      index = state.index;  // checkpoints may have come in between
    }
    stop();
  });
}

// Checks regularly for new checkpoints, better weights and more of a curve. `renew` loads what
// depends on the weights, `again` what could not be loaded while the server was away.
export async function follow(states, page) {
  if (!document.hidden) {
    const answer = await ask("/epochs");
    if (answer?.ok) {
      const now = JSON.parse(answer.body);
      for (const state of states) await update(state, now[state.run], page);
      if (anyMissed()) for (const state of states) page.again(state);
    } else if (answer) say("The runs cannot be read: have they been moved?");
  }
  setTimeout(() => follow(states, page), FOLLOW);
}

async function update(state, {epochs, stamp}, {renew, curves}) {
  const chosen = state.epochs[state.index];
  const better = state.stamp !== null && stamp !== state.stamp && chosen === "best";
  state.stamp = stamp;
  if (epochs.join() !== state.epochs.join()) {
    state.epochs = epochs;
    state.article.querySelector(".slider").hidden = epochs.length < 2;
    within(state, "input").max = epochs.length - 1;
    const index = epochs.indexOf(chosen);
    state.index = index < 0 ? epochs.length - 1 : index;
    within(state, "input").value = state.index;
    if (index < 0) show(state, state.index, renew);  // its weights are gone
  }
  if (better) show(state, state.index, renew);
  await curves(state);
}
