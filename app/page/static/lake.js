// What Trino answers.

import { $, ask, element, onControlEnter, say, showError, tableOf } from "./core.js";
import { onceOpened } from "./tabs.js";

const AGAIN_MS = 3000;
const EXAMPLES = [
  ["How fresh is each table?", "SELECT table_name, state, seconds_behind, complete_pg_lsn FROM ops.freshness ORDER BY seconds_behind DESC"],
  ["What did the last batches do?", "SELECT batch_id, table_name, rows_in, rows_inserted, rows_updated, rows_deleted, duration_ms FROM ops.ledger WHERE table_name <> '' ORDER BY merged_at DESC LIMIT 50"],
  ["How many events of each table a minute?", "SELECT table_name, sum(rows_in) AS events FROM ops.ledger WHERE table_name <> '' AND merged_at > current_timestamp - INTERVAL '1' MINUTE GROUP BY 1 ORDER BY 2 DESC"],
  ["What tables are there?", "SHOW TABLES FROM silver"],
];

function options(first, all) {
  return [element("option", first, { value: "" }), ...all.map(([name, value]) => element("option", name, { value }))];
}

// Fill a list from Trino, however long it takes to answer, and whatever it says at first.
async function fill(select, first, sql, optionOf, before = []) {
  const place = $(select);
  place.replaceChildren(...options(`${first} (asking Trino …)`, before));
  for (;;) {
    try {
      const found = await ask("/api/ask", { sql });
      const chosen = place.value;
      place.replaceChildren(...options(first, [...before, ...found.rows.map(([name]) => optionOf(name))]));
      place.value = chosen;
      place.dataset.filled = found.rows.length;
      if (found.rows.length) return;
    } catch (error) {
      place.options[0].textContent = `${first} (${error.message}; asked again)`;
    }
    await new Promise((done) => { setTimeout(done, AGAIN_MS); });
  }
}

function loadExamples() {
  const reports = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'reports' ORDER BY 1";
  fill("examples", "choose one", reports, (name) => [`report ${name}`, `SELECT * FROM reports.${quoted(name)} LIMIT 100`], EXAMPLES);
  fill("travelled", "choose a table", "SHOW TABLES FROM silver", (name) => [name, name]);
}

let asking = 0;

async function question(text) {
  const place = $("ask-answer");
  const turn = ++asking;
  const waits = setTimeout(() => { if (turn === asking) say($("ask-told"), "Trino is asked …"); }, 300);
  let made, told = "";
  try {
    const found = await ask("/api/ask", { sql: text });
    told = `${found.rows.length} rows${found.more ? ", more are not shown" : ""}, ${found.seconds} s`;
    made = $("as-chart").checked ? barsOf(found) : tableOf(found);
  } catch (error) {
    made = element("div");
    showError(made, error);
  }
  clearTimeout(waits);
  if (turn !== asking) return; // an answer that was overtaken is left out
  say($("ask-told"), told);
  place.replaceChildren(made);
}

// The last column whose values are all numbers, by the first column.
function barsOf(found) {
  const number = (value) => value === null || (value !== "" && Number.isFinite(Number(value)));
  let last = found.columns.length - 1;
  while (last > 0 && !found.rows.every((row) => number(row[last]))) last -= 1;
  const box = element("div", null, { class: "chart" });
  if (last < 1 || !found.rows.length) {
    box.append(element("p", "bars need a column of numbers behind the first one"));
    return box;
  }
  const values = found.rows.map((row) => Number(row[last] ?? 0));
  const most = Math.max(...values.map(Math.abs), 1e-9);
  box.append(element("h3", `${found.columns[last]} by ${found.columns[0]}`));
  found.rows.forEach((row, i) => {
    const line = element("div", null, { class: values[i] < 0 ? "bar minus" : "bar" });
    const bar = element("meter", String(row[last]), { min: 0, max: most, value: Math.abs(values[i]) });
    line.append(element("span", row[0] ?? "NULL"), bar, element("span", row[last] ?? "NULL", { class: "number" }));
    box.append(line);
  });
  return box;
}

let versions = [];
let travels = 0;

function quoted(name) {
  return `"${name.replaceAll('"', '""')}"`;
}

async function travelTo() {
  const name = $("travelled").value;
  const turn = ++travels;
  const told = $("version-told");
  $("version").disabled = true;
  told.textContent = name ? "asking Trino …" : "";
  while (name && turn === travels) {
    try {
      const found = await ask("/api/ask", { sql: `SELECT version, timestamp, operation FROM silver.${quoted(`${name}$history`)} ORDER BY version DESC LIMIT 200` });
      if (turn !== travels) return;
      versions = found.rows.reverse();
      const range = $("version");
      range.max = Math.max(0, versions.length - 1);
      range.value = range.max;
      range.disabled = versions.length === 0;
      if (versions.length) return showVersion();
      told.textContent = "no versions are kept";
      return;
    } catch (error) {
      told.textContent = `${error.message}; asked again`;
    }
    await new Promise((done) => { setTimeout(done, AGAIN_MS); });
  }
}

function tellVersion() {
  const at = versions[Number($("version").value)];
  if (at) $("version-told").textContent = `version ${at[0]} of ${versions[versions.length - 1][0]}, ${at[1]}, ${at[2]}`;
  return at;
}

function showVersion() {
  const at = tellVersion();
  if (!at) return;
  $("asked").value = `SELECT * FROM silver.${quoted($("travelled").value)} FOR VERSION AS OF ${at[0]} ORDER BY 1 LIMIT 100`;
  question($("asked").value);
}

export function wireLake() {
  $("examples").addEventListener("change", () => { if ($("examples").value) $("asked").value = $("examples").value; });
  $("question").addEventListener("submit", (event) => { event.preventDefault(); question($("asked").value); });
  $("as-chart").addEventListener("change", () => { if ($("asked").value.trim()) question($("asked").value); });
  onControlEnter($("asked"), () => question($("asked").value));
  $("travelled").addEventListener("change", travelTo);
  $("version").addEventListener("input", tellVersion);
  $("version").addEventListener("change", showVersion);
  onceOpened("ask", loadExamples);
}
