// Single rows: those in quarantine, and the whole way of one row's versions.

import { $, ask, button, cell, element, fieldOf, openEditor, say, showError, tableOf } from "./core.js";
import { onceOpened, openTab } from "./tabs.js";

// -- quarantine

const ENTRY_COLUMNS = ["table", "key", "rule", "reason", "status", "quarantined_at", "entry"];
const chosen = new Set();

function showChosen() {
  $("replay").disabled = $("give-up").disabled = chosen.size === 0;
}

async function quarantine(keepAnswer) {
  const place = $("quarantine-answer");
  if (!keepAnswer) say(place, "asking …");
  try {
    const found = await ask(`/api/quarantine?${new URLSearchParams({ resolved: $("resolved").checked })}`);
    chosen.clear();
    showChosen();
    const head = element("tr");
    head.append(...["", "", ...ENTRY_COLUMNS].map((name) => element("th", name, { scope: "col" })));
    $("entries").tHead.replaceChildren(head);
    $("entries").tBodies[0].replaceChildren(...found.entries.map(entryOf));
    const kind = $("resolved").checked ? "entries" : "open entries";
    if (!keepAnswer) say(place, `${found.entries.length} ${kind} ${found.notes}`);
  } catch (error) {
    showError(place, error);
  }
}

function entryOf(entry) {
  const row = element("tr");
  const cells = [element("td"), element("td", null, { class: "acts" })];
  if (entry.status === "open") {
    const choose = element("input", null, { type: "checkbox", "aria-label": `choose ${entry.entry}` });
    choose.addEventListener("change", () => { choose.checked ? chosen.add(entry.entry) : chosen.delete(entry.entry); showChosen(); });
    cells[0].append(choose);
    cells[1].append(button("Edit and replay", () => editEntry(entry.entry)), " ");
  }
  cells[1].append(button("Show the whole entry", () => showEntry(entry.entry)));
  row.append(...cells, ...ENTRY_COLUMNS.map((name) => cell(entry[name] ?? null, "")));
  return row;
}

function entryWhole(name) {
  return ask(`/api/quarantine/entry?${new URLSearchParams({ name })}`);
}

async function showEntry(name) {
  try {
    const found = await entryWhole(name);
    const rows = Object.entries(found).map(([part, value]) => [part, value === null ? null : String(value)]);
    $("entry").replaceChildren(tableOf({ columns: ["part", "value"], rows }, ""));
  } catch (error) {
    showError($("entry"), error);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

// The event's values in the editor; what is changed there is what it is replayed with.
async function editEntry(name) {
  const place = $("quarantine-answer");
  let found;
  try {
    found = await entryWhole(name);
  } catch (error) {
    showError(place, error);
    return;
  }
  const after = parsed(found.raw_value).after;
  if (!after) {
    say(place, "this event leaves no row, or cannot be read: it has no values to edit");
    return;
  }
  const key = Object.keys(parsed(found.raw_key));
  const names = Object.keys(after);
  const text = (value) => (value === null ? null : typeof value === "object" ? JSON.stringify(value) : String(value));
  const fields = names.map((column, i) => fieldOf(
    { name: column, fixed: key.includes(column) ? "of the key: another key is another row" : "" }, i, text(after[column])));
  openEditor(`Event of ${found.table_name}: ${found.reason}`, [["Replay with these values", replay, "editor-add"]], fields);
  function replay() {
    const values = {};
    fields.forEach((field, i) => { if (field.changed()) values[names[i]] = field.value(); });
    resolve({ action: "replay", entries: [name], ...(Object.keys(values).length ? { values } : {}) });
  }
}

async function resolve(request) {
  const place = $("quarantine-answer");
  say(place, `${request.action}: the silver job is asked`);
  $("replay").disabled = $("give-up").disabled = true;
  try {
    const found = await ask("/api/quarantine", request);
    const columns = ["table", "entry", "outcome", "reason"];
    place.replaceChildren(tableOf({ columns, rows: found.map((one) => columns.map((name) => one[name] ?? null)) }, ""));
    await quarantine(true);
  } catch (error) {
    showError(place, error);
    showChosen();
  }
}

// -- trace

const TRACE_COLUMNS = [
  ["event", "event"], ["committed_at", "committed"], ["row", "row"], ["state", "state"], ["lsn", "LSN"], ["transaction", "transaction"],
  ["debezium_ms", "Debezium, ms"], ["kafka", "Kafka"], ["kafka_ms", "Kafka, ms"], ["bronze", "bronze"], ["line", "line"], ["bronze_ms", "bronze, ms"],
  ["batch", "batch"], ["delta_version", "Delta version"], ["data_file", "file"], ["silver_ms", "silver, ms"],
];

async function trace() {
  const place = $("trace-answer");
  say(place, "asking …");
  try {
    const query = new URLSearchParams({ table: $("trace-table").value, key: $("trace-key").value });
    const found = await ask(`/api/trace?${query}`);
    const text = (value) => value === null || value === undefined ? null : typeof value === "object" ? JSON.stringify(value) : String(value);
    const rows = found.versions.map((version) => TRACE_COLUMNS.map(([name]) => text(version[name])));
    place.replaceChildren(tableOf({ columns: TRACE_COLUMNS.map(([, name]) => name), rows }, ""), element("p", found.notes));
  } catch (error) {
    showError(place, error);
  }
}

export function traceRow(table, key) {
  $("trace-table").value = table;
  $("trace-key").value = JSON.stringify(key);
  openTab("trace");
  $("trace").focus({ preventScroll: true });
  trace();
}

export function wireRows() {
  $("trace-row").addEventListener("submit", (event) => { event.preventDefault(); trace(); });
  $("entries-look").addEventListener("click", () => quarantine(false));
  $("resolved").addEventListener("change", () => quarantine(false));
  $("replay").addEventListener("click", () => resolve({ action: "replay", entries: [...chosen] }));
  $("give-up").addEventListener("click", () => resolve({ action: "discard", entries: [...chosen] }));
  onceOpened("quarantine", () => quarantine(false));
}
