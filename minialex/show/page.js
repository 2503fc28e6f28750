// The live page: sends a photograph, asks for the parts that are open, and follows the run.
"use strict";
(() => {
  // milliseconds between looks at a run that may still be training
  const FOLLOW = Number(new URLSearchParams(location.search).get("follow")) || 3000;
  const articles = [...document.querySelectorAll("article")];
  const states = articles.map((article, run) => ({
    article, run, epochs: ["best"], index: 0, label: null, stamp: null, turn: 0, asked: 0,
    leave: new AbortController(),
  }));
  let photo = null;

  // ---------------------------------------------------------------- asking

  const ask = (url, options) => fetch(url, {...options, headers: {"X-Minialex": "1"}});

  // The HTML of a part; null if another photograph or epoch has been chosen meanwhile.
  async function part(state, name, more = {}) {
    const query = new URLSearchParams({run: state.run, epoch: state.epochs[state.index], ...more});
    if (photo) query.set("photo", photo);
    try {
      const answer = await ask(`/part/${name}?${query}`, {signal: state.leave.signal});
      return await answer.text();
    } catch (error) {
      if (error.name !== "AbortError") say("The server does not answer: has it been stopped?");
      return null;
    }
  }

  function say(text) {
    const line = document.getElementById("said");
    line.textContent = text;
    clearTimeout(say.timer);
    say.timer = setTimeout(() => { line.textContent = ""; }, 8000);
  }

  // ---------------------------------------------------------------- photographs

  async function send(url, body) {
    const answer = await ask(url, {method: "POST", body});
    if (!answer.ok) {
      const text = await answer.text();
      say(new DOMParser().parseFromString(text, "text/html").body.textContent);
      return;
    }
    photo = (await answer.json()).photo;
    for (const state of states) {
      state.label = null;
      state.article.querySelector(".chosen-map").replaceChildren();
      refresh(state, (one) => one.dataset.photo === "1");
    }
  }

  const upload = (file) =>
    send(`/photo?${new URLSearchParams({name: file.name || "webcam"})}`, file);

  const input = document.getElementById("file");
  input.addEventListener("change", () => { if (input.files.length) upload(input.files[0]); });
  const drop = document.getElementById("drop");
  for (const kind of ["dragenter", "dragover"])
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  for (const kind of ["dragleave", "drop"])
    document.addEventListener(kind, () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });

  const choices = document.getElementById("validation");
  choices.addEventListener("toggle", async () => {
    const holder = choices.querySelector("div");
    if (choices.open && !holder.childElementCount)
      holder.innerHTML = (await part(states[0], "validation")) || "";
  });
  choices.addEventListener("click", (event) => {
    const button = event.target.closest(".thumb");
    if (button) send(`/validation?run=0&index=${button.dataset.index}`);
  });

  const camera = document.getElementById("camera"), video = camera.querySelector("video");
  document.getElementById("webcam").addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
      camera.hidden = false;
    } catch (error) {
      say(`No webcam: ${error.message}`);
    }
  });
  camera.querySelector("button").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => upload(blob), "image/jpeg", 0.95);
    video.srcObject.getTracks().forEach((track) => track.stop());
    camera.hidden = true;
  });

  // ---------------------------------------------------------------- parts

  // Open parts are loaded one after the other, the answers first; another photograph or another
  // epoch makes what is still to come of the one before it old.
  async function refresh(state, chosen) {
    const turn = ++state.turn;
    state.leave.abort();
    state.leave = new AbortController();
    const parts = [...state.article.querySelectorAll(".part")];
    for (const one of parts.filter(chosen)) one.dataset.old = "1";
    for (const one of parts) {  // also those that an earlier turn has left
      if (turn !== state.turn) return;
      if (one.open && one.dataset.old === "1") await load(state, one, turn);
    }
  }

  async function load(state, one, turn = state.turn) {
    if (one.dataset.photo === "1" && !photo) return;
    one.classList.add("busy");
    const more = one.dataset.part === "looks" && state.label !== null ? {label: state.label} : {};
    const html = await part(state, one.dataset.part, more);
    one.classList.remove("busy");
    if (html === null || turn !== state.turn) return;  // it stays old: the next turn loads it
    one.dataset.old = "0";
    const holder = one.querySelector(".chosen-map");
    if (holder) one.before(holder);  // it outlives the maps around it
    const opened = [...one.querySelectorAll("details[open]")].map((d) => d.dataset.layer);
    one.querySelector(".content").innerHTML = html;
    for (const layer of opened) {
      const again = one.querySelector(`details[data-layer="${layer}"]`);
      if (again) again.open = true;
    }
  }

  document.addEventListener("toggle", async (event) => {
    const one = event.target, article = one.closest && one.closest("article");
    if (!article || !one.open) return;
    const state = states[Number(article.dataset.run)];
    if (one.classList.contains("part")) {
      if (one.dataset.old !== "0") load(state, one);
    } else if (one.dataset.part === "layer" && !one.querySelector(".sheet")) {
      const html = await part(state, "layer", {layer: one.dataset.layer});
      if (html === null || one.querySelector(".sheet")) return;
      const holder = document.createElement("div");
      holder.innerHTML = html;
      one.append(holder);
    }
  }, true);

  // An answer: where the evidence for this class is.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-label]");
    if (!button) return;
    const state = states[Number(button.closest("article").dataset.run)];
    const looks = state.article.querySelector('[data-part="looks"]');
    state.label = button.dataset.label;
    looks.dataset.old = "1";
    if (looks.open) load(state, looks);
    looks.open = true;
    looks.scrollIntoView({block: "nearest"});
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#layer="]');
    if (!link) return;
    event.preventDefault();
    const article = link.closest("article");
    const name = decodeURIComponent(link.getAttribute("href").slice("#layer=".length));
    article.querySelector('[data-part="layers"]').open = true;
    const wanted = article.querySelector(`details[data-layer="${name}"]`);
    if (!wanted) return;
    wanted.open = true;
    wanted.scrollIntoView({block: "start"});
    wanted.querySelector("summary").focus();
  });

  // ---------------------------------------------------------------- a map, a pixel

  document.addEventListener("map", async (event) => {
    const board = event.target, article = board.closest("article");
    if (!article) return;
    const state = states[Number(article.dataset.run)];
    const {layer, channel} = event.detail;
    const turn = ++state.asked;
    if (board.dataset.kind === "pixels") {
      const columns = Number(board.dataset.columns);
      const where = {row: Math.floor(channel / columns), column: channel % columns};
      const html = await part(state, "unit", {layer, channel: board.dataset.channel, ...where});
      if (html === null || turn !== state.asked) return;
      article.querySelector(".arithmetic").outerHTML = html;
    } else {
      const html = await part(state, "channel", {layer, channel});
      if (html === null || turn !== state.asked) return;
      const holder = article.querySelector(".chosen-map");
      holder.innerHTML = html;
      board.closest("details").append(holder);
      const more = document.createElement("div");
      more.textContent = "Searching the validation images …";
      holder.append(more);
      add(holder);
      const found = await part(state, "strongest", {layer, channel});
      if (found !== null) more.innerHTML = found;
      return;
    }
    add(article);
  });

  // Adds up the products, a line as high as the sum so far.
  function add(within) {
    const canvas = within.querySelector("canvas.sum");
    if (!canvas) return;
    const products = JSON.parse(canvas.dataset.products), bias = Number(canvas.dataset.bias);
    const sums = [0];
    for (const product of products) sums.push(sums[sums.length - 1] + product);
    sums.push(sums[sums.length - 1] + bias);
    const low = Math.min(...[0], ...sums.filter((_, k) => k % Math.ceil(sums.length / 5000) === 0));
    const high = Math.max(...[0], ...sums.filter((_, k) => k % Math.ceil(sums.length / 5000) === 0));
    const sharp = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * sharp;
    canvas.height = height * sharp;
    const drawing = canvas.getContext("2d");
    drawing.scale(sharp, sharp);
    const style = getComputedStyle(document.body);
    const y = (sum) => height - 20 - (sum - low) / ((high - low) || 1) * (height - 40);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const begun = performance.now();
    function frame(now) {
      if (!canvas.isConnected) return;
      const share = still ? 1 : Math.min(1, (now - begun) / 1500);
      const shown = Math.max(1, Math.round(share * (sums.length - 1)));
      drawing.clearRect(0, 0, width, height);
      drawing.strokeStyle = style.getPropertyValue("--line");
      drawing.beginPath();
      drawing.moveTo(0, y(0));
      drawing.lineTo(width, y(0));
      drawing.stroke();
      drawing.strokeStyle = style.getPropertyValue("--accent");
      drawing.lineWidth = 2;
      drawing.beginPath();
      for (let k = 0; k <= shown; k++) drawing.lineTo(k / (sums.length - 1) * width, y(sums[k]));
      drawing.stroke();
      drawing.fillStyle = style.color;
      drawing.font = "14px system-ui, sans-serif";
      const what = shown > products.length ? `${products.length} products and the bias` : `${shown} products`;
      drawing.fillText(`${what}: ${sums[shown].toPrecision(5)}`, 8, 15);
      if (share < 1) requestAnimationFrame(frame);
    }
    requestAnimationFrame(frame);
  }

  // ---------------------------------------------------------------- epochs

  function show(state, index) {
    state.index = index;
    const slider = state.article.querySelector(".slider");
    slider.querySelector("input").value = index;
    slider.querySelector("output").textContent =
      state.epochs[index] === "best" ? "best" : `epoch ${state.epochs[index]}`;
    refresh(state, (one) => one.dataset.part !== "curves");
  }

  for (const state of states) {
    const slider = state.article.querySelector(".slider");
    slider.querySelector("input").addEventListener("input", (event) => show(state, Number(event.target.value)));
    slider.querySelector(".play").addEventListener("click", async () => {
      for (let index = 0; index < state.epochs.length; index++) {
        show(state, index);
        await new Promise((done) => setTimeout(done, 700));
      }
    });
  }

  async function follow() {
    if (!document.hidden) {
      try {
        const all = await (await ask("/epochs")).json();
        for (const state of states) {
          const before = state.epochs, {epochs: now, stamp} = all[state.run];
          const renewed = state.stamp !== null && stamp !== state.stamp && before[state.index] === "best";
          state.stamp = stamp;
          if (now.join() !== before.join()) {
            const chosen = before[state.index];
            state.epochs = now;
            state.index = Math.max(0, now.indexOf(chosen));
            const slider = state.article.querySelector(".slider");
            slider.hidden = now.length < 2;
            slider.querySelector("input").max = now.length - 1;
            slider.querySelector("input").value = state.index;
          }
          if (renewed) show(state, state.epochs.indexOf("best"));
          const curves = state.article.querySelector('[data-part="curves"]');
          if (curves.open) {
            const html = await part(state, "curves"), holder = curves.querySelector(".content");
            if (html !== null && state.curves !== html) {
              holder.innerHTML = html;
              state.curves = html;
            }
          }
        }
      } catch (error) {
        say("The server does not answer: has it been stopped?");
      }
    }
    setTimeout(follow, FOLLOW);
  }

  follow().then(() => {
    for (const state of states) refresh(state, (one) => one.dataset.photo === "0");
  });
})();
