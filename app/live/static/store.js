// The source: its rows, one transaction of changes, SQL; and both sides of rows beside each other.

import { $, ask, button, cell, element, fieldOf, onControlEnter, openEditor, remember, remembered, say, showError, tableOf } from "./core.js";
import { markOwn } from "./flow.js";
import { traceRow } from "./rows.js";

const PAGE_ROWS = 25;
const KEYS_MAX = 200;
const TOUCHED_MAX = 50;

let shown = null;
let offset = 0;
let looks = 0;
let changes = remembered("changes", []);

// -- browsing

export async function loadTables() {
  const select = $("table");
  const before = select.value || remembered("table", "");
  const tables = await ask("/api/tables");
  select.replaceChildren(...tables.map((t) => element("option", `${t.table} (about ${t.rows})`, { value: t.table })));
  if (tables.some((t) => t.table === before)) select.value = before;
}

export async function loadRows() {
  const table = $("table").value;
  if (!table) return;
  const query = new URLSearchParams({ table, offset, limit: PAGE_ROWS, descending: $("descending").checked });
  const turn = ++looks;
  remember("table", table);
  let found;
  try {
    found = await ask(`/api/rows?${query}`);
  } catch (error) {
    if (turn === looks) showError($("edit-answer"), error);
    return;
  }
  if (turn !== looks) return; // another table was chosen meanwhile
  shown = found;
  const head = element("tr");
  head.append(element("th", "", { scope: "col" }));
  for (const column of shown.columns)
    head.append(element("th", column.name + (column.key ? " (key)" : ""), { scope: "col", title: column.type }));
  $("rows").tHead.replaceChildren(head);
  $("rows").tBodies[0].replaceChildren(...shown.rows.map(rowOf));
  $("rows").dataset.table = shown.table;
  $("earlier").disabled = offset === 0;
  $("later").disabled = shown.rows.length < PAGE_ROWS;
  $("insert").disabled = false;
}

function rowOf(values, number) {
  const row = element("tr");
  const acts = element("td", null, { class: "acts" });
  if (shown.columns.some((column) => column.key)) {
    const key = keyOf(values);
    const named = Object.values(key).join(", ");
    acts.append(
      button("Edit", () => editRow("update", values, number), { "aria-label": `Edit ${named}` }), " ",
      button("Delete", () => addChange({ op: "delete", table: shown.table, key, values: {} }), { "aria-label": `Delete ${named}` }), " ",
      button("Trace", () => traceRow(shown.table, key), { "aria-label": `Trace ${named}` }),
    );
  }
  row.append(acts, ...values.map((value) => cell(value)));
  return row;
}

function keyOf(values) {
  const key = {};
  shown.columns.forEach((column, i) => { if (column.key) key[column.name] = values[i]; });
  return key;
}

// -- one transaction

function editRow(op, values, number) {
  const at = shown;
  const fields = at.columns.map((column, i) => fieldOf(
    { ...column, cut: at.cut.some(([r, c]) => r === number && c === i) }, i, op === "insert" ? undefined : values[i]));
  const title = `${op === "insert" ? "New row of" : "Row of"} ${at.table}`;
  openEditor(title, "Add to the transaction", fields, () => {
    const found = {};
    fields.forEach((field, i) => { if (field.changed()) found[at.columns[i].name] = field.value(); });
    if (op === "update" && !Object.keys(found).length) return;
    const key = {};
    if (op === "update") at.columns.forEach((c, i) => { if (c.key) key[c.name] = values[i]; });
    addChange({ op, table: at.table, key, values: found });
    $("commit").focus();
  });
}

function addChange(change) {
  changes.push(change);
  showChanges();
}

export function showChanges(wrong = 0) {
  $("changes").replaceChildren(...changes.map((change, i) => {
    const line = element("li", null, i + 1 === wrong ? { class: "wrong" } : {});
    const parts = [change.op, change.table];
    if (Object.keys(change.key).length) parts.push(JSON.stringify(change.key));
    if (Object.keys(change.values).length) parts.push("set", JSON.stringify(change.values));
    const drop = button("Take out", () => { changes.splice(i, 1); showChanges(); });
    line.append(element("code", parts.join(" ")), " ", drop);
    return line;
  }));
  $("empty").hidden = changes.length > 0;
  $("commit").disabled = $("discard").disabled = changes.length === 0;
  remember("changes", changes);
}

