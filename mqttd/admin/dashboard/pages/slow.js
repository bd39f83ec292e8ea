// Subscribers that do not keep up, the worst first.

import { get, pause } from "../api.js";
import { bytes, count, h, link, name, replace, tag, time } from "../dom.js";
import { plainTable } from "../table.js";

export const title = "Slow clients";
export const role = "viewer";

const SECONDS = 5;

export async function show(main, parts, signal) {
  const list = h("div");
  replace(main, h("h1", {}, "Slow clients"),
    h("p", { class: "faint" }, `Connected subscribers that do not keep up; asked for every ${SECONDS} seconds.`), list);
  while (!signal.aborted) {
    const { items } = await get("slow-subscribers", {}, signal);
    replace(list, plainTable([
      { label: "Client id", cell: (s) => link(`/clients/${encodeURIComponent(s.client_id)}`, name(s.client_id)) },
      { label: "Unacknowledged for", number: true, cell: (s) => time(s.unacknowledged_for) },
      { label: "In flight", wide: true, number: true, cell: (s) => count(s.inflight) },
      { label: "Queued", number: true, cell: (s) => count(s.queued) },
      { label: "Bytes", wide: true, number: true, cell: (s) => bytes(s.queued_bytes) },
      { label: "Dropped", wide: true, number: true, cell: (s) => count(s.dropped) },
      { label: "Output", cell: (s) => (s.blocked ? tag("blocked", "bad") : tag("free")) },
    ], items, "All keep up.", "Slow clients"));
    await pause(1000 * SECONDS, signal);
  }
}
