// The topology, drawn. Colours are those of the page, so that light and dark follow it.
(() => {
  const box = document.getElementById("graph");
  if (!box || !window.cytoscape) return;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const HEALTH = { active: "good", stuck: "bad", unreachable: "warn", stale: "warn" };

  function look() {
    const [ink, quiet, line, sheet] = ["ink", "ink-3", "line-strong", "sheet"].map(colour);
    const font = { "font-family": "system-ui, sans-serif", "font-size": 13, color: ink };
    return [
      { selector: "node", style: { ...font, label: "data(label)", width: 22, height: 22, "background-color": quiet,
        "text-valign": "bottom", "text-margin-y": 5, "text-max-width": 140, "text-wrap": "ellipsis" } },
      { selector: "node[kind='agent']", style: { "background-color": (node) => colour(HEALTH[node.data("health")] || "calm") } },
      { selector: "node[kind='address']", style: { shape: "diamond" } },
      { selector: ":parent", style: { shape: "round-rectangle", "background-opacity": 0, "border-color": line, "border-width": 1,
        "text-valign": "top", "text-margin-y": -4, color: quiet, padding: 18 } },
      { selector: "edge", style: { width: 1.5, "curve-style": "bezier", "target-arrow-shape": "triangle", "arrow-scale": 0.9,
        ...font, "font-size": 10, color: quiet, "text-background-color": sheet, "text-background-opacity": 1 } },
      { selector: "edge[kind='allow']", style: { "line-color": colour("good"), "target-arrow-color": colour("good"), "line-style": "dashed" } },
      { selector: "edge[kind='deny']", style: { "line-color": colour("bad"), "target-arrow-color": colour("bad"), "line-style": "dashed" } },
      { selector: "edge[kind='traffic']", style: { "line-color": colour("wait"), "target-arrow-color": colour("wait"), label: "data(label)" } },
      { selector: "edge[stopped > 0]", style: { "line-color": colour("bad"), "target-arrow-color": colour("bad") } },
    ];
  }

  // Where each is: who only sends on the left, namespaces in the middle, others on the right. The same graph is
  // drawn the same at each visit, so that one finds again what one knows.
  const STEP = { x: 130, y: 84 };

  function places(elements) {
    const narrow = box.clientWidth < 600; // Then one below the other: above, in the middle, below.
    const nodes = elements.map((each) => each.data).filter((data) => data.kind && !data.source);
    const targets = new Set(elements.map((each) => each.data.target));
    const at = {};
    let y = 0;
    let widest = 1;
    for (const group of nodes.filter((node) => node.kind === "namespace")) {
      const agents = nodes.filter((node) => node.parent === group.id);
      const columns = narrow ? 2 : Math.max(1, Math.ceil(Math.sqrt(agents.length * 1.6)));
      widest = Math.max(widest, Math.min(columns, agents.length));
      agents.forEach((agent, n) => { at[agent.id] = { x: (n % columns) * STEP.x, y: y + Math.floor(n / columns) * STEP.y }; });
      y += Math.ceil(agents.length / columns) * STEP.y + 60;
    }
    const others = nodes.filter((node) => node.kind === "address");
    for (const later of [false, true]) {
      const here = others.filter((node) => targets.has(node.id) === later);
      const rows = Math.ceil(here.length / 2);
      const step = Math.max(56, (y - 60) / Math.max(here.length, 1));
      here.forEach((node, n) => {
        at[node.id] = narrow
          ? { x: (n % 2) * STEP.x, y: (later ? y + 20 : -110 - (rows - 1) * 70) + Math.floor(n / 2) * 70 }
          : { x: later ? (widest + 1.2) * STEP.x : -2.2 * STEP.x, y: (n + 0.5) * step - (here.length * step - y + 60) / 2 - 30 };
      });
    }
    return at;
  }

  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const elements = JSON.parse(box.dataset.graph);
  const at = places(elements);
  const drawing = window.cytoscape({
    container: box,
    elements,
    style: look(),
    layout: { name: "preset", positions: (node) => at[node.id()], padding: 28 },
    minZoom: 0.1,
    maxZoom: 2,
    wheelSensitivity: 0.3,
    autoungrabify: still,
  });
  if (drawing.zoom() > 1.1) drawing.zoom(1.1).center();
  drawing.on("tap", "node[kind='agent']", (event) => { location.href = `/mesh/agents/${event.target.id()}`; });
  const again = () => drawing.style(look());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  document.addEventListener("click", (event) => { if (event.target.closest("[data-theme-switch]")) again(); });
  box.dataset.drawn = String(drawing.nodes().length);
})();
