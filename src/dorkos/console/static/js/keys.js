// The keyboard: `/` searches, `?` lists the keys, `g` and a letter go to a section, `j` and `k` walk a list.
(() => {
  const PLACES = { o: "/", p: "/pulse", i: "/inbox", m: "/mesh", r: "/relay", d: "/database" };
  const dialog = document.getElementById("keys");
  let going = 0;

  const writes = (element) => element.matches("input, textarea, select, [contenteditable]");

  function walk(step) {
    const links = [...document.querySelectorAll("main a[data-row]")];
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    const next = links[at < 0 ? 0 : Math.min(Math.max(at + step, 0), links.length - 1)];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      document.querySelectorAll("details.menu[open]").forEach((menu) => menu.removeAttribute("open"));
      if (writes(event.target)) event.target.blur();
      return;
    }
    if (writes(event.target) || dialog.open) return;
    if (Date.now() - going < 1500 && PLACES[event.key]) {
      location.href = PLACES[event.key];
    } else if (event.key === "/") {
      document.getElementById("search").focus();
      event.preventDefault();
    } else if (event.key === "?") {
      dialog.showModal();
    } else if (event.key === "j" || event.key === "k") {
      walk(event.key === "j" ? 1 : -1);
    } else if (event.key === "n") {
      const button = document.querySelector("main .first");
      if (button) button.focus();
    }
    going = event.key === "g" ? Date.now() : 0;
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys]")) dialog.showModal();
    for (const menu of document.querySelectorAll("details.menu[open], details.sure[open]")) {
      if (!menu.contains(event.target)) menu.removeAttribute("open");
    }
  });
})();
