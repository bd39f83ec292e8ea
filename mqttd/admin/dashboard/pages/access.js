// Who may do what: "why?", bans, and what the rules in shadow would have denied.

import { get, may, path, post, remove } from "../api.js";
import { button, count, date, field, h, name, option, replace, tag } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { pagedTable, plainTable } from "../table.js";

export const title = "Access";
export const role = "viewer";

export async function show(main, parts, signal) {
  const shadow = h("div");
  replace(main, h("h1", {}, "Access"), why(), bans(signal),
    h("section", { class: "card" }, h("h2", {}, "Rules in shadow"), shadow));
  await showShadow(shadow, signal);
}

function why() {
  const action = h("select", { name: "action" }, ["publish", "subscribe", "receive"].map((each) => option(each, each)));
  const texts = Object.fromEntries(["client_id", "user", "topic", "address"].map((key) =>
    [key, h("input", { name: key, required: key === "topic", autocomplete: "off", spellcheck: "false" })]));
  const answer = h("div", { "aria-live": "polite" });
  async function explain(event) {
    event.preventDefault();
    const given = Object.entries(texts).filter(([, input]) => input.value !== "").map(([key, input]) => [key, input.value]);
    await attempt(async () => replace(answer, explanation(await post("explain", { action: action.value, ...Object.fromEntries(given) }))));
  }
  return h("form", { class: "card", id: "why", onsubmit: explain }, h("h2", {}, "Why?"),
    h("p", { class: "faint" }, "What is decided now, and by which rule. A client that is connected is taken as it is; else name a user."),
    h("div", { class: "row" }, field("Client id", texts.client_id), field("User", texts.user), field("May", action),
      field("Topic or filter", texts.topic), field("From address", texts.address)),
    h("button", { class: "primary" }, "Explain"), answer);
}

function explanation(found) {
  const receivers = found.receivers.length ? plainTable([
    { label: "Receiver", cell: (r) => name(r.client_id) },
    { label: "Group", cell: (r) => name(r.group) },
    { label: "QoS", number: true, cell: (r) => r.qos },
    { label: "Outcome", cell: (r) => tag(r.outcome, r.outcome === "sent" ? "good" : r.outcome === "queued" ? "" : "bad") },
    { label: "By", cell: (r) => r.by },
  ], found.receivers, "", "Receivers") : null;
  const more = found.total_receivers - found.receivers.length;
  return [
    h("p", {}, decision(found), " on ", name(found.topic)),
    found.shadow ? h("p", {}, "In shadow: ", decision(found.shadow)) : null,
    receivers, more > 0 ? h("p", { class: "faint" }, `and ${count(more)} more`) : null,
  ].filter(Boolean);
}

function decision({ allowed, by }) {
  return [tag(allowed ? "allowed" : "denied", allowed ? "good" : "bad"), ` by ${by}`].map((each) =>
    (each instanceof Node ? each : h("span", {}, each)));
}

function bans(signal) {
  const table = pagedTable({
    where: "bans",
    caption: "Bans",
    empty: "Nobody is banned.",
    signal,
    columns: [
      { label: "What", cell: (b) => b.kind },
      { label: "Who", cell: (b) => name(b.value) },
      { label: "Until", cell: (b) => (b.until === null ? "for ever" : date(b.until)) },
      { label: "Reason", cell: (b) => name(b.reason) },
      { label: "By", cell: (b) => name(b.by) },
      { label: "", cell: (b) => (may("operator") ? button("End", () => end(b), "small") : null) },
    ],
  });
  async function end(ban) {
    if (!(await ask(["End the ban of ", name(ban.value), "?"], "End it"))) return;
    if (await attempt(() => remove(path("bans", ban.kind, ban.value)), "The ban is over.")) await table.load();
  }
  table.load();
  return h("section", { class: "card", id: "bans" }, h("h2", {}, "Bans"), table.element, may("operator") ? banForm(table) : null);
}

/** What can be banned. */
const KINDS = { client_id: "Client id", user: "User", address: "Address", network: "Network" };

function banForm(table) {
  const kind = h("select", { name: "kind" }, Object.entries(KINDS).map(([value, label]) => option(value, label)));
  const value = h("input", { name: "value", required: true, autocomplete: "off", spellcheck: "false" });
  const minutes = h("input", { name: "minutes", type: "number", min: 1, placeholder: "for ever" });
  const reason = h("input", { name: "reason", maxlength: 1024 });
  async function ban(event) {
    event.preventDefault();
    const body = { kind: kind.value, value: value.value, reason: reason.value };
    if (minutes.value !== "") body.seconds = 60 * Number(minutes.value);
    if (!(await ask(["Ban ", name(value.value), " and end its connections?"], "Ban"))) return;
    if (await attempt(() => post("bans", body), "Banned.")) await table.reset();
  }
  return h("form", { onsubmit: ban }, h("div", { class: "row" }, field("What", kind), field("Who", value),
    field("Minutes", minutes), field("Reason", reason)), h("button", { class: "danger" }, "Ban"));
}

async function showShadow(element, signal) {
  try {
    const { total, reports } = await get("access/shadow", {}, signal);
    replace(element, h("p", { class: "faint" }, `${count(total)} decisions would have been a no.`), plainTable([
      { label: "Client id", cell: (r) => name(r.client_id) }, { label: "User", cell: (r) => name(r.user) },
      { label: "Action", cell: (r) => r.action }, { label: "Topic", cell: (r) => name(r.topic) },
      { label: "By", cell: (r) => r.by }, { label: "Times", number: true, cell: (r) => count(r.count) },
    ], reports, "None.", "Rules in shadow"));
  } catch (error) {
    if (!signal.aborted) replace(element, h("p", { class: "faint" }, error.message));
  }
}
