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

  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const drawing = window.cytoscape({
    container: box,
    elements: JSON.parse(box.dataset.graph),
    style: look(),
    layout: { name: "cose", animate: false, padding: 24, nodeDimensionsIncludeLabels: true, idealEdgeLength: () => 60, nodeRepulsion: () => 3000, gravity: 0.8, componentSpacing: 40, randomize: true },
    minZoom: 0.2,
    maxZoom: 2,
    wheelSensitivity: 0.3,
    autoungrabify: still,
  });
  drawing.on("tap", "node[kind='agent']", (event) => { location.href = `/mesh/agents/${event.target.id()}`; });
  const again = () => drawing.style(look());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  document.addEventListener("click", (event) => { if (event.target.closest("[data-theme-switch]")) again(); });
  box.dataset.drawn = String(drawing.nodes().length);
})();
