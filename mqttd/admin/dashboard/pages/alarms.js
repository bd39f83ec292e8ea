// Alarms: what is wrong now, and what was.

import { get, may, path, remove, stream } from "../api.js";
import { date, h, replace, rowButton, sentence, tag } from "../dom.js";
import { attempt } from "../notes.js";
import { plainTable } from "../table.js";

export const title = "Alarms";
export const role = "viewer";

export async function show(main, parts, signal) {
  const active = h("section", { class: "card" });
  const history = h("section", { class: "card" });
  replace(main, h("h1", {}, "Alarms"), active, history);
  async function load() {
    try {
      const [now, before] = await Promise.all([get("alarms", {}, signal), get("alarms", { history: true }, signal)]);
      replace(active, h("h2", {}, "Active"), table(now.items, "All is well.", clear));
      replace(history, h("h2", {}, "Over"), table(before.items, "There was none.", null));
    } catch (error) {
      if (!signal.aborted) replace(active, h("p", { class: "bad" }, error.message));
    }
  }
  async function clear(alarm) {
    if (await attempt(() => remove(path("alarms", alarm.id)), "Cleared; it comes again if its cause is still there.")) await load();
  }
  await load();
  await stream("events", {}, { alarm: load, "all-clear": load }, signal);
}

function table(items, empty, clear) {
  return plainTable([
    { label: "Severity", cell: (a) => tag(a.severity, a.severity) },
    { label: "Alarm", cell: (a) => [sentence(a.title), h("br"), h("small", {}, a.summary ?? "")] },
    { label: "Since", cell: (a) => date(a.since) },
    clear
      ? may("operator") && { actions: true, cell: (a) => rowButton("Clear", a.title, () => clear(a)) }
      : { label: "Until", cell: (a) => date(a.cleared_at) },
  ], items, empty, "Alarms");
}
