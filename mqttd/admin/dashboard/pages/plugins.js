// Plugins that run. Which they are, the configuration file says.

import { get } from "../api.js";
import { h, name, replace } from "../dom.js";
import { plainTable } from "../table.js";

export const title = "Plugins";
export const role = "viewer";

export async function show(main, parts, signal) {
  const { items } = await get("plugins", {}, signal);
  replace(main, h("h1", {}, "Plugins"), plainTable([
    { label: "Name", cell: (p) => name(p.name) },
    { label: "What it does", cell: (p) => p.description ?? "" },
    { label: "Class", cell: (p) => h("code", {}, p.kind) },
  ], items, "None runs: [[plugin]] in the configuration names them.", "Plugins"));
}
