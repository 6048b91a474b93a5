// Discovery as it goes: the same search that the form asks for, told while it looks.
(() => {
  const form = document.getElementById("discover");
  const found = document.getElementById("found");
  const list = document.getElementById("candidates");
  const problems = document.getElementById("problems");
  const progress = document.getElementById("progress");
  const nothing = document.getElementById("nothing");
  const stop = document.getElementById("stop");
  const secret = form.querySelector("[name='form-secret']")?.value || "";
  let search = null;

  function candidate(data) {
    const item = document.getElementById("candidate").content.cloneNode(true);
    const slot = (name) => item.querySelector(`[data-slot="${name}"]`);
    slot("name").textContent = data.hints.suggestedName;
    slot("kind").textContent = `${data.strategy}, ${data.hints.detectedRuntime}`;
    slot("path").textContent = data.path;
    slot("copy").hidden = !data.duplicateOf;
    for (const field of item.querySelectorAll("[name='path']")) field.value = data.path;
    for (const field of item.querySelectorAll("[name='scanRoot']")) field.value = data.scanRoot;
    list.append(item);
  }

  function problem(data) {
    const item = document.createElement("li");
    item.className = "warn";
    item.textContent = `${data.path}: ${data.reason}`;
    problems.append(item);
  }

  function told(kind, data) {
    if (kind === "candidate") candidate(data);
    else if (kind === "problem") problem(data);
    else if (kind === "progress") progress.textContent = `${data.directories} directories looked at, ${data.waiting} to go`;
    else if (kind === "refused") problem({ path: data.code, reason: data.error });
    else if (kind === "end") {
      progress.textContent = `${data.directories} directories looked at${data.truncated ? `, ended early: ${data.truncatedBy}` : ""}`;
      nothing.hidden = list.children.length > 0;
    }
  }

  async function look() {
    const roots = form.elements.roots.value.split("\n").map((line) => line.trim()).filter(Boolean);
    list.replaceChildren();
    problems.replaceChildren();
    nothing.hidden = true;
    found.hidden = false;
    progress.textContent = "looking";
    search = new AbortController();
    stop.hidden = false;
    try {
      const answer = await fetch("/api/mesh/discover/stream", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-DorkOS-Form": secret },
        body: JSON.stringify(roots.length ? { roots } : {}),
        signal: search.signal,
      });
      if (!answer.ok) {
        told("refused", await answer.json());
        return;
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += value;
        const frames = text.split("\n\n");
        text = frames.pop();
        for (const frame of frames) {
          const kind = /^event: (.*)$/m.exec(frame);
          const data = /^data: (.*)$/m.exec(frame);
          if (kind && data) told(kind[1], JSON.parse(data[1]));
        }
      }
    } catch (fault) {
      progress.textContent = search.signal.aborted ? "stopped" : `the search broke off: ${fault.message}`;
    } finally {
      stop.hidden = true;
      form.querySelector("button").disabled = false;
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.querySelector("button").disabled = true;
    look();
  });
  stop.addEventListener("click", () => search?.abort());
})();
