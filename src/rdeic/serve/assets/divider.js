// One divider over two pictures: mouse, touch, keyboard.

const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

// `describe(percent)` is what a screen reader says of a place.
export function makeDivider(frame, handle, describe) {
  let split = 50;

  function set(percent) {
    split = Math.min(100, Math.max(0, percent));
    frame.style.setProperty("--split", split);
    handle.setAttribute("aria-valuenow", Math.round(split));
    handle.setAttribute("aria-valuetext", describe(Math.round(split)));
  }

  function follow(event) {
    const box = frame.getBoundingClientRect();
    set(((event.clientX - box.left) / box.width) * 100);
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || frame.classList.contains("single")) return;
    frame.setPointerCapture(event.pointerId);
    follow(event);
    handle.focus({ preventScroll: true, focusVisible: false });
    event.preventDefault();
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) follow(event);
  });
  handle.addEventListener("keydown", (event) => {
    const ends = { Home: 0, End: 100 };
    if (event.key in ends) set(ends[event.key]);
    else if (event.key in KEYS) set(split + KEYS[event.key] * (event.shiftKey ? 10 : 1));
    else return;
    event.preventDefault();
  });
  set(split);
  return { refresh: () => set(split), get split() { return split; } };
}
