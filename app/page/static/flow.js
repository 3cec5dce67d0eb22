// Changes on their way: the newest one's stations, how long each hop takes, and a line a change.

import { $, cell, drawn, element, remember, remembered } from "./core.js";
import { MEANS } from "./hops.js";
import { listenTo } from "./stream.js";
import { onTab } from "./tabs.js";

const HOPS = Object.keys(MEANS);
const STATIONS = { postgres: "the commit, in its log", ...MEANS };
const ROWS_MAX = 80; // all of them are painted anew when one comes
const OWN_ROWS_MAX = 40;
const TOKENS_MAX = 1500; // what is on its way is known for longer than its row is shown
const FIGURES_MS = 300000;
const FIGURES_MAX = 16000; // a hop's: 50 changes a second for the five minutes
const ARRIVED_MAX = 600;
const OWN_MAX = 200;
let figuresShown = false;
const LATE_MS = 10000;
const SHOWN_MS = 20000;
const OTHERS_SHOWN_MS = 1500; // once it has arrived; then the newest is followed
const OTHERS_FOLLOWED_MS = 8000;
const LIT_MS = 1000;
// No faster than an eye reads, however fast they come: each drawing costs this machine milliseconds.
const DRAW_MS = 200;
const GATHER_MS = 15; // what is told at one time, as Debezium's and Kafka's, is drawn at one time
const WAITING_MAX = 5000; // a hidden page draws seldom
const GIVEN_UP_MS = 60000; // the observer's own limit
const FIGURES_EVERY_MS = 2000;
const REFRESH_MS = 10000;
const LOWEST_MS = 10;
const BARS = 28; // eight for each power of ten

const own = new Set(remembered("own", []));
const awaited = new Map(); // own transactions that Kafka has not shown: transaction → {at, said}
const tokens = new Map();
const figures = Object.fromEntries(HOPS.map((name) => [name, { at: new Float64Array(FIGURES_MAX), ms: new Float64Array(FIGURES_MAX), count: 0 }]));
const arrived = []; // when Kafka showed changes here, and how many were passed over until then
let followed = null;
let atWork = false; // the observer, by what it told last
let stale = true;
const lit = []; // cells that were filled a moment ago
let figuresAt = 0;
let onOwnInTrino = () => {};
let onBack = () => {};

// -- one change

export function markOwn(transaction, changes) {
  own.add(transaction);
  remember("own", [...own].slice(-OWN_MAX));
  const first = changes[0];
  awaited.set(transaction, { at: Date.now(), said: `${first.op} of ${first.table}` });
  let last = null;
  for (const known of tokens.values()) if (known.transaction === transaction) { known.row.className = "own"; last = known; }
  if (last) { awaited.delete(transaction); follow(last); } else followAwaited(transaction);
  $("way").scrollIntoView({ block: "nearest" });
}

// The same elements whichever change is shown: what becomes `there` moves, and nothing else.
function showStations(seen, where) {
  const list = $("journey");
  const names = Object.keys(STATIONS);
  if (!list.children.length) list.append(...names.map((name) => {
    const station = element("li", null, { "data-station": name });
    station.append(element("b", name), element("span"), element("em", STATIONS[name]), element("small"));
    return station;
  }));
  names.forEach((name, i) => {
    const station = list.children[i];
    const [, told, , place] = station.children;
    station.className = name in seen ? "there" : "awaited";
    told.textContent = !(name in seen) ? "" : name === "postgres" ? "committed" : `after ${seen[name]} ms`;
    place.textContent = where[name] ?? "";
  });
}

function followAwaited(transaction) {
  const { said } = awaited.get(transaction);
  followed = null;
  $("journey").className = "own";
  $("journey-title").textContent = `Yours: ${said}, waiting for ${atWork ? "Kafka" : "the observer, which is starting"}`;
  showStations({ postgres: 0 }, { postgres: `transaction ${transaction}` });
}

function follow(known) {
  followed = known;
  const { hop } = known;
  const mine = own.has(hop.transaction);
  $("journey").className = mine ? "own" : "";
  $("journey-title").textContent = `${mine ? "Yours" : "Followed"}: ${hop.op} of ${hop.table} ${hop.key}`;
  const at = `LSN ${hop.lsn}` + (hop.transaction === null ? "" : `, transaction ${hop.transaction}`);
  showStations({ postgres: 0, ...known.seen }, { ...known.where, postgres: at });
}

