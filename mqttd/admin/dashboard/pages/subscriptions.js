// Where messages go: subscriptions, and the distinct filters that lead to them.

import { count, field, h, link, name, option, replace, tag } from "../dom.js";
import { pagedTable, settled } from "../table.js";
import { options } from "./clients.js";

export const title = "Subscriptions";
export const role = "viewer";

export async function show(main, parts, signal) {
  const by = h("select", { name: "by" }, option("topic", "match the topic"), option("topic_filter", "are the filter"));
  const text = h("input", { type: "search", name: "text", autocomplete: "off", spellcheck: "false", "aria-label": "Topic or filter" });
  const subscriptions = pagedTable({
    where: "subscriptions",
    caption: "Subscriptions",
    empty: "No subscription fits.",
    signal,
    filters: () => ({ [by.value]: text.value }),
    columns: [
      { label: "Client id", cell: (s) => link(`/sessions/${encodeURIComponent(s.client_id)}`, name(s.client_id)) },
      { label: "Filter", cell: (s) => name(s.topic_filter) },
      { label: "QoS", number: true, cell: (s) => s.qos },
      { label: "Options", wide: true, cell: options },
    ],
  });
  const routes = pagedTable({
    where: "routes",
    caption: "Distinct filters",
    empty: "No filter fits.",
    signal,
    filters: () => (by.value === "topic" ? { topic: text.value } : { prefix: text.value }),
    columns: [
      { label: "Filter", cell: (r) => name(r.topic_filter) },
      { label: "Subscribers", number: true, cell: (r) => count(r.subscribers) },
      { label: "Shared groups", cell: (r) => r.groups.map((g) => [tag(`${g.name}: ${count(g.members)}`), " "]) },
    ],
  });
  const both = () => Promise.all([subscriptions.reset(), routes.reset()]);
  text.addEventListener("input", settled(both));
  by.addEventListener("change", both);
  replace(main, h("h1", {}, "Subscriptions"),
    h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); both(); } },
      field("Those that", by), field("Topic or filter", text)),
    h("div", { class: "halves" },
      h("section", {}, h("h2", {}, "By client"), subscriptions.element),
      h("section", {}, h("h2", {}, "By filter"), routes.element)));
  await Promise.all([subscriptions.load(), routes.load()]);
}
