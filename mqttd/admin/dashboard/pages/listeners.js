// Listeners: whether they are open, who comes by them, and their limits.

import { get, may, patch, path, post } from "../api.js";
import { button, count, facts, field, h, link, name, replace, rowButton, sentence, tag } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { plainTable } from "../table.js";

export const title = "Listeners";
export const role = "viewer";

export async function show(main, [listener], signal) {
  await (listener === undefined ? list(main, signal) : detail(main, listener, signal));
}

async function list(main, signal) {
  const { items } = await get("listeners", {}, signal);
  replace(main, h("h1", {}, "Listeners"), plainTable([
    { label: "Name", cell: (l) => link(`/listeners/${encodeURIComponent(l.name)}`, name(l.name)) },
    { label: "Address", wide: true, cell: (l) => name(l.address) },
    { label: "State", cell: (l) => state(l) },
    { label: "Kind", wide: true, cell: kinds },
    { label: "Connections", number: true, cell: (l) => count(l.connections) },
    may("operator") && { actions: true, cell: (l) => actions(l, () => list(main, signal), rowButton) },
  ], items, "The configuration has no listener.", "Listeners"));
}

function state({ open, paused }) {
  if (!open) return tag("closed", "bad");
  return paused ? tag("paused", "warning") : tag("open", "good");
}

function kinds(listener) {
  return [["tls", "TLS"], ["websocket", "WebSocket"], ["proxy_protocol", "PROXY"], ["allow_anonymous", "anonymous"]]
    .filter(([key]) => listener[key]).map(([, label]) => [tag(label), " "]);
}

const ACTIONS = {
  stop: ["Close", "Closed; its clients stay.", "Close the listener "],
  start: ["Open", "Open."],
  pause: ["Pause", "Newcomers wait.", "Let newcomers wait at "],
  resume: ["Resume", "Newcomers come in again."],
};

function actions(listener, again, make = (text, about, onclick) => button(text, onclick)) {
  async function act(verb) {
    const [label, done, question] = ACTIONS[verb];
    if (question && !(await ask([question, name(listener.name), "?"], label))) return;
    if (await attempt(() => post(`${path("listeners", listener.name)}/${verb}`), done)) await again();
  }
  return (listener.open ? [listener.paused ? "resume" : "pause", "stop"] : ["start"]).map((verb) => [make(ACTIONS[verb][0], listener.name, () => act(verb)), " "]);
}

async function detail(main, named, signal) {
  const listener = await get(path("listeners", named), {}, signal);
  const again = () => detail(main, named, signal);
  replace(main, h("p", {}, link("/listeners", "Listeners")), h("h1", {}, name(listener.name)),
    h("div", { class: "buttons" }, button("Refresh", again), may("operator") ? actions(listener, again) : null),
    h("section", { class: "card" }, facts([
      ["Endpoint", name(listener.endpoint)], ["Address", name(listener.address)],
      ["State", state(listener)],
      ["Connections", count(listener.connections)], ["Kind", kinds(listener)],
    ])),
    h("section", { class: "card" }, h("h2", {}, "Limits"), limitsForm(listener)));
}

/** Only what was changed is sent; numbers go as numbers. */
function limitsForm(listener) {
  const inputs = Object.entries(listener.limits).map(([key, value]) =>
    [key, value, h("input", { name: key, value, disabled: !may("operator") })]);
  async function save(event) {
    event.preventDefault();
    const changed = inputs.filter(([, value, input]) => input.value !== String(value));
    const body = Object.fromEntries(changed.map(([key, value, input]) =>
      [key, typeof value === "number" && input.value.trim() !== "" && !Number.isNaN(Number(input.value)) ? Number(input.value) : input.value]));
    if (changed.length) await attempt(() => patch(`${path("listeners", listener.name)}/limits`, body), "They hold until the next reload.");
  }
  return h("form", { onsubmit: save }, h("p", { class: "faint" }, "0 is no limit. A rate is written as 100/s or 100/s burst 500."), h("div", { class: "columns" }, inputs.map(([key, , input]) => field(sentence(key.replaceAll("_", " ")), input))),
    may("operator") ? h("button", { class: "primary" }, "Set limits") : null);
}
