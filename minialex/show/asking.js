// Requests to the server, and the sentence at the foot of the page.

const line = document.getElementById("said");
let timer = null, away = false, missed = false;

// Whether a request has found no server since this was asked last.
export function anyMissed() {
  const some = missed;
  missed = false;
  return some;
}

// Shows a sentence for some seconds; one that stays is there until the next.
export function say(text, stays = false) {
  if (line.textContent !== text) line.textContent = text;
  clearTimeout(timer);
  if (!stays) timer = setTimeout(() => { line.textContent = ""; }, 8000);
}

// The server's answer, {ok, html, body, more}; null if the request was aborted or nobody answers.
export async function ask(url, options = {}) {
  try {
    const answer = await fetch(url, {...options, headers: {"X-Minialex": "1"}});
    const body = await answer.text();
    if (away) say("");
    away = false;
    const kind = answer.headers.get("content-type") || "";
    const more = answer.headers.get("x-minialex-more") === "1";
    return {ok: answer.ok, html: kind.startsWith("text/html"), body, more};
  } catch (error) {
    if (error.name === "AbortError") return null;
    away = missed = true;
    say("The server does not answer: has it been stopped?", true);
    return null;
  }
}

// The text of an answer that may be markup.
export const plain = ({html, body}) =>
  html ? new DOMParser().parseFromString(body, "text/html").body.textContent : body;

// The running requests, one for each purpose.
export class Requests {
  #running = new Map();

  // The signal for a new request; the previous one for the same purpose is aborted.
  begin(purpose) {
    this.abort((one) => one === purpose);
    const controller = new AbortController();
    this.#running.set(purpose, controller);
    return controller.signal;
  }

  // Aborts the requests for these purposes.
  abort(chosen) {
    for (const [purpose, controller] of this.#running) if (chosen(purpose)) controller.abort();
  }
}
