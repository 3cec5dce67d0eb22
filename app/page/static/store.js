// The source: its rows, changes of one transaction, SQL.

import { $, ask, button, cell, element, fieldOf, onControlEnter, openEditor, remember, remembered, say, showError, tableOf } from "./core.js";
import { markOwn } from "./flow.js";
import { traceRow } from "./rows.js";
import { compare, rowsShown, touch } from "./sides.js";

const PAGE_ROWS = 10; // so that a change's way and both sides of it stand on the same screen

let shown = null;
let offset = 0;
let looks = 0;
let readOnly = false;
let edited = ""; // the name of the button that opened the editor last
let changes = remembered("changes", []);

// -- browsing

// Where rows are only shown: why, and nothing that would edit them.
export function showRights({ read_only: why }) {
  readOnly = why !== null;
  $("read-only").hidden = !readOnly;
  $("read-only").textContent = why ?? "";
  $("tab-sql-box").disabled = readOnly;
}

export async function loadTables() {
  const select = $("table");
  const before = select.value || remembered("table", "");
  const tables = await ask("/api/tables");
  select.replaceChildren(...tables.map((t) => element("option", t.rows ? `${t.table} (about ${t.rows} rows)` : t.table, { value: t.table })));
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
  const focused = document.activeElement?.getAttribute("aria-label");
  const head = element("tr");
  head.append(element("td"));
  for (const column of shown.columns)
    head.append(element("th", column.name + (column.key ? " (key)" : ""), { scope: "col", title: column.type }));
  $("rows").tHead.replaceChildren(head);
  $("rows").tBodies[0].replaceChildren(...shown.rows.map(rowOf));
  $("rows").dataset.table = shown.table;
  $("earlier").disabled = offset === 0;
  $("later").disabled = shown.rows.length < PAGE_ROWS;
  $("insert").disabled = readOnly;
  rowsShown(shown.table, shown.rows.map(keyOf));
  // Who came by keyboard stays where they were.
  focusButton(focused);
}

function focusButton(label) {
  if (label) [...$("rows").querySelectorAll("button")].find((one) => one.getAttribute("aria-label") === label)?.focus({ preventScroll: true });
}

function rowOf(values, number) {
  const row = element("tr");
  const acts = element("td", null, { class: "acts" });
  if (shown.columns.some((column) => column.key)) {
    const key = keyOf(values);
    const named = Object.values(key).join(", ");
    if (!readOnly) acts.append(
      button("Edit", () => editRow("update", values, number), { "aria-label": `Edit ${named}` }), " ",
      button("Delete", () => addChange({ op: "delete", table: shown.table, key, values: {} }), { "aria-label": `Delete ${named}`, title: "add its deletion to the transaction" }), " ",
    );
    acts.append(button("Trace", () => traceRow(shown.table, key), { "aria-label": `Trace ${named}`, title: "all versions of this row, at each place" }));
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
  edited = document.activeElement?.getAttribute("aria-label") ?? "";
  const fields = at.columns.map((column, i) => fieldOf(
    { ...column, cut: at.cut.some(([r, c]) => r === number && c === i) }, i, op === "insert" ? undefined : values[i]));
  const title = `${op === "insert" ? "New row of" : "Row of"} ${at.table}`;
  // The first is what Enter does.
  const now = changes.length ? `Commit with the ${changes.length} before` : "Commit now";
  openEditor(title, [
    [now, () => { if (taken()) commit(); }, "editor-commit"],
    ["Add to the transaction", () => { if (taken()) $("commit").focus(); }, "editor-add"],
  ], fields);
  function taken() {
    const found = {};
    fields.forEach((field, i) => { if (field.changed()) found[at.columns[i].name] = field.value(); });
    if (op === "update" && !Object.keys(found).length) return false;
    const key = {};
    if (op === "update") at.columns.forEach((c, i) => { if (c.key) key[c.name] = values[i]; });
    addChange({ op, table: at.table, key, values: found });
    return true;
  }
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
    const drop = button("Remove", () => { changes.splice(i, 1); showChanges(); });
    line.append(element("code", parts.join(" ")), " ", drop);
    return line;
  }));
  $("transaction").hidden = changes.length === 0;
  $("commit").disabled = $("discard").disabled = changes.length === 0;
  remember("changes", changes);
}

async function commit() {
  $("commit").disabled = true;
  try {
    const done = await ask("/api/edit", { changes });
    markOwn(done.transaction, changes);
    for (const change of changes) touch(change.table, change.op === "insert" ? keyOfNew(change) : change.key);
    changes = [];
    say($("edit-answer"), `committed as transaction ${done.transaction}`);
    showChanges();
    await loadRows();
    if (document.activeElement === document.body) focusButton(edited); // the commit's own button is gone
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
  say(place, "running …");
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

// Of a new row, as its form was given it; a key that the database makes is not known here.
function keyOfNew(change) {
  const names = shown?.table === change.table ? shown.columns.filter((column) => column.key).map((column) => column.name) : [];
  return names.every((name) => change.values[name] != null) ? Object.fromEntries(names.map((name) => [name, change.values[name]])) : {};
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
  showChanges();
}
