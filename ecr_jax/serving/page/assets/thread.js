// The messages of the branch that is read, the turn that is being made, and what can be done with them.

import { fit, h, icon, iconButton, redraw, segments } from "./dom.js";
import { detailsPanel } from "./details.js";
import { filmCard, fullTitle } from "./films.js";

const STARTERS = [
  ["After a film I loved", "I loved Moneyball. What should I watch next?"],
  ["To feel better", "It was a rough week. I need something funny and warm."],
  ["With limits", "A thriller from the nineties please, but no horror."],
  ["Not sure yet", "I don't know what I want. Can you ask me?"],
];

export class Thread {
  /** `actions`: send(text), notify(error, retry), copy(text). */
  constructor(element, scroller, actions) {
    this.element = element;
    this.scroller = scroller;
    this.actions = actions;
    this.open = new Set(); // replies whose details are shown
    this.editing = null; // {id, text} of the message that is being edited
    this.shown = new Set(); // keys of what was drawn before, which does not fade in again
    this.live = null; // where the text of the reply is written
  }

  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < 96;
  }

  toEnd(behavior = "instant") {
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior });
  }

  /** Draws everything; `fresh` where it is another conversation than before. */
  draw(conversation, fresh = false) {
    if (fresh) {
      this.editing = null;
      this.shown.clear();
    }
    const { path, turn } = conversation;
    this.live = null;
    const tree = conversation.tree;
    const items = path.flatMap((message, i) =>
      message.role === "seeker"
        ? [this.#question(conversation, tree, message), ...this.#unanswered(conversation, message, i)]
        : [this.#reply(conversation, tree, message, i === path.length - 1 && !turn)],
    );
    if (turn) items.push(this.#question(conversation, tree, asMessage(turn)), this.#turn(conversation, turn));
    for (const item of items) {
      if (fresh || this.shown.has(item.dataset.key)) item.classList.add("old");
      this.shown.add(item.dataset.key);
    }
    redraw(this.element, items.length ? h("ol", { class: "messages" }, items) : this.#welcome());
  }

  /** Writes what has come of the reply since. */
  write(turn) {
    const written = this.live.dataset.length ?? 0;
    const follow = this.atEnd;
    this.live.append(h("span", { class: "word" }, turn.reply.slice(written)));
    this.live.dataset.length = turn.reply.length;
    if (follow) this.toEnd();
  }

  edit(message, conversation) {
    this.editing = { id: message.id, text: message.text };
    this.draw(conversation);
    const field = this.element.querySelector(".editor textarea");
    fit(field);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  #welcome() {
    return h(
      "div",
      { class: "welcome" },
      h("h2", {}, "What are you in the mood for?"),
      h("p", {}, "Tell me about films you like and how you feel. I recommend, and say why."),
      h(
        "ul",
        {},
        STARTERS.map(([when, text]) =>
          h(
            "li",
            {},
            h(
              "button",
              { type: "button", class: "starter", onclick: () => this.actions.send(text) },
              h("span", { class: "when" }, when),
              text,
            ),
          ),
        ),
      ),
    );
  }

  #switcher(conversation, tree, message, what) {
    const versions = tree.versions(message);
    const at = versions.findIndex((version) => version.id === message.id);
    if (versions.length < 2 || at < 0) return null;
    const step = (by, name, label) =>
      iconButton({
        icon: name,
        label: `${label} version of ${what}`,
        focus: `${message.role}/${message.parent_id}/${name}`,
        // not `disabled`, which would lose the focus at the last version
        "aria-disabled": versions[at + by] && !conversation.active ? null : "true",
        onclick: () => versions[at + by] && !conversation.active && conversation.show(versions[at + by].id),
      });
    return h(
      "span",
      { class: "switcher", role: "group", "aria-label": `Versions of ${what}` },
      step(-1, "left", "Previous"),
      h("span", { class: "place" }, `${at + 1}/${versions.length}`),
      step(1, "right", "Next"),
    );
  }

  #question(conversation, tree, message) {
    const { id, text } = message;
    if (this.editing?.id === id) return this.#editor(conversation, message);
    return h(
      "li",
      { class: "question", "data-key": id },
      h("h2", { class: "unseen" }, "You said"),
      h("p", { class: "bubble", dir: "auto" }, text),
      h(
        "div",
        { class: "actions" },
        conversation.active
          ? null
          : iconButton({
              icon: "edit",
              label: "Edit your message",
              focus: `${id}/edit`,
              onclick: () => this.edit(message, conversation),
            }),
        this.#copyButton(id, text, "Copy your message"),
        this.#switcher(conversation, tree, message, "your message"),
      ),
    );
  }

  #editor(conversation, message) {
    const close = () => {
      this.editing = null;
      this.draw(conversation);
      this.element.querySelector(`[data-focus="${CSS.escape(`${message.id}/edit`)}"]`)?.focus();
    };
    const send = (event) => {
      event.preventDefault();
      const text = this.editing.text.trim();
      if (!text || conversation.active) return;
      this.editing = null;
      this.actions.edit(message, text);
    };
    const field = h("textarea", {
      "aria-label": "Edit your message",
      "data-focus": "editor",
      rows: "1",
      oninput: () => {
        this.editing.text = field.value;
        fit(field);
      },
      onkeydown: (event) => {
        if (event.key === "Escape") {
          event.stopPropagation();
          close();
        } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
      },
    });
    field.value = this.editing.text;
    return h(
      "li",
      { class: "question editing", "data-key": message.id },
      h(
        "form",
        { class: "editor", onsubmit: send },
        field,
        h(
          "div",
          { class: "buttons" },
          h("button", { type: "button", class: "plain", "data-focus": "editor/cancel", onclick: close }, "Cancel"),
          h("button", { class: "primary", "data-focus": "editor/send" }, "Send"),
        ),
      ),
    );
  }

  /** Where a message has no reply, since the page was closed or the server stopped: a way to have one. */
  #unanswered(conversation, message, i) {
    const next = conversation.path[i + 1];
    if (next?.role === "recommender" || (!next && conversation.turn)) return [];
    const again = { type: "button", class: "link", "data-focus": `${message.id}/again` };
    return [
      h(
        "li",
        { class: "trouble", "data-key": `${message.id}/none` },
        h("p", {}, "There is no reply to this message. "),
        conversation.active ? null : h("button", { ...again, onclick: () => conversation.again(message) }, "Try again"),
      ),
    ];
  }

  #reply(conversation, tree, message, last) {
    const { id, text, explanation } = message;
    const kinds = (item) => message.feedback.filter((one) => (one.item ?? null) === item).map((one) => one.kind);
    const judge = (kind, item) => this.actions.attempt(() => conversation.judge(message, kind, item));
    const films = explanation?.films ?? [];
    const panel = `details-${id}`;
    const open = this.open.has(id);
    const asked = tree.byId.get(message.parent_id);
    const thumb = (kind, label) =>
      iconButton({
        icon: `thumb-${kind}`,
        label,
        focus: `${id}/${kind}`,
        "aria-pressed": String(kinds(null).includes(kind)),
        onclick: () => judge(kind, null),
      });
    return h(
      "li",
      { class: last ? "reply last" : "reply", "data-key": id },
      h("h2", { class: "unseen" }, "Reply"),
      h("p", { class: "text", dir: "auto" }, marked(text, films)),
      films.length
        ? h(
            "ul",
            { class: films.length > 1 ? "films many" : "films", "aria-label": "Recommended films" },
            films.map((film) => {
              const given = { kinds: kinds(film.uri), judge: (kind) => judge(kind, film.uri), focus: `${id}/${film.uri}` };
              return h("li", {}, filmCard(film, given));
            }),
          )
        : null,
      h(
        "div",
        { class: "actions" },
        this.#switcher(conversation, tree, message, "the reply"),
        this.#copyButton(id, text, "Copy the reply"),
        asked && !conversation.active
          ? iconButton({ icon: "again", label: "Another reply", focus: `${id}/again`, onclick: () => conversation.again(asked) })
          : null,
        thumb("up", "Good reply"),
        thumb("down", "Bad reply"),
        explanation
          ? h(
              "button",
              {
                type: "button",
                class: "quiet how",
                "aria-expanded": String(open),
                "aria-controls": open ? panel : null,
                "data-focus": `${id}/how`,
                onclick: () => {
                  if (open) this.open.delete(id);
                  else this.open.add(id);
                  this.draw(conversation);
                  if (!open) document.getElementById(panel).scrollIntoView({ block: "nearest" });
                },
              },
              icon("how"),
              "How this reply was made",
            )
          : null,
      ),
      explanation && open ? detailsPanel(explanation, panel) : null,
    );
  }

  #turn(conversation, turn) {
    const { phase } = turn;
    const row = h("li", { class: `reply turn ${phase}`, "data-key": "turn/reply" }, h("h2", { class: "unseen" }, "Reply"));
    if (turn.reply) {
      this.live = h("p", { class: "text", dir: "auto" }, turn.reply);
      this.live.dataset.length = turn.reply.length;
      row.append(this.live);
    }
    if (phase === "waiting") row.append(h("p", { class: "waiting", "aria-hidden": "true" }, h("i"), h("i"), h("i")));
    if (phase === "stopped") row.append(this.#trouble("Stopped.", conversation));
    if (phase === "failed") row.append(this.#trouble(turn.error.message, conversation, "warning"));
    if (phase === "busy") row.append(countdown(turn, conversation));
    return row;
  }

  #trouble(text, conversation, name = null) {
    return h(
      "div",
      { class: name ? "trouble bad" : "trouble" },
      h("p", { role: name ? "alert" : null }, name ? icon(name) : null, text),
      h(
        "button",
        { type: "button", class: "link", "data-focus": "turn/retry", onclick: () => conversation.retry() },
        "Try again",
      ),
    );
  }

  #copyButton(id, text, label) {
    const button = iconButton({
      icon: "copy",
      label,
      focus: `${id}/copy`,
      onclick: () =>
        this.actions.attempt(async () => {
          await this.actions.copy(text);
          button.replaceChildren(icon("done"));
          setTimeout(() => button.replaceChildren(icon("copy")), 1500);
        }),
    });
    return button;
  }
}