function tokenOf(hop) {
  const known = { row: element("tr"), transaction: hop.transaction, hop, at: Date.now(), cells: {}, seen: {}, where: {} };
  const time = new Date(hop.time).toLocaleTimeString([], { hour12: false });
  known.row.append(...[time, hop.table, hop.op, hop.key, hop.lsn].map((value) => cell(value)));
  known.row.cells[3].title = hop.key;
  for (const name of HOPS) {
    known.cells[name] = element("td", "…", { class: "hop wait" });
    known.row.append(known.cells[name]);
  }
  known.row.append(element("td", hop.event, { class: "place", title: hop.event }));
  if (own.has(hop.transaction)) known.row.className = "own";
  known.row.dataset.table = hop.table;
  tokens.set(hop.event, known);
  const body = $("tokens").tBodies[0];
  body.prepend(known.row);
  if (body.rows.length > ROWS_MAX) oneTooMany([...body.rows]).remove();
  if (tokens.size > TOKENS_MAX) {
    const [oldest, gone] = tokens.entries().next().value;
    gone.row.remove();
    tokens.delete(oldest);
  }
  return known;
}

// The oldest row of the table that has most: a busy one does not push out the others, nor yours.
function oneTooMany(rows) {
  const mine = rows.filter((row) => row.className === "own");
  if (mine.length > OWN_ROWS_MAX) return mine[mine.length - 1];
  const numbers = new Map();
  const others = rows.filter((row) => row.className !== "own");
  for (const { dataset } of others) numbers.set(dataset.table, (numbers.get(dataset.table) ?? 0) + 1);
  const most = Math.max(...numbers.values());
  return others.findLast((row) => numbers.get(row.dataset.table) === most);
}

// A change is followed until it has arrived, and a while longer: yours always, and as long as it
// takes; of the others one after the other, each the newest when its turn came.
function isHeld(known) {
  if (known === null) return awaited.size > 0;
  const mine = own.has(known.transaction);
  const since = known.doneAt ?? known.at + (mine ? GIVEN_UP_MS : OTHERS_FOLLOWED_MS);
  return Date.now() - since < (mine ? SHOWN_MS : OTHERS_SHOWN_MS);
}

function onHop(hop) {
  const known = tokens.get(hop.event) ?? tokenOf(hop);
  const place = known.cells[hop.hop];
  if (!place || hop.hop in known.seen) return; // told again after a connection was lost
  known.seen[hop.hop] = hop.ms;
  known.where[hop.hop] = hop.where;
  place.textContent = hop.ms;
  place.className = "hop lit";
  lit.push({ place, at: Date.now() });
  place.dataset.hop = hop.hop;
  place.dataset.at = Date.now();
  if (hop.where) place.title = hop.where;
  const isOwn = own.has(hop.transaction);
  if (isOwn) awaited.delete(hop.transaction);
  if (Object.keys(known.seen).length === HOPS.length) known.doneAt = Date.now();
  const now = toFollow ?? followed;
  // A row of a snapshot was not committed now: there is nothing to follow.
  if (known === now || isOwn || (hop.op !== "snapshot" && !isHeld(now))) toFollow = known;
  if (hop.hop === "trino" && isOwn) onOwnInTrino();
  if (hop.op !== "snapshot") count(hop);
  if (hop.hop === "kafka") {
    arrived.push({ at: Date.now(), passed: hop.passed_over });
    if (arrived.length > ARRIVED_MAX) arrived.shift();
  }
}

// -- figures

function count(hop) {
  const kept = figures[hop.hop];
  const i = kept.count % FIGURES_MAX;
  kept.at[i] = Date.parse(hop.time);
  kept.ms[i] = hop.ms;
  kept.count += 1;
  stale = true;
}

function recent(name) {
  const kept = figures[name];
  const since = Date.now() - FIGURES_MS;
  const found = [];
  for (let i = 0; i < Math.min(kept.count, FIGURES_MAX); i += 1) if (kept.at[i] > since) found.push(kept.ms[i]);
  return Float64Array.from(found).sort();
}

function share(values, part) {
  return values.length ? values[Math.min(values.length - 1, Math.floor(values.length * part))] : null;
}

function barAt(ms) {
  return Math.min(BARS - 1, Math.max(0, Math.floor(8 * Math.log10(Math.max(ms, 1) / LOWEST_MS))));
}

