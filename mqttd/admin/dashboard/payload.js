// Payloads for people: JSON with its lines, other text as it is, bytes as a dump.

import { bytes, h } from "./dom.js";

/** Characters of text, and bytes of a dump, that are shown. */
const SHOWN = 64 * 1024;
const DUMPED = 4096;

/** A message's payload, from `payload` (text) or else `payload_base64`. */
export function payload(message) {
  const text = message.payload ?? null;
  if (text === null) return block(dump(Uint8Array.from(atob(message.payload_base64 ?? ""), (c) => c.charCodeAt(0))));
  if (text === "") return h("p", { class: "faint" }, "Empty.");
  return block(text.length > SHOWN ? `${text.slice(0, SHOWN)}\n… ${bytes(text.length - SHOWN)} more` : pretty(text));
}

function block(text) {
  return h("pre", { class: "payload", tabindex: 0 }, text);
}

function pretty(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function dump(data) {
  const lines = [];
  for (let start = 0; start < Math.min(data.length, DUMPED); start += 16) {
    const part = [...data.subarray(start, start + 16)];
    const hex = part.map((each) => each.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const text = part.map((each) => (each > 31 && each < 127 ? String.fromCharCode(each) : ".")).join("");
    lines.push(`${start.toString(16).padStart(6, "0")}  ${hex}  ${text}`);
  }
  if (data.length > DUMPED) lines.push(`… ${bytes(data.length - DUMPED)} more`);
  return lines.join("\n");
}
