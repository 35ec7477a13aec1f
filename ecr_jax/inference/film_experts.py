"""The experts that every run has: ranking, details, explanations, reviews, and what to ask next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ecr_jax.data.acts import Attribute
from ecr_jax.features.dialogues import Utterance
from ecr_jax.features.plans import Fact
from ecr_jax.inference.experts import Call, Expert, Outcome
from ecr_jax.inference.questions import answer
from ecr_jax.inference.relevance import shared_facts
from ecr_jax.knowledge.attributes import RELATIONS, attribute_values
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.reviews import ReviewStore
from ecr_jax.manager.categories import reweighted
from ecr_jax.manager.eliciting import ASKED, gains
from ecr_jax.manager.schema import DETAILS, ELICIT, EXPLAIN, RECOMMEND

_LISTED = 3
_REVIEW_FACTS = 2


def ranking(
    name: str,
    description: str,
    categories: Sequence[str],
    table: np.ndarray,
    weight: float,
    ranker: Callable[[Sequence[Utterance]], np.ndarray] | None = None,
) -> Expert:
    """Recommends by a ranking; films of the category gain `weight` in log-probability.

    Args:
      name, description: as of `Expert`.
      categories: C names.
      table: bool [C, I], see `categories.category_table`.
      weight: of a category.
      ranker: dialogue -> log-probabilities of the items, float [I]; None takes the run's own ranking.
    """
    places = {category: place for place, category in enumerate(categories)}

    def recommend(call: Call) -> Outcome:
        scores = np.log(np.maximum(call.probabilities, 1e-12)) if ranker is None else ranker(call.turns)
        category = call.choice.argument("category")
        if category is not None:
            scores = reweighted(scores, table[places[category]], weight)
        best = [int(call.graph.items[place]) for place in np.argsort(-scores, kind="stable")[:_LISTED]]
        return Outcome(text="; ".join(call.graph.title(film) for film in best), scores=scores)

    return Expert(name, description, frozenset((RECOMMEND,)), recommend)


def details() -> Expert:
    """Answers questions about films from the graph; that it does not know is an answer, and no failure."""

    def look_up(call: Call) -> Outcome:
        questions = [question for question in call.memory.questions if question.film is not None]
        films = tuple(dict.fromkeys(question.film for question in questions if question.film is not None))
        facts = [
            Fact(films.index(question.film), question.attribute, answer(question, call.graph)[1])
            for question in questions
            if question.film is not None
        ]
        if not facts and call.memory.discussed is not None:
            attribute = Attribute(call.choice.argument("attribute") or Attribute.CAST)
            films = (call.memory.discussed,)
            facts = [Fact(0, attribute, attribute_values(call.graph, films[0], attribute))]
        if not facts:
            raise ValueError("no film is under discussion")
        return Outcome(text=_in_words(call.graph, films, facts), films=films, facts=tuple(facts))

    return Expert(
        "details:graph",
        "answers a question about a film: looks up its director, cast, year, genre and more in the knowledge graph",
        frozenset((DETAILS,)),
        look_up,
    )


def explanation() -> Expert:
    """Explains a recommendation by what the film shares with what the seeker likes."""

    def explain(call: Call) -> Outcome:
        if call.memory.discussed is None:
            raise ValueError("no film is under discussion")
        films, facts = shared_facts(call.memory.discussed, call.memory, call.graph)
        return Outcome(text=_in_words(call.graph, films, facts), films=films, facts=tuple(facts))

    return Expert(
        "explanation:paths",
        "says why a film was recommended: the people and genres that it shares with films the seeker liked",
        frozenset((EXPLAIN,)),
        explain,
    )


def reviewed(reviews: ReviewStore) -> Expert:
    """Explains a film by the facts that its reviews mention most."""

    def explain(call: Call) -> Outcome:
        film, graph = call.memory.discussed, call.graph
        if film is None:
            raise ValueError("no film is under discussion")
        known = reviews.knowledge(graph.uris[film], graph)
        told = [*(name for _, name in known.triples), *known.entities]
        facts: dict[Attribute, list[str]] = {}
        for attribute in RELATIONS:
            values = [value for value in attribute_values(graph, film, attribute) if value in told]
            if values:
                facts[attribute] = values[:_REVIEW_FACTS]
        if not facts:
            raise ValueError("its reviews tell nothing that the graph knows")
        first = sorted(facts, key=lambda attribute: min(told.index(value) for value in facts[attribute]))
        chosen = tuple(Fact(0, attribute, tuple(facts[attribute])) for attribute in first[:_REVIEW_FACTS])
        return Outcome(text=_in_words(graph, (film,), chosen), films=(film,), facts=chosen)

    return Expert(
        "explanation:reviews",
        "tells what viewers write about a film in their reviews",
        frozenset((EXPLAIN,)),
        explain,
    )


def elicitation(answered: Mapping[Attribute, float]) -> Expert:
    """Asks for the attribute whose answer is expected to tell most about which film to recommend.

    Args:
      answered: the probability that a question for an attribute is answered, see `eliciting.answer_rates`.
    """

    def elicit(call: Call) -> Outcome:
        wanted = call.choice.argument("attribute")
        if wanted == Attribute.FILM:
            return Outcome(text="ask for a film that they like", attribute=Attribute.FILM)
        left = [attribute for attribute in ASKED if attribute not in call.memory.asked_for] or list(ASKED)
        asked = [Attribute(wanted)] if wanted is not None and wanted in ASKED else left
        best = gains(call.graph, call.graph.items, call.probabilities, asked, answered)[0]
        text = f"ask for {best.attribute.value}: {', '.join(best.options)} ({best.nats:.2f} nats expected)"
        return Outcome(text=text, attribute=best.attribute, options=best.options)

    return Expert(
        "elicitation:information",
        "asks what the seeker likes: the question whose answer tells most about which film fits",
        frozenset((ELICIT,)),
        elicit,
    )


def _in_words(graph: KnowledgeGraph, films: Sequence[int], facts: Sequence[Fact]) -> str:
    return "; ".join(
        f"{graph.title(films[fact.film])} {fact.attribute.value}: {', '.join(fact.values) or 'not known'}"
        for fact in facts
    )
