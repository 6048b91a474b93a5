// Parts of a page that say `data-live` are loaded anew after events of their topics, and morphed in place:
// what did not change is not touched, so nothing flickers, and focus, selection and scroll stay.
(() => {
  const SOONEST_MS = 400;
  const LATER_MS = 3000; // After a page that did not come: it may be the last event for hours.
  const body = document.body;
  const word = document.getElementById("live-state");
  const WORDS = { live: "live", connecting: "connecting", lost: "reconnecting", out: "logged out", off: "not live" };
  // A page that answers a form is found elsewhere afterwards: loaded anew where it is, it would be sent again.
  if (body.dataset.address) history.replaceState(null, "", body.dataset.address);
  else tidyAddress();
  let cursor = body.dataset.cursor;
  let dirty = new Set();
  let loading = false;
  let leaving = false;
  let timer = 0;

  // What was said once about a change is not part of the page's address: neither of a copy of it, nor when it
  // is loaded anew.
  function tidyAddress() {
    const address = new URL(location.href);
    if (!address.searchParams.has("done")) return;
    for (const name of ["done", "of", "file"]) address.searchParams.delete(name);
    history.replaceState(null, "", address);
  }

  const position = (text) => {
    const [epoch, number] = [text.slice(0, text.lastIndexOf(":")), Number(text.slice(text.lastIndexOf(":") + 1))];
    return { epoch, number };
  };

  function isNewer(text) {
    const [theirs, ours] = [position(text), position(cursor)];
    return theirs.epoch !== ours.epoch || theirs.number > ours.number;
  }

  function regions(topics) {
    return [...document.querySelectorAll("[data-live]")].filter((region) => {
      const wanted = (region.dataset.topics || "").split(" ");
      return topics.has("all") || topics.has("reset") || wanted.some((topic) => topics.has(topic));
    });
  }

  function want(topic) {
    dirty.add(topic);
    if (!timer && !loading) timer = setTimeout(load, SOONEST_MS);
  }

  async function load() {
    timer = 0;
    const topics = dirty;
    dirty = new Set();
    const found = regions(topics);
    // A form was sent and its answer is on the way: what it changed may be news already, and what it took away is
    // gone from here. Loading this page now would break the answer off.
    if (leaving) return;
    if (!found.length || document.hidden) {
      if (document.hidden) topics.forEach((topic) => dirty.add(topic));
      return;
    }
    loading = true;
    let wait = SOONEST_MS;
    try {
      await refresh(found);
    } catch {
      topics.forEach((topic) => dirty.add(topic));
      wait = LATER_MS;
    }
    loading = false;
    if (dirty.size && !timer) timer = setTimeout(load, wait);
  }

  async function refresh(found) {
    const answer = await fetch(location.href, { headers: { Accept: "text/html", "HX-Request": "true" } });
    if (leaving) return;
    if (answer.status === 401) return over("out");
    if (answer.status === 404) return over("gone");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`); // Asked for again below.
    const text = await answer.text();
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const next = fresh.body.dataset.cursor;
    for (const region of found) {
      const piece = region.id && fresh.getElementById(region.id);
      if (piece) await htmx.swap({ target: region, text: piece.outerHTML, swap: "outerMorph", sourceElement: region });
    }
    if (next) cursor = next;
    document.dispatchEvent(new CustomEvent("dork:fresh"));
  }

  // Loaded anew, the page says so itself; unless somebody is writing on it, which would be lost.
  function over(why) {
    if (document.dispatchEvent(new CustomEvent("dork:over", { detail: why, cancelable: true }))) location.reload();
  }

  function heard({ data }) {
    if (data.state) {
      word.dataset.state = data.state;
      word.querySelector(".live-word").textContent = WORDS[data.state] || data.state;
      if (data.state === "out") over("out");
    }
    if (data.topic) {
      // What a run prints concerns the page of that run alone, which takes care of it by itself.
      const isOutput = data.kind === "pulse.run.output";
      document.dispatchEvent(new CustomEvent("dork:event", { detail: data }));
      if (isOutput) return;
      if (data.topic === "reset" || !data.cursor || isNewer(data.cursor)) want(data.topic);
    } else if (data.cursor && isNewer(data.cursor)) {
      want("all"); // What happened between the making of this page and the opening of the stream.
    }
  }

  function connect() {
    const shared = "SharedWorker" in window;
    const worker = shared ? new SharedWorker(body.dataset.worker) : new Worker(body.dataset.worker);
    const port = shared ? worker.port : worker;
    port.onmessage = heard;
    if (shared) port.start();
    const hello = () => port.postMessage({ cursor: body.dataset.cursor });
    hello();
    addEventListener("pagehide", () => port.postMessage({ bye: true }));
    addEventListener("pageshow", (event) => {
      if (event.persisted) hello();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && dirty.size) want([...dirty][0]);
    });
  }

  document.addEventListener("submit", (event) => { leaving ||= !event.defaultPrevented; });
  addEventListener("pageshow", () => { leaving = false; });
  document.addEventListener("DOMContentLoaded", connect);
})();
