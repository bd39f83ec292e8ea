// The broker at a glance, live.

import { get, stream } from "../api.js";
import { chart } from "../chart.js";
import { bytes, count, facts, h, link, name, replace, short, tag, time } from "../dom.js";
import { plainTable } from "../table.js";

export const title = "Overview";
export const role = "viewer";

const SECONDS = 2;
const EVENTS = 12;

const sum = (numbers) => numbers.reduce((all, each) => all + each, 0);

/** They outlive a look at another page; while that is shown, nothing is added. */
let charts = null;

export async function show(main, parts, signal) {
  const live = h("span", { class: "tag" }, "…");
  const figures = h("div");
  const dropped = h("div");
  const process = h("div");
  const happened = h("ol", { class: "events" });
  charts ??= makeCharts();
  replace(main, h("h1", {}, "Overview ", live), h("div", { id: "alarming" }), figures,
    h("div", { class: "charts" }, charts.all.map((each) => each.element)),
    h("div", { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, "Dropped messages"), dropped),
      h("section", { class: "card" }, h("h2", {}, "Comes and goes"), happened),
      h("section", { class: "card" }, h("h2", {}, "Process"), process)));
  let before = null;
  function stats(now) {
    replace(figures, summary(now));
    replace(dropped, drops(now, before));
    if (before) charts.add(now, before);
    before = now;
  }
  function event(words, kind) {
    return (what) => {
      happened.prepend(h("li", {}, tag(words, kind), " ", link(`/clients/${encodeURIComponent(what.client_id)}`, name(what.client_id)),
        " ", h("span", { class: "faint" }, what.reason ?? what.address)));
      while (happened.childElementCount > EVENTS) happened.lastElementChild.remove();
    };
  }
  watchProcess(process, signal);
  watchAlarms(signal);
  await stream("events", { stats_every: SECONDS }, {
    stats,
    connected: event("came", "good"),
    disconnected: event("went", ""),
    alarm: () => watchAlarms(signal),
    "all-clear": () => watchAlarms(signal),
  }, signal, (state) => {
    live.className = `tag ${state === "live" ? "good" : "bad"}`;
    replace(live, state);
    // A gap in time would look like a burst.
    before = null;
  });
}

function makeCharts() {
  const connections = chart("Connections", ["Clients", "Sessions", "Slow clients"], count);
  const messages = chart("Messages per second", ["In", "Out"], short);
  const traffic = chart("Bytes per second", ["In", "Out"], bytes);
  const drops = chart("Drops per second", ["Dropped", "No subscriber"], short);
  const queues = chart("Messages that wait", ["Queued", "In flight"], count);
  const latency = chart("Latency, 99 of 100 within", ["Event loop", "Answers"], milliseconds);
  function add(now, before) {
    const elapsed = Math.max(now.uptime - before.uptime, 0.001);
    const rate = (pick) => Math.max(0, (pick(now.counters) - pick(before.counters)) / elapsed);
    const { gauges } = now;
    connections.add([gauges.clients.count, gauges.sessions.count, gauges.blocked_connections]);
    messages.add([rate((c) => sum(c.messages_received)), rate((c) => sum(c.messages_sent))]);
    traffic.add([rate((c) => c.bytes_received), rate((c) => c.bytes_sent)]);
    drops.add([rate((c) => sum(Object.values(c.dropped))), rate((c) => c.messages_unrouted)]);
    queues.add([gauges.queued_messages, gauges.inflight]);
    latency.add([within(now, before, "event_loop"), within(now, before, "processing")]);
  }
  return { all: [connections, messages, traffic, drops, queues, latency], add };
}

/** Milliseconds within which 99 of 100 were since `before`; null where nothing was measured. */
function within(now, before, what) {
  const latest = now.latency[what];
  const earlier = before.latency[what];
  if (!latest || !earlier) return null;
  const counts = latest.counts.map((number, index) => number - earlier.counts[index]);
  const wanted = 0.99 * sum(counts);
  let seen = 0;
  const index = counts.findIndex((number) => (seen += number) >= wanted);
  return wanted ? 1000 * (latest.bounds[index] ?? latest.bounds.at(-1)) : 0;
}

const milliseconds = (value) => (value === null ? "not measured" : `${Number(value.toPrecision(3))} ms`);

function summary({ uptime, gauges, counters }) {
  const level = ({ count: now, maximum }) => [count(now), h("small", {}, ` most ${count(maximum)}`)];
  return h("dl", { class: "figures" }, [
    ["Clients", level(gauges.clients)],
    ["Sessions", level(gauges.sessions)],
    ["Subscriptions", level(gauges.subscriptions)],
    ["Retained", level(gauges.retained)],
    ["Messages in", count(sum(counters.messages_received))],
    ["Messages out", count(sum(counters.messages_sent))],
    ["Queued", [count(gauges.queued_messages), h("small", {}, ` ${bytes(gauges.queued_bytes)}`)]],
    ["Up for", time(uptime)],
  ].map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))));
}

function drops(now, before) {
  const rows = Object.entries(now.counters.dropped).sort(([, a], [, b]) => b - a);
  const lately = (reason) => (before ? now.counters.dropped[reason] - (before.counters.dropped[reason] ?? 0) : 0);
  return plainTable([
    { label: "Reason", cell: ([reason]) => reason },
    { label: "Since the start", number: true, cell: ([, number]) => count(number) },
    { label: `Last ${SECONDS} s`, number: true, cell: ([reason]) => count(lately(reason)) },
  ], rows, "Nothing was dropped.", "Dropped messages by reason");
}

async function watchProcess(element, signal) {
  let before = null;
  while (!signal.aborted) {
    try {
      const now = await get("process", {}, signal);
      const at = performance.now() / 1000;
      const busy = before ? (now.processor_seconds - before.used) / (at - before.at) : null;
      before = { at, used: now.processor_seconds };
      replace(element, facts([
        ["Processor", busy === null ? "…" : `${(100 * busy).toFixed(0)} %`],
        ["Memory", `${bytes(now.memory)}, most ${bytes(now.memory_maximum)}`],
        ["Open files", `${count(now.open_files)} of ${count(now.open_files_allowed)}`],
        ["Longest stall", `${(1000 * now.longest_stall).toFixed(0)} ms`],
        ["Load of the machine", now.load.map((each) => each.toFixed(2)).join("  ")],
      ]));
    } catch (error) {
      if (!signal.aborted) replace(element, h("p", { class: "bad" }, error.message));
    }
    await new Promise((resolve) => setTimeout(resolve, 2500 * SECONDS));
  }
}

async function watchAlarms(signal) {
  try {
    const { items } = await get("alarms", {}, signal);
    const place = document.getElementById("alarming");
    if (place) replace(place, items.map((alarm) => h("p", { class: `banner ${alarm.severity}` }, link("/alarms", alarm.title), " ", alarm.summary ?? "")));
  } catch {
    // The page of the alarms says why.
  }
}
