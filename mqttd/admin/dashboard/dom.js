// Elements and words for people. Text goes into the page as text nodes only, never as
// HTML: what clients call themselves and their topics is shown, and does nothing.

/**
 * An element; `attributes` may hold listeners (onclick), booleans and texts, children
 * are elements, texts, lists of them, or null.
 */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, String(value));
  }
  element.append(...children.flat(Infinity).filter((each) => each != null).map(visible));
  return element;
}

/** Controls and marks of direction would forge what stands around a text. */
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

function visible(child) {
  return child instanceof Node ? child : String(child);
}

/** A name that came from outside, with what cannot be seen made visible. */
export function name(text) {
  if (text == null) return h("span", { class: "faint" }, "–");
  if (text === "") return h("span", { class: "faint" }, "(empty)");
  const shown = text.replace(UNSEEN, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return h("bdi", { class: "name", title: shown }, shown);
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((each) => each != null));
}

export function field(label, input) {
  return h("label", { class: "field" }, h("span", {}, label), input);
}

export function option(value, text, selected = false) {
  return h("option", { value, selected }, text);
}

export function button(text, onclick, kind = "") {
  return h("button", { type: "button", class: kind, onclick }, text);
}

/** A small button in a row of a table; who cannot see the row hears what it is about. */
export function rowButton(text, about, onclick) {
  return h("button", { type: "button", class: "small", "aria-label": `${text} ${about}`, onclick }, text);
}

export function link(path, ...children) {
  return h("a", { href: `#${path}` }, ...children);
}

/** A list of facts: [label, value] each. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.map(([label, value]) =>
    h("div", {}, h("dt", {}, label), h("dd", {}, value))));
}

export function tag(text, kind = "") {
  return h("span", { class: `tag ${kind}` }, text);
}

const WHOLE = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export function count(number) {
  return number == null ? "–" : WHOLE.format(number);
}

/** "1 filter", "2 filters". */
export function counted(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

/** A sentence of the server begins as one. */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function short(number) {
  if (number == null) return "–";
  return number < 10 && number % 1 ? number.toFixed(1) : SHORT.format(number);
}

export function bytes(number) {
  if (number == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${number < 10 && unit ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

/** Seconds as people say them; null is for ever. */
export function time(seconds) {
  if (seconds == null) return "for ever";
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, length]) => seconds >= length);
  if (first < 0) return "0 s";
  const [unit, length] = parts[first];
  const whole = Math.floor(seconds / length);
  const rest = parts[first + 1] && Math.floor((seconds % length) / parts[first + 1][1]);
  return rest ? `${whole} ${unit} ${rest} ${parts[first + 1][0]}` : `${whole} ${unit}`;
}

/** Unix time, in the words of who looks. */
export function date(seconds) {
  return seconds == null ? "–" : new Date(seconds * 1000).toLocaleString("sv-SE");
}
