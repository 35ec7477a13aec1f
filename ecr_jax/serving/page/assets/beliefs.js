// Chips of what the recommender believes about the person.

import { h, icon, iconButton, redraw } from "./dom.js";

const KINDS = {
  liked: ["heart", "likes"],
  disliked: ["heart-off", "dislikes"],
  seen: ["eye", "has seen"],
  refused: ["no", "not"],
  constraint: ["sliders", "wants"],
};

function chip(belief, conversation) {
  const gone = conversation.forgotten.has(belief.id);
  const [name, word] = KINDS[belief.kind] ?? ["quote", ""];
  return h(
    "li",
    { class: `chip ${belief.kind}`, "data-gone": gone },
    icon(name),
    word ? h("span", { class: "kind" }, word) : null,
    gone ? h("del", {}, belief.text) : h("span", {}, belief.text),
    iconButton({
      icon: gone ? "again" : "close",
      label: gone ? `Keep: ${word} ${belief.text}` : `Forget: ${word} ${belief.text}`,
      focus: `belief/${belief.id}`,
      onclick: () => conversation.forget(belief.id, !gone),
    }),
  );
}

/** Draws the chips of a conversation's branch. */
export function drawBeliefs(element, conversation) {
  const { beliefs, path } = conversation;
  const asked = path.findLast((message) => message.role === "seeker");
  const pending = beliefs.filter((belief) => conversation.forgotten.has(belief.id));
  element.hidden = !beliefs.length;
  redraw(
    element,
    h("h2", {}, "Understood"),
    h("ul", {}, beliefs.map((belief) => chip(belief, conversation))),
    pending.length && !conversation.active
      ? h(
          "p",
          { class: "pending" },
          "Forgotten with your next message. ",
          asked
            ? h(
                "button",
                { type: "button", class: "link", "data-focus": "belief-again", onclick: () => conversation.again(asked) },
                "Reply again without",
              )
            : null,
        )
      : null,
  );
}
