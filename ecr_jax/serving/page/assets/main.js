// Ties the parts of the page together: the address, the keyboard, the composer and the parts that draw.

import * as api from "./api.js";
import { drawBeliefs } from "./beliefs.js";
import { Conversation } from "./conversation.js";
import { askedKey, confirmed } from "./dialogs.js";
import { fit } from "./dom.js";
import { fullTitle } from "./films.js";
import { attempt, notify } from "./notices.js";
import { Sidebar } from "./sidebar.js";
import { Thread } from "./thread.js";

const element = (id) => document.getElementById(id);
const field = element("message");
const narrow = matchMedia("(max-width: 860px)");

let current = new Conversation(changed);
const working = new Set(); // conversations whose reply is being made; they go on while another one is read

const thread = new Thread(element("thread"), element("scroller"), {
  attempt,
  copy,
  send: (text) => current.say(text),
  edit: (message, text) => current.edit(message, text),
});

const sidebar = new Sidebar(element("conversations"), element("search"), {
  attempt,
  renamed(id, title) {
    if (id !== current.id) return;
    current.title = title;
    drawTitle();
  },
  save: (row) => attempt(async () => save(await api.exported(row.id), row.title || "conversation")),
  remove,
  drawn: drawTitle,
});
sidebar.busy = () => new Set([...working].map((conversation) => conversation.id));

/** Called by every conversation after a change of it. */
function changed(conversation, what) {
  const { active } = conversation;
  const wasWorking = working.has(conversation);
  if (active) working.add(conversation);
  else working.delete(conversation);
  if (conversation === current) {
    if (what === "text") thread.write(conversation.turn);
    else draw();
    if (what !== "text" && conversation.id) putAddress();
  }
  if (what === "id" || wasWorking !== active) sidebar.refresh();
  if (what === "reply") announceReply(conversation);
}

function draw(fresh = false) {
  const focused = document.activeElement !== document.body;
  const follow = fresh || thread.atEnd;
  thread.draw(current, fresh);
  drawBeliefs(element("beliefs"), current);
  drawTitle();
  drawComposer();
  if (follow) thread.toEnd(); // after the chips, which take of its height
  drawJump();
  // What had the focus may be gone, such as a starter. On a narrow screen the field would open a keyboard over the reply.
  if (focused && document.activeElement === document.body) (narrow.matches ? element("scroller") : field).focus();
}

function drawTitle() {
  const row = sidebar.rows.find((one) => one.id === current.id);
  const title = current.title || row?.title || "New conversation";
  element("title").textContent = title;
  document.title = current.id ? `${title} · Film recommendations` : "Film recommendations";
}

function drawComposer() {
  const { active } = current;
  const hadFocus = document.activeElement === element("stop") || document.activeElement === element("send");
  element("stop").hidden = !active;
  element("send").hidden = active;
  element("send").disabled = !field.value.trim();
  if (hadFocus) field.focus();
  element("thread").setAttribute("aria-busy", String(active));
  if (active && current.turn.phase === "waiting") say("A reply is being written.");
}

const drawJump = () => (element("jump").hidden = thread.atEnd);

/** Tells screen readers, once; the live text of a reply would be read in pieces. */
const say = (text) => (element("status").textContent = text);

function announceReply(conversation) {
  if (conversation !== current) {
    notify(`There is a reply in “${conversation.title || "another conversation"}”.`);
    return;
  }
  const { text, explanation } = current.path.at(-1);
  const films = explanation.films?.map(fullTitle) ?? [];
  say(films.length ? `${text} Recommended: ${films.join(", ")}.` : text);
}

// The address: #c=CONVERSATION, with &m=MESSAGE for another branch than the newest.

function putAddress() {
  const parameters = new URLSearchParams({ c: current.id });
  if (current.leaf && current.leaf !== current.tree.newest()) parameters.set("m", current.leaf);
  history.replaceState(null, "", `#${parameters}`);
  sidebar.current = current.id;
}

async function followAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const id = parameters.get("c");
  if (id === current.id && (id || !current.turn)) return;
  current = [...working].find((conversation) => conversation.id === id && id) ?? new Conversation(changed);
  const wanted = current;
  sidebar.current = id;
  sidebar.draw();
  closeSidebar();
  if (id && !current.id) {
    await attempt(() => wanted.load(id, parameters.get("m")));
    if (current !== wanted) return; // another one was opened meanwhile
  }
  draw(true);
  if (!narrow.matches) field.focus();
}

function startNew() {
  current = new Conversation(changed);
  history.pushState(null, "", location.pathname + location.search);
  sidebar.current = null;
  sidebar.draw();
  closeSidebar();
  draw(true);
  field.focus();
}

// What is done with conversations.

async function remove(row) {
  const title = row.title || "New conversation";
  const sure = await confirmed({
    title: "Delete this conversation?",
    text: `“${title}” and what you said about its films will be gone for good.`,
    yes: "Delete",
  });
  if (!sure) return;
  await attempt(async () => {
    [...working].find((conversation) => conversation.id === row.id)?.stop();
    await api.remove(row.id);
    if (row.id === current.id) startNew();
    await sidebar.refresh();
  });
}

