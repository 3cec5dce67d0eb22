// Puts the sections together; each is a module beside this one.

import { $, showError } from "./core.js";
import { listen } from "./flow.js";
import { wireLake } from "./lake.js";
import { wireRows } from "./rows.js";
import { compare, loadRows, loadTables, wireStore } from "./store.js";

const AGAIN_MS = 5000;

// The tables and rows; asked again until there is an answer.
async function load() {
  try {
    await loadTables();
    $("edit-answer").replaceChildren();
    await loadRows();
  } catch (error) {
    showError($("edit-answer"), error);
    setTimeout(load, AGAIN_MS);
  }
}

wireStore();
wireLake();
wireRows();
listen(() => compare(), load);
load();
