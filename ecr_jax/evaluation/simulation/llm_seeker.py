"""The seeker by a language model behind an address: told the attributes of its film, never the title.

The model chooses what it says. Which film is the goal it is told by notes (`_note`), since it does not know the title;
what it states and asks is read off its answer. An answer that names the film before the recommender did is thrown away
and asked for again, and so is a malformed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import EMOTIONS
from ecr_jax.evaluation.simulation.dialogue import SeekerTurn, Simulated, asks
from ecr_jax.evaluation.simulation.goals import attribute_of_wish, named_wishes
from ecr_jax.evaluation.simulation.leaks import reveals
from ecr_jax.inference.questions import Question
from ecr_jax.inference.wishes import films_that_fit
from ecr_jax.knowledge.attributes import spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.llm.cache import content_hash
from ecr_jax.llm.client import Answer, Client, Request
from ecr_jax.llm.structured import MalformedError, json_value, object_schema, require_object

_TRIES = 3
"""How often a turn is asked for until the dialogue is broken off."""
_NOTHING = "nothing"
_ASKED = (Attribute.DIRECTOR, Attribute.CAST, Attribute.YEAR, Attribute.GENRE, Attribute.COUNTRY)
_FIELDS = ("message", "asks", "feeling")
_CHOICES = (_NOTHING, *(attribute.value for attribute in _ASKED))
_SCHEMA = object_schema(
    {
        "message": {"type": "string"},
        "asks": {"type": "string", "enum": list(_CHOICES)},
        "feeling": {"type": "string", "enum": list(EMOTIONS)},
    }
)
_TASK = (
    "You play a person who is looking for a film and talks with a film recommender. You do not know the film's title, "
    "and you never guess or name one. This is what you know of the film:\n{facts}\n\n"
    "Write your next message: one or two short, natural sentences.\n"
    "- Reveal what you know little by little: one thing a message.\n"
    "- Answer the recommender's questions. Where you know nothing about it, say so.\n"
    "- Refuse a film that is not the one, and say what is wrong with it or what you would rather have.\n"
    "- Now and then ask about a film that was recommended: its director, cast, year, genre or country.\n"
    "- Let your feelings show.\n"
    "- Name no film but those that were named in the conversation{liked}.\n"
    "Answer with JSON alone: an object with the fields message; asks, what the message asks about the film that was "
    "recommended last (" + ", ".join(_CHOICES) + "); and feeling (one of " + ", ".join(EMOTIONS) + ")."
)
PROMPT_HASH = content_hash([_TASK, _SCHEMA])
"""Identifies the prompt in records."""


class LlmSeeker:
    """Seekers that a language model plays."""

    def __init__(self, client: Client, graph: KnowledgeGraph, linker: EntityLinker):
        """Args: the model; the graph with the facts of the films; its linker, for the filter of titles."""
        self._client, self._graph, self._linker = client, graph, linker
        self.answers: list[Answer] = []
        self.thrown_away: list[dict[str, str]] = []

    @property
    def name(self) -> str:
        """The model's name."""
        return self._client.address.file_name

    def turns(self, dialogues: Sequence[Simulated]) -> list[SeekerTurn | str]:
        """What the seeker says next in each dialogue, or why the dialogue is broken off.

        Raises:
          LlmError: as of `Client.answers`; what was answered is on disk.
        """
        turns: list[SeekerTurn | str] = [""] * len(dialogues)
        open_places = list(range(len(dialogues)))
        for seed in range(_TRIES):
            requests = [self._request(dialogues[place], seed) for place in open_places]
            answers = self._client.answers(requests)
            self.answers += answers
            for place, answer in zip(open_places, answers, strict=True):
                try:
                    turns[place] = self._read(dialogues[place], answer)
                except MalformedError as error:
                    turns[place] = f"broken off: {error}"
                    self.thrown_away.append(
                        {"goal": dialogues[place].goal.id, "fault": str(error), "answer": answer.text}
                    )
            open_places = [place for place in open_places if isinstance(turns[place], str)]
            if not open_places:
                break
        return turns

    def _request(self, dialogue: Simulated, seed: int) -> Request:
        goal, graph = dialogue.goal, self._graph
        facts = "\n".join(f"- {name}: {value}" for name, value in self._facts(dialogue))
        liked = ", ".join(graph.title(film) for film in goal.liked)
        system = _TASK.format(facts=facts, liked=f", or these, which you like: {liked}" if liked else "")
        messages = [{"role": "system", "content": system}]
        for each in dialogue.rounds:
            messages.append({"role": "assistant", "content": each.seeker.text})
            messages.append({"role": "user", "content": each.reply.text})
        note = self._note(dialogue)
        if len(messages) == 1:
            messages.append({"role": "user", "content": note})
        else:
            messages[-1] = {"role": "user", "content": f"{messages[-1]['content']}\n\n{note}"}
        return Request(messages, schema=_SCHEMA, max_tokens=200, temperature=0.7, seed=seed)

    def _named_by_system(self, dialogue: Simulated) -> bool:
        said = " ".join(each.reply.text for each in dialogue.rounds)
        return reveals(said, dialogue.goal.film, self._graph, self._linker)

    def _facts(self, dialogue: Simulated) -> list[tuple[str, str]]:
        graph, film = self._graph, dialogue.goal.film
        facts = []
        for wish in dialogue.goal.wishes:
            attribute = attribute_of_wish(wish, film, graph)
            if wish.years is None:
                value = spoken_name(graph, wish.entity or 0)
            else:
                value = str(wish.years[0]) if wish.years[0] == wish.years[1] else f"{wish.years[0]} to {wish.years[1]}"
            facts.append((attribute.value if attribute else "has", value))
        return facts

    def _note(self, dialogue: Simulated) -> str:
        """What the seeker could see for itself if it knew the film."""
        rounds, graph = dialogue.rounds, self._graph
        if not rounds:
            return "(Begin the conversation.)"
        if dialogue.found is not None:
            return "(The film that was recommended is the one that you are looking for. Accept it and say thanks.)"
        films = rounds[-1].reply.films
        if not films:
            return "(No film was recommended in this message.)"
        lacks = [
            value
            for (_, value), wish in zip(self._facts(dialogue), dialogue.goal.wishes, strict=True)
            if not films_that_fit(graph, wish, np.asarray(films[:1]))[0]
        ]
        reason = f" It does not have: {', '.join(lacks)}." if lacks else ""
        return f"(What was recommended is not the film that you are looking for.{reason})"

    def _read(self, dialogue: Simulated, answer: Answer) -> SeekerTurn:
        """The turn in an answer. Raises MalformedError where it is none, or where it names the film too early."""
        if answer.fault is not None:
            raise MalformedError(answer.fault)
        fields: dict[str, Any] = require_object(json_value(answer.text), _FIELDS)
        text = fields["message"]
        if not isinstance(text, str) or not text.strip():
            raise MalformedError(f"message is {text!r}; asked for: a text")
        for name, choices in (("asks", _CHOICES), ("feeling", EMOTIONS)):
            if fields[name] not in choices:
                raise MalformedError(f"{name} is {fields[name]!r}; asked for: {', '.join(choices)}")
        goal, graph, found = dialogue.goal, self._graph, dialogue.found is not None
        text = " ".join(text.split())
        if not self._named_by_system(dialogue) and reveals(text, goal.film, graph, self._linker):
            raise MalformedError("the message names the film that is to be found")
        last = next((each.reply.films for each in reversed(dialogue.rounds) if each.reply.films), ())
        asked = fields["asks"] != _NOTHING and bool(last) and not found
        question = Question(Attribute(fields["asks"]), last[0]) if asked else None
        links = self._linker.link(text)
        named = tuple(film for film in goal.liked if any(link.entity == film for link in links))
        wishes = named_wishes(text, goal.wishes, graph, self._linker)
        feedback = {goal.film: True} if found else dict.fromkeys(named, True)
        act = Act(ActName.ACCEPT) if found else asks(question) if question else Act(ActName.PREFER)
        return SeekerTurn(text, (act,), wishes, question, named, feedback, fields["feeling"], found)
