// The list of conversations: search, rename, export, delete.

import * as api from "./api.js";
import { h, iconButton, redraw, segments } from "./dom.js";

const DAY = 24 * 60 * 60 * 1000;

/** A time of the server: seconds since the epoch, or ISO 8601 (UTC where it names no zone). */
function time(value) {
  if (typeof value === "number") return value * 1000;
  return Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(value) ? value : `${value}Z`);
}

function period(updated, now = new Date()) {
  const today = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const at = time(updated);
  if (at >= today) return "Today";
  if (at >= today - DAY) return "Yesterday";
  return at >= today - 7 * DAY ? "Last seven days" : "Earlier";
}

export class Sidebar {
  /** `actions`: attempt(action), remove(row), save(row), renamed(id, title), drawn(). */
  constructor(nav, search, actions) {
    this.nav = nav;
    this.search = search;
    this.actions = actions;
    this.rows = [];
    this.more = false; // whether the server may have more rows
    this.current = null; // id of the conversation that is open
    this.busy = () => new Set(); // ids of those whose reply is being written
    this.renaming = null; // {id, title}
    search.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.refresh(), 120);
    });
    search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.#focusRow(event, 0);
      if (event.key === "Enter") this.nav.querySelector("a")?.click();
    });
    nav.addEventListener("keydown", (event) => {
      if (event.target.tagName !== "A") return;
      const at = [...nav.querySelectorAll("a")].indexOf(event.target);
      if (event.key === "ArrowDown") this.#focusRow(event, at + 1);
      if (event.key === "ArrowUp") this.#focusRow(event, at - 1);
    });
  }

  /** Reads the list from the server, `more` of it or anew. What comes back later than a newer request is dropped. */
  async refresh(more = false) {
    this.reading?.abort();
    const { signal } = (this.reading = new AbortController());
    await this.actions.attempt(async () => {
      try {
        const offset = more ? this.rows.length : 0;
        const rows = await api.conversations({ query: this.search.value.trim(), offset }, signal);
        this.rows = more ? [...this.rows, ...rows] : rows;
        this.more = rows.length === api.PAGE;
      } catch (error) {
        if (error.name !== "AbortError") throw error;
        return;
      }
      this.draw();
    });
  }

  draw() {
    const periods = Map.groupBy(this.rows, (row) => period(row.updated));
    const groups = [...periods].map(([name, rows]) =>
      h("section", {}, h("h2", {}, name), h("ul", {}, rows.map((row) => this.#row(row)))),
    );
    const query = this.search.value.trim();
    const none = query ? `Nothing found for “${query}”.` : "Your conversations will be here.";
    const more = { type: "button", class: "wide quiet", "data-focus": "more", onclick: () => this.refresh(true) };
    redraw(
      this.nav,
      this.rows.length ? groups : h("p", { class: "none" }, none),
      this.more ? h("button", more, "Show more") : null,
    );
    this.actions.drawn();
  }

  #focusRow(event, at) {
    event.preventDefault();
    if (at < 0) this.search.focus();
    else [...this.nav.querySelectorAll("a")][at]?.focus();
  }

  #row(row) {
    const { id } = row;
    const title = row.title || "New conversation";
    if (this.renaming?.id === id) return h("li", { class: "renaming" }, this.#renameField(row));
    const query = this.search.value.trim();
    const name = segments(title, [query]).map(([part, found]) => (found ? h("mark", {}, part) : part));
    return h(
      "li",
      {},
      h(
        "a",
        {
          href: `#${new URLSearchParams({ c: id })}`,
          "aria-current": id === this.current ? "page" : null,
          "data-focus": `row/${id}`,
          title,
        },
        this.busy().has(id) ? h("span", { class: "busy", role: "img", "aria-label": "A reply is being written" }) : null,
        name,
      ),
      h(
        "span",
        { class: "row-actions" },
        iconButton({
          icon: "edit",
          label: `Rename: ${title}`,
          focus: `rename/${id}`,
          onclick: () => {
            this.renaming = { id, title };
            this.draw();
            const field = this.nav.querySelector(".renaming input");
            field.focus();
            field.select();
          },
        }),
        iconButton({
          icon: "export",
          label: `Export: ${title}`,
          focus: `export/${id}`,
          onclick: () => this.actions.save(row),
        }),
        iconButton({
          icon: "delete",
          label: `Delete: ${title}`,
          focus: `delete/${id}`,
          onclick: () => this.actions.remove(row),
        }),
      ),
    );
  }

  #renameField(row) {
    const done = (save) => {
      if (!this.renaming) return;
      const title = this.renaming.title.trim();
      this.renaming = null;
      if (save && title && title !== row.title) {
        this.actions.attempt(async () => {
          await api.rename(row.id, title);
          this.actions.renamed(row.id, title);
          await this.refresh();
        });
      }
      this.draw();
      this.nav.querySelector(`[data-focus="${CSS.escape(`rename/${row.id}`)}"]`)?.focus();
    };
    const field = h("input", {
      "aria-label": "Title of the conversation",
      "data-focus": `renaming/${row.id}`,
      maxlength: "200",
      oninput: () => (this.renaming.title = field.value),
      onblur: () => field.isConnected && done(true),
      onkeydown: (event) => {
        if (event.key === "Enter" && !event.isComposing) {
          event.preventDefault(); // the button that gets the focus would be pressed with the same key
          done(true);
        }
        if (event.key === "Escape") {
          event.stopPropagation();
          done(false);
        }
      },
    });
    field.value = this.renaming.title;
    return field;
  }
}
