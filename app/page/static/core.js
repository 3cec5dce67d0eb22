// What all sections share: asking the server, and making elements.
// Whatever comes from the database becomes text nodes only: a value is never read as HTML.

// The token comes with the address, once; no server is sent what follows `#`. It is kept for this tab.
function givenToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return remembered("token", "");
  remember("token", given);
  history.replaceState(null, "", location.pathname);
  return given;
}

export const token = givenToken();
addEventListener("hashchange", () => { if (location.hash.startsWith("#token=")) location.reload(); });

// Without the right token nothing is shown but where to find it.
export function lock() {
  $("locked").hidden = false;
  $("open").hidden = true;
}

export const $ = (id) => document.getElementById(id);

export function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A part of a drawing. The page's own empty one tells the namespace.
export function drawn(name, attributes = {}, text = null) {
  const made = document.createElementNS($("drawing").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

export function button(text, act, attributes = {}) {
  const made = element("button", text, { type: "button", ...attributes });
  made.addEventListener("click", act);
  return made;
}

const LONG = 120; // beyond so many characters a table of rows shows a value's beginning

// A value of a table; `blank` is what stands for none: NULL where the column could hold it.
export function cell(value, blank = "NULL") {
  if (value === null) return element("td", blank, { class: "null" });
  if (String(value).length < LONG) return element("td", value);
  const made = element("td");
  made.append(element("div", value, { class: "long", title: value }));
  return made;
}

export function tableOf(answer, blank = "NULL") {
  const table = element("table");
  const head = element("tr");
  head.append(...answer.columns.map((name) => element("th", name, { scope: "col" })));
  table.createTHead().append(head);
  table.createTBody().append(...answer.rows.map((values) => {
    const row = element("tr");
    row.append(...values.map((value) => cell(value, blank)));
    return row;
  }));
  return table;
}

export async function ask(path, body) {
  const options = { headers: { "x-headwater-token": token } };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer, given;
  try {
    answer = await fetch(path, options);
  } catch {
    throw { message: "the page's server does not answer; it is asked again when it is back" };
  }
  try {
    given = await answer.json();
  } catch {
    throw { message: `the page's server failed (status ${answer.status}); ./headwater logs app tells why` };
  }
  if (answer.status === 401) lock();
  if (!answer.ok) throw given.error || { message: `status ${answer.status}` };
  return given;
}

// The line of a statement that an error points into, with a caret under the place.
function pointed(statement, position) {
  const before = [...statement].slice(0, position - 1).join("");
  const line = before.split("\n").length;
  const column = before.length - (before.lastIndexOf("\n") + 1);
  const label = `LINE ${line}: `;
  return `${label}${statement.split("\n")[line - 1]}\n${" ".repeat(label.length + column)}^`;
}

export function showError(place, error, statement = null) {
  const box = element("div", null, { class: "error" });
  const first = error.severity ? `${error.severity}: ${error.message}` : error.message || String(error);
  box.append(element("pre", error.change ? `change ${error.change}: ${first}` : first));
  if (statement !== null && error.position)
    box.append(element("pre", pointed(statement, Number(error.position)), { class: "pointed" }));
  for (const part of ["detail", "hint", "constraint", "position", "context", "sqlstate"])
    if (error[part]) box.append(element("pre", `${part}: ${error[part]}`));
  place.replaceChildren(box);
}

export function say(place, ...texts) {
  place.replaceChildren(...texts.map((text) => element("p", text)));
}

// A field of the editor. `before` undefined: a new row's, whose empty field is its default.
export function fieldOf(column, i, before) {
  const isNew = before === undefined;
  const box = element("div", null, { class: "field" });
  const input = element(String(before).length > 60 ? "textarea" : "input", null, { id: `field-${i}`, autocomplete: "off" });
  input.value = before ?? "";
  const empty = element("input", null, { type: "checkbox" });
  empty.checked = before === null;
  const none = element("label");
  none.append(empty, " NULL");
  const fixed = Boolean(column.computed || column.cut || column.fixed);
  input.disabled = empty.disabled = fixed;
  input.addEventListener("input", () => { empty.checked = false; });
  const says = column.type ? [column.type] : [];
  if (column.computed) says.push("made by Postgres");
  else if (column.cut) says.push("too long to edit here");
  else if (column.fixed) says.push(column.fixed);
  else if (isNew && column.filled) says.push("left empty: its default");
  box.append(element("label", column.name, { for: `field-${i}` }), input, none, element("small", says.join(", ")));
  const value = () => (empty.checked ? null : input.value);
  const changed = () => !fixed && (isNew ? empty.checked || input.value !== "" : value() !== before);
  return { box, value, changed };
}

// What survives a page that is loaded again, in this tab only.
export function remembered(name, otherwise) {
  try {
    return JSON.parse(sessionStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    // a full or forbidden store: then it is forgotten
  }
}

// The editor, for one row's fields. `acts`: [label, act, id] for each button that leaves it; the first
// one is Enter's. Not by the dialog's `close` event: that comes with a later frame, when another row may
// be edited.
export function openEditor(title, acts, fields) {
  const editor = $("editor");
  $("editor-title").textContent = title;
  $("editor-acts").replaceChildren(...acts.map(([label, , id], i) =>
    element("button", label, { type: "submit", id, ...(i === 0 ? { class: "main" } : {}) })));
  $("fields").replaceChildren(...fields.map((field) => field.box));
  editor.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    editor.close();
    const chosen = acts.find(([, , id]) => id === event.submitter?.id);
    if (chosen) chosen[1]();
  };
  editor.showModal();
}

export function onControlEnter(area, act) {
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); act(); }
  });
}