const asMessage = ({ id, parent, text }) => ({ id, parent_id: parent, role: "seeker", text });

/** The text of a reply with the names of its films set apart. */
function marked(text, films) {
  const names = films.flatMap((film) => [fullTitle(film), film.title]);
  return segments(text, names).map(([part, isName]) => (isName ? h("strong", {}, part) : part));
}

/** How long it is until the turn is sent again; it says so once to a screen reader, and shows every second. */
function countdown(turn, conversation) {
  const seconds = () => Math.max(0, Math.ceil((turn.until - Date.now()) / 1000));
  const left = h("span", { class: "seconds" }, `${seconds()} s`);
  const timer = setInterval(() => {
    if (turn.phase !== "busy" || !left.isConnected) clearInterval(timer);
    else left.firstChild.data = `${seconds()} s`;
  }, 250);
  return h(
    "div",
    { class: "trouble" },
    h("p", { role: "alert" }, turn.error.message),
    h("p", { "aria-hidden": "true" }, "Trying again in", left),
    h("button", { type: "button", class: "link", "data-focus": "turn/retry", onclick: () => conversation.retry() }, "Try now"),
    h("button", { type: "button", class: "link", "data-focus": "turn/cancel", onclick: () => conversation.stop() }, "Cancel"),
  );
}
