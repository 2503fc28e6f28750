// The ways to choose a photograph: a file, the webcam, one of the validation images.
import {ask, plain, say} from "/assets/asking.js";

let asked = 0;

// Calls `chosen` with the key of each photograph that the server has read, and when it was sent.
export function choosing(chosen) {
  async function send(url, body) {
    const mine = ++asked, begun = performance.now();
    const answer = await ask(url, {method: "POST", body});
    if (answer === null || mine !== asked) return;  // another one has been chosen meanwhile
    if (answer.ok) chosen(JSON.parse(answer.body).photo, begun);
    else say(plain(answer));
  }
  const upload = (file) =>
    send(`/photo?${new URLSearchParams({name: file.name || "webcam"})}`, file);
  files(upload);
  webcam(upload);
  validation((index) => send(`/validation?run=0&index=${index}`));
}

function files(upload) {
  const input = document.getElementById("file"), drop = document.getElementById("drop");
  input.addEventListener("change", () => { if (input.files.length) upload(input.files[0]); });
  input.addEventListener("click", () => { input.value = ""; });  // the same file can be sent again
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
    else say("Only a file can be dropped here: save the picture first.");
  });
}

function webcam(upload) {
  const button = document.getElementById("webcam"), camera = document.getElementById("camera");
  const video = camera.querySelector("video");
  let opening = false;

  function close() {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    camera.hidden = true;
    button.setAttribute("aria-expanded", "false");
  }

  button.addEventListener("click", async () => {
    if (opening) return;
    if (!camera.hidden) return close();
    opening = true;
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
      camera.hidden = false;
      button.setAttribute("aria-expanded", "true");
    } catch (error) {
      say(`No webcam: ${error.message}`);
    }
    opening = false;
  });
  camera.querySelector("button").addEventListener("click", () => {
    if (!video.videoWidth) return say("The webcam has no picture yet.");
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => upload(blob), "image/jpeg", 0.95);
    close();
  });
}

function validation(choose) {
  const choices = document.getElementById("validation"), holder = choices.querySelector("div");
  let asking = false, found = false;
  choices.addEventListener("toggle", async () => {
    if (!choices.open || asking || found) return;
    asking = true;
    const answer = await ask("/part/validation?run=0");
    asking = false;
    if (answer === null) return;
    found = answer.ok;
    if (answer.html) holder.innerHTML = answer.body;
    else say(answer.body);
  });
  choices.addEventListener("click", (event) => {
    const button = event.target.closest(".thumb");
    if (button) choose(button.dataset.index);
  });
}
