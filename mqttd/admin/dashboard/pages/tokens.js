// Tokens: who may use the API from elsewhere. A secret is shown once, when it is made.

import { get, logIn, may, me, path, post, remove } from "../api.js";
import { date, field, h, name, option, replace, rowButton, tag } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { plainTable } from "../table.js";

export const title = "Tokens";
export const role = "administrator";

const FIRST = "first-token";

export async function show(main, parts, signal) {
  const list = h("div");
  const made = h("div", { "aria-live": "polite" });
  async function load() {
    const { items } = await get("tokens", {}, signal);
    replace(list, plainTable([
      { label: "Name", cell: (t) => name(t.name) }, { label: "Role", cell: (t) => tag(t.role) },
      { label: "Made", wide: true, cell: (t) => date(t.created) },
      { actions: true, cell: (t) => rowButton("Take away", t.name, () => take(t.name)) },
    ], items, "There is none.", "Tokens"));
  }
  async function take(token) {
    if (!(await ask(["Take the token ", name(token), " away? Who uses it is let in no more."], "Take away"))) return;
    if (await attempt(() => remove(path("tokens", token)), "It is no token any more.")) await load();
  }
  replace(main, h("h1", {}, "Tokens"), list, makeForm(made, load), made);
  await load();
}

function makeForm(made, load) {
  const named = h("input", { name: "name", required: true, pattern: "[A-Za-z0-9_.@\\-]{1,64}", autocomplete: "off" });
  const role = h("select", { name: "role" }, ["viewer", "operator", "administrator"].map((each) => option(each, each)));
  return h("form", { class: "card", onsubmit: async (event) => {
    event.preventDefault();
    await attempt(async () => {
      const { token } = await post("tokens", { name: named.value, role: role.value });
      replace(made, h("section", { class: "card" }, h("p", {}, "It is shown this once:"), h("pre", { class: "payload", tabindex: 0 }, token)));
      // The token of the start has ended with that, and the new one is all there is.
      if (me.name === FIRST) await logIn({ token });
      if (may("administrator")) await load();
    });
  } }, h("h2", {}, "Make a token"), h("div", { class: "row" }, field("Name", named), field("Role", role)), h("button", { class: "primary" }, "Make it"));
}
