// Elements without HTML strings: whatever text comes in becomes a text node.

/**
 * An element. Properties that are functions are listeners ("onclick"); null, undefined and false leave an attribute out.
 * Children are elements and strings; null, undefined and false are left out.
 */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The icon of a name in index.html's sprite; what it means is said by the text or label beside it. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button that is an icon; `focus` names it, so that it keeps the focus when its surroundings are drawn anew. */
export function iconButton({ icon: name, label, focus, onclick, ...rest }) {
  const all = { type: "button", class: "quiet", "aria-label": label, title: label, "data-focus": focus, onclick, ...rest };
  return h("button", all, icon(name));
}

/** Replaces the children of an element; the focus and the caret stay on the child with the same `data-focus`. */
export function redraw(element, ...children) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const key = active?.dataset.focus;
  const caret = active?.selectionStart === undefined ? null : [active.selectionStart, active.selectionEnd];
  element.replaceChildren(...children.flat().filter(Boolean));
  if (!key) return;
  const again = element.querySelector(`[data-focus="${CSS.escape(key)}"]`);
  again?.focus({ preventScroll: true });
  if (caret && again?.setSelectionRange) again.setSelectionRange(...caret);
}

/** `text` cut at every occurrence of `names`, in order: [string, whether it is one of the names]. */
export function segments(text, names) {
  const wanted = names.filter(Boolean).sort((a, b) => b.length - a.length);
  if (!wanted.length) return [[text, false]];
  const escaped = wanted.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return text
    .split(new RegExp(`(${escaped.join("|")})`, "i"))
    .map((part, i) => [part, i % 2 === 1])
    .filter(([part]) => part);
}

/** Makes a text area as high as its text, up to the maximum of its style. */
export function fit(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}
