// Both sides of rows beside each other: as the source has them, and as silver has them.

import { $, ask, cell, element, say, showError } from "./core.js";

const KEYS_MAX = 200;
const TOUCHED_MAX = 50;
const AGAIN_MS = 2000; // twice as long each time
const AGAIN_MAX = 5;

const touched = new Map(); // table → key as text → key, of the rows that were changed here
let shown = null; // {table, keys}: the rows that stand above
let comparing = false;
let compareAgain = false;
let later = 0;

export function rowsShown(table, keys) {
  shown = { table, keys };
  if (!touched.get(table)?.size) clear("Nothing was changed here yet: edit a row, and both sides of it stand here.");
}

export function touch(table, key) {
  if (!Object.keys(key).length) return;
  if (!touched.has(table)) touched.set(table, new Map());
  const keys = touched.get(table);
  keys.set(JSON.stringify(key), key);
  if (keys.size > TOUCHED_MAX) keys.delete(keys.keys().next().value);
}

function keysAsked() {
  const keys = new Map([...(touched.get(shown.table) ?? [])].reverse());
  if ($("all-sides").checked) for (const key of shown.keys) keys.set(JSON.stringify(key), key);
  keys.delete("{}");
  return [...keys.values()].slice(0, KEYS_MAX);
}

function clear(why) {
  say($("compare-answer"), why);
  $("sides").tHead.replaceChildren();
  $("sides").tBodies[0].replaceChildren();
}

// Rows that differ are mostly on their way: they are compared again by themselves, a few times.
export async function compare(tries = 0) {
  if (!shown) return;
  if (comparing) { compareAgain = true; return; }
  const keys = keysAsked();
  if (!keys.length) return clear("No row was changed here yet; “all rows shown above” compares those.");
  comparing = true;
  clearTimeout(later);
  let isDone = false;
  const place = $("compare-answer");
  if (!place.textContent.includes("equal") && !place.textContent.includes("differ")) say(place, "comparing …");
  try {
    const found = await ask("/api/compare", { table: shown.table, keys });
    showSides(found);
    const apart = found.rows.filter((row) => row.differing.length).length;
    const upTo = `silver is complete up to ${found.complete_lsn}, the source is at ${found.source_lsn} (${found.behind_bytes} bytes of log later)`;
    say(place, `${found.table}: ${found.rows.length === 1 ? "1 row" : `${found.rows.length} rows`}, ${apart ? `${apart} differ` : "all equal"}; ${upTo}`);
    isDone = apart === 0;
  } catch (error) {
    showError(place, error);
  }
  comparing = false;
  if (compareAgain) { compareAgain = false; compare(); }
  else if (!isDone && tries < AGAIN_MAX) later = setTimeout(() => compare(tries + 1), AGAIN_MS * 2 ** tries);
}

function showSides(found) {
  const head = element("tr");
  head.append(element("th", "side", { scope: "col" }), ...found.columns.map((name) => element("th", name, { scope: "col" })));
  $("sides").tHead.replaceChildren(head);
  // What differs stands above.
  const rows = [...found.rows].sort((a, b) => (b.differing.length > 0) - (a.differing.length > 0));
  $("sides").tBodies[0].replaceChildren(...rows.flatMap((row) => ["source", "silver"].map((side) => {
    const line = element("tr", null, { class: side });
    line.append(element("th", row[side] ? side : `${side}: no row ${Object.values(row.key).join(", ")}`, { scope: "row" }));
    for (const name of found.columns) {
      const made = row[side] ? cell(row[side][name]) : element("td", "");
      if (row.differing.includes(name)) made.classList.add("differs");
      line.append(made);
    }
    return line;
  })));
}

export function wireSides() {
  $("compare-now").addEventListener("click", () => compare());
  $("all-sides").addEventListener("change", () => compare());
}
