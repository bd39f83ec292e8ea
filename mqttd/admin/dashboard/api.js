// The API as the pages use it: who asks, errors with the server's own words, and streams.
// What somebody shows (a token or a password) stays in this tab, and goes to this server
// alone. It is sent as a header and never as a cookie, so that no other site can use it.

const BASE = "../api/v1";
const KEY = "mqttd.authorization";

export const me = { name: "", role: "" };
let authorization = sessionStorage.getItem(KEY) ?? "";

/** Called when it is known who asks, and when the server no longer knows. */
export const found = { handler: () => {} };
export const lost = { handler: () => {} };

const ROLES = ["anyone", "viewer", "operator", "administrator"];

export function may(role) {
  return ROLES.indexOf(me.role) >= ROLES.indexOf(role);
}

export class APIError extends Error {
  constructor(status, document) {
    super([document.detail || document.title || `HTTP ${status}`, ...(document.errors ?? [])].join("\n"));
    this.status = status;
  }
}

export function hasCredentials() {
  return authorization !== "";
}

/** Take a token, or a name and a password, and ask who that is. */
export async function logIn({ token, user, password }) {
  const pair = new TextEncoder().encode(`${user}:${password}`);
  authorization = token ? `Bearer ${token}` : `Basic ${btoa(String.fromCharCode(...pair))}`;
  try {
    await identify();
    sessionStorage.setItem(KEY, authorization);
  } catch (error) {
    authorization = "";
    throw error;
  }
}

export async function identify() {
  Object.assign(me, await get("whoami"));
  found.handler();
}

export function logOut() {
  authorization = "";
  sessionStorage.removeItem(KEY);
}

/** A path of the API; each part of it is encoded, whatever is in it. */
export function path(...parts) {
  return parts.map(encodeURIComponent).join("/");
}

export const get = (where, query, signal) => ask("GET", where, { query, signal });
export const post = (where, body, query) => ask("POST", where, { body, query });
export const put = (where, body, query) => ask("PUT", where, { body, query });
export const patch = (where, body) => ask("PATCH", where, { body });
export const remove = (where, query) => ask("DELETE", where, { query });

async function ask(method, where, { query, body, signal } = {}) {
  const answer = await send(method, where, query, body, signal);
  if (answer.status === 204) return null;
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

async function send(method, where, query, body, signal) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value != null && value !== "");
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  const headers = authorization ? { Authorization: authorization } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(`${BASE}/${where}${search}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    // Else the browser asks for a password by itself on 401.
    credentials: "omit",
    signal,
  });
  if (!answer.ok) await fail(answer);
  return answer;
}

async function fail(answer) {
  let document = {};
  try {
    document = await answer.json();
  } catch {
    // What a proxy says is no problem document.
  }
  if (answer.status === 401 && me.name) lost.handler();
  throw new APIError(answer.status, document);
}

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30000;

/**
 * Server-Sent Events, until `signal` aborts: `handlers[event](data)`; `state(text)` hears
 * "live" or why not. (EventSource could not send who asks.) A stream that breaks is
 * begun again, after a wait that grows.
 */
export async function stream(where, query, handlers, signal, state = () => {}) {
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      const answer = await send("GET", where, query, undefined, signal);
      state("live");
      wait = FIRST_WAIT;
      await read(answer.body, handlers);
      state("ended");
    } catch (error) {
      if (signal.aborted) return;
      state(error.message || "broken");
      if (error instanceof APIError && error.status < 500 && error.status !== 429) return;
    }
    await pause(wait, signal);
    wait = Math.min(2 * wait, LONGEST_WAIT);
  }
}

async function read(body, handlers) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) dispatch(event, handlers);
  }
}

function dispatch(text, handlers) {
  const fields = {};
  for (const line of text.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  if (fields.event && handlers[fields.event]) handlers[fields.event](JSON.parse(fields.data));
}

export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
