// The last hour in figures: what the broker has kept, and what has come since. It outlives
// a look at another page, and is read anew when the stream of figures begins again.

import { get } from "./api.js";

const HOUR = 3600;

/** {at, dropped, ...figures} each, the oldest first; `at` is the broker's uptime. */
export let points = [];

/** Take what the broker has kept; what came meanwhile stays behind it. */
export async function load(signal) {
  points = [];
  const { uptime, figures, dropped } = await get("stats/history", {}, signal);
  const at = (series, index) => Object.fromEntries(Object.entries(series).map(([key, numbers]) => [key, numbers[index]]));
  const last = uptime.at(-1) ?? 0;
  points = [
    ...uptime.map((seconds, index) => ({ at: seconds, dropped: at(dropped, index), ...at(figures, index) })),
    ...points.filter((point) => point.at > last),
  ];
}

/** One more, from two looks at the figures. */
export function add(now, before) {
  const elapsed = Math.max(now.uptime - before.uptime, 0.001);
  const rate = (pick) => Math.max(0, (pick(now.counters) - pick(before.counters)) / elapsed);
  points.push({
    at: now.uptime,
    clients: now.gauges.clients.count,
    sessions: now.gauges.sessions.count,
    blocked: now.gauges.blocked_connections,
    queued: now.gauges.queued_messages,
    inflight: now.gauges.inflight,
    messages_in: rate((c) => sum(c.messages_received)),
    messages_out: rate((c) => sum(c.messages_sent)),
    bytes_in: rate((c) => c.bytes_received),
    bytes_out: rate((c) => c.bytes_sent),
    unrouted: rate((c) => c.messages_unrouted),
    dropped: Object.fromEntries(Object.keys(now.counters.dropped).map((reason) => [reason, rate((c) => c.dropped[reason] ?? 0)])),
    event_loop: within(now, before, "event_loop"),
    processing: within(now, before, "processing"),
  });
  while (points[0].at < now.uptime - HOUR) points.shift();
}

export const sum = (numbers) => numbers.reduce((all, each) => all + each, 0);

/** Seconds within which 99 of 100 were since `before`; null where nothing was measured. */
function within(now, before, what) {
  const latest = now.latency[what];
  const earlier = before.latency[what];
  if (!latest || !earlier) return null;
  const counts = latest.counts.map((number, index) => number - earlier.counts[index]);
  const wanted = 0.99 * sum(counts);
  if (!wanted) return null;
  let seen = 0;
  const index = counts.findIndex((number) => (seen += number) >= wanted);
  return latest.bounds[index] ?? latest.bounds.at(-1);
}
