// The lineage of a table or a column: drawn from left to right, and as a list whose tables can be opened.

import { button, drawn, element } from "./core.js";

const BOX = { width: 208, height: 38, across: 256, down: 48, margin: 8 };
const PER_LEVEL_MAX = 14;
const LABEL_CHARS_MAX = 26;

const nameOf = (place) => (place.column ? `${place.name}.${place.column}` : place.name);
const keyOf = (place) => `${place.namespace}:${nameOf(place)}`;
const plain = (place) => (place.namespace === "lake" ? nameOf(place).replace(/^silver\./, "") : nameOf(place));
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// What stands where: level 0 is what was asked for, below it what that is made of, above it what is made of that.
function placed({ start, ...found }) {
  const nodes = new Map([[keyOf(start), { place: start, level: 0, says: "" }]]);
  for (const [way, sign] of [["up", -1], ["down", 1]])
    for (const step of found[way]) {
      const place = sign < 0 ? step.from : step.to;
      if (!nodes.has(keyOf(place))) nodes.set(keyOf(place), { place, level: sign * step.distance, says: step.kind });
    }
  const levels = new Map();
  for (const node of nodes.values()) levels.set(node.level, [...(levels.get(node.level) ?? []), node]);
  return { nodes, levels: [...levels].sort(([one], [other]) => one - other) };
}

export function graphOf(found) {
  const { nodes, levels } = placed(found);
  const rows = Math.min(PER_LEVEL_MAX, Math.max(...levels.map(([, all]) => all.length)));
  const left = new Map();
  const width = levels.length * BOX.across - (BOX.across - BOX.width) + 2 * BOX.margin;
  const isCut = levels.some(([, all]) => all.length > PER_LEVEL_MAX);
  const height = rows * BOX.down - (BOX.down - BOX.height) + 2 * BOX.margin + (isCut ? 18 : 0);
  const picture = drawn("svg", { class: "lineage", width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${nameOf(found.start)}: ${found.up.length} edges lead to it, ${found.down.length} away from it; listed below` });
  levels.forEach(([, all], at) => {
    const shown = all.slice(0, PER_LEVEL_MAX);
    const top = BOX.margin + ((rows - shown.length) * BOX.down) / 2;
    shown.forEach((node, i) => { node.x = BOX.margin + at * BOX.across; node.y = top + i * BOX.down; });
    if (all.length > shown.length) left.set(BOX.margin + at * BOX.across, all.length - shown.length);
  });
  for (const step of [...found.up, ...found.down]) {
    const [from, to] = [nodes.get(keyOf(step.from)), nodes.get(keyOf(step.to))];
    if (from?.x !== undefined && to?.x !== undefined) picture.append(lineOf(from, to, step));
  }
  for (const node of nodes.values()) if (node.x !== undefined) picture.append(boxOf(node));
  for (const [x, count] of left) picture.append(drawn("text", { x, y: height - 6 }, `and ${count} more`));
  return picture;
}

function lineOf(from, to, step) {
  const [x1, y1, x2, y2] = [from.x + BOX.width, from.y + BOX.height / 2, to.x, to.y + BOX.height / 2];
  const bend = Math.max(20, (x2 - x1) / 2);
  const line = drawn("path", { d: `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` });
  if (step.kind.includes("mask:")) line.setAttribute("class", "masked");
  if (step.kind === "filter") line.setAttribute("class", "filter");
  return line;
}

function boxOf(node) {
  const box = drawn("g", node.level === 0 ? { class: "start" } : {});
  const says = [node.place.namespace, node.says].filter(Boolean).join(": ");
  box.append(
    drawn("title", {}, `${nameOf(node.place)} (${says})`),
    drawn("rect", { x: node.x, y: node.y, width: BOX.width, height: BOX.height, rx: 4 }),
    drawn("text", { x: node.x + 8, y: node.y + 16, class: "name" }, cut(plain(node.place), LABEL_CHARS_MAX)),
    drawn("text", { x: node.x + 8, y: node.y + 31 }, cut(says, LABEL_CHARS_MAX + 8)),
  );
  return box;
}

// What was asked for is in the middle of what can be seen of the picture.
export function centre(picture) {
  const at = picture.querySelector(".start rect");
  const box = picture.parentElement;
  box.scrollLeft = Number(at.getAttribute("x")) + BOX.width / 2 - box.clientWidth / 2;
  box.scrollTop = Number(at.getAttribute("y")) + BOX.height / 2 - box.clientHeight / 2;
}

// `open` is called with a table of the lake as `schema.name`.
export function listOf(found, open) {
  const whole = element("details");
  whole.append(element("summary", `As a list: ${found.up.length} up, ${found.down.length} down`));
  for (const [way, title] of [["up", "What it is made of"], ["down", "What is made of it"]]) {
    if (!found[way].length) continue;
    const list = element("ul");
    list.append(...found[way].map((step) => {
      const line = element("li");
      line.style.marginLeft = `${Math.min(step.distance - 1, 8)}rem`; // an attribute would be refused
      const says = [step.kind, step.made_by && `by ${step.made_by}`, step.detail].filter(Boolean).join("; ");
      line.append(endOf(step.from, open), " → ", endOf(step.to, open), ` (${says})`);
      return line;
    }));
    whole.append(element("h4", title), list);
  }
  return whole;
}

function endOf(place, open) {
  if (place.namespace === "lake") return button(nameOf(place), () => open(place.name), { class: "link" });
  return element("span", `${place.namespace}: ${nameOf(place)}`);
}
