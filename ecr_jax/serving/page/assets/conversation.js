// One conversation as the page knows it: the server's messages, the branch that is read, and the turn that is being made.

import * as api from "./api.js";
import { Tree } from "./tree.js";

const EXCLUSIVE = { like: "dislike", dislike: "like", up: "down", down: "up" };

/**
 * Phases of a turn: "waiting" for the first word, "writing", "busy" (the server said when to come back), and, where it came
 * to an end without a reply, "failed" or "stopped".
 */
const ACTIVE = ["waiting", "writing", "busy"];

export class Conversation {
  /** `changed(conversation, what)` is called after every change; `what` is "text" for a piece of a reply, else "all". */
  constructor(changed) {
    this.id = null;
    this.title = "";
    this.messages = [];
    this.leaf = null;
    this.turn = null;
    this.loading = false;
    this.forgotten = new Set(); // ids of beliefs that the next message takes back
    this.changed = changed;
  }

  /** Whether a reply is being waited for or written. */
  get active() {
    return ACTIVE.includes(this.turn?.phase);
  }

  get tree() {
    return new Tree(this.messages);
  }

  /** The messages of the branch that is read; without the turn that is being made. */
  get path() {
    return this.tree.path(this.turn ? this.turn.parent : this.leaf);
  }

  /** What the recommender believes about the person, after the last reply of the branch. */
  get beliefs() {
    return this.path.findLast((message) => message.explanation)?.explanation.beliefs ?? [];
  }

  /** Reads the conversation from the server and shows the branch of `leaf`, or the newest. */
  async load(id, leaf = null) {
    this.loading = true;
    try {
      await this.#read(id);
    } finally {
      this.loading = false;
    }
    this.turn = null;
    this.leaf = this.tree.newest(this.tree.byId.has(leaf) ? leaf : null);
    this.changed(this, "all");
  }

