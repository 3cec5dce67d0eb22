"use strict";
// Whatever comes from the database becomes text nodes only: a value is never read as HTML.

const HOPS = ["kafka", "bronze", "silver", "trino"];
const PAGE_ROWS = 25;
const TOKENS_MAX = 150;
const FIGURES_MS = 300000;
const FIGURES_MAX = 5000;
const token = document.querySelector("meta[name=headwater-token]").content;
const $ = (id) => document.getElementById(id);

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function cell(value) {
  return value === null ? element("td", "NULL", { class: "null" }) : element("td", value);
}

// -- asking

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json", "x-headwater-token": token },
    body: JSON.stringify(body),
  };
  let answer, given;
  try {
    answer = await fetch(path, options);
    given = await answer.json();
  } catch {
    throw { message: "the page's server does not answer; it is asked again when it is back" };
  }
  if (!answer.ok) throw given.error || { message: `status ${answer.status}` };
  return given;
}

function showError(place, error) {
  const box = element("div", null, { class: "error" });
  const first = error.severity ? `${error.severity}: ${error.message}` : error.message || String(error);
  box.append(element("pre", error.change ? `change ${error.change}: ${first}` : first));
  for (const part of ["detail", "hint", "constraint", "position", "context", "sqlstate"])
    if (error[part]) box.append(element("pre", `${part}: ${error[part]}`));
  place.replaceChildren(box);
}

// -- store: browsing

let shown = null;
let offset = 0;
let changes = [];
const own = new Set();

async function loadTables() {
  const select = $("table");
  const before = select.value;
  const tables = await ask("/api/tables");
  select.replaceChildren(...tables.map((t) => element("option", `${t.table} (about ${t.rows})`, { value: t.table })));
  if (tables.some((t) => t.table === before)) select.value = before;
}

async function loadRows() {
  const table = $("table").value;
  if (!table) return;
  const query = new URLSearchParams({ table, offset, limit: PAGE_ROWS, descending: $("descending").checked });
  try {
    shown = await ask(`/api/rows?${query}`);
  } catch (error) {
    showError($("edit-answer"), error);
    return;
  }
  const head = element("tr");
  head.append(element("th", "", { scope: "col" }));
  for (const column of shown.columns)
    head.append(element("th", column.name + (column.key ? " (key)" : ""), { scope: "col", title: column.type }));
  $("rows").tHead.replaceChildren(head);
  $("rows").tBodies[0].replaceChildren(...shown.rows.map(rowOf));
  $("earlier").disabled = offset === 0;
  $("later").disabled = shown.rows.length < PAGE_ROWS;
  $("insert").disabled = false;
}

function rowOf(values, number) {
  const row = element("tr");
  const acts = element("td");
  if (shown.columns.some((column) => column.key)) {
    const edit = element("button", "Edit", { type: "button" });
    edit.addEventListener("click", () => openEditor("update", values, number));
    const remove = element("button", "Delete", { type: "button" });
    remove.addEventListener("click", () => addChange({ op: "delete", table: shown.table, key: keyOf(values), values: {} }));
    const way = element("button", "Trace", { type: "button" });
    way.addEventListener("click", () => traceRow(shown.table, keyOf(values)));
    acts.append(edit, " ", remove, " ", way);
  }
  row.append(acts, ...values.map(cell));
  return row;
}

function keyOf(values) {
  const key = {};
  shown.columns.forEach((column, i) => { if (column.key) key[column.name] = values[i]; });
  return key;
}

// -- store: one transaction

function openEditor(op, values, number) {
  const editor = $("editor");
  const at = shown;
  $("editor-title").textContent = `${op === "insert" ? "New row of" : "Row of"} ${at.table}`;
  const fields = at.columns.map((column, i) => fieldOf(column, i, op, values, at.cut.some(([r, c]) => r === number && c === i)));
  $("fields").replaceChildren(...fields.map((field) => field.box));
  editor.onclose = () => {
    if (editor.returnValue !== "add") return;
    const found = {};
    fields.forEach((field, i) => { if (field.changed()) found[at.columns[i].name] = field.value(); });
    if (op === "update" && !Object.keys(found).length) return;
    const key = {};
    if (op === "update") at.columns.forEach((c, i) => { if (c.key) key[c.name] = values[i]; });
    addChange({ op, table: at.table, key, values: found });
  };
  editor.returnValue = "cancel";
  editor.showModal();
}

