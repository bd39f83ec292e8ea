// The configuration in force: look, change a table until the next reload, and reload.

import { get, patch, post } from "../api.js";
import { button, field, h, option, replace } from "../dom.js";
import { ask, attempt, note } from "../notes.js";

export const title = "Configuration";
export const role = "administrator";

export async function show(main, parts, signal) {
  const settings = await get("config", {}, signal);
  const again = () => show(main, parts, signal);
  replace(main, h("h1", {}, "Configuration"),
    h("div", { class: "buttons" }, button("Refresh", again), button("Reload the file", () => reload(again))),
    changeForm(settings, again),
    Object.entries(settings).map(([table, values]) => h("details", { class: "card" }, h("summary", {}, h("code", {}, `[${table}]`)),
      h("pre", { class: "payload", tabindex: 0 }, JSON.stringify(values, null, 2)))));
}

function outcome({ changed, restart_needed: later }) {
  const said = changed.length ? `Changed: ${changed.join(", ")}.` : "Nothing has changed.";
  note(later.length ? `${said}\nAfter a restart: ${later.join(", ")}.` : said);
}

async function reload(again) {
  if (!(await ask("Read the configuration file again? What was changed here ends.", "Reload"))) return;
  if (await attempt(async () => outcome(await post("reload")))) await again();
}

/** One setting at a time: its table, its name and a value as JSON or, else, as text. */
function changeForm(settings, again) {
  const tables = Object.keys(settings).filter((key) => !Array.isArray(settings[key]) && typeof settings[key] === "object");
  const table = h("select", { name: "table", onchange: () => fill() }, tables.map((key) => option(key, `[${key}]`)));
  const key = h("select", { name: "key", onchange: () => show() });
  const value = h("input", { name: "value", autocomplete: "off", spellcheck: "false" });
  const show = () => { value.value = written(settings[table.value][key.value]); };
  const fill = () => {
    replace(key, Object.keys(settings[table.value]).map((each) => option(each, each)));
    show();
  };
  fill();
  return h("form", { class: "card", onsubmit: async (event) => {
    event.preventDefault();
    const body = { [table.value]: { [key.value]: read(value.value) } };
    if (await attempt(async () => outcome(await patch("config", body)))) await again();
  } }, h("h2", {}, "Change until the next reload"),
    h("div", { class: "row" }, field("Table", table), field("Setting", key), field("Value", value)), h("button", { class: "primary" }, "Change"));
}

function written(value) {
  return typeof value === "string" ? value : JSON.stringify(value ?? "");
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
