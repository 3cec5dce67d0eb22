// The tabs below the first screen: a panel does its work when it is opened, and while it is open.

import { $, remember, remembered } from "./core.js";

const acts = new Map(); // panel's name → what is called with true when it opens and false when it closes
let opened = null;

const tabs = () => [...$("tabs").children];
const nameOf = (tab) => tab.getAttribute("aria-controls");

// `act` is called whenever the panel opens (true) or closes (false).
export function onTab(name, act) {
  acts.set(name, [...(acts.get(name) ?? []), act]);
}

// `act` is called when the panel opens for the first time.
export function onceOpened(name, act) {
  let isDone = false;
  onTab(name, (isOpen) => { if (isOpen && !isDone) { isDone = true; act(); } });
}

export function openTab(name, { scroll = true } = {}) {
  for (const tab of tabs()) {
    const isChosen = nameOf(tab) === name;
    tab.setAttribute("aria-selected", isChosen);
    tab.tabIndex = isChosen ? 0 : -1; // Tab leads to the chosen one, arrows to the others
    $(nameOf(tab)).hidden = !isChosen;
  }
  if (opened !== name) {
    const before = opened;
    opened = name;
    remember("tab", name);
    for (const act of acts.get(before) ?? []) act(false);
    for (const act of acts.get(name) ?? []) act(true);
  }
  if (scroll) $("tabs").scrollIntoView({ block: "start" });
}

// Arrows move the focus only: a panel that is opened asks the stack, so that takes Enter or Space.
function onKey(event) {
  const all = tabs();
  const at = all.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  all[(to + all.length) % all.length].focus();
}

function ofAddress() {
  const name = location.hash.slice(1);
  return tabs().map(nameOf).includes(name) ? name : null;
}

export function wireTabs() {
  for (const tab of tabs()) {
    const open = () => openTab(nameOf(tab), { scroll: false });
    tab.addEventListener("click", open);
    // An answer above may move the tab away before the button is released: a mouse opens it by its press.
    tab.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse" && event.button === 0) open(); });
  }
  $("tabs").addEventListener("keydown", onKey);
  addEventListener("hashchange", () => { if (ofAddress()) openTab(ofAddress()); });
  $("pulse").addEventListener("click", (event) => { event.preventDefault(); openTab("health"); });
  openTab(ofAddress() ?? remembered("tab", "propagation"), { scroll: ofAddress() !== null });
}
