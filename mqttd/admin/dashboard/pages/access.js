// Who may do what: "why?", bans, the rules, and what those in shadow would have denied.

import { get, may, path, post, remove } from "../api.js";
import { count, date, field, h, name, option, replace, rowButton, tag } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { pagedTable, plainTable } from "../table.js";

export const title = "Access";
export const role = "viewer";

export async function show(main, parts, signal) {
  const shadow = h("div");
  replace(main, h("h1", {}, "Access"), why(), bans(signal), rules(signal),
    h("section", { class: "card" }, h("h2", {}, "What rules in shadow would have denied"), shadow));
  await showShadow(shadow, signal);
}

const ACTIONS = ["publish", "subscribe", "receive"];

function why() {
  const action = h("select", { name: "action" }, ACTIONS.map((each) => option(each, each)));
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
    { label: "Group", wide: true, cell: (r) => name(r.group) },
    { label: "QoS", wide: true, number: true, cell: (r) => r.qos },
    { label: "Outcome", cell: (r) => tag(r.outcome, r.outcome === "sent" ? "good" : r.outcome === "queued" ? "" : "bad") },
    { label: "By", long: true, cell: (r) => r.by },
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
      { label: "What", cell: (b) => KINDS[b.kind] },
      { label: "Who", cell: (b) => name(b.value) },
      { label: "Until", cell: (b) => (b.until === null ? "for ever" : date(b.until)) },
      { label: "Reason", wide: true, cell: (b) => name(b.reason) },
      { label: "By", wide: true, cell: (b) => name(b.by) },
      may("operator") && { actions: true, cell: (b) => rowButton("End", `the ban of ${b.value}`, () => end(b)) },
    ],
  });
  async function end(ban) {
    if (!(await ask(["End the ban of ", name(ban.value), "?"], "End it"))) return;
    if (await attempt(() => remove(path("bans", ban.kind, ban.value)), "The ban is over.")) await table.load();
  }
  table.load();
  return h("section", { class: "card", id: "bans" }, h("h2", {}, "Bans"), table.element, may("operator") ? banForm(table) : null);
}

function rules(signal) {
  const table = pagedTable({
    where: "access/rules",
    caption: "Rules",
    empty: "No rule is in force: everything is allowed.",
    signal,
    columns: [
      { label: "No.", number: true, cell: (r) => r.number },
      { label: "Decision", cell: (r) => [verdict(r), r.shadow ? h("div", {}, tag("in shadow", "warning")) : null] },
      { label: "Action", cell: (r) => (r.actions.length === ACTIONS.length ? "all" : r.actions.join(", ")) },
      { label: "Topics", cell: (r) => (r.topics ? lines(r.topics) : r.allow === null ? "" : "every topic") },
      { label: "Who", wide: true, cell: (r) => lines(conditions(r), "everybody") },
      { label: "Rule", wide: true, long: true, cell: (r) => [r.title, r.line ? h("small", {}, ` line ${r.line}`) : null] },
    ],
  });
  table.load();
  return h("section", { class: "card", id: "rules" }, h("h2", {}, "Rules"),
    h("p", { class: "faint" }, "In this order; the first that fits decides, and without one the answer is no. They stand in the files that the configuration names, which a reload reads again."),
    table.element);
}

function verdict({ allow }) {
  return allow === null ? tag("looked up") : tag(allow ? "allow" : "deny", allow ? "good" : "bad");
}

function conditions({ who, qos, retain }) {
  const said = Object.entries(who).map(([key, value]) => `${key}: ${Array.isArray(value) ? value.join(", ") : JSON.stringify(value)}`);
  if (qos) said.push(`QoS: ${qos.join(", ")}`);
  if (retain !== null) said.push(retain ? "retained" : "not retained");
  return said;
}

/** One under the other; a rule may have many. */
function lines(texts, none) {
  const shown = texts.slice(0, LINES).map((each) => h("div", {}, name(each)));
  return shown.length ? [shown, texts.length > LINES ? h("small", {}, `and ${count(texts.length - LINES)} more`) : null] : none;
}

const LINES = 5;

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

/** Reports that are shown, of those that came most often. */
const REPORTS = 20;

async function showShadow(element, signal) {
  try {
    const { total, reports } = await get("access/shadow", {}, signal);
    replace(element, h("p", { class: "faint" }, total === 1 ? "1 decision would have been a no." : `${count(total)} decisions would have been a no.`), plainTable([
      { label: "Client id", cell: (r) => name(r.client_id) }, { label: "User", wide: true, cell: (r) => name(r.user) },
      { label: "Action", cell: (r) => r.action }, { label: "Topic", cell: (r) => name(r.topic) },
      { label: "Times", number: true, cell: (r) => count(r.count) }, { label: "By", cell: (r) => r.by },
    ], reports.slice(0, REPORTS), "None.", "Rules in shadow"),
    reports.length > REPORTS ? h("p", { class: "faint" }, `and ${count(reports.length - REPORTS)} more; mqttctl acl shadow has them all`) : null);
  } catch (error) {
    if (!signal.aborted) replace(element, h("p", { class: "faint" }, error.message));
  }
}
