// A point on the plane of two task vectors, moved by sliders; and a swap, looked up by its counts of layers. Nothing is loaded.
(() => {
  "use strict";
  const root = document.currentScript.parentElement;
  const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const live = root.querySelector(".xlnb-play-live");
  const control = (name) => live.querySelector(`[name="${name}"]`);
  const shown = (value, digits) => value.toFixed(digits).replace("-", "−");
  const signed = (value) => (value < 0 ? "" : "+") + shown(value, 3);

  function counts() {
    const [bottom, top] = ["bottom", "top"].map((side) => {
      const value = data[side][Number(control(side).value)];
      control(side).setAttribute("aria-valuetext", `${value} ${side === "bottom" ? "first" : "last"} layers`);
      live.querySelector(`output[data-of="${side}"]`).textContent = value;
      return value;
    });
    live.querySelector(".told").textContent = data.told[`${bottom}+${top}`];
  }

  // The cell of a sorted list that a value lies in, and how far along it.
  function cell(list, value) {
    let place = list.findIndex((one) => one > value) - 1;
    if (place < 0) place = list.length - 2;
    return [place, (value - list[place]) / (list[place + 1] - list[place])];
  }

  function loss(grid, a, b) {
    const [i, x] = cell(data.a, a);
    const [j, y] = cell(data.b, b);
    return (1 - x) * ((1 - y) * grid[i][j] + y * grid[i][j + 1]) + x * ((1 - y) * grid[i + 1][j] + y * grid[i + 1][j + 1]);
  }

  function colour(share) {
    const [worse, none, better] = data.colours;
    const end = share < 0 ? worse : better;
    return `rgb(${none.map((from, i) => Math.round(from + (end[i] - from) * Math.min(1, Math.abs(share)))).join()})`;
  }

  const svg = live.querySelector("svg");
  const SIZE = 200;
  const FINE = 40;
  const low = data.a && data.a[0];
  const reach = data.a && data.a[data.a.length - 1] - low;
  const place = (value) => ((value - low) / reach) * SIZE;

  function drawn(kind, values) {
    const made = document.createElementNS(svg.namespaceURI, kind);
    for (const [name, value] of Object.entries(values)) made.setAttribute(name, value);
    svg.appendChild(made);
    return made;
  }

  function map(grid) {
    svg.replaceChildren();
    const base = loss(grid, 0, 0);
    const limit = Math.max(...grid.flat().map((one) => Math.abs(base - one))) || 1;
    const step = SIZE / FINE;
    for (let i = 0; i < FINE; i += 1) {
      for (let j = 0; j < FINE; j += 1) {
        const at = (k) => low + ((k + 0.5) / FINE) * reach;
        drawn("rect", { x: i * step, y: SIZE - (j + 1) * step, width: step + 0.2, height: step + 0.2,
                        fill: colour((base - loss(grid, at(i), at(j))) / limit) });
      }
    }
    for (const [a, b] of Object.values(data.points)) {
      drawn("circle", { cx: place(a), cy: SIZE - place(b), r: 2.5, fill: "#1a1a1a" });
    }
    return drawn("circle", { class: "you", r: 6, fill: "none", stroke: "#1a1a1a", "stroke-width": 2.5 });
  }

  let you;
  function plane(redraw) {
    const [a, b] = ["a", "b"].map((side) => Number(control(side).value));
    const losses = data.loss[control("language").value];
    const grid = losses[control("asked").value];
    if (redraw) you = map(grid);
    you.setAttribute("cx", place(a));
    you.setAttribute("cy", SIZE - place(b));
    const name = data.texts[control("asked").value];
    for (const side of ["a", "b"]) live.querySelector(`output[data-of="${side}"]`).textContent = shown(Number(control(side).value), 2);
    svg.setAttribute("aria-label", `The plane of losses of ${name}: your point is at ${shown(a, 2)} of math and ${shown(b, 2)} of the language.`);
    live.querySelector(".told").textContent = `At ${shown(a, 2)} of math and ${shown(b, 2)} of the language: ` +
      Object.entries(data.texts).map(([asked, text]) => {
        const here = loss(losses[asked], a, b);
        return `${text} ${shown(here, 3)} nats per token (${signed(loss(losses[asked], 0, 0) - here)} saved against the base)`;
      }).join("; ") + ".";
  }

  const moved = data.told ? counts : plane;
  for (const one of live.querySelectorAll("input, select")) {
    one.addEventListener("input", () => moved(one.tagName === "SELECT"));
  }
  if (svg && !data.told) {
    svg.addEventListener("click", (event) => {
      const frame = svg.getBoundingClientRect();
      control("a").value = low + ((event.clientX - frame.left) / frame.width) * reach;
      control("b").value = low + ((frame.bottom - event.clientY) / frame.height) * reach;
      plane(false);
    });
  }
  live.hidden = false;
  moved(true);
})();
