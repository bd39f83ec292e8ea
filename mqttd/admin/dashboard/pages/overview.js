// The broker at a glance, live.

import { get, stream } from "../api.js";
import { chart } from "../chart.js";
import { bytes, count, counted, facts, h, link, name, option, replace, sentence, short, tag, time } from "../dom.js";
import * as history from "../history.js";
import { note } from "../notes.js";
import { plainTable } from "../table.js";

export const title = "Overview";
export const role = "viewer";

const SECONDS = 2;
const EVENTS = 12;
/** Alarms that are shown; the page of the alarms has them all. */
const BANNERS = 3;

/** Seconds that the charts may show. */
const SPANS = { 300: "Last 5 minutes", 900: "Last 15 minutes", 3600: "Last hour" };

export async function show(main, parts, signal) {
  const live = h("span", { class: "tag" }, "…");
  const figures = h("div");
  const dropped = h("div");
  const process = h("div");
  const happened = h("ol", { class: "events" });
  const charts = makeCharts();
  const span = h("select", { name: "span", "aria-label": "Time shown", onchange: draw },
    Object.entries(SPANS).map(([seconds, label]) => option(seconds, label, seconds === "3600")));
  replace(main, h("div", { class: "head" }, h("h1", {}, "Overview ", live), span), h("div", { id: "alarming" }), figures,
    h("div", { class: "charts" }, charts.map((each) => each.element)),
    h("div", { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, "Dropped messages"), dropped),
      h("section", { class: "card" }, h("h2", {}, "Comes and goes"), happened),
      h("section", { class: "card" }, h("h2", {}, "Process"), process)));
  let before = null;
  function stats(now) {
    replace(figures, summary(now));
    replace(dropped, drops(now, before));
    if (before) {
      history.add(now, before);
      draw();
    }
    before = now;
  }
  function draw() {
    const { points } = history;
    if (!points.length) return;
    const first = points[0].at;
    for (const each of charts) each.draw(points, Math.max(first, points.at(-1).at - Number(span.value)));
  }
  async function remember() {
    try {
      await history.load(signal);
      draw();
    } catch (error) {
      if (!signal.aborted) note(error.message, "bad");
    }
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
    if (state === "live") remember();
  });
}

function makeCharts() {
  return [
    chart("Connections", count, (p) => ({ Clients: p.clients, Sessions: p.sessions, Blocked: p.blocked })),
    chart("Messages per second", short, (p) => ({ In: p.messages_in, Out: p.messages_out })),
    chart("Bytes per second", bytes, (p) => ({ In: p.bytes_in, Out: p.bytes_out }), 1024),
    chart("Drops per second", short, (p) => ({ "no subscriber": p.unrouted, ...p.dropped })),
    chart("Messages that wait", count, (p) => ({ Queued: p.queued, "In flight": p.inflight })),
    chart("Latency, 99 of 100 within", milliseconds, (p) => ({ "Event loop": 1000 * p.event_loop, Answers: 1000 * p.processing })),
  ];
}

const milliseconds = (value) => (value === null ? "not measured" : `${Number(value.toPrecision(3))} ms`);

function summary({ uptime, gauges, counters }) {
  const level = ({ count: now, maximum }) => [count(now), h("small", {}, ` most ${count(maximum)}`)];
  return h("dl", { class: "figures" }, [
    ["Clients", level(gauges.clients)],
    ["Sessions", level(gauges.sessions)],
    ["Subscriptions", level(gauges.subscriptions)],
    ["Retained", level(gauges.retained)],
    ["Messages in", count(history.sum(counters.messages_received))],
    ["Messages out", count(history.sum(counters.messages_sent))],
    ["Queued", [count(gauges.queued_messages), h("small", {}, ` ${bytes(gauges.queued_bytes)}`)]],
    ["Up for", time(uptime)],
  ].map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))));
}

function drops(now, before) {
  const rows = Object.entries(now.counters.dropped).sort(([, a], [, b]) => b - a);
  const lately = (reason) => (before ? now.counters.dropped[reason] - (before.counters.dropped[reason] ?? 0) : 0);
  return plainTable([
    { label: "Reason", cell: ([reason]) => reason },
    { label: "Total", number: true, cell: ([, number]) => count(number) },
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
        ["Memory", [bytes(now.memory), h("small", {}, ` most ${bytes(now.memory_maximum)}`)]],
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
    if (place) replace(place, [items.slice(0, BANNERS).map((alarm) =>
      h("p", { class: `banner ${alarm.severity}` }, link("/alarms", sentence(alarm.title)), ": ", alarm.summary ?? "")),
    items.length > BANNERS ? h("p", {}, link("/alarms", `${counted(items.length - BANNERS, "more alarm")}`)) : null]);
  } catch {
    // The page of the alarms says why.
  }
}
