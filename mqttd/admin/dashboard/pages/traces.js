// Traces: packets as they come, and traces that go to a file on the broker's machine.

import { get, may, path, post, remove } from "../api.js";
import { button, count, date, facts, field, h, link, name, replace, rowButton, tag } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { livePackets, packets } from "../packets.js";
import { plainTable } from "../table.js";

export const title = "Traces";
export const role = "viewer";

/** Records of a file that are shown. */
const SHOWN = 500;

export async function show(main, [first, second], signal) {
  if (first === undefined) await list(main, signal);
  else if (second !== undefined) await failure(main, second, signal);
  else await detail(main, first, signal);
}

const text = (named, more = {}) => h("input", { name: named, autocomplete: "off", spellcheck: "false", ...more });

async function list(main, signal) {
  const files = h("div");
  const failures = h("div");
  const wanted = { client_id: text("client_id", { placeholder: "sensor-*" }), address: text("address", { placeholder: "192.0.2.0/24" }), topic: text("topic", { placeholder: "plant/#" }) };
  const query = () => Object.fromEntries(Object.entries(wanted).map(([key, input]) => [key, input.value]));
  const inputs = [field("Client id", wanted.client_id), field("Address", wanted.address), field("Topic", wanted.topic)];
  async function load() {
    const [traces, failed] = await Promise.all([get("traces", {}, signal), get("flight/failures", {}, signal)]);
    replace(files, fileTable(traces.items, load));
    replace(failures, failureTable(failed.items));
  }
  replace(main, h("h1", {}, "Traces"),
    may("operator") ? livePackets({ inputs, query, who: true, signal }) : null,
    h("section", { class: "card" }, h("h2", {}, "To a file"), files, may("operator") ? startForm(load) : null),
    h("section", { class: "card" }, h("h2", {}, "Failures"), failures));
  await load();
}

function fileTable(items, load) {
  async function end(trace) {
    if (await attempt(() => remove(path("traces", trace.name)), "Ended; its file stays.")) await load();
  }
  async function erase(trace) {
    if (!(await ask(["Delete the trace ", name(trace.name), " with its files?"], "Delete"))) return;
    if (await attempt(() => remove(path("traces", trace.name), { delete: true }), "Deleted.")) await load();
  }
  return plainTable([
    { label: "Name", cell: (t) => (may("operator") && (t.file || !t.running) ? link(`/traces/${encodeURIComponent(t.name)}`, name(t.name)) : name(t.name)) },
    { label: "State", cell: (t) => (t.running ? tag("runs", "good") : tag("over")) },
    { label: "Of", cell: (t) => [t.client_id, t.address, t.topic].filter(Boolean).map((each) => [name(each), " "]) },
    { label: "Until", wide: true, cell: (t) => date(t.ends_at) },
    { label: "Packets", number: true, cell: (t) => count(t.packets) },
    { label: "Missed", wide: true, number: true, cell: (t) => count(t.missed) },
    { label: "Problem", wide: true, cell: (t) => (t.problem ? tag(t.problem, "bad") : null) },
    may("operator") && { actions: true, cell: (t) => [t.running ? [rowButton("End", t.name, () => end(t)), " "] : null, rowButton("Delete", t.name, () => erase(t))] },
  ], items, "There is none.", "Traces");
}

/** Clients whose last packets were kept after something went wrong. */
function failureTable(items) {
  return plainTable([
    { label: "Client id", cell: (f) => (may("operator") ? link(`/traces/failure/${encodeURIComponent(f.client_id)}`, name(f.client_id)) : name(f.client_id)) },
    { label: "Address", wide: true, cell: (f) => name(f.address) },
    { label: "When", wide: true, cell: (f) => date(f.at) },
    { label: "Cause", cell: (f) => tag(f.cause, "bad") },
    { label: "What", cell: (f) => name(f.text) },
    { label: "Times", wide: true, number: true, cell: (f) => count(f.count) },
  ], items, "No client has failed.", "Failures");
}

async function failure(main, clientId, signal) {
  const found = await get(path("flight", "failures", clientId), {}, signal);
  replace(main, h("p", {}, link("/traces", "Traces")), h("h1", {}, name(clientId)),
    h("section", { class: "card" }, facts([
      ["Cause", tag(found.cause, "bad")], ["What", name(found.text)], ["When", date(found.at)],
      ["Times", count(found.count)], ["Address", name(found.address)],
    ])),
    found.offending ? h("section", { class: "card" }, h("h2", {}, "What was wrong"),
      packets([{ at: found.at, direction: "in", ...found.offending }], false)) : null,
    h("section", { class: "card" }, h("h2", {}, "Its last packets"), packets(found.records, false)));
}

function startForm(load) {
  const named = text("trace-name", { required: true, maxlength: 64 });
  const wanted = { client_id: text("trace-client"), address: text("trace-address"), topic: text("trace-topic") };
  const minutes = h("input", { name: "trace-minutes", type: "number", min: 1, max: 10080, value: 10 });
  const payload = h("input", { name: "trace-payload", type: "number", min: 0, max: 65536, value: 0 });
  async function start(event) {
    event.preventDefault();
    const given = Object.entries(wanted).filter(([, input]) => input.value !== "").map(([key, input]) => [key, input.value]);
    const body = { name: named.value, ...Object.fromEntries(given), duration: 60 * Number(minutes.value), payload: Number(payload.value) };
    if (await attempt(() => post("traces", body), "It runs.")) await load();
  }
  return h("form", { id: "start", onsubmit: start }, h("div", { class: "row" }, field("Name", named), field("Client id", wanted.client_id),
    field("Address", wanted.address), field("Topic", wanted.topic), field("Minutes", minutes), field("Bytes of payloads", payload)),
    h("button", { class: "primary" }, "Start"));
}

async function detail(main, trace, signal) {
  const { items } = await get(`${path("traces", trace)}/records`, { limit: SHOWN }, signal);
  replace(main, h("p", {}, link("/traces", "Traces")), h("h1", {}, name(trace)),
    h("div", { class: "buttons" }, button("Refresh", () => detail(main, trace, signal))),
    h("section", { class: "card" }, h("h2", {}, `The last ${count(items.length)} packets`), packets(items)));
}
