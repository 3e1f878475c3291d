// The page: a picture or a file comes in, is compressed, restored and shown, again with each change of a setting.

import { post, Problem, takeToken } from "./api.js";
import { makeBusy } from "./busy.js";
import { makeDivider } from "./divider.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);
const RDEIC = "image/x-rdeic";
const LARGE = 4e6; // pixels; a PNG of more takes the server long to write
const PAUSE = 250; // ms after a key, before work begins
const TITLES = { rdeic: "rdeic", avif: "AVIF", webp: "WebP", jpeg: "JPEG" };

let open = null; // what is shown: see opened()
let running = null; // AbortController of the work under way
let later = 0;
let coming = ""; // name of the file that was handed over last

const rival = () => document.querySelector("input[name=rival]:checked").value;
const byBytes = () => document.querySelector("input[name=goal]:checked").value === "bytes";

const busy = makeBusy({ box: $("work"), bar: $("work-bar"), text: $("work-text"), stage: $("stage") });
const divider = makeDivider($("frame"), $("divider"), (percent) => {
  return `${percent}% original, ${100 - percent}% ${TITLES[rival()]}`;
});

function goal() {
  return { quality: byBytes() ? null : $("quality").valueAsNumber, max_bytes: byBytes() ? $("wish").valueAsNumber : null };
}

function opened(file, name) {
  return {
    source: null, // File of the picture; null for an .rdeic file
    blob: null, // the .rdeic file
    info: null, // its header
    background: null,
    name, // of the file that was opened
    shown: new Map(), // codec -> { url, bytes, remark }
    urls: [], // to be given back
    ...file,
  };
}

// -- one thing after the other, of which each may be given up for another

async function run(work) {
  running?.abort();
  const control = (running = new AbortController());
  clearTimeout(later);
  complain(null);
  $("frame").classList.add("stale");
  try {
    await work(control.signal);
  } catch (error) {
    if (control === running && error.name !== "AbortError") complain(error);
  } finally {
    if (control === running) stop();
  }
}

// Nothing is under way any more.
function stop() {
  running?.abort();
  running = null;
  busy.end();
  $("frame").classList.remove("stale");
}

function complain(error) {
  $("error").hidden = !error;
  $("remedy").hidden = !error;
  if (!error) return;
  $("error-text").textContent = explain(error);
  const transparent = error.name === "transparent-picture";
  $("remedy").textContent = transparent ? "Put white behind it" : "Close";
  $("remedy").onclick = () => {
    complain(null);
    if (!transparent) return;
    open.background = "white";
    run(compressed);
  };
}

function explain(error) {
  if (!(error instanceof Problem)) return `This page failed (${error.message}).`;
  if (error.name === "unauthorized") return "This server wants its token: open its address with #token=... at the end.";
  return open?.name === coming ? sentence(error.message) : `${coming}: ${sentence(error.message)}`;
}

function sentence(text) {
  const whole = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

// -- what comes in

async function take(file) {
  if (!file) return;
  coming = file.name;
  const isRdeic = (await file.slice(0, 3).text()) === "RDE" || /\.rdeic$/i.test(file.name);
  const before = open;
  await run(async (signal) => {
    const next = opened(isRdeic ? { blob: file } : { source: file }, file.name || "picture.png");
    await (isRdeic ? inspect(next, signal) : showOriginal(next, signal));
    signal.throwIfAborted();
    open = next;
    before?.urls.forEach(URL.revokeObjectURL);
    reveal();
    await (isRdeic ? restored(signal) : compressed(signal));
  });
}

// Shows the picture as the browser reads it, or as the server does where the browser cannot.
async function showOriginal(next, signal) {
  const frame = $("frame");
  let url = URL.createObjectURL(next.source);
  let size = await load(url);
  if (!size) {
    URL.revokeObjectURL(url);
    const name = busy.begin("Reading");
    const response = await post("show", next.source, {
      accept: "image/png", parameters: { background: "white" }, signal, name,
    });
    url = URL.createObjectURL(await response.blob());
    size = await load(url);
  }
  signal.throwIfAborted();
  next.urls.push(url);
  next.original = url;
  next.pixels = size.width * size.height;
  $("left").src = url;
  $("left").alt = `Original: ${next.name}`;
  $("right").src = url; // until there is something to compare it with
  frame.classList.add("single");
  fit(size.width, size.height);
}

async function load(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    return null;
  }
}

