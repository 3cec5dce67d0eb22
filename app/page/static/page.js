// Puts the parts together; each is a module beside this one.

import { wireCatalogue } from "./catalogue.js";
import { $, ask, lock, showError, token } from "./core.js";
import { listen } from "./flow.js";
import { wireHealth } from "./health.js";
import { wireLake } from "./lake.js";
import { wireRows } from "./rows.js";
import { compare, wireSides } from "./sides.js";
import { loadRows, loadTables, showRights, wireStore } from "./store.js";
import { wireTabs } from "./tabs.js";

const AGAIN_MS = 5000;

// The tables and rows; asked again until there is an answer.
async function load() {
  try {
    showRights(await ask("/api/source"));
    await loadTables();
    $("edit-answer").replaceChildren();
    await loadRows();
  } catch (error) {
    showError($("edit-answer"), error);
    setTimeout(load, AGAIN_MS);
  }
}

if (token) {
  wireStore();
  wireSides();
  wireLake();
  wireCatalogue();
  wireHealth();
  wireRows();
  listen(() => compare(), load);
  wireTabs();
  load();
} else {
  lock();
}
