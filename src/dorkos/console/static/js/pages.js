// Small things that every page may hold: copying, the theme, times that stay true, output that is followed.
(() => {
  const said = document.getElementById("said");
  const THEMES = ["system", "light", "dark"];
  const THEME_WORDS = { system: "as the system", light: "light", dark: "dark" };
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.dataset.done = "copied";
      said.textContent = "Copied";
    } catch {
      button.dataset.done = "no access"; // Only pages of a secure origin may write to the clipboard.
      said.textContent = "The browser does not let this page copy";
    }
    setTimeout(() => delete button.dataset.done, 1500);
  }

  function showTheme() {
    const theme = localStorage.getItem("theme") || "system";
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    for (const word of document.querySelectorAll("[data-theme-word]")) word.textContent = THEME_WORDS[theme];
  }

  function ago(time) {
    const seconds = Math.trunc((Date.now() - Date.parse(time.dateTime)) / 1000);
    const size = Math.abs(seconds);
    if (size < 5) return "now";
    const [length, unit] = UNITS.find(([least]) => size >= least);
    const amount = `${Math.trunc(size / length)}\u202f${unit}`;
    return seconds > 0 ? `${amount} ago` : `in ${amount}`;
  }

  function tick() {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const text = ago(time);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  function follow() {
    for (const box of document.querySelectorAll("[data-follow]")) {
      if (box.dataset.held !== "yes") box.scrollTop = box.scrollHeight;
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
    if (event.target.closest("[data-theme-switch]")) {
      const next = THEMES[(THEMES.indexOf(localStorage.getItem("theme") || "system") + 1) % 3];
      localStorage.setItem("theme", next);
      showTheme();
    }
  });

  document.addEventListener("scroll", (event) => {
    const box = event.target;
    if (box instanceof Element && box.matches("[data-follow]")) {
      box.dataset.held = box.scrollHeight - box.scrollTop - box.clientHeight < 24 ? "no" : "yes";
    }
  }, true);

  document.addEventListener("dork:fresh", () => { tick(); follow(); });
  // A form is sent once, however often its button is pressed: a second press would make a second schedule.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  // On a phone the sections and the tabs are wider than the window: where one is has to be seen.
  function showPlace() {
    for (const here of document.querySelectorAll("nav [aria-current]")) here.scrollIntoView({ inline: "nearest", block: "nearest" });
  }

  document.addEventListener("DOMContentLoaded", () => { showTheme(); showPlace(); follow(); });
  setInterval(tick, 5000);
})();