function fit(width, height) {
  $("frame").style.setProperty("--w", width);
  $("frame").style.setProperty("--h", height);
}

function reveal() {
  $("empty").hidden = true;
  $("view").hidden = $("another").hidden = false;
  $("size").hidden = $("rivals").hidden = !open.source;
  $("result").hidden = $("command-section").hidden = $("header-section").hidden = true;
  $("right-tag").textContent = open.source ? "Original" : "";
  $("remark").textContent = "";
  document.querySelector("input[name=rival][value=rdeic]").checked = true;
}

// -- what is made of it

async function compressed(signal) {
  const wish = goal();
  if (byBytes() && !(wish.max_bytes >= 1)) throw new Problem("bad-parameters", "type a number of bytes, such as 2000");
  const name = busy.begin("Compressing");
  const parameters = { ...wish, background: open.background };
  const response = await post("compress", open.source, { accept: RDEIC, parameters, signal, name });
  open.blob = await response.blob();
  await inspect(open, signal);
  open.goal = wish;
  forget();
  await restored(signal);
}

async function inspect(target, signal) {
  const response = await post("inspect", target.blob, { accept: "application/json", signal });
  target.info = await response.json();
  if (!target.source) fit(target.info.width, target.info.height);
  if (!$("steps").dataset.touched) setSlider("steps", target.info.steps);
}

async function restored(signal) {
  const large = open.info.width * open.info.height > LARGE;
  const name = busy.begin("Restoring");
  const [detail, steps] = [$("detail").valueAsNumber, $("steps").valueAsNumber];
  const response = await post("decompress", open.blob, {
    accept: large ? "image/jpeg" : "image/png", parameters: { detail, steps }, signal, name,
  });
  keep("rdeic", await response.blob(), open.info.file_bytes, "");
  open.made = { detail, steps, kind: large ? "jpg" : "png" };
  tell();
  await show(signal);
}

// The picture that is chosen to be on the right.
async function show(signal) {
  const codec = open.source ? rival() : "rdeic";
  if (!open.shown.has(codec)) await compare(codec, signal);
  const { url, bytes, remark } = open.shown.get(codec);
  await load(url); // or else the frame would flash
  signal.throwIfAborted();
  $("right").src = url;
  $("right").alt = `${TITLES[codec]}: ${words.count(bytes)} bytes, restored`;
  $("right-tag").textContent = `${TITLES[codec]}, ${words.count(bytes)} bytes`;
  $("remark").textContent = remark;
  $("frame").classList.toggle("single", !open.source);
  divider.refresh();
}

async function compare(codec, signal) {
  const wanted = open.info.file_bytes;
  const name = busy.begin(`Searching the best ${TITLES[codec]} of ${words.count(wanted)} bytes`);
  const accept = open.info.width * open.info.height > LARGE ? "image/jpeg" : "image/png";
  const parameters = { codec, bytes: wanted, background: open.background };
  const response = await post("compare", open.source, { accept, parameters, signal, name });
  const bytes = Number(response.headers.get("Rdeic-Bytes"));
  const scale = Number(response.headers.get("Rdeic-Downscale"));
  keep(codec, await response.blob(), bytes, about(TITLES[codec], bytes, wanted, scale));
}

function about(title, bytes, wanted, scale) {
  const stored = scale > 1 ? `, stored at 1/${scale} of its width and height` : "";
  const off = Math.abs(bytes - wanted) / wanted > 0.03;
  if (!off) return `${title} at its best at this size: ${words.count(bytes)} bytes${stored}.`;
  const way = bytes > wanted ? "cannot get this small" : "does not use as much";
  return `${title} ${way}: the nearest it has is ${words.count(bytes)} bytes${stored}.`;
}

function keep(codec, blob, bytes, remark) {
  const before = open.shown.get(codec);
  const url = URL.createObjectURL(blob);
  open.urls.push(url);
  open.shown.set(codec, { url, bytes, remark });
  if (before) setTimeout(URL.revokeObjectURL, 2000, before.url); // it may still be shown
}

