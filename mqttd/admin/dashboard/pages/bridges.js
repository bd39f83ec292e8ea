// Bridges: whether the other side is there, what goes over, and what waits.

import { get, may, path, pause, post } from "../api.js";
import { button, bytes, count, date, facts, h, link, name, replace, rowButton, tag, time } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { plainTable } from "../table.js";

export const title = "Bridges";
export const role = "viewer";

const SECONDS = 5;

export async function show(main, [bridge], signal) {
  const draw = bridge === undefined ? list : detail;
  async function again() {
    try {
      await draw(main, bridge, signal, again);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
  while (!signal.aborted) {
    // What somebody is about to use stays where it is.
    const focused = document.activeElement;
    if (focused === main || !main.contains(focused)) await again();
    await pause(1000 * SECONDS, signal);
  }
}

const STATES = { connected: "good", connecting: "warning", waiting: "bad" };

function state(bridge) {
  return tag(bridge.state, STATES[bridge.state]);
}

async function list(main, named, signal, again) {
  const { items } = await get("bridges", {}, signal);
  replace(main, h("h1", {}, "Bridges"), plainTable([
    { label: "Name", cell: (b) => link(`/bridges/${encodeURIComponent(b.name)}`, name(b.name)) },
    { label: "Address", wide: true, cell: (b) => name(b.address) },
    { label: "State", cell: state },
    { label: "Sent", number: true, cell: (b) => count(b.sent) },
    { label: "Received", number: true, cell: (b) => count(b.received) },
    { label: "Queued", number: true, cell: (b) => count(b.queued) },
    may("operator") && { actions: true, cell: (b) => action(b, again, rowButton) },
  ], items, "The configuration has no bridge.", "Bridges"));
}

function action(bridge, again, make) {
  const stopped = bridge.state === "stopped";
  return make(stopped ? "Start" : "Stop", bridge.name, async () => {
    if (!stopped && !(await ask(["Stop the bridge ", name(bridge.name), "?"], "Stop"))) return;
    const done = stopped ? "Started." : "Stopped; what goes out waits.";
    if (await attempt(() => post(`${path("bridges", bridge.name)}/${stopped ? "start" : "stop"}`), done)) await again();
  });
}

async function detail(main, named, signal, again) {
  const bridge = await get(path("bridges", named), {}, signal);
  const dropped = Object.entries(bridge.dropped).map(([reason, number]) => `${count(number)} ${reason}`);
  replace(main, h("p", {}, link("/bridges", "Bridges")), h("h1", {}, name(bridge.name)),
    h("div", { class: "buttons" }, button("Refresh", again),
      may("operator") ? action(bridge, again, (text, about, onclick) => button(text, onclick)) : null),
    h("section", { class: "card" }, facts([
      ["State", [state(bridge), " since ", date(bridge.since)]], ["Away for", bridge.away_for === null ? "–" : time(bridge.away_for)],
      ["Address", name(bridge.address)], ["Client id there", name(bridge.client_id)], ["MQTT", bridge.version],
      ["Attempts to connect", count(bridge.attempts)], ["Last error", name(bridge.last_error || null)],
      ["Sent", count(bridge.sent)], ["Received", count(bridge.received)], ["Dropped", dropped.join(", ") || "0"],
      ["Queued", `${count(bridge.queued)} (${bytes(bridge.queued_bytes)})`],
    ])),
    plainTable([
      { label: "Filter", cell: (t) => name(t.filter) },
      { label: "Direction", cell: (t) => t.direction },
      { label: "QoS", number: true, cell: (t) => t.qos },
      { label: "Prefix here", wide: true, cell: (t) => name(t.local_prefix) },
      { label: "Prefix there", wide: true, cell: (t) => name(t.remote_prefix) },
    ], bridge.topics, "Nothing goes over it.", "Topics"));
}
