// The tree of topics: a level is asked for when it is opened.

import { get } from "../api.js";
import { button, count, counted, h, link, name, replace, tag } from "../dom.js";

export const title = "Topics";
export const role = "viewer";

const LIMIT = 100;

export async function show(main, parts, signal) {
  const tree = h("ul", { class: "tree" });
  replace(main, h("h1", {}, "Topics"),
    h("p", { class: "faint" }, "Filters that are subscribed to, and topics with a retained message."),
    h("section", { class: "card" }, tree));
  await fill(tree, null, null, signal);
  if (!tree.childElementCount) replace(tree, h("li", { class: "faint" }, "There is none."));
}

async function fill(list, below, after, signal) {
  const page = await get("topics", { below, after, limit: LIMIT }, signal);
  list.append(...page.items.map((item) => branch(item, signal)));
  if (page.next === null) return;
  const left = page.total - list.childElementCount;
  const more = h("li", {}, button(`${count(left)} more`, () => { more.remove(); fill(list, below, page.next, signal); }, "small"));
  list.append(more);
}

function branch(item, signal) {
  const label = [name(item.level), marks(item)];
  if (!item.more) return h("li", { class: "leaf" }, label);
  const list = h("ul");
  let asked = false;
  async function open() {
    if (asked) return;
    asked = true;
    try {
      await fill(list, `${item.topic}/`, null, signal);
    } catch (error) {
      asked = false;
      if (!signal.aborted) replace(list, h("li", { class: "bad" }, error.message));
    }
  }
  return h("li", {}, h("details", { ontoggle: open }, h("summary", {}, label), list));
}

function below({ filters, messages }) {
  return [filters ? counted(filters, "filter") : null, messages ? `${count(messages)} retained` : null].filter(Boolean).join(", ");
}

function marks(item) {
  return [
    item.subscribed ? tag("subscribed", "good") : null,
    item.retained ? link(`/retained/${encodeURIComponent(item.topic)}`, tag("retained")) : null,
    item.more ? h("small", {}, " ", below(item)) : null,
  ];
}
