// The catalogue: which tables and views there are, what each means, how it is, what is made of what, who asked.

import { $, ask, button, cell, element, say, showError, tableOf } from "./core.js";
import { centre, graphOf, listOf } from "./graph.js";
import { onceOpened } from "./tabs.js";

const SHOWN_MAX = 200;
const MATCHES_MAX = 6; // columns that are named in a line of the list
const AGAIN_MS = 3000;
const SCHEMAS = ["silver", "reports", "ml", "files"]; // the others, `ops` among them, stand behind
const BAD = ["stopped", "failing", "refused"];
const PARTS = [
  ["expectations", "Rules that rows broke"], ["quarantine", "Open entries of quarantine"],
  ["versions", "Versions of its contract"], ["askers", "Who asked lately"],
];

let tables = []; // {schema, name, …, columns: [{column_name, …}], text}
let turn = 0;

const asObjects = (answer) => answer.rows.map((row) => Object.fromEntries(answer.columns.map((name, i) => [name, row[i]])));
const place = (schema) => (SCHEMAS.includes(schema) ? SCHEMAS.indexOf(schema) : SCHEMAS.length);
const lower = (...texts) => texts.filter(Boolean).join(" ").toLowerCase();

// -- all of them

async function load() {
  say($("catalogue-answer"), "Trino is asked …");
  try {
    const found = await ask("/api/catalogue");
    const columns = grouped(asObjects(found.columns));
    tables = asObjects(found.tables).map((table) => ({
      ...table,
      columns: columns.get(whose(table)) ?? [],
      text: lower(whose(table), table.kind, table.description, table.owner, table.domain, table.tags, table.classification),
    }));
    tables.sort((one, other) => place(one.table_schema) - place(other.table_schema));
    const more = found.tables.more || found.columns.more;
    say($("catalogue-answer"), ...(more ? ["There are more tables or columns than are read here: ask ops.tables and ops.columns."] : []));
    list();
  } catch (error) {
    showError($("catalogue-answer"), error);
  }
}

const whose = (row) => `${row.table_schema}.${row.table_name}`;

function grouped(rows) {
  const found = new Map();
  for (const row of rows) {
    if (!found.has(whose(row))) found.set(whose(row), []);
    found.get(whose(row)).push(row);
  }
  return found;
}

// Each word is in the table's own text, or in that of one of its columns, which is named then.
function matches(table, words) {
  const named = [];
  for (const word of words) {
    const columns = table.columns.filter((one) => lower(one.column_name, one.description, one.classification).includes(word));
    if (!columns.length && !table.text.includes(word)) return null;
    if (!table.text.includes(word)) named.push(...columns);
  }
  return [...new Set(named)];
}

function list() {
  const words = $("sought").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = tables.map((table) => [table, matches(table, words)]).filter(([, named]) => named !== null);
  $("found").textContent = `${found.length} of ${tables.length}${found.length > SHOWN_MAX ? `, the first ${SHOWN_MAX} are shown` : ""}`;
  $("described").tBodies[0].replaceChildren(...found.slice(0, SHOWN_MAX).map(([table, named]) => {
    const row = element("tr", null, BAD.includes(table.state) ? { class: "bad" } : {});
    const name = element("th", null, { scope: "row" });
    name.append(button(whose(table), () => show(whose(table)), { class: "link" }));
    const meaning = element("td", table.description);
    if (named.length) {
      const rest = named.length > MATCHES_MAX ? ` and ${named.length - MATCHES_MAX} more` : "";
      const texts = named.slice(0, MATCHES_MAX).map((one) => one.column_name + (one.classification ? ` (${one.classification})` : ""));
      meaning.append(element("small", `columns: ${texts.join(", ")}${rest}`));
    }
    row.append(name, meaning, cell(table.classification, ""), cell(table.owner, ""), cell(table.state ?? table.kind, ""));
    return row;
  }));
}

// -- one of them

function oldVersions(table) {
  if (table.old_bytes === null) return null;
  const since = table.oldest_version === null ? "" : `, back to version ${table.oldest_version} of ${table.oldest_version_at?.slice(0, 16)}`;
  const limited = table.limited_at ? "; max_mb keeps fewer than the days would" : "";
  return `${bytes(Number(table.old_bytes))}${since}${limited}; log ${bytes(Number(table.log_bytes))}`;
}

