"""The seeker by rule: what it says next follows from its goal and from what was said before.

It states its wishes one by one, answers questions, refuses a film with a reason, asks about films that it is
recommended, and accepts the film that it looks for. It reads replies as a person does: which films they name, and
whether and what they ask.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Role, Turn
from ecr_jax.evaluation.simulation import phrases
from ecr_jax.evaluation.simulation.dialogue import SeekerTurn, Simulated, asks
from ecr_jax.evaluation.simulation.goals import attribute_of_wish
from ecr_jax.features.plans import acts_by_rule
from ecr_jax.inference.questions import Question
from ecr_jax.inference.wishes import Wish, films_that_fit
from ecr_jax.knowledge.attributes import attribute_entities, spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph

_MOST_QUESTIONS = 2
_ASKS = 0.35
"""How probable it is that a seeker asks about a film that it is recommended."""
_HAS_SEEN = 0.2
"""How probable it is that a film which fits, but is not the goal, is one that the seeker has seen."""
_IS_AVERSE = 0.35
"""How probable it is that a genre of a film which fits is one that the seeker does not want."""

_PEOPLE = frozenset((Attribute.CAST, Attribute.DIRECTOR))
"""Asked for one of them, people name the other one as well."""
_NOUNS = frozenset(
    "comedy drama thriller musical western documentary mystery romance biography parody slasher adventure".split()
)
_DECADES = {
    1920: "the twenties", 1930: "the thirties", 1940: "the forties", 1950: "the fifties", 1960: "the sixties",
    1970: "the seventies", 1980: "the eighties", 1990: "the nineties",
}  # fmt: skip
_WITH_ARTICLE = frozenset(
    ("usa", "uk", "united states", "united kingdom", "netherlands", "soviet union", "philippines", "czech republic")
)

_Phrase = TypeVar("_Phrase", str, tuple[str, str])


class RuleSeeker:
    """The seekers of a graph's films, by rule."""

    name = "rule"

    def __init__(self, graph: KnowledgeGraph):
        self._graph = graph

    def turns(self, dialogues: Sequence[Simulated]) -> list[SeekerTurn | str]:
        """What the seeker says next in each dialogue; a text is the reason why it says nothing (never, by rule)."""
        return [next_turn(dialogue, self._graph) for dialogue in dialogues]


def next_turn(dialogue: Simulated, graph: KnowledgeGraph) -> SeekerTurn:
    """What the seeker says next. A pure function."""
    return _Speaker(dialogue, graph).next_turn()