function fieldOf(column, i, op, values, cut) {
  const before = op === "insert" ? null : values[i];
  const box = element("div", null, { class: "field" });
  const input = element(String(before).length > 60 ? "textarea" : "input", null, { id: `field-${i}`, autocomplete: "off" });
  input.value = before ?? "";
  const empty = element("input", null, { type: "checkbox" });
  empty.checked = op !== "insert" && before === null;
  const none = element("label");
  none.append(empty, " NULL");
  const fixed = column.computed || cut;
  input.disabled = empty.disabled = fixed;
  input.addEventListener("input", () => { empty.checked = false; });
  const says = [column.type];
  if (column.computed) says.push("made by Postgres");
  else if (cut) says.push("too long to edit here");
  else if (op === "insert" && column.filled) says.push("left empty: its default");
  box.append(element("label", column.name, { for: `field-${i}` }), input, none, element("small", says.join(", ")));
  const value = () => (empty.checked ? null : input.value);
  const changed = () => !fixed && (op === "insert" ? empty.checked || input.value !== "" : value() !== before);
  return { box, value, changed };
}

function addChange(change) {
  changes.push(change);
  showChanges();
}

function showChanges() {
  $("changes").replaceChildren(...changes.map((change, i) => {
    const line = element("li");
    const parts = [change.op, change.table];
    if (Object.keys(change.key).length) parts.push(JSON.stringify(change.key));
    if (Object.keys(change.values).length) parts.push("set", JSON.stringify(change.values));
    const drop = element("button", "Take out", { type: "button" });
    drop.addEventListener("click", () => { changes.splice(i, 1); showChanges(); });
    line.append(element("span", parts.join(" ")), " ", drop);
    return line;
  }));
  $("empty").hidden = changes.length > 0;
  $("commit").disabled = $("discard").disabled = changes.length === 0;
}

async function commit() {
  $("commit").disabled = true;
  try {
    const done = await ask("/api/edit", { changes });
    markOwn(done.transaction);
    changes.forEach(touch);
    changes = [];
    $("edit-answer").replaceChildren(element("p", `committed as transaction ${done.transaction}`));
    await loadRows();
    compare();
  } catch (error) {
    showError($("edit-answer"), error);
  }
  showChanges();
}

async function runSql() {
  const place = $("sql-answer");
  place.replaceChildren(element("p", "running"));
  try {
    const answers = await ask("/api/sql", { sql: $("statement").value });
    place.replaceChildren(...(answers.length ? answers.map(answerOf) : [element("p", "nothing to run")]));
  } catch (error) {
    showError(place, error);
  }
}