// Bars of equal width for equal ratios of time: 10 ms, 100 ms, 1 s, 10 s and more.
function histogramOf(name, values, p50, p95) {
  const bars = new Array(BARS).fill(0);
  for (const ms of values) bars[barAt(ms)] += 1;
  const most = Math.max(...bars, 1);
  const told = values.length ? `${name}: p50 ${p50} ms, p95 ${p95} ms, ${values.length} changes` : `${name}: no changes`;
  const svg = drawn("svg", { viewBox: `0 0 ${BARS * 5} 60`, role: "img", "aria-label": told, "data-bars": bars.filter(Boolean).length });
  svg.append(drawn("title", {}, told));
  bars.forEach((number, i) => {
    const height = number ? Math.max(2, (44 * number) / most) : 0;
    svg.append(drawn("rect", { x: i * 5 + 0.5, y: 46 - height, width: 4, height }));
  });
  svg.append(drawn("line", { x1: 0, x2: BARS * 5, y1: 46.5, y2: 46.5, class: "axis" }));
  [["10ms", 0], ["0.1s", 8], ["1s", 16], ["10s", 24]].forEach(([text, at]) => {
    svg.append(drawn("text", { x: at * 5 + 1, y: 56 }, text));
  });
  if (p95 !== null) svg.append(drawn("line", { x1: barAt(p95) * 5 + 2.5, x2: barAt(p95) * 5 + 2.5, y1: 0, y2: 46, class: "p95" }));
  return svg;
}

function showFigures() {
  const since = Date.now() - 5000;
  const some = arrived.filter((one) => one.at > since);
  const passed = some.length ? some[some.length - 1].passed - some[0].passed : 0;
  const seconds = some.length > 1 ? Math.max(1, (some[some.length - 1].at - some[0].at) / 1000) : 1;
  const all = arrived.length ? arrived[arrived.length - 1].passed : 0;
  $("sampled").hidden = all === 0;
  if (all) {
    const now = passed ? `: now ${Math.round(some.length / seconds)} of about ${Math.round((some.length + passed) / seconds)} changes a second` : "";
    $("sampled").textContent = `A fast stream is sampled${now}; ${all} changes so far were not shown.`;
  }
  if (!figuresShown || Date.now() - figuresAt < (stale ? FIGURES_EVERY_MS : REFRESH_MS)) return;
  stale = false;
  figuresAt = Date.now(); // now and then without news too: old ones leave the window
  $("figures").replaceChildren(...HOPS.map((name) => {
    const values = recent(name);
    const [p50, p95] = [share(values, 0.5), share(values, 0.95)];
    const box = element("figure", null, { "data-hop": name });
    const told = element("figcaption");
    told.append(element("b", name), ` p50 ${p50 ?? "–"} ms, p95 ${p95 ?? "–"} ms `, element("small", `${values.length} changes`));
    box.append(histogramOf(name, values, p50, p95), told);
    return box;
  }));
}

function tellLate() {
  for (const [transaction, { at, said }] of awaited) {
    const late = Date.now() - at;
    if (late < LATE_MS || !atWork) continue;
    $("late").textContent = `${said} (transaction ${transaction}) was committed ${Math.round(late / 1000)} s ago and is not in Kafka yet; Health tells what does not run.`;
    return;
  }
  $("late").textContent = "";
}

// -- the stream

let waiting = [];
let toFollow = null;
let drawAt = 0; // the timer's
let drewAt = 0;
let lost = false;

function hear({ event, data }) {
  if (event === "hop") take(data);
  if (event !== "note") return;
  atWork = !/^(starting|the observer ended)/.test(data);
  $("note").textContent = data.startsWith("watching") ? "The observer is at work." : data;
}

function onLink(isLive) {
  tell(isLive ? "live" : "lost", isLive ? "live" : "connecting again");
  if (isLive && lost) onBack();
  lost = !isLive;
}

function tell(state, text) {
  $("link").dataset.state = state;
  $("link").textContent = text;
}

// Each of yours is drawn at once, the first sighting after a pause nearly so; the others together.
function take(hop) {
  waiting.push(hop);
  if (own.has(hop.transaction) || waiting.length > WAITING_MAX) draw();
  else drawAt ||= setTimeout(draw, Math.max(GATHER_MS, drewAt + DRAW_MS - Date.now()));
}

function draw() {
  clearTimeout(drawAt);
  drawAt = 0;
  drewAt = Date.now();
  const some = waiting;
  waiting = [];
  unlight();
  for (const hop of some) onHop(hop);
  if (toFollow) { follow(toFollow); toFollow = null; }
}

// Light that ends at once, and with other drawing: one that fades has all drawn again 60 times a second.
function unlight() {
  while (lit.length && Date.now() - lit[0].at > LIT_MS) lit.shift().place.classList.remove("lit");
}

// `inTrino`: when a change of this browser was seen in Trino. `back`: when the server is back.
export function listen(inTrino, back) {
  onOwnInTrino = inTrino;
  onBack = back;
  listenTo("/api/hops", hear, onLink);
  setInterval(() => { unlight(); showFigures(); tellLate(); }, 1000);
  onTab("propagation", (isOpen) => { figuresShown = isOpen; figuresAt = 0; });
  $("tokens").tHead.rows[0].lastElementChild.before(...HOPS.map((name) => element("th", name, { scope: "col" })));
  showStations({}, {});
}
