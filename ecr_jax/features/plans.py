"""Plans of replies: what a reply of the recommender does, with which films and facts, and in which tone.

A plan is written as one line of the prompt, in the same way in training, where it is read off a corpus turn
(`plan_of_turn`), and in inference, where it was decided. The writer of the reply sees titles as `<movie>`; the films
fill these slots in order.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import MOVIE, Conversation, Role, Turn
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.knowledge.attributes import attribute_of, attribute_values, spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph

MOST_VALUES = 3
"""Values of a fact that a reply is given and need not name."""


@dataclass(frozen=True)
class Fact:
    """A fact about a film of a plan.

    Attributes:
      film: the index of the film in `Plan.films`.
      attribute: what is stated about it.
      values: names, e.g. ("Joel Coen", "Ethan Coen"); empty where the fact is not known, which a reply may say.
    """

    film: int
    attribute: Attribute
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a reply is to do.

    Attributes:
      acts: of the recommender, in the order of the reply.
      films: entity ids of the films that the reply is about, in the order of their slots; none twice.
      recommended: how many of the last of `films` are recommended; those before them are under discussion, and a reply
        may speak of them without naming them (`films_named`).
      facts: what the reply may state about its films.
      heard: the emotion of the seeker's last turn, or "" where it is not known.
      tone: the emotion that the reply shows, or "" where it is not planned.
    """

    acts: tuple[Act, ...]
    films: tuple[int, ...] = ()
    recommended: int = 0
    facts: tuple[Fact, ...] = ()
    heard: str = ""
    tone: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.recommended <= len(self.films):
            raise ValueError(f"{self.recommended} of {len(self.films)} films are recommended")
        if len(set(self.films)) != len(self.films):
            raise ValueError(f"a film is named twice in {self.films}")
        if any(not 0 <= fact.film < len(self.films) for fact in self.facts):
            raise ValueError(f"a fact is about none of the {len(self.films)} films: {self.facts}")


def plan_text(plan: Plan) -> str:
    """The line that tells the writer the plan, e.g. "plan: react, recommend | films: <movie> | heard: negative".

    Films under discussion stand before the recommended ones: "about: <movie> | films: <movie>". Facts name their film
    by its number where the plan has several: "<movie> 2 director: Jane Campion".
    """
    parts = [", ".join(map(str, plan.acts))]
    for name, count in (("about", len(plan.films) - plan.recommended), ("films", plan.recommended)):
        if count:
            parts.append(f"{name}: " + ", ".join([MOVIE] * count))
    for fact in plan.facts:
        number = f" {fact.film + 1}" if len(plan.films) > 1 else ""
        parts.append(f"{MOVIE}{number} {fact.attribute.value}: {', '.join(fact.values) or 'unknown'}")
    if plan.heard:
        parts.append(f"heard: {plan.heard}")
    if plan.tone:
        parts.append(f"tone: {plan.tone}")
    return "plan: " + " | ".join(parts)


def films_named(plan: Plan, slots: int) -> tuple[int, ...] | None:
    """The films in the slots of a reply with so many of them; None where they are not those of the plan.

    A reply names all its films, or leaves out those under discussion ("Joel Coen directed it. You could try <movie>").
    """
    if slots not in (len(plan.films), plan.recommended):
        return None
    return plan.films[len(plan.films) - slots :]


def plan_tokens(tokenizer: DialogueTokenizer, plan: Plan, limit: int) -> list[int] | None:
    """Token ids of a plan's line with its end token; the last facts are left out where it is longer than `limit`.

    None where it is too long without any facts.
    """
    for count in range(len(plan.facts), -1, -1):
        text = plan_text(dataclasses.replace(plan, facts=plan.facts[:count]))
        tokens = [*tokenizer.encode([text])[0], tokenizer.end]
        if len(tokens) <= limit:
            return tokens
    return None


def reply_prompt(tokenizer: DialogueTokenizer, context: Iterable[int], plan: Plan, limit: int) -> list[int] | None:
    """The prompt that a reply is written after, in training and in inference: context, plan, the reply's opening.

    Args:
      tokenizer: of the writer.
      context: token ids of the turns before.
      plan: of the reply.
      limit: most tokens of the plan.

    Returns:
      The token ids; None where the plan does not fit, see `plan_tokens`.
    """
    tokens = plan_tokens(tokenizer, plan, limit)
    return None if tokens is None else [*context, *tokens, *tokenizer.opening()]


# ------------------------------------------------------------------------------------------- plans of corpus turns


def plan_of_turn(
    conversation: Conversation, index: int, graph: KnowledgeGraph, heard: str = "", tone: str = ""
) -> Plan | None:
    """The plan that a recommender's turn of a corpus carries out.

    Its films are those it names. If it names none that were named before, and answers, explains or states a fact about
    the latest film before it, that film is the first one. Films are recommended from the first new one on. Facts are
    the mentions of the turn that a relation of the graph joins to one of its films, years it states, and of the
    attributes that it answers about the values that it names. An answer that names none denies one ("No, it is not by
    him"), or says that none is known.

    Args:
      conversation: linked.
      index: of the turn.
      graph: with the films and their facts.
      heard: emotion of the seeker's turn before.
      tone: emotion of the turn.

    Returns:
      The plan; None where a film is not linked, or named twice, so that slots and films do not correspond.
    """
    turn, before = conversation.turns[index], conversation.turns[:index]
    titles = [mention.entity for mention in turn.mentions if mention.film]
    if None in titles or len(set(titles)) < len(titles) or any(title not in graph.ids for title in titles):
        return None
    films = [graph.ids[title] for title in titles if title is not None]
    known = [graph.ids[m.entity] for t in before for m in t.mentions if m.film and m.entity in graph.ids]
    new = [film not in known for film in films]
    recommended = len(films) - new.index(True) if any(new) else 0
    acts = turn.acts or acts_by_rule(turn, before, new=any(new))
    discussed = [] if recommended < len(films) else known[-1:]
    facts = _facts(turn, acts, [*films, *discussed], graph)
    speaks = not films and any(act.name in (ActName.ANSWER, ActName.EXPLAIN) for act in acts)
    if discussed and (speaks or any(fact.film == len(films) for fact in facts)):
        facts = [dataclasses.replace(fact, film=(fact.film + 1) % (len(films) + 1)) for fact in facts]
        films = [*discussed, *films]
    return Plan(acts, tuple(films), recommended, tuple(facts), heard, tone)


