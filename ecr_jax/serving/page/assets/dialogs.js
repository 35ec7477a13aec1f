// Questions that must be answered first: native dialogs, which hold the focus and close with Escape.

const element = (id) => document.getElementById(id);

function shown(dialog) {
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }),
  );
}

/** Whether the person confirms it; `yes` is the text of the button. */
export function confirmed({ title, text, yes }) {
  element("confirm-title").textContent = title;
  element("confirm-text").textContent = text;
  element("confirm-yes").textContent = yes;
  return shown(element("confirm"));
}

/** Asks for an API key, maybe since the server `refused` one: it, which may be empty, or null where the person cancels. */
export async function askedKey(current, refused) {
  element("key-refused").hidden = !refused;
  element("key-value").value = current;
  return (await shown(element("key"))) ? element("key-value").value.trim() : null;
}
