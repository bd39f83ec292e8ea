// Publish and subscribe by hand.

import { post, stream } from "../api.js";
import { button, field, h, name, option, replace, tag } from "../dom.js";
import { attempt, note } from "../notes.js";
import { payload } from "../payload.js";

export const title = "Messages";
export const role = "operator";

/** Messages that are kept on the page. */
const KEPT = 200;

export async function show(main, parts, signal) {
  replace(main, h("h1", {}, "Messages"),
    h("p", { class: "faint" }, "Both are done as the broker itself: no rule is asked."),
    h("div", { class: "halves" }, publishing(), listening(signal)));
}

const qosList = (named) => h("select", { name: named }, [0, 1, 2].map((each) => option(each, String(each))));

function publishing() {
  const topic = h("input", { name: "topic", required: true, autocomplete: "off", spellcheck: "false" });
  const kind = h("select", { name: "kind" }, option("payload", "Text"), option("payload_base64", "Base64"));
  const text = h("textarea", { name: "payload", rows: 6, spellcheck: "false" });
  const qos = qosList("publish-qos");
  const retain = h("input", { type: "checkbox", name: "retain" });
  const expiry = h("input", { type: "number", name: "expiry", min: 0, max: 4294967295, placeholder: "never" });
  const content = h("input", { name: "content", placeholder: "application/json" });
  async function publish(event) {
    event.preventDefault();
    const properties = {};
    if (expiry.value !== "") properties.message_expiry_interval = Number(expiry.value);
    if (content.value !== "") properties.content_type = content.value;
    const body = { topic: topic.value, [kind.value]: text.value, qos: Number(qos.value), retain: retain.checked, properties };
    await attempt(async () => {
      const { matched } = await post("publish", body);
      note(matched ? "Published." : "Published; nobody subscribes to it.");
    });
  }
  return h("form", { class: "card", id: "publish", onsubmit: publish }, h("h2", {}, "Publish"),
    field("Topic", topic), field("Payload", text),
    h("div", { class: "row" }, field("As", kind), field("QoS", qos), field("Expires after (s)", expiry), field("Content type", content)),
    h("label", { class: "check" }, retain, " Retain"), h("button", { class: "primary" }, "Publish"));
}

function listening(signal) {
  const filter = h("input", { name: "topic_filter", required: true, autocomplete: "off", spellcheck: "false", placeholder: "sensors/#" });
  const qos = qosList("listen-qos");
  const state = h("span", { class: "tag" }, "stopped");
  const list = h("ol", { class: "messages", "aria-live": "off" });
  let current = null;
  const stop = button("Stop", () => current?.abort());
  stop.disabled = true;

  function add(item) {
    list.prepend(item);
    while (list.childElementCount > KEPT) list.lastElementChild.remove();
  }

  async function listen(event) {
    event.preventDefault();
    current?.abort();
    const mine = (current = new AbortController());
    stop.disabled = false;
    await stream("messages", { topic_filter: filter.value, qos: qos.value }, {
      message: (message) => add(shown(message)),
      missed: ({ events }) => add(h("li", { class: "faint" }, `${events} were missed: this page was slow`)),
      refused: ({ reason }) => { note(reason, "bad"); mine.abort(); },
    }, AbortSignal.any([mine.signal, signal]), (text) => {
      if (mine === current) replace(state, text);
    });
    if (mine !== current) return;
    stop.disabled = true;
    if (mine.signal.aborted) replace(state, "stopped");
  }

  return h("section", { class: "card", id: "listen" }, h("h2", {}, "Subscribe ", state),
    h("form", { onsubmit: listen }, h("div", { class: "row" }, field("Topic filter", filter), field("QoS", qos)),
      h("div", { class: "buttons" }, h("button", { class: "primary" }, "Subscribe"), stop, button("Clear", () => replace(list)))),
    list);
}

function shown(message) {
  const properties = Object.entries(message.properties ?? {}).map(([key, value]) => tag(`${key}: ${JSON.stringify(value)}`));
  return h("li", {}, h("div", { class: "head" }, name(message.topic), tag(`QoS ${message.qos}`),
    message.retain ? tag("retained") : null, properties, h("time", { class: "faint" }, new Date().toLocaleTimeString("sv-SE"))),
    payload(message));
}