def _facts(turn: Turn, acts: Iterable[Act], films: Sequence[int], graph: KnowledgeGraph) -> list[Fact]:
    """What a turn states about films. A name belongs to the first film that it fits; answers are about the last one."""
    stated: dict[tuple[int, Attribute], dict[str, None]] = {}
    for mention in turn.mentions:
        if mention.film or mention.entity not in graph.ids:
            continue
        entity = graph.ids[mention.entity]
        for number, film in enumerate(films):
            if attribute := attribute_of(graph, film, entity):
                stated.setdefault((number, attribute), {})[spoken_name(graph, entity)] = None
                break
    prose = turn.masked()
    for number, film in enumerate(films):
        for year in attribute_values(graph, film, Attribute.YEAR):
            if re.search(rf"\b{year}\b", prose):
                stated.setdefault((number, Attribute.YEAR), {})[year] = None
    asked = [act.attribute for act in acts if act.name == ActName.ANSWER and act.attribute is not None]
    for attribute in asked if films else ():
        if not any(about == attribute for _, about in stated):
            values = attribute_values(graph, films[-1], attribute)
            named = [value for value in values if value.lower() in prose.lower()]
            stated[len(films) - 1, attribute] = dict.fromkeys(named or values[:MOST_VALUES])
    return [Fact(number, attribute, tuple(values)) for (number, attribute), values in stated.items()]


_GREETING = re.compile(r"^\W*(hi|hello|hey|good (morning|evening|afternoon))\b", re.IGNORECASE)
_REASON = re.compile(
    r"\b(because|since you|if you (like|liked|enjoy|enjoyed)|similar|as you (like|liked)|same (director|actor)|"
    r"directed by|stars|starring|it'?s about|it is an?|is a great)\b",
    re.IGNORECASE,
)
_FEELING = re.compile(
    r"\b(sorry|glad|happy to|great choice|good choice|i see|oh no|too bad|wonderful|that'?s (great|awesome|good))\b",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"\b(bye|goodbye|enjoy|you'?re welcome|have a (good|great|nice)|take care|my pleasure|no problem)\b", re.IGNORECASE
)
_ASKED = {
    Attribute.DIRECTOR: r"\bdirector",
    Attribute.CAST: r"\bact(or|ress)|\bstars?\b",
    Attribute.GENRE: r"\bgenre|\bkinds?\b|\btypes?\b|\bsorts?\b|\bmood\b",
    Attribute.YEAR: r"\bold(er)?\b|\brecent|\bclassics?\b|\bdecade",
    Attribute.FILM: r"\bfavou?rite|\bliked?\b|\benjoy(ed)?\b|\bseen\b|\bwatched\b",
}
"""Words of a recommender's question, and the attribute that it then asks for; the first that applies."""


def acts_by_rule(turn: Turn, before: Sequence[Turn], new: bool) -> tuple[Act, ...]:
    """The acts of a recommender's turn in a corpus without labels, in the order in which a reply performs them.

    A greeting at the start of the dialogue greets; words of feeling react. Then the first that applies: a film that was
    not named before is recommended; where a film is under discussion and the seeker's last turn asks, a turn that does
    not ask answers; a question asks (for what its words tell); words of reason about a known film explain; words of
    farewell close; all else chats. A recommendation with words of reason explains as well.

    Args:
      turn: the turn.
      before: the turns before it.
      new: whether it names a film for the first time.
    """
    text = turn.masked()
    names = []
    if _GREETING.search(text) and len(before) <= 1:
        names.append(Act(ActName.GREET))
    if _FEELING.search(text) and before:
        names.append(Act(ActName.REACT))
    seeker = next((t.text for t in reversed(before) if t.role == Role.SEEKER), "")
    discussed = any(mention.film for t in (*before, turn) for mention in t.mentions)
    if new:
        names.append(Act(ActName.RECOMMEND))
        names += [Act(ActName.EXPLAIN)] if _REASON.search(text) else []
    elif discussed and "?" in seeker and "?" not in text:
        names.append(Act(ActName.ANSWER))
    elif "?" in text:
        question = text[text.rfind(".", 0, text.index("?")) + 1 :].lower()
        names.append(Act(ActName.ASK, next((a for a, words in _ASKED.items() if re.search(words, question)), None)))
    elif discussed and _REASON.search(text):
        names.append(Act(ActName.EXPLAIN))
    elif _CLOSING.search(text):
        names.append(Act(ActName.CLOSE))
    return tuple(names) or (Act(ActName.CHAT),)
