// Short messages at the bottom of the page: errors stay until they are closed, the rest goes by itself.

import { h, icon, iconButton } from "./dom.js";

const STAY_MS = 4000;

/** Shows a notice. `retry` adds a button that does it again. */
export function notify(text, { error = false, retry = null } = {}) {
  const list = document.getElementById("notices");
  for (const same of list.children) if (same.dataset.text === text) same.remove();
  const close = () => notice.remove();
  const notice = h(
    "div",
    { class: error ? "notice bad" : "notice", role: error ? "alert" : "status", "data-text": text },
    icon(error ? "warning" : "done"),
    h("p", {}, text),
    retry
      ? h(
          "button",
          {
            type: "button",
            class: "link",
            onclick: () => {
              close();
              retry();
            },
          },
          "Try again",
        )
      : null,
    iconButton({ icon: "close", label: "Close this message", onclick: close }),
  );
  list.append(notice);
  if (!error) setTimeout(close, STAY_MS);
}

/** Runs an action; an error is shown, with a button to try again. Says whether it went well. */
export async function attempt(action) {
  try {
    await action();
    return true;
  } catch (error) {
    notify(error.message, { error: true, retry: () => attempt(action) });
    return false;
  }
}
