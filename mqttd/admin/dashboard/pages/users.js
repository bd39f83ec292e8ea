// The users of the password files that the configuration names.

import { path, post, put, remove } from "../api.js";
import { button, field, h, name, option, replace, tag } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { pagedTable } from "../table.js";

export const title = "Users";
export const role = "administrator";

export async function show(main, parts, signal) {
  const source = h("input", { name: "source", autocomplete: "off", placeholder: "the only one" });
  const which = () => ({ source: source.value });
  const table = pagedTable({
    where: "users",
    caption: "Users",
    empty: "The file has no user.",
    signal,
    filters: which,
    columns: [
      { label: "User", cell: (u) => name(u.user) },
      { label: "File", cell: (u) => name(u.source) },
      { label: "Hash", cell: (u) => u.scheme },
      { label: "", cell: (u) => (u.superuser ? tag("superuser", "warning") : null) },
      { label: "", cell: (u) => button("Delete", () => erase(u.user), "small") },
    ],
  });
  source.addEventListener("change", table.reset);
  async function erase(user) {
    if (!(await ask(["Delete the user ", name(user), " and end what is connected by that name?"], "Delete"))) return;
    if (await attempt(() => remove(path("users", user), which()), "Deleted.")) await table.load();
  }
  replace(main, h("h1", {}, "Users"),
    h("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); table.reset(); } }, field("Title, of several files", source)),
    table.element, setForm(table, which));
  await table.load();
}

function setForm(table, which) {
  const what = h("select", { name: "what" }, option("add", "Add a user"), option("change", "Another password for a user"));
  const user = h("input", { name: "user", required: true, autocomplete: "off", spellcheck: "false" });
  const password = h("input", { name: "password", type: "password", required: true, autocomplete: "new-password" });
  async function set(event) {
    event.preventDefault();
    const body = { password: password.value };
    const done = await attempt(() => (what.value === "add"
      ? post("users", { user: user.value, ...body }, which())
      : put(path("users", user.value), body, which())), "The file is changed, and read again.");
    password.value = "";
    if (done) await table.load();
  }
  return h("form", { class: "card", onsubmit: set }, h("div", { class: "row" }, field("What", what), field("User", user), field("Password", password)),
    h("button", { class: "primary" }, "Do it"));
}
