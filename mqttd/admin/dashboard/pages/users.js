// The users of the password files that the configuration names, and their groups.

import { get, path, post, put, remove } from "../api.js";
import { button, facts, field, h, link, name, option, replace, rowButton, tag } from "../dom.js";
import { ask, attempt } from "../notes.js";
import { pagedTable } from "../table.js";

export const title = "Users";
export const role = "administrator";

/** The file that is looked at, of several. */
let source = "";

export async function show(main, [user], signal) {
  const { items: files } = await get("user-files", {}, signal);
  if (!files.length) {
    replace(main, h("h1", {}, "Users"), h("p", {}, "The configuration has no file of users: ",
      h("code", {}, '[[authentication]] type = "password-file"'), " names one. Other users are changed where they are kept."));
    return;
  }
  const file = files.find((each) => each.source === source) ?? files[0];
  source = file.source;
  await (user === undefined ? list(main, files, file, signal) : detail(main, file, user, signal));
}

const which = () => ({ source });
const hidden = (named) => h("input", { name: named, type: "password", required: true, autocomplete: "new-password" });

async function list(main, files, file, signal) {
  const table = pagedTable({
    where: "users",
    caption: "Users",
    empty: "The file has no user.",
    signal,
    filters: which,
    columns: [
      { label: "User", cell: (u) => link(`/users/${encodeURIComponent(u.user)}`, name(u.user)) },
      { label: "Groups", cell: (u) => u.groups.map((group) => [tag(group), " "]) },
      { label: "Rights", wide: true, cell: (u) => (u.superuser ? tag("superuser", "warning") : "by rules") },
      { label: "Hash", wide: true, cell: (u) => u.scheme },
      { actions: true, cell: (u) => rowButton("Delete", u.user, () => erase(u.user, table.load)) },
    ],
  });
  const list = h("select", { name: "source", onchange: () => { source = list.value; show(main, [], signal); } },
    files.map((each) => option(each.source, each.source, each === file)));
  replace(main, h("h1", {}, "Users"),
    files.length > 1 ? h("div", { class: "filters" }, field("Of", list)) : null,
    h("p", { class: "faint" }, "Of the file ", name(file.path), "."),
    table.element, addForm(table));
  await table.load();
}

async function erase(user, then) {
  if (!(await ask(["Delete the user ", name(user), " and end what is connected by that name?"], "Delete"))) return;
  if (await attempt(() => remove(path("users", user), which()), "Deleted.")) await then();
}

function addForm(table) {
  const user = h("input", { name: "user", required: true, autocomplete: "off", spellcheck: "false" });
  const password = hidden("password");
  async function add(event) {
    event.preventDefault();
    const done = await attempt(() => post("users", { user: user.value, password: password.value }, which()), "The user may connect now.");
    password.value = "";
    if (!done) return;
    user.value = "";
    await table.load();
  }
  return h("form", { class: "card", onsubmit: add }, h("h2", {}, "Add a user"),
    h("div", { class: "row" }, field("User", user), field("Password", password)), h("button", { class: "primary" }, "Add"));
}

async function detail(main, file, user, signal) {
  const found = await get(path("users", user), which(), signal);
  replace(main, h("p", {}, link("/users", "Users")), h("h1", {}, name(user)),
    h("div", { class: "buttons" }, button("Delete", () => erase(user, () => { location.hash = "#/users"; }), "danger")),
    h("section", { class: "card" }, facts([
      ["File", name(file.path)], ["Hash", found.scheme],
      ["Superuser", found.superuser ? tag("yes", "warning") : "no"],
    ]), h("p", { class: "faint" }, "Who is a superuser, the configuration says: ", h("code", {}, "superusers"), " in its [[authentication]].")),
    h("div", { class: "columns" }, groupsForm(file, found), passwordForm(user)));
}

/** Groups stand one to a line, since their names may have spaces and commas. */
function groupsForm(file, { user, groups }) {
  const list = h("textarea", { name: "groups", rows: 4, spellcheck: "false", disabled: !file.groups_file }, groups.join("\n"));
  const save = (event) => {
    event.preventDefault();
    const wanted = list.value.split("\n").map((each) => each.trim()).filter(Boolean);
    attempt(() => put(`${path("users", user)}/groups`, { groups: wanted }, which()), "Changed; the user must log in again.");
  };
  return h("form", { class: "card", id: "groups", onsubmit: save }, h("h2", {}, "Groups"),
    field("One to a line", list),
    file.groups_file
      ? h("button", { class: "primary" }, "Set groups")
      : h("p", { class: "faint" }, "This file has no groups: ", h("code", {}, "groups_file"), " in its [[authentication]] names a file for them."));
}

function passwordForm(user) {
  const password = hidden("password");
  async function save(event) {
    event.preventDefault();
    await attempt(() => put(path("users", user), { password: password.value }, which()), "Changed; the user must log in again.");
    password.value = "";
  }
  return h("form", { class: "card", onsubmit: save }, h("h2", {}, "Another password"), field("Password", password),
    h("button", { class: "primary" }, "Set password"));
}
