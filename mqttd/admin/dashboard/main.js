// The frame of the dashboard: who is there, which page is shown, and the keys. A page is a
// module with `title`, `role` (who may see it) and `show(main, parts, signal)`; the signal
// aborts when another page is shown, and with it all that the page has begun.

import * as api from "./api.js";
import { button, field, h, link, option, replace, tag } from "./dom.js";
import { note } from "./notes.js";
import * as access from "./pages/access.js";
import * as alarms from "./pages/alarms.js";
import * as audit from "./pages/audit.js";
import * as bridges from "./pages/bridges.js";
import * as clients from "./pages/clients.js";
import * as config from "./pages/config.js";
import * as listeners from "./pages/listeners.js";
import * as messages from "./pages/messages.js";
import * as overview from "./pages/overview.js";
import * as plugins from "./pages/plugins.js";
import * as retained from "./pages/retained.js";
import * as sessions from "./pages/sessions.js";
import * as slow from "./pages/slow.js";
import * as subscriptions from "./pages/subscriptions.js";
import * as tokens from "./pages/tokens.js";
import * as topics from "./pages/topics.js";
import * as traces from "./pages/traces.js";
import * as users from "./pages/users.js";

const PAGES = {
  overview, alarms, clients, slow, sessions, subscriptions, topics, retained, messages, listeners,
  bridges, access, users, traces, plugins, tokens, audit, config,
};

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const header = document.getElementById("top");
let shown = new AbortController();
let node = "";

function parts() {
  try {
    return location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return [];
  }
}

async function route() {
  shown.abort();
  shown = new AbortController();
  const [first = "overview", ...rest] = parts();
  const page = Object.hasOwn(PAGES, first) ? PAGES[first] : null;
  for (const item of nav.querySelectorAll("a")) {
    if (item.dataset.page !== first) item.removeAttribute("aria-current");
    else {
      item.setAttribute("aria-current", "page");
      // On a phone the pages stand in a row that scrolls.
      item.scrollIntoView({ block: "nearest", inline: "center" });
    }
  }
  document.title = `${page?.title ?? "Nothing here"} · mqttd`;
  replace(main);
  // What went wrong on the page before.
  for (const each of document.querySelectorAll(".note.bad")) each.remove();
  if (page === null || !api.may(page.role)) {
    replace(main, h("h1", {}, "Nothing here"), h("p", {}, page ? `This page needs the role ${page.role}.` : "There is no such page."));
    return;
  }
  const { signal } = shown;
  try {
    await page.show(main, rest, signal);
  } catch (error) {
    if (!signal.aborted) replace(main, rest.length ? h("p", {}, link(`/${first}`, page.title)) : null,
      h("h1", {}, page.title), h("p", { class: "bad" }, error.message));
  }
}

function frame() {
  replace(nav, h("ul", {}, Object.entries(PAGES).filter(([, page]) => api.may(page.role)).map(([path, page]) => {
    const item = link(`/${path}`, page.title);
    item.dataset.page = path;
    return h("li", {}, item);
  })));
  replace(header, h("a", { href: "#/overview", class: "brand" }, "mqttd"), h("span", { id: "node", class: "faint" }, node),
    h("span", { class: "space" }), themes(), h("bdi", {}, api.me.name), tag(api.me.role), button("Log out", leave, "plain"));
  nav.hidden = header.hidden = false;
}

const THEME = "mqttd.theme";

function themes() {
  const chosen = localStorage.getItem(THEME) ?? "";
  const list = h("select", { "aria-label": "Colours", onchange: () => setTheme(list.value) },
    option("", "System", chosen === ""), option("light", "Light", chosen === "light"), option("dark", "Dark", chosen === "dark"));
  return list;
}

function setTheme(theme) {
  localStorage.setItem(THEME, theme);
  document.documentElement.dataset.theme = theme;
}

function leave() {
  api.logOut();
  location.hash = "";
  location.reload();
}

function door(reason = "") {
  shown.abort();
  nav.hidden = header.hidden = true;
  document.title = "Log in · mqttd";
  const token = h("input", { type: "password", name: "token", autocomplete: "off", spellcheck: "false" });
  const user = h("input", { name: "user", autocomplete: "username" });
  const password = h("input", { type: "password", name: "password", autocomplete: "current-password" });
  const problem = h("p", { class: "bad", role: "alert" }, reason);
  const enter = h("button", { class: "primary" }, "Log in");
  const form = h("form", { class: "card door", onsubmit: async (event) => {
    event.preventDefault();
    enter.disabled = true;
    try {
      await api.logIn({ token: token.value.trim(), user: user.value, password: password.value });
      begin();
    } catch (error) {
      replace(problem, error.message);
      enter.disabled = false;
    }
  } },
    h("h1", {}, "mqttd"), problem,
    field("Token", token), h("p", { class: "faint or" }, "or"),
    field("Name", user), field("Password", password), enter,
    h("p", { class: "faint" }, "The broker's machine makes a token: ", h("code", {}, "mqttctl tokens create NAME --role viewer")));
  replace(main, form);
  token.focus();
}

async function begin() {
  route();
  try {
    const found = await api.get("node");
    node = `${found.node} · ${found.version}`;
    replace(document.getElementById("node"), node);
  } catch (error) {
    note(error.message, "bad");
  }
}

function keys(event) {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog")) return;
  const search = main.querySelector("input[type=search]");
  if (search) {
    event.preventDefault();
    search.focus();
  }
}

async function start() {
  document.documentElement.dataset.theme = localStorage.getItem(THEME) ?? "";
  addEventListener("keydown", keys);
  // What a page had asked for when another was shown; nobody waits for it.
  addEventListener("unhandledrejection", (event) => { if (event.reason?.name === "AbortError") event.preventDefault(); });
  // To the browser, "#main" would be a page.
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  api.found.handler = frame;
  api.lost.handler = () => { api.logOut(); api.me.name = ""; door("Token or password is not right any more."); };
  // A page that the browser keeps for the way back would keep its connections, of which
  // there are six for all tabs.
  addEventListener("pagehide", () => shown.abort());
  addEventListener("pageshow", (event) => { if (event.persisted && api.me.name) route(); });
  addEventListener("hashchange", () => {
    if (!api.me.name) return;
    route();
    main.focus();
  });
  try {
    // On the control socket, or behind a proxy that adds a token, nobody need say who he is.
    await api.identify();
  } catch {
    api.logOut();
    door();
    return;
  }
  begin();
}

start();
