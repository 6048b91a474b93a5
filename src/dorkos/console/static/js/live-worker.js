// One event stream for all windows of this browser: over HTTP/1.1 it opens six connections at most to one
// server, so a stream for each window would lock out every page from the seventh on. Where browsers have no
// shared workers this runs once for each window.
const windows = new Set();
let cursor = null;
let state = "connecting";
let retries = 0;
let running = false;
let wake = () => {};

function tell(message) {
  for (const port of windows) port.postMessage(message);
}

function enter(next) {
  state = next;
  tell({ state });
}

function take(frame) {
  const fields = {};
  for (const line of frame.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  if (fields.id) cursor = fields.id;
  if (!fields.event) return;
  const topic = fields.event.split(".", 1)[0];
  if (fields.event === "hello") {
    retries = 0;
    enter("live");
    tell({ cursor });
  } else if (fields.event === "reset") {
    tell({ topic: "reset", cursor });
  } else {
    tell({ topic, kind: fields.event, entity: JSON.parse(fields.data).entityId, cursor });
  }
}

async function read() {
  const answer = await fetch("/api/events", {
    headers: { Accept: "text/event-stream", ...(cursor ? { "Last-Event-ID": cursor } : {}) },
    cache: "no-store",
  });
  if (answer.status === 401) return "out";
  if (!answer.ok) return "lost";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return "lost";
    text += value;
    const frames = text.split("\n\n");
    text = frames.pop();
    frames.forEach(take);
  }
}

async function run() {
  if (running) return;
  running = true;
  for (;;) {
    const end = await read().catch(() => "lost");
    enter(end);
    if (end === "out") break;
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, Math.min(300 * 2 ** retries++, 5000));
    });
  }
  running = false;
}

function join(port) {
  windows.add(port);
  port.onmessage = ({ data }) => {
    if (data.bye) {
      windows.delete(port);
      return;
    }
    cursor ??= data.cursor;
    port.postMessage({ state, cursor });
    if (state === "lost") wake();
    run();
  };
}

if ("onconnect" in self) self.onconnect = (connection) => join(connection.ports[0]);
else join(self);
