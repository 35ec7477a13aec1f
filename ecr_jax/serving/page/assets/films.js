// A recommended film as a card.

import { h, icon } from "./dom.js";

/** A film's title with its year, once. */
export const fullTitle = ({ title, year }) => (!year || title.includes(`(${year})`) ? title : `${title} (${year})`);

const bareTitle = ({ title, year }) => (year ? title.replace(`(${year})`, "").trim() : title);

/** A hue in degrees that is always the same for the same film. */
function hue(uri) {
  let sum = 0;
  for (const letter of uri) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

const JUDGEMENTS = [
  ["like", "heart", "Like"],
  ["dislike", "heart-off", "Not for me"],
  ["seen", "eye", "Seen"],
];

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Key of the reasons, icon, what the icon stands for, and the lines.
const REASONS = [
  ["feelings", "heart", "How you feel", (feelings) => [`Heard in your words: ${feelings.join(", ")}`]],
  ["mentions", "quote", "What you said", (mentions) => mentions.map(capital)],
  ["facts", "fact", "What is known", (facts) => facts.map(capital)],
];

/** The card of a film. `kinds`: the feedback given to it; `judge(kind)` turns one on or off; `focus` names its buttons. */
export function filmCard(film, { kinds, judge, focus }) {
  const title = bareTitle(film);
  const poster = h("div", { class: "poster", "aria-hidden": "true" }, h("span", {}, title.replace(/^(the|a|an) /i, "")[0] ?? "?"));
  poster.style.setProperty("--hue", hue(film.uri));
  const reasons = REASONS.filter(([key]) => film.why?.[key]?.length);
  const buttons = JUDGEMENTS.map(([kind, name, label]) =>
    h(
      "button",
      {
        type: "button",
        class: `judgement ${kind}`,
        "aria-pressed": String(kinds.includes(kind)),
        "aria-label": `${label}: ${fullTitle(film)}`,
        "data-focus": `${focus}/${kind}`,
        onclick: () => judge(kind),
      },
      icon(name),
      label,
    ),
  );
  return h(
    "article",
    { class: "film", "aria-label": fullTitle(film) },
    poster,
    h(
      "div",
      { class: "about" },
      h("h3", {}, title, film.year ? h("span", { class: "year" }, ` ${film.year}`) : null),
      film.genres?.length ? h("p", { class: "genres" }, film.genres.join(" · ")) : null,
      film.people?.length ? h("p", { class: "people" }, film.people.join(", ")) : null,
      reasons.length
        ? h(
            "dl",
            { class: "why", "aria-label": "Why this film" },
            reasons.map(([key, name, label, lines]) =>
              h(
                "div",
                {},
                h("dt", { title: label }, icon(name), h("span", { class: "unseen" }, label)),
                lines(film.why[key]).map((line) => h("dd", {}, line)),
              ),
            ),
          )
        : null,
    ),
    h("div", { class: "judgements", role: "group", "aria-label": `Your opinion of ${fullTitle(film)}` }, buttons),
  );
}
