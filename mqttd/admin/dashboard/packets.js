// Packets as lines: live ones, and those of a trace or a flight recorder.

import { stream } from "./api.js";
import { button, field, h, name, option, replace } from "./dom.js";
import { note } from "./notes.js";

/** Lines that are kept on a page. */
const KEPT = 500;

const ARROWS = { in: "→", out: "←" };
const HEAD = new Set(["at", "client_id", "address", "direction", "packet", "event", "head"]);

/** One record; `who` says whether the client is named. */
export function line(record, who = true) {
  const rest = Object.entries(record).filter(([key]) => !HEAD.has(key))
    .map(([key, value]) => [h("span", { class: "faint" }, `${key}=`), typeof value === "string" ? name(value) : JSON.stringify(value), " "]);
  return h("li", {}, h("time", { class: "faint" }, clock(record.at)), " ",
    h("span", { title: record.direction === "in" ? "from the client" : "to the client" }, ARROWS[record.direction] ?? "·"), " ",
    who ? [name(record.client_id || record.address), " "] : null,
    h("strong", {}, record.packet ?? record.event ?? ""), " ", rest);
}

function clock(at) {
  const date = new Date(at * 1000);
  return `${date.toLocaleTimeString("sv-SE")}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Records that are all here, the oldest first. */
export function packets(records, who = true) {
  return h("ol", { class: "packets", tabindex: 0 }, records.length ? records.map((each) => line(each, who)) : h("li", { class: "faint" }, "None."));
}

/**
 * Packets as they come, for as long as it is wanted: `query()` says of whom (see GET
 * /packets), `inputs` are its fields.
 */
export function livePackets({ inputs = null, query, who, signal }) {
  const list = h("ol", { class: "packets", tabindex: 0 });
  const state = h("span", { class: "tag" }, "stopped");
  const shown = h("select", { name: "payload-shown" }, [0, 100, 1000].map((each) => option(each, each ? `${each} bytes` : "none")));
  let current = null;
  const stop = button("Stop", () => current?.abort());
  stop.disabled = true;

  function add(item) {
    list.append(item);
    while (list.childElementCount > KEPT) list.firstElementChild.remove();
    list.scrollTop = list.scrollHeight;
  }

  async function begin(event) {
    event.preventDefault();
    current?.abort();
    const mine = (current = new AbortController());
    stop.disabled = false;
    await stream("packets", { ...query(), payload: shown.value }, {
      packet: (record) => add(line(record, who)),
      missed: ({ events }) => add(h("li", { class: "faint" }, `${events} were missed: this page was slow`)),
    }, AbortSignal.any([mine.signal, signal]), (text) => {
      if (mine !== current) return;
      replace(state, text === "live" ? text : "stopped");
      if (text !== "live" && text !== "ended" && !mine.signal.aborted) note(text, "bad");
    });
    if (mine !== current) return;
    stop.disabled = true;
    replace(state, "stopped");
  }

  return h("section", { class: "card", id: "packets" }, h("h2", {}, "Live packets ", state),
    h("form", { onsubmit: begin }, h("div", { class: "row" }, inputs, field("Payload shown", shown)),
      h("div", { class: "buttons" }, h("button", { class: "primary" }, "Watch"), stop, button("Clear", () => replace(list)))),
    list);
}
