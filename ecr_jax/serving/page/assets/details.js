// "How this reply was made": emotions, names, the sub-task and its expert, acts, other films and the writer.

import { h } from "./dom.js";
import { fullTitle } from "./films.js";

const percent = (probability) => (probability < 0.01 ? "< 1 %" : `${Math.round(probability * 100)} %`);

/** Names and probabilities as small bars. */
function bars(rows) {
  return h(
    "ul",
    { class: "bars" },
    rows.map(([name, probability]) => {
      const bar = h("span", { class: "bar", "aria-hidden": "true" }, h("span"));
      bar.firstChild.style.width = `${Math.min(1, probability) * 100}%`;
      return h("li", {}, h("span", {}, name), bar, h("span", { class: "share" }, percent(probability)));
    }),
  );
}

const words = (rows) => h("ul", { class: "words" }, rows.map((row) => h("li", {}, row)));

/** The sub-task of a reply, who carried it out, and what came of it. */
function managedRows({ sub_task: subTask, arguments: given, by, expert, outcome, failures }) {
  const values = Object.entries(given).map(([name, value]) => `${name}: ${value}`);
  return [
    [subTask, ...values].join(", "),
    by === "manager" ? "chosen by the manager" : "chosen by the acts",
    ...(expert ? [`done by ${expert}`] : []),
    ...(outcome ? [`found: ${outcome}`] : []),
    ...failures.map((failure) => `failed: ${failure}`),
  ];
}

/** The panel of a reply's explanation. */
export function detailsPanel(explanation, id) {
  const { emotions = [], entities = [], managed, sub_acts: acts = [], films = [], others = [], writer } = explanation;
  const ranked = [...films, ...others].filter((film) => typeof film.probability === "number");
  const part = (title, content) => h("section", {}, h("h3", {}, title), content);
  return h(
    "div",
    { class: "details", id, role: "region", "aria-label": "How this reply was made" },
    emotions.length ? part("Feelings heard", bars(emotions.map((one) => [one.name, one.probability]))) : null,
    ranked.length ? part("Films considered", bars(ranked.map((film) => [fullTitle(film), film.probability]))) : null,
    entities.length ? part("Names understood", words(entities.map((entity) => entity.name))) : null,
    managed ? part("Sub-task", words(managedRows(managed))) : null,
    acts.length ? part("What the reply does", words(acts.map((act) => act.replaceAll("_", " ")))) : null,
    writer ? part("Written by", words([writer])) : null,
  );
}
