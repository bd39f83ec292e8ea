// Lists in pages, as the server cuts them: however many there are, the browser holds one
// page. `after` of each page before is remembered, which makes the way back.

import { get } from "./api.js";
import { button, count, h, replace } from "./dom.js";

const LIMIT = 50;

/**
 * A table of what `where` lists. `columns` are {label, cell(item)}, with `number` on the
 * right, `wide` not on a phone, `long` over several lines, `actions` for buttons, or null; `filters` is a function that
 * returns the query; `empty` is said where there is nothing.
 * Returns {element, load(), reset()}.
 */
export function pagedTable({ where, columns: given, filters = () => ({}), empty, signal, caption }) {
  const columns = given.filter(Boolean);
  const body = h("tbody");
  const status = h("span", { class: "faint", "aria-live": "polite" });
  const back = button("Previous", () => { starts.pop(); load(); });
  const forward = button("Next", () => { starts.push(next); load(); });
  const element = h("section", { class: "list" },
    h("div", { class: "scroll" }, h("table", {}, h("caption", {}, caption), heads(columns), body)),
    h("div", { class: "pager" }, back, forward, status));
  let starts = [null];
  let next = null;
  let asking = null;

  async function load() {
    asking?.abort();
    asking = new AbortController();
    const mine = asking;
    element.setAttribute("aria-busy", "true");
    try {
      const query = { ...filters(), limit: LIMIT, after: starts.at(-1) };
      const page = await get(where, query, AbortSignal.any([mine.signal, signal]));
      if (mine !== asking) return;
      next = page.next ?? null;
      show(page);
    } catch (error) {
      if (error.name === "AbortError") return;
      replace(body, row(error.message, "bad"));
      replace(status);
      forward.disabled = back.disabled = true;
    }
    element.removeAttribute("aria-busy");
  }

  function show(page) {
    const rows = page.items.map((item) => h("tr", {}, columns.map((column) => cell(column, item))));
    replace(body, rows.length ? rows : row(empty, "faint"));
    back.disabled = starts.length === 1;
    forward.disabled = next === null;
    back.hidden = forward.hidden = back.disabled && forward.disabled;
    const first = (starts.length - 1) * LIMIT;
    const total = page.total ?? page.items.length;
    replace(status, total ? `${count(first + 1)} to ${count(first + rows.length)} of ${count(total)}` : "");
  }

  function row(text, kind) {
    return h("tr", {}, h("td", { colspan: columns.length, class: kind }, text));
  }

  function reset() {
    starts = [null];
    return load();
  }

  return { element, load, reset };
}

/** A table of `items` that are all here. */
export function plainTable(given, items, empty, caption) {
  const columns = given.filter(Boolean);
  const rows = items.map((item) => h("tr", {}, columns.map((column) => cell(column, item))));
  const none = h("tr", {}, h("td", { colspan: columns.length, class: "faint" }, empty));
  return h("div", { class: "scroll" }, h("table", {}, h("caption", {}, caption), heads(columns),
    h("tbody", {}, rows.length ? rows : none)));
}

function heads(columns) {
  return h("thead", {}, h("tr", {}, columns.map((column) =>
    h("th", { scope: "col", class: kind(column) }, column.actions ? h("span", { class: "unseen" }, "Actions") : column.label))));
}

function cell(column, item) {
  return h("td", { class: kind(column) }, column.cell(item));
}

function kind(column) {
  return ["number", "wide", "long", "actions"].filter((each) => column[each]).join(" ");
}

/** Call `action` when somebody has stopped typing. */
export function settled(action, milliseconds = 250) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}
