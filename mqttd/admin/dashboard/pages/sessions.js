// Sessions: those of connected clients, and those that wait for theirs.

import { get, may, path, remove } from "../api.js";
import { button, bytes, count, facts, field, h, link, name, option, replace, rowButton, tag, time } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { pagedTable, settled } from "../table.js";
import { subscriptionTable } from "./clients.js";

export const title = "Sessions";
export const role = "viewer";

export async function show(main, [clientId], signal) {
  await (clientId === undefined ? list(main, signal) : detail(main, clientId, signal));
}

async function list(main, signal) {
  const prefix = h("input", { type: "search", name: "prefix", autocomplete: "off", spellcheck: "false" });
  const online = h("select", { name: "online" }, option("", "All"), option("true", "Connected"), option("false", "Away"));
  const table = pagedTable({
    where: "sessions",
    caption: "Sessions",
    empty: "No session fits.",
    signal,
    filters: () => ({ prefix: prefix.value, online: online.value }),
    columns: [
      { label: "Client id", cell: (s) => link(`/sessions/${encodeURIComponent(s.client_id)}`, name(s.client_id)) },
      { label: "User", wide: true, cell: (s) => name(s.user) },
      { label: "Client", cell: (s) => (s.online ? tag("connected", "good") : tag("away")) },
      { label: "Age", wide: true, number: true, cell: (s) => time(s.age) },
      { label: "Filters", wide: true, number: true, cell: (s) => count(s.subscriptions) },
      { label: "Queued", number: true, cell: (s) => count(s.queued) },
      { label: "Bytes", wide: true, number: true, cell: (s) => bytes(s.queued_bytes) },
      { label: "In flight", wide: true, number: true, cell: (s) => count(s.inflight) },
      { label: "Dropped", wide: true, number: true, cell: (s) => count(s.dropped) },
      may("operator") && { actions: true, cell: (s) => rowButton("End", `the session of ${s.client_id}`, () => end(s.client_id, table.load)) },
    ],
  });
  prefix.addEventListener("input", settled(table.reset));
  online.addEventListener("change", table.reset);
  replace(main, h("h1", {}, "Sessions"),
    h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); table.reset(); } },
      field("Client id begins with", prefix), field("Client", online)),
    table.element);
  await table.load();
}

async function end(clientId, then) {
  if (!(await ask(["End the session of ", name(clientId), "? Its subscriptions and what is queued are lost."], "End it"))) return;
  if (await attempt(() => remove(path("sessions", clientId)), "The session was ended.")) await then();
}

async function detail(main, clientId, signal) {
  const where = path("sessions", clientId);
  const [session, subscriptions] = await Promise.all([get(where, {}, signal), get(`${where}/subscriptions`, {}, signal)]);
  const again = () => show(main, [clientId], signal);
  replace(main,
    h("p", {}, link("/sessions", "Sessions")), h("h1", {}, name(clientId)),
    h("div", { class: "buttons" }, button("Refresh", again),
      session.online ? link(`/clients/${encodeURIComponent(clientId)}`, "Client") : null,
      may("operator") ? button("End it", () => end(clientId, () => { location.hash = "#/sessions"; }), "danger") : null),
    h("section", { class: "card" }, facts([
      ["User", name(session.user)], ["Client", session.online ? tag("connected", "good") : tag("away")],
      ["Age", time(session.age)], ["Outlives its client", time(session.expiry)],
      ["Queued", `${count(session.queued)} (${bytes(session.queued_bytes)})`], ["In flight", count(session.inflight)],
      ["QoS 2 not released", count(session.unreleased)], ["Dropped", count(session.dropped)],
      ["Will", session.will ? "yes" : "no"],
    ])),
    h("section", { class: "card" }, h("h2", {}, "Subscriptions"), subscriptionTable(clientId, subscriptions.items, again)));
}
