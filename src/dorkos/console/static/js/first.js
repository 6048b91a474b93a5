// Before the first paint: the theme that the reader chose, and the reader's zone for the server.
(() => {
  const root = document.documentElement;
  root.dataset.scripts = "on";
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const cookie = `dorkos_zone=${encodeURIComponent(zone)}`;
  if (!document.cookie.split("; ").includes(cookie)) {
    document.cookie = `${cookie}; path=/; max-age=31536000; samesite=strict`;
  }
})();
