// Line charts in SVG. Their colours are the style sheet's, so that light and dark need
// nothing here.

import { h, replace, time } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 90;
const SVG = "http://www.w3.org/2000/svg";

/** Lines of a chart; the style sheet has as many colours. */
const LINES = 5;

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/**
 * A chart: `pick(point)` returns {name: value} for its lines, where null is no value, and
 * `say` makes words of a value; `base` is 1024 for bytes. `draw(points, begin)` shows those from `begin` on; where a
 * pointer is, the legend tells the values of that time.
 */
export function chart(title, say, pick, base = 10) {
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const top = h("span", { class: "top faint" });
  const legend = h("ul", { class: "legend" });
  const begins = h("span");
  const ends = h("span", {}, "now");
  const plot = h("div", { class: "plot", onpointermove: look, onpointerleave: () => { looked = null; tell(); } }, picture, top);
  const element = h("section", { class: "card chart" }, h("h2", {}, title), legend, plot, h("p", { class: "axis faint" }, begins, ends));
  let shown = [];
  let names = [];
  let looked = null;

  function draw(points, begin) {
    shown = points.filter((point) => point.at >= begin).map((point) => ({ at: point.at, values: pick(point) }));
    if (!shown.length) return;
    names = highest(shown);
    const most = ceiling(Math.max(1, ...shown.flatMap(({ values }) => names.map((name) => values[name] ?? 0))), base);
    const span = Math.max(shown.at(-1).at - begin, 1);
    replace(top, say(most));
    replace(begins, `${time(span)} ago`);
    replace(picture,
      [0.25, 0.5, 0.75].map((part) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
      names.map((name, index) => svg("path", { class: `series-${index}`, d: line(name, begin, span, most) })));
    tell();
  }

  function line(name, begin, span, most) {
    let pen = "M";
    return shown.map(({ at, values }) => {
      const value = values[name] ?? null;
      if (value === null) {
        pen = "M";
        return "";
      }
      const step = `${pen}${(((at - begin) / span) * WIDTH).toFixed(1)},${(HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1)}`;
      pen = "L";
      return step;
    }).join("");
  }

  function look(event) {
    const { left, width } = plot.getBoundingClientRect();
    looked = (event.clientX - left) / width;
    tell();
  }

  function tell() {
    if (!shown.length) return;
    const last = shown.at(-1);
    const wanted = looked === null ? last.at : shown[0].at + looked * (last.at - shown[0].at);
    const { at, values } = shown.findLast((each) => each.at <= wanted) ?? shown[0];
    replace(ends, looked === null ? "now" : `at the pointer: ${time(last.at - at)} ago`);
    replace(legend, names.map((name, index) =>
      h("li", { class: `series-${index}` }, h("span", {}, name), " ", h("strong", {}, say(values[name] ?? null)))));
  }

  return { element, draw };
}

/** The names of the lines; the highest ones, where there are too many. */
function highest(shown) {
  const sums = {};
  for (const { values } of shown) {
    for (const [name, value] of Object.entries(values)) sums[name] = (sums[name] ?? 0) + value;
  }
  const names = Object.keys(sums);
  if (names.length <= LINES) return names;
  const least = Object.values(sums).sort((a, b) => b - a)[LINES - 1];
  return names.filter((name) => sums[name] >= least).slice(0, LINES);
}

/** The next round number: 1, 2 or 5 times a power of ten, or that times one of 1024. */
function ceiling(value, base) {
  const unit = base === 1024 ? 1024 ** Math.floor(Math.log2(value) / 10) : 1;
  const power = unit * 10 ** Math.floor(Math.log10(value / unit));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}
