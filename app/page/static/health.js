// How the stack is: what is known at once, then what takes its time to ask.

import { $, ask, element, say, showError, tableOf } from "./core.js";
import { onTab } from "./tabs.js";

const HEALTH_MS = 10000;
const PULSE_MS = 5000;
const AT_ONCE_S = 0.2;
const PARTS = ["alerts", "connectors", "freshness", "verification", "services"];
// States that need nobody.
const GOOD = ["ready", "completed", "stopped", "running", "RUNNING", "equal", "explained"];
let isOpen = false;

async function health(query = "") {
  if (!isOpen || document.hidden) return;
  let found;
  try {
    found = await ask(`/api/health${query}`);
  } catch (error) {
    showError($("links"), error);
    return;
  }
  $("links").replaceChildren(...Object.entries(found.links).flatMap(([name, url]) => [element("a", name, { href: url, rel: "noreferrer" }), " "]));
  if (found.off.length) $("links").append(element("span", `not running: ${found.off.join(", ")}`, { class: "quiet" }));
  for (const part of PARTS) show($(`health-${part}`), found[part]);
}

function show(place, answer) {
  if (answer.error) showError(place, answer.error);
  else if (answer.none) say(place, [answer.none.message, answer.none.hint].filter(Boolean).join("; "));
  else if (answer.asked) say(place, "asking …");
  else place.replaceChildren(answer.rows.length ? stateTable(answer) : element("p", "none"));
  if (answer.age_s) place.prepend(element("p", `as it was ${Math.round(answer.age_s)} s ago; asked again`, { class: "quiet" }));
}

function stateTable(answer) {
  const table = tableOf(answer, "");
  const at = answer.columns.findIndex((name) => name === "state" || name === "verdict");
  if (at >= 0) for (const row of table.tBodies[0].rows)
    if (!GOOD.includes(row.cells[at].textContent)) row.className = "bad";
  return table;
}

async function pulse() {
  if (document.hidden) return;
  const place = $("pulse");
  try {
    const troubles = await ask("/api/pulse");
    place.hidden = troubles.length === 0;
    const text = troubles.length > 1 ? `${troubles[0]} (and ${troubles.length - 1} more)` : troubles[0] ?? "";
    if (place.textContent !== text) { place.textContent = text; health(); }
  } catch {
    place.hidden = true; // the stream tells that the server is away
  }
}

export function wireHealth() {
  for (const part of PARTS) say($(`health-${part}`), "asking …");
  onTab("health", async (opens) => {
    isOpen = opens;
    await health(`?within_s=${AT_ONCE_S}`);
    health();
  });
  setInterval(health, HEALTH_MS);
  setInterval(pulse, PULSE_MS);
  pulse();
}
