// What the pages tell a person: short notes, and questions before something ends.

import { button, h } from "./dom.js";

const SECONDS = 6;

/** Say `text` for a while; an error stays until it is closed. */
export function note(text, kind = "good") {
  const shown = h("div", { class: `note ${kind}` }, h("span", {}, text),
    button("Close", () => shown.remove(), "plain"));
  document.getElementById("notes").append(shown);
  if (kind === "good") setTimeout(() => shown.remove(), SECONDS * 1000);
}

/** Do `action` and say how it went; returns whether it went well. */
export async function attempt(action, done = "") {
  try {
    await action();
    if (done) note(done);
    return true;
  } catch (error) {
    note(error.message, "bad");
    return false;
  }
}

/** Ask before `verb` is done; the answer is a promise of true or false. */
export function ask(question, verb) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      h("p", {}, question),
      h("div", { class: "buttons" },
        button("Cancel", () => dialog.close("no")),
        button(verb, () => dialog.close("yes"), "danger")));
    document.body.append(dialog);
    dialog.showModal();
  });
}