function save(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
  link.download = `${name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "conversation"}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const exportAll = () =>
  attempt(async () => {
    const texts = [];
    for (let rows, offset = 0; !rows || rows.length === api.PAGE; offset += api.PAGE) {
      rows = await api.conversations({ offset });
      for (const row of rows) texts.push((await api.exported(row.id)).trimEnd());
    }
    if (!texts.length) return notify("There is no conversation to export yet.");
    save(`${texts.join("\n")}\n`, "conversations");
  });

async function importFiles(files) {
  for (const file of files) {
    await attempt(async () => {
      const { conversations } = await api.imported(await file.text());
      await sidebar.refresh();
      const [first] = conversations;
      if (first) location.hash = `${new URLSearchParams({ c: first.id })}`;
      notify(`Imported ${conversations.length} ${conversations.length === 1 ? "conversation" : "conversations"}.`);
    });
  }
}

async function deleteAll() {
  element("settings").hidePopover();
  const sure = await confirmed({
    title: "Delete all your data?",
    text: "All your conversations and everything you said about films will be gone for good. You can export them before.",
    yes: "Delete everything",
  });
  if (!sure) return;
  await attempt(async () => {
    await api.removeEverything();
    startNew();
    await sidebar.refresh();
    notify("All your data is deleted.");
  });
}

async function copy(text) {
  await copied(text);
  say("Copied.");
}

async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Where the page does not come from https or localhost, browsers offer the older way alone.
  const hidden = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
  document.body.append(hidden);
  hidden.select();
  const done = document.execCommand("copy");
  hidden.remove();
  if (!done) throw new Error("The browser does not allow copying here.");
}

async function changeKey(refused = false) {
  const key = await askedKey(api.storedKey(), refused);
  if (key === null) return false;
  api.storeKey(key);
  return Boolean(key);
}
api.onKeyNeeded(() => changeKey(Boolean(api.storedKey())));

// The list on a narrow screen lies over the conversation.

function openSidebar() {
  document.body.classList.add("listing");
  element("scrim").hidden = false;
  element("main").inert = narrow.matches;
  element("sidebar").inert = false;
}

function closeSidebar() {
  document.body.classList.remove("listing");
  element("scrim").hidden = true;
  element("main").inert = false;
  element("sidebar").inert = narrow.matches;
}

// Listeners.

function submit(event) {
  event.preventDefault();
  const text = field.value.trim();
  if (!text || current.active || current.loading) return;
  field.value = "";
  fit(field);
  current.say(text).catch((error) => {
    field.value = text; // nothing was sent: what was written is given back
    fit(field);
    drawComposer();
    notify(error.message, { error: true });
  });
  thread.toEnd();
}

element("composer").addEventListener("submit", submit);
element("stop").addEventListener("click", () => current.stop());
field.addEventListener("input", () => {
  fit(field);
  element("send").disabled = !field.value.trim();
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
});
element("scroller").addEventListener("scroll", drawJump, { passive: true });
element("jump").addEventListener("click", () => thread.toEnd("smooth"));
element("new").addEventListener("click", startNew);
element("new-narrow").addEventListener("click", startNew);
element("open-sidebar").addEventListener("click", () => {
  openSidebar();
  element("close-sidebar").focus();
});
for (const id of ["close-sidebar", "scrim"]) {
  element(id).addEventListener("click", () => {
    closeSidebar();
    element("open-sidebar").focus();
  });
}
element("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is that of the conversation
  field.focus();
});
element("import").addEventListener("click", () => element("import-file").click());
element("import-file").addEventListener("change", async ({ target }) => {
  element("settings").hidePopover();
  await importFiles([...target.files]);
  target.value = "";
});
element("export-all").addEventListener("click", exportAll);
element("change-key").addEventListener("click", async () => {
  element("settings").hidePopover();
  if (await changeKey()) await sidebar.refresh();
});
element("delete-all").addEventListener("click", deleteAll);

addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openSidebar();
    element("search").focus();
    element("search").select();
  } else if (event.key === "Escape" && !document.querySelector("dialog[open], [popover]:popover-open")) {
    if (document.activeElement === element("search") && element("search").value) {
      element("search").value = "";
      sidebar.refresh();
    } else if (document.body.classList.contains("listing") && narrow.matches) closeSidebar();
    else if (current.active) current.stop();
    else field.focus();
  }
});
addEventListener("hashchange", followAddress);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && sidebar.refresh());
narrow.addEventListener("change", closeSidebar);

for (const choice of document.getElementsByName("theme")) {
  choice.checked = choice.value === (localStorage.getItem("ecr.theme") ?? "system");
  choice.addEventListener("change", () => {
    localStorage.setItem("ecr.theme", choice.value);
    if (choice.value === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice.value;
  });
}
if (/Mac|iPhone|iPad/.test(navigator.platform)) document.querySelector(".search kbd").textContent = "⌘ K";

closeSidebar();
draw(true);
if (!narrow.matches) field.focus();
await Promise.all([sidebar.refresh(), followAddress()]);
