// Plugins: those that run, their settings, and those that can be loaded. What is done here
// holds until the next start; the configuration says what lasts.

import { get, may, path, post, put, remove } from "../api.js";
import { button, facts, field, h, link, name, option, replace, rowButton } from "../dom.js";
import { ask, attempt, note } from "../notes.js";
import { plainTable } from "../table.js";

export const title = "Plugins";
export const role = "viewer";

const LASTING = "What is changed here holds until the next start of the daemon; what lasts stands in [[plugin]] of the configuration.";

export async function show(main, [plugin], signal) {
  await (plugin === undefined ? list(main, signal) : detail(main, plugin, signal));
}

async function list(main, signal) {
  const administrator = may("administrator");
  const [{ items }, available] = await Promise.all([
    get("plugins", {}, signal), administrator ? get("available-plugins", {}, signal) : { items: [] },
  ]);
  const again = () => list(main, signal);
  replace(main, h("h1", {}, "Plugins"), administrator ? h("p", { class: "faint" }, LASTING) : null, plainTable([
    { label: "Name", cell: (p) => (administrator ? link(`/plugins/${encodeURIComponent(p.name)}`, name(p.name)) : name(p.name)) },
    { label: "What it does", cell: (p) => p.description ?? "" },
    { label: "Priority", wide: true, number: true, cell: (p) => p.priority },
    { label: "Class", wide: true, cell: (p) => h("code", {}, p.kind) },
    administrator && { actions: true, cell: (p) => rowButton("Unload", p.name, () => unload(p.name, again)) },
  ], items, "None runs.", "Plugins"), administrator ? loadForm(available.items, again) : null);
}

async function unload(plugin, then) {
  if (!(await ask(["Unload the plugin ", name(plugin), "? What it does ends at once."], "Unload"))) return;
  if (await attempt(() => remove(path("plugins", plugin)), "It is unloaded.")) await then();
}

function loadForm(available, again) {
  const use = h("select", { name: "use", onchange: fill }, available.map((each) => option(each.use, each.use)));
  const settings = settingsArea();
  const about = h("p", { class: "faint" });
  function fill() {
    const chosen = available.find((each) => each.use === use.value);
    replace(about, chosen?.description ?? "", chosen?.problem ? ` ${chosen.problem}` : "");
    settings.value = written(chosen?.settings ?? {});
  }
  fill();
  async function load(event) {
    event.preventDefault();
    const said = read(settings.value);
    if (said && await attempt(() => post("plugins", { use: use.value, settings: said }), "It runs.")) await again();
  }
  return h("form", { class: "card", id: "load", onsubmit: load }, h("h2", {}, "Load a plugin"),
    field("Plugin", use), about, field("Settings, as JSON", settings), h("button", { class: "primary" }, "Load"));
}

async function detail(main, plugin, signal) {
  const found = await get(path("plugins", plugin), {}, signal);
  const settings = settingsArea();
  settings.value = written(found.settings);
  async function make(event) {
    event.preventDefault();
    const said = read(settings.value);
    if (!said) return;
    if (await attempt(() => put(path("plugins", plugin), { settings: said }), "It runs with these settings.")) await detail(main, plugin, signal);
  }
  replace(main, h("p", {}, link("/plugins", "Plugins")), h("h1", {}, name(found.name)),
    h("div", { class: "buttons" },
      button("Start anew", () => attempt(() => put(path("plugins", plugin), {}), "It was stopped, and runs anew.")),
      button("Unload", () => unload(plugin, () => { location.hash = "#/plugins"; }), "danger")),
    h("section", { class: "card" }, facts([["What it does", found.description ?? ""], ["Class", h("code", {}, found.kind)], ["Priority", found.priority]])),
    h("form", { class: "card", onsubmit: make }, h("h2", {}, "Settings"), h("p", { class: "faint" }, LASTING),
      field("As JSON", settings), h("button", { class: "primary" }, "Use these settings")));
}

const settingsArea = () => h("textarea", { name: "settings", rows: 12, spellcheck: "false" });

/** Which plugin it is, stands elsewhere. */
function written({ use, ...settings }) {
  return JSON.stringify(settings, null, 2);
}

function read(text) {
  try {
    return JSON.parse(text || "{}");
  } catch (error) {
    note(`The settings are not JSON: ${error.message}`, "bad");
    return null;
  }
}
