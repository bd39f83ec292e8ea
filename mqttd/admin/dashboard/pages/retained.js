// Retained messages: a list by filter, one with its payload, and deleting.

import { get, may, path, remove } from "../api.js";
import { button, bytes, facts, field, h, link, name, replace, rowButton, time } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { payload } from "../payload.js";
import { pagedTable, settled } from "../table.js";

export const title = "Retained";
export const role = "viewer";

export async function show(main, [topic], signal) {
  await (topic === undefined ? list(main, signal) : detail(main, topic, signal));
}

async function list(main, signal) {
  const filter = h("input", { type: "search", name: "topic_filter", autocomplete: "off", spellcheck: "false", placeholder: "#" });
  const table = pagedTable({
    where: "retained",
    caption: "Retained messages",
    empty: "No retained message fits.",
    signal,
    filters: () => ({ topic_filter: filter.value }),
    columns: [
      { label: "Topic", cell: (m) => (may("operator") ? link(`/retained/${encodeURIComponent(m.topic)}`, name(m.topic)) : name(m.topic)) },
      { label: "Size", number: true, cell: (m) => bytes(m.size) },
      { label: "QoS", wide: true, number: true, cell: (m) => m.qos },
      { label: "By", wide: true, cell: (m) => (m.publisher === null ? h("span", { class: "faint" }, "the broker") : name(m.publisher)) },
      { label: "Expires in", wide: true, number: true, cell: (m) => (m.expires_in === null ? "never" : time(m.expires_in)) },
      may("operator") && { actions: true, cell: (m) => rowButton("Delete", m.topic, () => erase(m.topic, table.load)) },
    ],
  });
  async function eraseAll() {
    if (!(await ask(["Delete every retained message that ", name(filter.value), " matches?"], "Delete"))) return;
    let answer = {};
    if (await attempt(async () => { answer = await remove("retained", { topic_filter: filter.value }); })) {
      await table.reset();
      await attempt(async () => {}, `${answer.deleted} deleted.`);
    }
  }
  const all = button("Delete all that match", eraseAll, "danger");
  const search = settled(table.reset);
  all.disabled = true;
  filter.addEventListener("input", () => { all.disabled = filter.value === ""; search(); });
  replace(main, h("h1", {}, "Retained messages"),
    h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); table.reset(); } },
      field("Topic filter", filter), may("operator") ? all : null),
    table.element);
  await table.load();
}

async function erase(topic, then) {
  if (!(await ask(["Delete the retained message on ", name(topic), "?"], "Delete"))) return;
  if (await attempt(() => remove(path("retained", topic)), "Deleted.")) await then();
}

async function detail(main, topic, signal) {
  const message = await get(path("retained", topic), {}, signal);
  replace(main,
    h("p", {}, link("/retained", "Retained messages")), h("h1", {}, name(topic)),
    h("div", { class: "buttons" }, button("Refresh", () => show(main, [topic], signal)),
      button("Delete", () => erase(topic, () => { location.hash = "#/retained"; }), "danger")),
    h("section", { class: "card" }, facts([
      ["Size", bytes(message.size)], ["QoS", message.qos],
      ["By", message.publisher === null ? "the broker" : name(message.publisher)],
      ["Expires in", message.expires_in === null ? "never" : time(message.expires_in)],
    ])),
    h("section", { class: "card" }, h("h2", {}, "Payload"), payload(message)));
}
