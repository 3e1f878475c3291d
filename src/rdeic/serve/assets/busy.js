// Work that takes long: a bar, what is going on, and a way out.

import { progress } from "./api.js";
import { seconds } from "./words.js";

const QUICK = 350; // ms that need no words
const PERIOD = 500;

export function makeBusy({ box, bar, text, stage }) {
  let current = null;

  async function look(work) {
    if (work !== current) return;
    box.hidden = false;
    const found = work.name && (await progress(work.name));
    if (work !== current) return;
    if (found?.state === "waiting") {
      bar.removeAttribute("value");
      text.textContent = found.ahead ? `Waiting, ${found.ahead} before this` : "Waiting";
    } else if (found?.state === "working") {
      bar.value = Math.min(0.97, found.seconds / found.expected_seconds);
      const left = found.expected_seconds - found.seconds;
      text.textContent = found.expected_seconds < 3 ? work.words : left > 1 ? `${work.words}, about ${seconds(left)} left` : `${work.words}, nearly done`;
    } else {
      bar.removeAttribute("value");
      text.textContent = work.words;
    }
    work.timer = setTimeout(look, PERIOD, work);
  }

  // From now on `words` are going on; the name is that of the request, for progress.
  function begin(words) {
    const name = crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16).padStart(8, "0")).join("");
    clearTimeout(current?.timer);
    current = { words, name };
    current.timer = setTimeout(look, box.hidden ? QUICK : 0, current);
    stage.setAttribute("aria-busy", "true");
    return name;
  }

  function end() {
    clearTimeout(current?.timer);
    current = null;
    box.hidden = true;
    stage.removeAttribute("aria-busy");
  }

  return { begin, end };
}
