// Server-sent events, read by fetch: an EventSource sends no header, and so no token.

import { lock, token } from "./core.js";

const AGAIN_MS = 1000;
const SILENT_MS = 30000; // the server says something every ten seconds
const BUFFER_MAX = 2 << 20; // characters of one event

// `hear` gets {event, data}, `link` whether there is a connection. It connects again for ever, and
// names the last event that it had.
export async function listenTo(path, hear, link) {
  const last = { id: "" };
  for (;;) {
    try {
      await connection(path, last, hear, link);
    } catch {
      // refused, cut off or silent: all the same here
    }
    link(false);
    await new Promise((done) => { setTimeout(done, AGAIN_MS); });
  }
}

async function connection(path, last, hear, link) {
  const stop = new AbortController();
  let timer = setTimeout(() => stop.abort(), SILENT_MS);
  try {
    const headers = { "x-headwater-token": token, "last-event-id": last.id };
    const answer = await fetch(path, { headers, signal: stop.signal });
    if (answer.status === 401) lock();
    if (!answer.ok) return;
    link(true);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done || text.length > BUFFER_MAX) return;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), SILENT_MS);
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) pass(part, last, hear);
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}

function pass(part, last, hear) {
  const fields = {};
  for (const line of part.split("\n")) {
    const at = line.indexOf(": ");
    fields[line.slice(0, at)] = line.slice(at + 2);
  }
  if (fields.id) last.id = fields.id;
  if (fields.data) hear({ event: fields.event, data: JSON.parse(fields.data) });
}
