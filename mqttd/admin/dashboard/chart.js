// Line charts of the last minutes, in SVG. Their colours are the style sheet's, so that
// light and dark need nothing here.

import { h, replace } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 90;
const SVG = "http://www.w3.org/2000/svg";

/** Points that a chart keeps. */
const KEPT = 150;

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/**
 * A chart with a line for each of `names`; `say` makes words of a value. `add(values)`
 * puts one more point on each line; null is no point.
 */
export function chart(title, names, say) {
  const lines = names.map(() => []);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const top = h("span", { class: "top faint" });
  const values = names.map(() => h("strong", {}, "–"));
  const legend = h("ul", { class: "legend" }, names.map((name, index) =>
    h("li", { class: `series-${index}` }, h("span", {}, name), " ", values[index])));
  const element = h("section", { class: "card chart" }, h("h2", {}, title), legend,
    h("div", { class: "plot" }, picture, top));

  function add(latest) {
    lines.forEach((line, index) => {
      line.push(latest[index]);
      if (line.length > KEPT) line.shift();
      replace(values[index], say(latest[index]));
    });
    draw();
  }

  function draw() {
    const most = ceiling(Math.max(1, ...lines.flat().filter((value) => value !== null)));
    replace(top, say(most));
    replace(picture,
      [0.25, 0.5, 0.75].map((part) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
      lines.map((line, index) => svg("polyline", { class: `series-${index}`, points: points(line, most) })));
  }

  return { element, add };
}

/** The next round number: 1, 2 or 5 times a power of ten. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}

function points(line, most) {
  const step = WIDTH / (KEPT - 1);
  const start = WIDTH - (line.length - 1) * step;
  const at = (value, index) =>
    `${(start + index * step).toFixed(1)},${(HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1)}`;
  return line.map((value, index) => (value === null ? "" : at(value, index))).join(" ");
}
