// A run's output grows in place: after each event that it printed, what is new is asked for and appended.
(() => {
  const box = document.getElementById("output");
  let asking = false;
  let again = false;

  async function more() {
    if (asking) {
      again = true;
      return;
    }
    asking = true;
    do {
      again = false;
      const address = `/pulse/runs/${box.dataset.run}/output?after=${box.dataset.after}`;
      const answer = await fetch(address, { headers: { Accept: "text/html" } }).catch(() => null);
      if (!answer?.ok) break;
      const piece = new DOMParser().parseFromString(await answer.text(), "text/html").body;
      const end = piece.querySelector("[data-seq]");
      end.remove();
      box.dataset.after = end.dataset.seq;
      again ||= end.dataset.more === "1";
      if (!piece.childNodes.length) continue;
      box.append(...piece.childNodes);
      document.getElementById("no-output")?.remove();
      if (box.dataset.held !== "yes") box.scrollTop = box.scrollHeight;
    } while (again);
    asking = false;
  }

  document.addEventListener("dork:event", ({ detail }) => {
    if (detail.topic === "reset" || detail.entity === box.dataset.run) more();
  });
  document.addEventListener("dork:fresh", () => more());
})();