class _Speaker:
    """A seeker at one place of a dialogue; its choices follow from the goal and the place."""

    def __init__(self, dialogue: Simulated, graph: KnowledgeGraph):
        self.dialogue, self.graph = dialogue, graph
        self.rng = self._random("words")

    def next_turn(self) -> SeekerTurn:
        rounds, goal = self.dialogue.rounds, self.dialogue.goal
        if not rounds:
            return self._opening()
        last = rounds[-1]
        if self.dialogue.found is not None and not (self.dialogue.found == len(rounds) and self._is_asking()):
            return self._acceptance()
        if last.reply.films:
            if goal.film in last.reply.films:
                return self._question(goal.film)
            return self._question(last.reply.films[0]) if self._is_asking() else self._refusal(last.reply.films)
        if last.seeker.question is not None and last.seeker.question.film is not None:
            return self._refusal((last.seeker.question.film,))
        return self._answer(last.reply.text) if "?" in last.reply.text else self._request()

    # What is said.

    def _opening(self) -> SeekerTurn:
        mood, emotion = self.rng.choice(phrases.MOODS)
        wish = self.dialogue.goal.wishes[0]
        greeting = self.rng.choice(phrases.GREETINGS)
        acts = (*((Act(ActName.GREET),) if greeting else ()), Act(ActName.REQUEST))
        return SeekerTurn(_joined(greeting, mood, self._wish(wish)), acts, (wish,), emotion=emotion)

    def _acceptance(self) -> SeekerTurn:
        text, emotion = self._fresh(phrases.ACCEPTANCES)
        film = self.dialogue.goal.film
        return SeekerTurn(text, (Act(ActName.ACCEPT),), feedback={film: True}, emotion=emotion, accepts=True)

    def _question(self, film: int) -> SeekerTurn:
        question, text = self._worded_question(film)
        interested = self._fresh(phrases.INTERESTED)
        return SeekerTurn(_joined(interested, text), (asks(question),), question=question, emotion="curious")

    def _refusal(self, films: Sequence[int]) -> SeekerTurn:
        """A refusal with the reason: a wish that the films do not fulfil, a genre they have, that one was seen."""
        broken = self._broken_wish(films)
        patient = broken is not None and sum(broken in each.seeker.wishes for each in self.dialogue.rounds) < 2
        new = [] if patient else self._unsaid()[:1]
        averse = self._aversion(films[0])
        reject = (Act(ActName.REJECT),)
        if broken is not None:
            turn = SeekerTurn(
                self._complaint(broken, films[0]), reject, (broken,), None, (), {films[0]: False}, "negative"
            )
        elif averse is not None and self.rng.random() < _IS_AVERSE:
            what = self._words(averse)
            text = self._fresh(phrases.AVERSIONS).format(what=what, What=_capital(what))
            turn = SeekerTurn(text, reject, (averse,), None, (), dict.fromkeys(films, False), "negative")
        elif self.rng.random() < _HAS_SEEN and len(films) == 1:
            text, emotion = self._fresh(phrases.SEEN)
            turn = SeekerTurn(text, (Act(ActName.SEEN),), (), None, (), {films[0]: True}, emotion)
        else:
            turn = SeekerTurn(self._fresh(phrases.REFUSALS), reject, emotion="negative")
        again = [] if broken is None else [self._wish(broken)]
        then = [*again, *(self._wish(wish, phrases.MORE_WISHES) for wish in new)] or [self._fresh(phrases.OTHERS)]
        wishes = tuple(dict.fromkeys((*turn.wishes, *new)))
        return replace(turn, text=_joined(turn.text, *then), wishes=wishes, acts=(*turn.acts, Act(ActName.REQUEST)))

    def _answer(self, asked: str) -> SeekerTurn:
        """The answer to a question of the recommender: what it asks for where that is known, else another wish."""
        before = [
            turn
            for each in self.dialogue.rounds
            for turn in (Turn(Role.SEEKER, each.seeker.text), Turn(Role.RECOMMENDER, each.reply.text))
        ]
        (act, *_) = (
            *(a for a in acts_by_rule(Turn(Role.RECOMMENDER, asked), before[:-1], new=False) if a.name == ActName.ASK),
            Act(ActName.ASK),
        )
        if act.attribute == Attribute.FILM:
            return self._liked_film()
        about = _PEOPLE if act.attribute in _PEOPLE else {act.attribute}
        wanted = [w for w in self.dialogue.goal.wishes if self._attribute(w) in about]
        unsaid = self._unsaid()
        new = [wish for wish in wanted if wish in unsaid][:1]
        if new or wanted:
            wishes = new or wanted[:1]
            return SeekerTurn(self._wish(wishes[0]), (Act(ActName.PREFER),), tuple(wishes))
        lead = self._fresh(phrases.NO_PREFERENCE) if act.attribute is not None else ""
        return self._request(lead)

    def _liked_film(self) -> SeekerTurn:
        named = {film for each in self.dialogue.rounds for film in each.seeker.named}
        liked = [film for film in self.dialogue.goal.liked if film not in named]
        if not liked:
            return self._request(self._fresh(phrases.NONE_LIKED))
        title = self.graph.title(liked[0])
        text = self._fresh(phrases.LIKED).format(it=title, It=title)
        return SeekerTurn(text, (Act(ActName.PREFER),), named=(liked[0],), feedback={liked[0]: True}, emotion="like")

    def _request(self, lead: str = "") -> SeekerTurn:
        """The next wish, or where all are said the request for any film."""
        new = self._unsaid()[:1]
        text = self._wish(new[0], phrases.MORE_WISHES) if new else self._fresh(phrases.ANY)
        return SeekerTurn(_joined(lead, text), (Act(ActName.PREFER), Act(ActName.REQUEST)), tuple(new))

    # What it is made of.

    def _is_asking(self) -> bool:
        asked = sum(each.seeker.question is not None for each in self.dialogue.rounds)
        return asked < _MOST_QUESTIONS and self._random("asks").random() < _ASKS

    def _random(self, use: str) -> random.Random:
        goal = self.dialogue.goal
        return random.Random(f"{use} {goal.id} {self.graph.uris[goal.film]} {len(self.dialogue.rounds)}")

    def _said_wishes(self) -> tuple[Wish, ...]:
        return tuple(dict.fromkeys(wish for each in self.dialogue.rounds for wish in each.seeker.wishes))

    def _unsaid(self) -> list[Wish]:
        said = self._said_wishes()
        return [wish for wish in self.dialogue.goal.wishes if wish not in said]

    def _attribute(self, wish: Wish) -> Attribute | None:
        return attribute_of_wish(wish, self.dialogue.goal.film, self.graph)

    def _broken_wish(self, films: Sequence[int]) -> Wish | None:
        first = np.asarray(films[:1])
        return next((w for w in self._said_wishes() if w.wanted and not films_that_fit(self.graph, w, first)[0]), None)

    def _aversion(self, film: int) -> Wish | None:
        """A genre of a film that the goal does not have, and that was not refused before."""
        goal = np.asarray([self.dialogue.goal.film])
        genres = [Wish(False, entity) for entity in attribute_entities(self.graph, film, Attribute.GENRE)]
        said = self._said_wishes()
        return next((w for w in genres if w not in said and films_that_fit(self.graph, w, goal)[0]), None)

    def _worded_question(self, film: int) -> tuple[Question, str]:
        graph, rng = self.graph, self.rng
        last = self.dialogue.rounds[-1].reply.films
        it = "it" if len(last) == 1 else graph.title(film)
        people = [w.entity for w in self._said_wishes() if w.wanted and self._attribute(w) == Attribute.CAST]
        attribute = rng.choice(tuple(phrases.QUESTIONS))
        person = next((entity for entity in people if entity is not None), None)
        if attribute == Attribute.CAST and person is not None:
            text = self._fresh(phrases.QUESTIONS_YES_NO).format(what=graph.names[person], it=it)
            return Question(attribute, film, person), text
        return Question(attribute, film), self._fresh(phrases.QUESTIONS[attribute]).format(it=it)

    def _wish(self, wish: Wish, banks: Mapping[Attribute, Sequence[str]] = phrases.WISHES) -> str:
        """A sentence that says what the film should have."""
        what = self._words(wish)
        bank = banks[self._attribute(wish) or Attribute.CAST]
        return self._fresh(bank).format(what=what, What=_capital(what))

    def _complaint(self, wish: Wish, film: int) -> str:
        bank = phrases.COMPLAINTS[self._attribute(wish) or Attribute.CAST]
        one = len(self.dialogue.rounds[-1].reply.films or (film,)) == 1
        it = "that one" if one else self.graph.title(film)
        return self._fresh(bank).format(what=self._words(wish), it=it, It=_capital(it))

    def _words(self, wish: Wish) -> str:
        """What a wish is about, as it stands in a sentence: "a thriller", "Tom Hanks", "the nineties", "the UK"."""
        if wish.years is not None:
            first, last = wish.years
            return str(first) if first == last else _DECADES.get(first, f"the {first}s")
        name = spoken_name(self.graph, wish.entity or 0)
        kind = self.graph.kinds[wish.entity or 0]
        if kind == "genre":
            article = "an" if name[0] in "aeiou" else "a"
            return f"{article} {name}" if name in _NOUNS else f"{article} {name} film"
        return f"the {name}" if kind in ("country", "place") and name.lower() in _WITH_ARTICLE else name

    def _fresh(self, bank: Sequence[_Phrase]) -> _Phrase:
        """One of some phrases: one that the seeker has not used in the dialogue, as long as there is such a one."""
        said = " ".join(each.seeker.text for each in self.dialogue.rounds)
        unused = [phrase for phrase in bank if _opening_of(phrase) not in said]
        return self.rng.choice(unused or bank)


def _opening_of(phrase: str | tuple[str, str]) -> str:
    """The longest piece of a phrase between its slots, by which its use is recognised."""
    text = phrase if isinstance(phrase, str) else phrase[0]
    for slot in ("{what}", "{What}", "{it}", "{It}"):
        text = text.replace(slot, "\n")
    return max(text.split("\n"), key=len)


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
