"use strict";
// Choosing curves, sorting and filtering tables, and the viewer. Without it the page still shows every number.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

for (const button of all("[data-toggle]")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    for (const curve of all(".series")) {
      if (curve.dataset.codec === button.dataset.toggle) curve.classList.toggle("off", !shown);
    }
  });
}

const natural = new Intl.Collator("en", { numeric: true });
const orders = {
  text: (cell) => cell.textContent,
  number: (cell) => (cell.dataset.value === undefined ? null : Number(cell.dataset.value.replace("inf", "Infinity"))),
};
for (const button of all("[data-sort]")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const table = heading.closest("table");
    const column = [...heading.parentElement.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of all("[aria-sort]", table)) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => (row.cells[column] ? orders[button.dataset.sort](row.cells[column]) : null);
    const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null || Number.isNaN(a) || Number.isNaN(b)) {
        return (a === null || Number.isNaN(a)) - (b === null || Number.isNaN(b)); // what has no value comes last
      }
      const order = typeof a === "number" ? (a > b) - (a < b) : natural.compare(a, b);
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  });
}

for (const field of all("[data-filter]")) {
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of field.closest("details").querySelector("tbody").rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

for (const select of all("[data-tabs]")) {
  const choose = () => {
    for (const tab of all(`[data-tab="${select.dataset.tabs}"]`)) tab.hidden = tab.dataset.index !== select.value;
  };
  select.addEventListener("change", choose);
  choose(); // none is hidden before, for those without scripts; and a browser may remember an earlier choice
}

function viewer(section, scenes) {
  const pick = (name) => section.querySelector(`[data-pick="${name}"]`);
  const [scene, left, right, rate, zoom] = ["scene", "left", "right", "rate", "zoom"].map(pick);
  const stage = section.querySelector(".stage");
  const pair = section.querySelector(".pair");
  const slider = section.querySelector(".pair input");
  const isOriginal = (version) => version.bpp === null;

  const fill = (select, names, wanted) => {
    select.replaceChildren(...names.map((name, index) => new Option(name, String(index))));
    select.selectedIndex = Math.max(0, names.indexOf(wanted));
  };
  const chosen = (select) => select.selectedOptions[0] && select.selectedOptions[0].text;
  const nearest = (versions, bpp) =>
    versions.reduce((best, one) => (Math.abs(Math.log(one.bpp / bpp)) < Math.abs(Math.log(best.bpp / bpp)) ? one : best));

  const versions = (select) => scenes[scene.selectedIndex].versions.filter((one) => one.codec === chosen(select));
  const leading = () => (versions(left).some(isOriginal) ? versions(right) : versions(left));

  function show() {
    const current = scenes[scene.selectedIndex];
    const lead = leading()[Math.max(0, rate.selectedIndex)];
    const side = (select) => {
      const found = versions(select);
      return found.some(isOriginal) || isOriginal(lead) ? found[0] : nearest(found, lead.bpp);
    };
    const sides = [side(left), side(right)];
    const images = [section.querySelector(".over"), section.querySelector(".under")];
    sides.forEach((version, index) => {
      images[index].src = version.uri;
      images[index].alt = `${current.image}, ${isOriginal(version) ? "original" : `${version.codec} at ${version.bpp.toFixed(4)} bpp`}`;
    });
    const factor = Number(zoom.value);
    const ratio = window.devicePixelRatio || 1;
    pair.style.width = factor ? `${(current.width * factor) / ratio}px` : `min(100%, ${(90 * current.width) / current.height}vh)`;
    pair.style.aspectRatio = `${current.width} / ${current.height}`;
    pair.classList.toggle("sharp", factor > 1);
    facts(sides);
  }

  function facts(sides) {
    const table = section.querySelector(".facts table");
    sides.forEach((version, index) => {
      table.querySelector(`[data-name="${["left", "right"][index]}"]`).textContent = `${version.codec} ${version.setting}`;
    });
    const names = [...new Set(sides.flatMap((version) => version.facts.map(([name]) => name)))];
    const row = (name) => {
      const line = document.createElement("tr");
      const heading = document.createElement("th");
      heading.scope = "row";
      heading.textContent = name;
      line.append(heading);
      for (const version of sides) {
        const cell = document.createElement("td");
        cell.className = "number";
        const fact = version.facts.find(([other]) => other === name);
        cell.textContent = fact ? fact[1] : "–";
        line.append(cell);
      }
      return line;
    };
    table.tBodies[0].replaceChildren(...names.map(row));
  }

  function rates() {
    const before = leading()[0];
    fill(rate, leading().map((one) => (isOriginal(one) ? "–" : `${one.bpp.toFixed(4)} bpp (${one.setting})`)), null);
    rate.disabled = isOriginal(before);
    rate.selectedIndex = Math.floor((rate.options.length - 1) / 2);
    show();
  }

  function codecs() {
    const names = [...new Set(scenes[scene.selectedIndex].versions.map((one) => one.codec))];
    const before = [chosen(left), chosen(right)];
    fill(left, names, before[0] || names[1]);
    fill(right, names, before[1] || names[2] || names[0]);
    rates();
  }

  const cut = () => pair.style.setProperty("--cut", `${slider.value}%`);
  slider.addEventListener("input", cut);
  scene.addEventListener("change", codecs);
  left.addEventListener("change", rates);
  right.addEventListener("change", () => (versions(left).some(isOriginal) ? rates() : show()));
  rate.addEventListener("change", show);
  zoom.addEventListener("change", show);
  fill(scene, scenes.map((one) => one.image), null);
  for (const part of [section.querySelector(".controls"), stage, section.querySelector(".facts")]) part.hidden = false;
  cut();
  codecs();
}

const data = document.getElementById("scenes");
if (data) viewer(document.getElementById("viewer"), JSON.parse(data.textContent));