function tableOf(answer) {
  const table = element("table");
  const head = element("tr");
  head.append(...answer.columns.map((name) => element("th", name, { scope: "col" })));
  table.createTHead().append(head);
  table.createTBody().append(...answer.rows.map((values) => {
    const row = element("tr");
    row.append(...values.map(cell));
    return row;
  }));
  return table;
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
let comparing = false;
let compareAgain = false;

async function compare() {
  if (!shown) return;
  if (comparing) { compareAgain = true; return; }
  comparing = true;
  const place = $("compare-answer");
  const keys = new Map(shown.rows.map((values) => [JSON.stringify(keyOf(values)), keyOf(values)]));
  for (const [name, key] of touched.get(shown.table) || []) keys.set(name, key);
  keys.delete("{}");
  try {
    const found = await ask("/api/compare", { table: shown.table, keys: [...keys.values()].slice(0, 200) });
    showSides(found);
    const apart = found.rows.filter((row) => row.differing.length).length;
    const upTo = `silver is complete up to ${found.complete_lsn}, the source is at ${found.source_lsn} (${found.behind_bytes} bytes of log later)`;
    place.replaceChildren(element("p", `${found.table}: ${found.rows.length} rows, ${apart ? `${apart} differ` : "all equal"}; ${upTo}`));
  } catch (error) {
    showError(place, error);
  }
  comparing = false;
  if (compareAgain) { compareAgain = false; compare(); }
}

function showSides(found) {
  const head = element("tr");
  head.append(element("th", "side", { scope: "col" }), ...found.columns.map((name) => element("th", name, { scope: "col" })));
  $("sides").tHead.replaceChildren(head);
  $("sides").tBodies[0].replaceChildren(...found.rows.flatMap((row) => ["source", "silver"].map((side) => {
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

function touch(change) {
  if (!Object.keys(change.key).length) return;
  if (!touched.has(change.table)) touched.set(change.table, new Map());
  const keys = touched.get(change.table);
  keys.set(JSON.stringify(change.key), change.key);
  if (keys.size > 50) keys.delete(keys.keys().next().value);
}

// -- health

const HEALTH_MS = 10000;
let healthShown = false;

async function health() {
  if (!healthShown || document.hidden) return;
  let found;
  try {
    found = await ask("/api/health");
  } catch (error) {
    showError($("links"), error);
    return;
  }
  $("links").replaceChildren(...Object.entries(found.links).flatMap(([name, url]) => [element("a", name, { href: url, rel: "noreferrer" }), " "]));
  for (const part of ["alerts", "freshness", "verification", "services"]) {
    const place = $(`health-${part}`);
    if (found[part].error) showError(place, found[part].error);
    else place.replaceChildren(found[part].rows.length ? tableOf(found[part]) : element("p", "none"));
  }
}

// Looked at while somebody sees it.
new IntersectionObserver(([entry]) => {
  const before = healthShown;
  healthShown = entry.isIntersecting;
  if (healthShown && !before) health();
}).observe($("health"));
setInterval(health, HEALTH_MS);

// -- ask

const EXAMPLES = [
  ["How fresh is each table?", "SELECT table_name, state, seconds_behind, complete_pg_lsn FROM ops.freshness ORDER BY seconds_behind DESC"],
  ["What did the last batches do?", "SELECT batch_id, table_name, rows_in, rows_upserted, rows_deleted, duration_ms FROM ops.ledger WHERE table_name <> '' ORDER BY merged_at DESC LIMIT 50"],
  ["What tables are there?", "SHOW TABLES FROM silver"],
];

async function loadExamples() {
  const reports = await ask("/api/ask", { sql: "SELECT table_name FROM information_schema.tables WHERE table_schema = 'reports' ORDER BY 1" }).catch(() => ({ rows: [] }));
  const all = [...EXAMPLES, ...reports.rows.map(([name]) => [`report ${name}`, `SELECT * FROM reports.${name} LIMIT 100`])];
  $("examples").replaceChildren(element("option", "choose one", { value: "" }), ...all.map(([name, text]) => element("option", name, { value: text })));
  const tables = await ask("/api/ask", { sql: "SHOW TABLES FROM silver" }).catch(() => ({ rows: [] }));
  $("travelled").replaceChildren(element("option", "choose a table", { value: "" }), ...tables.rows.map(([name]) => element("option", name, { value: name })));
}

let asking = 0;

async function question(text) {
  const place = $("ask-answer");
  const turn = ++asking;
  if (!place.hasChildNodes()) place.replaceChildren(element("p", "running"));
  let made;
  try {
    const found = await ask("/api/ask", { sql: text });
    const told = element("p", `${found.rows.length} rows${found.more ? ", more are not shown" : ""}, ${found.seconds} s`);
    made = [$("as-chart").checked ? barsOf(found) : tableOf(found), told];
  } catch (error) {
    made = [element("div")];
    showError(made[0], error);
  }
  if (turn === asking) place.replaceChildren(...made); // an answer that was overtaken is left out
}

// The last column whose values are all numbers, by the first column.
function barsOf(found) {
  const number = (value) => value === null || (value !== "" && Number.isFinite(Number(value)));
  let last = found.columns.length - 1;
  while (last > 0 && !found.rows.every((row) => number(row[last]))) last -= 1;
  const box = element("div");
  if (last < 1 || !found.rows.length) {
    box.append(element("p", "bars need a column of numbers behind the first one"));
    return box;
  }
  const values = found.rows.map((row) => Number(row[last] ?? 0));
  const most = Math.max(...values.map(Math.abs), 1e-9);
  box.append(element("h3", `${found.columns[last]} by ${found.columns[0]}`));
  found.rows.forEach((row, i) => {
    const line = element("div", null, { class: "bar" });
    const bar = element("meter", String(row[last]), { min: 0, max: most, value: Math.abs(values[i]) });
    line.append(element("span", `${row[0]}: ${row[last]}`), bar);
    box.append(line);
  });
  return box;
}

let versions = [];

function quoted(name) {
  return `"${name.replaceAll('"', '""')}"`;
}

async function travelTo() {
  const name = $("travelled").value;
  $("version").disabled = true;
  $("version-told").textContent = "";
  if (!name) return;
  try {
    const found = await ask("/api/ask", { sql: `SELECT version, timestamp, operation FROM silver.${quoted(`${name}$history`)} ORDER BY version DESC LIMIT 200` });
    versions = found.rows.reverse();
    const range = $("version");
    range.max = versions.length - 1;
    range.value = versions.length - 1;
    range.disabled = versions.length === 0;
    showVersion();
  } catch (error) {
    showError($("ask-answer"), error);
  }
}

function showVersion() {
  const at = versions[Number($("version").value)];
  if (!at) return;
  $("version-told").textContent = `${at[0]}, ${at[1]}, ${at[2]}`;
  $("asked").value = `SELECT * FROM silver.${quoted($("travelled").value)} FOR VERSION AS OF ${at[0]} ORDER BY 1 LIMIT 100`;
  question($("asked").value);
}

// -- quarantine

const ENTRY_COLUMNS = ["table", "key", "rule", "reason", "status", "quarantined_at", "entry"];
const chosen = new Set();

function showChosen() {
  $("replay").disabled = $("give-up").disabled = chosen.size === 0;
}

async function quarantine(keepAnswer) {
  const place = $("quarantine-answer");
  if (!keepAnswer) place.replaceChildren(element("p", "looking"));
  try {
    const found = await ask("/api/quarantine");
    chosen.clear();
    showChosen();
    const head = element("tr");
    head.append(...["", "", ...ENTRY_COLUMNS].map((name) => element("th", name, { scope: "col" })));
    $("entries").tHead.replaceChildren(head);
    $("entries").tBodies[0].replaceChildren(...found.entries.map(entryOf));
    if (!keepAnswer) place.replaceChildren(element("p", `${found.entries.length} open entries ${found.notes}`));
  } catch (error) {
    showError(place, error);
  }
}

function entryOf(entry) {
  const row = element("tr");
  const choose = element("input", null, { type: "checkbox", "aria-label": `choose ${entry.entry}` });
  choose.addEventListener("change", () => { choose.checked ? chosen.add(entry.entry) : chosen.delete(entry.entry); showChosen(); });
  const show = element("button", "Show", { type: "button" });
  show.addEventListener("click", () => showEntry(entry.entry));
  const cells = [element("td"), element("td")];
  cells[0].append(choose);
  cells[1].append(show);
  row.append(...cells, ...ENTRY_COLUMNS.map((name) => cell(entry[name] ?? null)));
  return row;
}

async function showEntry(name) {
  try {
    const found = await ask(`/api/quarantine/entry?${new URLSearchParams({ name })}`);
    const rows = Object.entries(found).map(([part, value]) => [part, value === null ? null : String(value)]);
    $("entry").replaceChildren(tableOf({ columns: ["part", "value"], rows }));
  } catch (error) {
    showError($("entry"), error);
  }
}

async function resolve(action) {
  const place = $("quarantine-answer");
  place.replaceChildren(element("p", `${action}: the silver job is asked`));
  $("replay").disabled = $("give-up").disabled = true;
  try {
    const found = await ask("/api/quarantine", { action, entries: [...chosen] });
    const columns = ["table", "entry", "outcome", "reason"];
    place.replaceChildren(tableOf({ columns, rows: found.map((one) => columns.map((name) => one[name] ?? null)) }));
    await quarantine(true);
  } catch (error) {
    showError(place, error);
    showChosen();
  }
}

// -- trace

const TRACE_COLUMNS = [
  ["event", "event"], ["committed_at", "committed"], ["lsn", "LSN"], ["transaction", "transaction"],
  ["debezium_ms", "Debezium, ms"], ["kafka", "Kafka"], ["kafka_ms", "ms"], ["bronze", "bronze"], ["line", "line"], ["bronze_ms", "ms"],
  ["batch", "batch"], ["delta_version", "Delta version"], ["data_file", "file"], ["silver_ms", "ms"], ["state", "state"], ["row", "row"],
];

async function trace() {
  const place = $("trace-answer");
  place.replaceChildren(element("p", "looking"));
  try {
    const query = new URLSearchParams({ table: $("trace-table").value, key: $("trace-key").value });
    const found = await ask(`/api/trace?${query}`);
    const text = (value) => value === null || value === undefined ? null : typeof value === "object" ? JSON.stringify(value) : String(value);
    const rows = found.versions.map((version) => TRACE_COLUMNS.map(([name]) => text(version[name])));
    place.replaceChildren(tableOf({ columns: TRACE_COLUMNS.map(([, name]) => name), rows }), element("p", found.notes));
  } catch (error) {
    showError(place, error);
  }
}

function traceRow(table, key) {
  $("trace-table").value = table;
  $("trace-key").value = JSON.stringify(key);
  $("trace").scrollIntoView();
  trace();
}

// -- propagation

const tokens = new Map();
const seen = [];

function markOwn(transaction) {
  own.add(transaction);
  for (const known of tokens.values()) if (known.transaction === transaction) known.row.className = "own";
}

function onHop(hop) {
  let known = tokens.get(hop.event);
  if (!known) {
    known = { row: element("tr"), transaction: hop.transaction, cells: {} };
    const time = new Date(hop.time).toLocaleTimeString([], { hour12: false });
    known.row.append(...[time, hop.table, hop.op, hop.key, hop.lsn, hop.event].map(cell));
    for (const name of HOPS) {
      known.cells[name] = element("td", "…", { class: "hop wait" });
      known.row.append(known.cells[name]);
    }
    if (own.has(hop.transaction)) known.row.className = "own";
    tokens.set(hop.event, known);
    $("tokens").tBodies[0].prepend(known.row);
    if (tokens.size > TOKENS_MAX) {
      const [oldest, gone] = tokens.entries().next().value;
      gone.row.remove();
      tokens.delete(oldest);
    }
  }
  known.cells[hop.hop].textContent = hop.ms;
  known.cells[hop.hop].className = "hop";
  known.cells[hop.hop].dataset.hop = hop.hop;
  if (hop.hop === "trino" && own.has(hop.transaction)) compare();
  if (hop.op !== "snapshot") seen.push({ hop: hop.hop, ms: hop.ms, at: Date.parse(hop.time) });
  if (seen.length > FIGURES_MAX) seen.splice(0, seen.length - FIGURES_MAX);
  $("link").textContent = hop.passed_over ? `live; ${hop.passed_over} changes of a fast stream are not shown` : "live";
}

function share(values, part) {
  return values.length ? values[Math.min(values.length - 1, Math.floor(values.length * part))] : "";
}

function showFigures() {
  const since = Date.now() - FIGURES_MS;
  const byHop = HOPS.map((name) => seen.filter((s) => s.hop === name && s.at > since).map((s) => s.ms).sort((a, b) => a - b));
  const lines = [["p50, ms", 0.5], ["p95, ms", 0.95]].map(([name, part]) => [name, ...byHop.map((v) => share(v, part))]);
  lines.push(["changes", ...byHop.map((v) => v.length)]);
  $("figures").tBodies[0].replaceChildren(...lines.map(([name, ...values]) => {
    const row = element("tr");
    row.append(element("th", name, { scope: "row" }), ...values.map((v) => element("td", v, { class: "hop" })));
    return row;
  }));
}

function listen() {
  const events = new EventSource("/api/hops");
  let waiting = [];
  events.addEventListener("hop", (event) => { waiting.push(event.data); });
  events.addEventListener("note", (event) => { $("note").textContent = JSON.parse(event.data); });
  events.onopen = () => { $("link").textContent = "live"; };
  events.onerror = () => { $("link").textContent = "connecting again"; };
  // Drawn a few times a second, however many come.
  setInterval(() => {
    const some = waiting;
    waiting = [];
    for (const data of some) onHop(JSON.parse(data));
  }, 100);
  setInterval(showFigures, 1000);
}

$("choose").addEventListener("submit", (event) => { event.preventDefault(); offset = 0; loadRows(); });
$("table").addEventListener("change", () => { offset = 0; loadRows(); });
$("earlier").addEventListener("click", () => { offset = Math.max(0, offset - PAGE_ROWS); loadRows(); });
$("later").addEventListener("click", () => { offset += PAGE_ROWS; loadRows(); });
$("insert").addEventListener("click", () => openEditor("insert", [], -1));
$("commit").addEventListener("click", commit);
$("discard").addEventListener("click", () => { changes = []; showChanges(); });
$("sql").addEventListener("submit", (event) => { event.preventDefault(); runSql(); });
$("statement").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.ctrlKey) { event.preventDefault(); runSql(); }
});
$("compare-now").addEventListener("click", compare);
$("examples").addEventListener("change", () => { if ($("examples").value) $("asked").value = $("examples").value; });
$("question").addEventListener("submit", (event) => { event.preventDefault(); question($("asked").value); });
$("asked").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.ctrlKey) { event.preventDefault(); question($("asked").value); }
});
$("travelled").addEventListener("change", travelTo);
$("version").addEventListener("change", showVersion);
new IntersectionObserver(([entry], observer) => {
  if (!entry.isIntersecting) return;
  observer.disconnect();
  loadExamples();
}).observe($("ask"));
$("trace-row").addEventListener("submit", (event) => { event.preventDefault(); trace(); });
$("entries-look").addEventListener("click", () => quarantine(false));
$("replay").addEventListener("click", () => resolve("replay"));
$("give-up").addEventListener("click", () => resolve("discard"));
showFigures();
listen();
loadTables().then(loadRows).catch((error) => showError($("edit-answer"), error));
