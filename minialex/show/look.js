// Sheets of maps: a click or the arrow keys choose a map, which is drawn enlarged below the sheet.
// Other scripts listen for the event "map" to show more about it, and send the event "mark", with an
// index, to choose a map without that.
"use strict";
(() => {
  const number = (board, name) => Number(board.dataset[name]);

  function choose(board, index) {
    mark(board, Math.max(0, Math.min(number(board, "count") - 1, index)));
    const channel = number(board, "first") + number(board, "index");
    board.dispatchEvent(new CustomEvent("map", {
      bubbles: true, detail: {layer: board.dataset.layer, channel},
    }));
  }

  function mark(board, index) {
    const columns = number(board, "columns");
    board.dataset.index = index;
    const image = board.querySelector("img");
    const percent = (part, whole) => `${100 * part / whole}%`;  // whatever the page's width becomes
    const wide = number(board, "wide"), high = number(board, "high");
    const left = (index % columns) * wide, top = Math.floor(index / columns) * high;
    let mark = board.querySelector(".chosen");
    if (!mark) {
      mark = document.createElement("span");
      mark.className = "chosen";
      board.append(mark);
    }
    Object.assign(mark.style, {
      left: percent(left, image.naturalWidth), top: percent(top, image.naturalHeight),
      width: percent(wide, image.naturalWidth), height: percent(high, image.naturalHeight),
    });
    if (board.dataset.kind === "maps") enlarge(board, image, left, top, wide, high);
  }

  function enlarge(board, image, left, top, wide, high) {
    const figure = board.closest("figure");
    let below = figure.querySelector(".enlarged");
    if (!below) {
      below = document.createElement("div");
      below.className = "enlarged";
      below.append(document.createElement("canvas"), document.createElement("span"));
      below.lastChild.setAttribute("role", "status");
      figure.append(below);
    }
    const gap = number(board, "gap"), canvas = below.firstChild;
    const zoom = Math.max(1, Math.floor(220 / Math.max(wide, high)));
    canvas.width = (wide - gap) * zoom;
    canvas.height = (high - gap) * zoom;
    const drawing = canvas.getContext("2d");
    drawing.imageSmoothingEnabled = false;
    drawing.drawImage(image, left, top, wide - gap, high - gap, 0, 0, canvas.width, canvas.height);
    const channel = number(board, "first") + number(board, "index");
    below.lastChild.textContent = `${board.dataset.layer}, channel ${channel}`;
  }

  document.addEventListener("mark", async (event) => {
    await event.target.querySelector("img").decode();
    mark(event.target, event.detail);
  });

  document.addEventListener("click", (event) => {
    const board = event.target.closest(".sheet");
    if (!board) return;
    const box = board.querySelector("img").getBoundingClientRect();
    const share = board.querySelector("img").naturalWidth / box.width;
    const column = Math.floor((event.clientX - box.left) * share / number(board, "wide"));
    const row = Math.floor((event.clientY - box.top) * share / number(board, "high"));
    const index = row * number(board, "columns") + Math.min(column, number(board, "columns") - 1);
    if (index < number(board, "count")) choose(board, index);  // the last row may be shorter
  });

  document.addEventListener("keydown", (event) => {
    const board = event.target.closest && event.target.closest(".sheet");
    if (!board) return;
    const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: number(board, "columns"),
                   ArrowUp: -number(board, "columns"), Home: -1e9, End: 1e9, Enter: 0, " ": 0};
    if (!(event.key in steps)) return;
    event.preventDefault();
    const begun = "index" in board.dataset;
    choose(board, begun ? number(board, "index") + steps[event.key] : 0);
  });
})();