// Pictures of the other codecs were made for another size.
function forget() {
  for (const codec of [...open.shown.keys()].filter((key) => key !== "rdeic")) open.shown.delete(codec);
}

// -- what is said about it

function tell() {
  const { info, source, name, made } = open;
  const file = source ? `${words.stem(name)}.rdeic` : name;
  $("bytes").textContent = words.count(info.file_bytes);
  $("bpp").textContent = `${info.bpp.toFixed(3)} bits per pixel`;
  $("ratio").textContent = source ? words.share(info.file_bytes, source.size) : `${info.width} × ${info.height} pixels`;
  link($("save"), open.blob, file);
  $("save-picture").href = open.shown.get("rdeic").url;
  $("save-picture").download = `${words.stem(name)}.restored.${made.kind}`;
  $("save-picture").textContent = `Save ${made.kind.toUpperCase()}`;
  $("command").textContent = words.commands({
    source: source && name, file, goal: open.goal, background: open.background,
    detail: made.detail, steps: made.steps, fileSteps: info.steps,
  });
  $("header").replaceChildren(...words.header(info).flatMap(([key, value]) => [element("dt", key), element("dd", value)]));
  $("result").hidden = $("command-section").hidden = $("header-section").hidden = false;
  $("status").textContent = `Done: ${words.count(info.file_bytes)} bytes, ${info.bpp.toFixed(3)} bits per pixel.`;
}

function link(anchor, blob, name) {
  if (anchor.href) URL.revokeObjectURL(anchor.href);
  anchor.href = URL.createObjectURL(new Blob([blob], { type: RDEIC }));
  anchor.download = name;
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

// -- what people do

function setSlider(id, value) {
  $(id).value = value;
  $(`${id}-value`).textContent = id === "detail" ? Number(value).toFixed(1) : value;
}

function soon(work) {
  clearTimeout(later);
  later = setTimeout(() => open && run(work), PAUSE);
}

const again = () => soon(open?.source ? compressed : restored);
for (const id of ["quality", "detail", "steps"]) {
  $(id).addEventListener("input", () => {
    $(id).dataset.touched = "yes";
    setSlider(id, $(id).value);
  });
  $(id).addEventListener("change", () => (id === "quality" ? again() : soon(open?.blob ? restored : compressed)));
}
$("wish").addEventListener("change", again);
for (const radio of document.querySelectorAll("input[name=goal]")) {
  radio.addEventListener("change", () => {
    $("by-quality").hidden = byBytes();
    $("by-bytes").hidden = !byBytes();
    again();
  });
}
for (const radio of document.querySelectorAll("input[name=rival]")) {
  radio.addEventListener("change", () => open?.shown.size && run(show));
}
$("cancel").addEventListener("click", () => {
  stop();
  $("status").textContent = "Cancelled.";
});
$("actual").addEventListener("change", () => {
  $("view").classList.toggle("actual", $("actual").checked);
  const box = $("scroller");
  box.scrollTo((box.scrollWidth * divider.split) / 100 - box.clientWidth / 2, (box.scrollHeight - box.clientHeight) / 2);
});
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("command").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("command")); // to be copied by hand
    $("copy").textContent = "Press Ctrl-C";
  }
  setTimeout(() => ($("copy").textContent = "Copy"), 2000);
});

for (const id of ["choose", "another"]) $(id).addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  take($("file").files[0]);
  $("file").value = "";
});
$("example").addEventListener("click", async () => {
  const response = await fetch("/assets/example.jpg");
  take(new File([await response.blob()], "example.jpg"));
});
document.addEventListener("paste", (event) => {
  const file = event.clipboardData?.files[0];
  if (file) {
    event.preventDefault();
    take(file);
  }
});
let inside = 0; // dragenter and dragleave come for every element
document.addEventListener("dragenter", () => document.body.classList.toggle("dragging", ++inside > 0));
document.addEventListener("dragleave", () => document.body.classList.toggle("dragging", --inside > 0));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files[0]);
});

takeToken();
if (!/^(localhost|127\.|\[::1\])/.test(location.hostname)) {
  $("privacy").textContent = `Pictures go to ${location.hostname} and nowhere else.`;
}
