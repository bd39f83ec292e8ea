// The clients that are connected: search, one in detail, its limits, and its end.

import { get, may, patch, path, post, remove } from "../api.js";
import { button, count, facts, field, h, link, name, replace, rowButton, tag, time } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { livePackets, packets } from "../packets.js";
import { pagedTable, plainTable, settled } from "../table.js";

export const title = "Clients";
export const role = "viewer";

const VERSIONS = { 3: "3.1", 4: "3.1.1", 5: "5.0" };
const FILTERS = [["prefix", "Client id begins with"], ["user", "User"], ["address", "Address"], ["listener", "Listener"]];

export async function show(main, [clientId], signal) {
  await (clientId === undefined ? list(main, signal) : detail(main, clientId, signal));
}

async function list(main, signal) {
  const inputs = Object.fromEntries(FILTERS.map(([key, label]) =>
    [key, h("input", { type: "search", name: key, "aria-label": label, autocomplete: "off", spellcheck: "false" })]));
  const table = pagedTable({
    where: "clients",
    caption: "Connected clients",
    empty: "No client fits.",
    signal,
    filters: () => Object.fromEntries(Object.entries(inputs).map(([key, input]) => [key, input.value])),
    columns: [
      { label: "Client id", cell: (c) => link(`/clients/${encodeURIComponent(c.client_id)}`, name(c.client_id)) },
      { label: "User", wide: true, cell: (c) => name(c.user) },
      { label: "Address", wide: true, cell: (c) => place(c) },
      { label: "Listener", wide: true, cell: (c) => name(c.listener) },
      { label: "MQTT", wide: true, cell: (c) => VERSIONS[c.version] },
      { label: "Here for", wide: true, number: true, cell: (c) => time(c.connected_for) },
      { label: "Filters", wide: true, number: true, cell: (c) => count(c.subscriptions) },
      { label: "Queued", number: true, cell: (c) => [c.writable ? null : [tag("slow", "bad"), " "], count(c.queued)] },
      { label: "Dropped", wide: true, number: true, cell: (c) => count(c.dropped) },
      may("operator") && { actions: true, cell: (c) => rowButton("Kick", c.client_id, () => kick(c.client_id, table.load)) },
    ],
  });
  const search = settled(table.reset);
  replace(main, h("h1", {}, "Clients"),
    h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); table.reset(); } },
      FILTERS.map(([key, label]) => { inputs[key].addEventListener("input", search); return field(label, inputs[key]); })),
    table.element);
  await table.load();
}

function place(client) {
  return [name(client.port ? `${client.address}:${client.port}` : client.address), client.tls ? [" ", tag("TLS")] : []];
}

async function kick(clientId, then) {
  if (!(await ask(["End the connection of ", name(clientId), "? Its session stays as it asked."], "Kick"))) return;
  if (await attempt(() => remove(path("clients", clientId)), "The connection was ended.")) await then();
}

async function detail(main, clientId, signal) {
  const where = path("clients", clientId);
  const [client, limits, subscriptions] = await Promise.all([
    get(where, {}, signal), get(`${where}/limits`, {}, signal), get(`${path("sessions", clientId)}/subscriptions`, {}, signal),
  ]);
  const again = () => show(main, [clientId], signal);
  replace(main,
    h("p", {}, link("/clients", "Clients")), h("h1", {}, name(clientId)),
    h("div", { class: "buttons" }, button("Refresh", again),
      link(`/sessions/${encodeURIComponent(clientId)}`, "Session"),
      may("operator") ? button("Kick", () => kick(clientId, () => { location.hash = "#/clients"; }), "danger") : null),
    h("div", { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, "Connection"), connection(client)),
      h("section", { class: "card" }, h("h2", {}, "Messages"), messages(client)),
      h("section", { class: "card" }, h("h2", {}, "Limits"), limitsForm(where, limits))),
    h("section", { class: "card" }, h("h2", {}, "Subscriptions"), subscriptionTable(clientId, subscriptions.items, again),
      may("operator") ? subscribeForm(clientId, again) : null),
    may("operator") ? lastPackets(where) : null,
    may("operator") ? livePackets({ query: () => ({ client_id: clientId }), who: false, signal }) : null);
}