  async #read(id) {
    const { title, messages } = await api.conversation(id);
    this.id = id;
    this.title = title;
    this.messages = messages;
  }

  /** Shows the newest branch through a message. */
  show(id) {
    this.turn = null;
    this.leaf = this.tree.newest(id);
    this.changed(this, "all");
  }

  /** Says something at the end of the branch, after what the server kept of a turn that failed or was stopped. */
  async say(text) {
    await this.#send({ text, parent: this.turn ? await this.#endOfTurn() : this.leaf, id: newId() });
  }

  async #endOfTurn() {
    const { id, parent, kept } = this.turn;
    if (!kept) return parent;
    await this.#read(this.id);
    return this.tree.newest(id);
  }

  /** Says something in the place of an earlier message of the seeker; the earlier one stays as a branch. */
  edit(message, text) {
    return this.#send({ text, parent: message.parent_id, id: newId() });
  }

  /**
   * Asks for a reply to a message of the seeker, for another one where it has one. Beliefs are taken back with a message:
   * where there are some, the same words are said anew.
   */
  again({ id, text, parent_id: parent }) {
    return this.#send(this.forgotten.size ? { text, parent, id: newId() } : { text, parent, id, regenerate: true });
  }

  /** Sends the turn once more that failed or was stopped, or that the server was too busy for. */
  retry() {
    const { id, text, parent, regenerate, phase, kept } = this.turn;
    return this.#send({ id, text, parent, regenerate: regenerate || (phase === "stopped" && kept) });
  }

  /** Stops the reply, or the waiting for a busy server. What was written stays to be read. */
  stop() {
    if (!this.active) return;
    clearTimeout(this.turn.timer);
    this.turn.controller.abort();
    this.turn.phase = "stopped";
    this.changed(this, "all");
  }

  /** `id` is that of the seeker's message: with it, a message that the server has already is not a second one. */
  async #send({ id, text, parent, regenerate = false }) {
    if (this.active && this.turn.phase !== "busy") return;
    clearTimeout(this.turn?.timer);
    const controller = new AbortController();
    const forget = [...this.forgotten];
    const kept = this.tree.byId.has(id); // whether the server has the message
    const turn = { id, text, parent, regenerate, kept, forget, controller, phase: "waiting", reply: "" };
    this.turn = turn;
    this.changed(this, "all");
    let last = {};
    try {
      const request = {
        model: await modelName(),
        messages: [{ role: "user", content: text }],
        ecr: { conversation_id: this.id ?? "new", parent_id: parent, message_id: id, regenerate, forget },
      };
      for await (const { text: piece, ecr } of paced(api.complete(request, controller.signal))) {
        if (controller.signal.aborted) return; // these words had arrived before
        if (ecr) last = { ...last, ...ecr };
        if (ecr?.conversation_id && !this.id) {
          this.id = ecr.conversation_id;
          this.changed(this, "id");
        }
        turn.kept ||= Boolean(ecr?.message_id);
        if (!piece) continue;
        turn.reply += piece;
        const first = turn.phase === "waiting";
        turn.phase = "writing";
        this.changed(this, first ? "all" : "text");
      }
    } catch (error) {
      if (turn.phase === "stopped") return;
      this.#failed(turn, error);
      return;
    }
    this.#finished(turn, last);
  }

  #finished(turn, explanation) {
    if (!explanation.reply_id) {
      this.#failed(turn, new api.ApiError("The server did not say where it kept the reply. Reload to see what it has."));
      return;
    }
    const created = new Date().toISOString();
    const asked = { id: turn.id, parent_id: turn.parent, role: "seeker", text: turn.text };
    const reply = { id: explanation.reply_id, parent_id: turn.id, role: "recommender", text: turn.reply, explanation };
    const added = this.tree.byId.has(turn.id) ? [reply] : [asked, reply];
    this.messages = [...this.messages, ...added.map((message) => ({ created, feedback: [], ...message }))];
    this.leaf = reply.id;
    this.turn = null;
    for (const id of turn.forget) this.forgotten.delete(id);
    this.changed(this, "reply");
  }

  #failed(turn, error) {
    turn.error = error;
    turn.phase = error.retryAfter ? "busy" : "failed";
    if (turn.phase === "busy") {
      turn.until = Date.now() + error.retryAfter * 1000;
      turn.timer = setTimeout(() => this.retry(), error.retryAfter * 1000);
    }
    this.changed(this, "all");
  }

  /** Takes a belief back with the next message, or keeps it after all. */
  forget(id, gone = true) {
    if (gone) this.forgotten.add(id);
    else this.forgotten.delete(id);
    this.changed(this, "all");
  }

  /**
   * Turns feedback on a reply (`item` null: "up", "down") or on a film of it ("like", "dislike", "seen") on or off. It shows
   * at once, and is taken back where the server refuses it.
   */
  async judge(message, kind, item = null) {
    const before = message.feedback;
    const mine = before.filter((one) => (one.item ?? null) === item).map((one) => one.kind);
    const off = mine.includes(kind);
    const kept = off ? mine.filter((one) => one !== kind) : mine.filter((one) => one !== EXCLUSIVE[kind]);
    const others = before.filter((one) => (one.item ?? null) !== item);
    message.feedback = [...others, ...[...kept, ...(off ? [] : [kind])].map((one) => ({ kind: one, item }))];
    this.changed(this, "all");
    const post = (one) => api.feedback({ conversation_id: this.id, message_id: message.id, kind: one, item });
    try {
      await post(off ? "clear" : kind);
      if (off) for (const one of kept) await post(one);
    } catch (error) {
      message.feedback = before;
      this.changed(this, "all");
      throw error;
    }
  }
}

const PACE_MS = 20;
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** The same pieces, with a moment after each: a reply that arrives all at once can still be followed word by word. */
async function* paced(pieces) {
  for await (const piece of pieces) {
    yield piece;
    if (piece.text && !still.matches && !document.hidden) await new Promise((done) => setTimeout(done, PACE_MS));
  }
}

/** A random UUID; `crypto.randomUUID` is missing where the page does not come from https or localhost. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

let model = null;

/** The name of the served model, asked once. */
async function modelName() {
  model ??= (await api.models())[0].id;
  return model;
}