async function commit() {
  $("commit").disabled = true;
  try {
    const done = await ask("/api/edit", { changes });
    markOwn(done.transaction, changes);
    changes.forEach(touch);
    changes = [];
    say($("edit-answer"), `committed as transaction ${done.transaction}`);
    showChanges();
    await loadRows();
    compare();
  } catch (error) {
    showError($("edit-answer"), error);
    showChanges(error.change);
    $("commit").focus();
  }
}

async function runSql() {
  const place = $("sql-answer");
  const statement = $("statement").value;
  say(place, "running");
  try {
    const answers = await ask("/api/sql", { sql: statement });
    place.replaceChildren(...(answers.length ? answers.map(answerOf) : [element("p", "nothing to run")]));
    loadRows();
  } catch (error) {
    showError(place, error, statement);
  }
}

function answerOf(answer) {
  const box = element("div");
  if (answer.columns) box.append(tableOf(answer));
  const rest = answer.columns && answer.count > answer.rows.length ? `, the first ${answer.rows.length} are shown` : "";
  box.append(element("p", answer.done + rest));
  return box;
}

// -- compare

const touched = new Map();
const AGAIN_MS = 2000; // twice as long each time
const AGAIN_MAX = 5;
let comparing = false;
let compareAgain = false;
let later = 0;

// Rows that differ are mostly on their way: they are looked at again by themselves, a few times.
export async function compare(tries = 0) {
  if (!shown) return;
  if (comparing) { compareAgain = true; return; }
  comparing = true;
  clearTimeout(later);
  let isDone = false;
  const place = $("compare-answer");
  const keys = new Map(shown.rows.map((values) => [JSON.stringify(keyOf(values)), keyOf(values)]));
  for (const [name, key] of touched.get(shown.table) || []) keys.set(name, key);
  keys.delete("{}");
  try {
    const found = await ask("/api/compare", { table: shown.table, keys: [...keys.values()].slice(0, KEYS_MAX) });
    showSides(found);
    const apart = found.rows.filter((row) => row.differing.length).length;
    const upTo = `silver is complete up to ${found.complete_lsn}, the source is at ${found.source_lsn} (${found.behind_bytes} bytes of log later)`;
    say(place, `${found.table}: ${found.rows.length} rows, ${apart ? `${apart} differ` : "all equal"}; ${upTo}`);
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
    line.append(element("th", row[side] ? side : `${side}: no such row`, { scope: "row" }));
    for (const name of found.columns) {
      const made = row[side] ? cell(row[side][name]) : element("td", "");
      if (row.differing.includes(name)) made.classList.add("differs");
      line.append(made);
    }
    return line;
  })));
}

// Of a new row, as its form was given it; a key that the database makes is not known here.
function keyOfNew(change) {
  const names = shown?.table === change.table ? shown.columns.filter((column) => column.key).map((column) => column.name) : [];
  return names.every((name) => change.values[name] != null) ? Object.fromEntries(names.map((name) => [name, change.values[name]])) : {};
}

function touch(change) {
  const key = change.op === "insert" ? keyOfNew(change) : change.key;
  if (!Object.keys(key).length) return;
  if (!touched.has(change.table)) touched.set(change.table, new Map());
  const keys = touched.get(change.table);
  keys.set(JSON.stringify(key), key);
  if (keys.size > TOUCHED_MAX) keys.delete(keys.keys().next().value);
}

export function wireStore() {
  $("choose").addEventListener("submit", (event) => { event.preventDefault(); offset = 0; loadRows(); });
  $("table").addEventListener("change", () => { offset = 0; loadRows(); });
  $("descending").addEventListener("change", () => { offset = 0; loadRows(); });
  $("earlier").addEventListener("click", () => { offset = Math.max(0, offset - PAGE_ROWS); loadRows(); });
  $("later").addEventListener("click", () => { offset += PAGE_ROWS; loadRows(); });
  $("insert").addEventListener("click", () => editRow("insert", [], -1));
  $("commit").addEventListener("click", commit);
  $("discard").addEventListener("click", () => { changes = []; showChanges(); });
  $("sql").addEventListener("submit", (event) => { event.preventDefault(); runSql(); });
  onControlEnter($("statement"), runSql);
  $("compare-now").addEventListener("click", () => compare());
  showChanges();
}