/** What the flight recorder has of it, when somebody wants to see that. */
function lastPackets(where) {
  const list = h("div");
  const look = () => attempt(async () => replace(list, packets((await get(`${where}/flight`)).records, false)));
  return h("section", { class: "card", id: "flight" }, h("h2", {}, "Last packets"),
    h("div", { class: "buttons" }, button("Show what was kept", look)), list);
}

function connection(client) {
  return facts([
    ["User", name(client.user)], ["Address", place(client)], ["Listener", name(client.listener)],
    ["MQTT", VERSIONS[client.version]], ["Bridge", client.bridge ? "yes" : "no"],
    ["Keep alive", client.keep_alive ? time(client.keep_alive) : "none"],
    ["Here for", time(client.connected_for)], ["Mount point", client.mount_point ? name(client.mount_point) : "none"],
  ]);
}

function messages(client) {
  return facts([
    ["Keeps up", client.writable ? tag("yes", "good") : tag("no", "bad")],
    ["In flight", count(client.inflight)], ["Queued", count(client.queued)], ["Dropped", count(client.dropped)],
    ["Session ends", client.session_expiry === 0 ? "with the connection" : client.session_expiry === null ? "never" : `${time(client.session_expiry)} after it`],
  ]);
}

const RATES = { inbound_bytes: "Bytes in", inbound_messages: "Messages in", outbound_bytes: "Bytes out", outbound_messages: "Messages out" };

function limitsForm(where, limits) {
  const inputs = Object.entries(RATES).map(([key, label]) =>
    [key, label, h("input", { name: key, value: limits[key], disabled: !may("operator"), placeholder: "100/s burst 500" })]);
  async function save(event) {
    event.preventDefault();
    const changed = inputs.filter(([key, , input]) => input.value !== limits[key]);
    if (!changed.length) return;
    await attempt(async () => {
      Object.assign(limits, await patch(`${where}/limits`, Object.fromEntries(changed.map(([key, , input]) => [key, input.value]))));
      for (const [key, , input] of inputs) input.value = limits[key];
    }, "The limits hold until the client leaves.");
  }
  return h("form", { onsubmit: save }, inputs.map(([, label, input]) => field(label, input)),
    may("operator") ? h("button", { class: "primary" }, "Set limits") : null);
}

export function subscriptionTable(clientId, items, again) {
  async function end(filter) {
    if (await attempt(() => remove(`${path("sessions", clientId)}/subscriptions`, { topic_filter: filter }), "Unsubscribed.")) await again();
  }
  return plainTable([
    { label: "Filter", cell: (s) => name(s.topic_filter) },
    { label: "QoS", number: true, cell: (s) => s.qos },
    { label: "Options", wide: true, cell: (s) => options(s) },
    may("operator") && { actions: true, cell: (s) => rowButton("End", s.topic_filter, () => end(s.topic_filter)) },
  ], items, "None.", "Subscriptions");
}

export function options(subscription) {
  return [
    subscription.no_local ? tag("no local") : null, subscription.retain_as_published ? tag("retain as published") : null,
    subscription.identifier ? tag(`id ${subscription.identifier}`) : null,
    Object.entries(subscription.thinned ?? {}).map(([key, value]) => tag(`${key} ${value}`)),
  ];
}

function subscribeForm(clientId, again) {
  const filter = h("input", { name: "topic_filter", required: true, "aria-label": "Filter", placeholder: "sensors/+/temperature" });
  const qos = h("select", { "aria-label": "QoS" }, [0, 1, 2].map((each) => h("option", { value: each }, `QoS ${each}`)));
  return h("form", { class: "row", onsubmit: async (event) => {
    event.preventDefault();
    const body = { topic_filter: filter.value, qos: Number(qos.value) };
    if (await attempt(() => post(`${path("sessions", clientId)}/subscriptions`, body), "Subscribed.")) await again();
  } }, filter, qos, h("button", {}, "Subscribe it"));
}