function facts(table) {
  const size = table.rows === null ? null : `${Number(table.rows).toLocaleString("en")} rows, ${bytes(Number(table.bytes))}`;
  const behind = table.seconds_behind === null ? "" : `, at most ${table.seconds_behind} s behind`;
  const target = { true: ", its target is met", false: ", its target is missed" }[table.freshness_met] ?? "";
  const verified = table.verdict && `${table.verdict}, ${table.verified_at?.slice(0, 16)}`;
  return [
    ["Meaning", table.description], ["Owner", table.owner], ["Domain", table.domain], ["Tags", table.tags],
    ["Strictest class", table.classification], ["Key", table.key], ["Contract version", table.contract_version],
    ["Size", size], ["Old versions", oldVersions(table)], ["Freshness", table.state && `${table.state}${behind}${target}`],
    ["Verified", verified ?? (table.table_schema === "silver" ? "not yet: ./headwater verify --continuous" : null)],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
}

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const at = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return `${(count / 1000 ** at).toFixed(at ? 1 : 0)} ${units[at]}`;
}

function columnsOf(table) {
  const made = tableOf({ columns: ["column", "type", "class", "meaning", "lineage"], rows: [] });
  made.tBodies[0].append(...table.columns.map((one) => {
    const row = element("tr", null, { "data-class": one.classification ?? "" });
    const acts = element("td", null, { class: "acts" });
    acts.append(button("Lineage", () => lineage(table, one.column_name), { "aria-label": `Lineage of ${one.column_name}` }));
    const key = one.is_key === "true" ? " (key)" : "";
    row.append(element("td", one.column_name + key), cell(one.type, ""), cell(one.classification, ""), cell(one.description, ""), acts);
    return row;
  }));
  return made;
}

async function show(name) {
  const table = tables.find((one) => whose(one) === name);
  const mine = ++turn;
  const whole = $("described-one");
  whole.hidden = false;
  $("one-title").textContent = name;
  if (!table) {
    $("one-facts").replaceChildren(element("dt", "Meaning"), element("dd", "It is not described: read the catalogue again."));
  } else {
    $("one-facts").replaceChildren(...facts(table).flatMap(([what, value]) => [element("dt", what), element("dd", value)]));
  }
  $("one-columns").replaceChildren(...(table ? [columnsOf(table)] : []));
  for (const [part] of PARTS) say($(`one-${part}`), table ? "asking …" : "");
  $("one-title").focus({ preventScroll: true });
  whole.scrollIntoView({ block: "start" });
  if (!table) return;
  lineage(table, "");
  await parts(table, mine);
}

async function parts(table, mine) {
  const query = new URLSearchParams({ schema: table.table_schema, name: table.table_name });
  let waits;
  do {
    let found;
    try {
      found = await ask(`/api/catalogue/table?${query}`);
    } catch (error) {
      found = Object.fromEntries(PARTS.map(([part]) => [part, { error }]));
    }
    if (mine !== turn) return; // another table was opened
    for (const [part] of PARTS) put($(`one-${part}`), found[part]);
    waits = PARTS.some(([part]) => found[part].asked);
    if (waits) await new Promise((done) => { setTimeout(done, AGAIN_MS); });
  } while (waits && mine === turn);
}

function put(where, answer) {
  if (answer.error) showError(where, answer.error);
  else if (answer.none) say(where, [answer.none.message, answer.none.hint].filter(Boolean).join("; "));
  else if (answer.asked) say(where, "asking …");
  else if (!answer.rows.length) say(where, "none");
  else where.replaceChildren(tableOf(answer, ""), ...(answer.more ? [element("p", "more are not shown")] : []));
}

async function lineage(table, column) {
  const mine = turn;
  const told = $("one-way");
  told.textContent = `Lineage of ${whose(table)}${column && `.${column}`}`;
  const where = $("one-lineage");
  say(where, "asking …");
  $("one-list").replaceChildren();
  try {
    const query = new URLSearchParams({ schema: table.table_schema, name: table.table_name, column });
    const found = await ask(`/api/catalogue/lineage?${query}`);
    if (mine !== turn || told.textContent !== `Lineage of ${whose(table)}${column && `.${column}`}`) return;
    if (!found.up.length && !found.down.length) { say(where, "no edge is known"); return; }
    const picture = graphOf(found);
    where.replaceChildren(picture);
    centre(picture);
    $("one-list").replaceChildren(listOf(found, show), ...(found.more ? [element("p", "more are not shown")] : []));
    if (column) told.scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (mine === turn) showError(where, error);
  }
}

export function wireCatalogue() {
  const whole = $("one-parts");
  whole.append(...PARTS.flatMap(([part, title]) => [
    element("h4", title), element("div", null, { id: `one-${part}`, class: "wide", tabindex: 0, role: "region", "aria-label": title }),
  ]));
  $("search").addEventListener("submit", (event) => { event.preventDefault(); load(); });
  $("sought").addEventListener("input", list);
  onceOpened("catalogue", load);
}
