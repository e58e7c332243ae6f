"use strict";
// Sort a table by the column whose heading is pressed: numbers by data-v, words by themselves.
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const th = button.closest("th"), table = th.closest("table"), column = [...th.parentNode.children].indexOf(th);
  const down = th.getAttribute("aria-sort") === "ascending";
  for (const other of th.parentNode.children) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = row => { const cell = row.cells[column]; return "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent; };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});
  const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
  table.tBodies[0].append(...rows);
});
// Press a name in the legend to see its curves alone; press more to compare them.
const chosen = new Set();
for (const button of document.querySelectorAll(".legend button")) button.addEventListener("click", () => {
  const name = button.dataset.c;
  if (!chosen.delete(name)) chosen.add(name);
  button.setAttribute("aria-pressed", chosen.has(name));
  document.querySelector(".plots").classList.toggle("lit", chosen.size > 0);
  for (const curve of document.querySelectorAll(".curve")) curve.classList.toggle("on", chosen.has(curve.dataset.c));
});
// Filter a long table by words.
for (const input of document.querySelectorAll("input[data-filter]")) input.addEventListener("input", () => {
  const words = input.value.toLowerCase().split(/\s+/);
  for (const row of document.querySelector(input.dataset.filter).tBodies[0].rows)
    row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
});
