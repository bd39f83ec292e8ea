// The last changes by operators: who, from where, what, and how it ended.

import { get } from "../api.js";
import { button, date, h, name, replace, tag } from "../dom.js";
import { plainTable } from "../table.js";

export const title = "Audit";
export const role = "administrator";

const SHOWN = 200;

export async function show(main, parts, signal) {
  const { items } = await get("audit", { last: SHOWN }, signal);
  replace(main, h("h1", {}, "Audit"), h("div", { class: "buttons" }, button("Refresh", () => show(main, parts, signal))),
    plainTable([
      { label: "When", cell: (c) => date(c.time) },
      { label: "Who", cell: (c) => name(c.user) },
      { label: "From", wide: true, cell: (c) => name(c.address) },
      { label: "What", cell: (c) => [h("code", {}, c.method), " ", name(c.path)] },
      { label: "Outcome", cell: (c) => tag(c.status, c.status < 400 ? "good" : "bad") },
    ], items, "Nothing has been changed since the start.", "Changes"));
}
