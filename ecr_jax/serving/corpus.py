"""Kept conversations in the corpus format (`data/jsonl.py`), so that they can be prepared and trained on, and back.

A conversation is a tree of branches; each branch from the root to a last message is one line. Films are mentions where
their title stands in the text; what the person marked them with is their feedback. A reply keeps the acts of its plan.
Thumbs, "seen" and marks of films that no text names have no place in the format and are left out. What is brought back
keeps the films, the feedback and the acts of the recommender's turns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ecr_jax.data import jsonl
from ecr_jax.data.acts import Act
from ecr_jax.data.parsing import parse_json
from ecr_jax.data.schema import Conversation, FieldError, Role, Split, Turn, merge_messages, title_mentions
from ecr_jax.data.schema import Feedback as Liking
from ecr_jax.serving.faults import ApiError, bad_request
from ecr_jax.serving.schemas import ConversationDetail, FilmCard, Message, ReplyExplanation, ScoredFilm, storable
from ecr_jax.serving.settings import Limits
from ecr_jax.serving.store import NewMessage

_MOST_CONVERSATIONS = 1000


def lines(conversation: ConversationDetail) -> str:
    """A conversation in the corpus format: a line for each branch, its id "CONVERSATION" or "CONVERSATION/MESSAGE"."""
    branches = _branches(conversation.messages)
    rows = []
    for branch in branches:
        turns = merge_messages(_turns(branch))
        if turns:
            identifier = conversation.id if branch is branches[-1] else f"{conversation.id}/{branch[-1].id}"
            rows.append(jsonl.row_of(Conversation(identifier, Split.TRAIN, turns)))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _branches(messages: Sequence[Message]) -> list[list[Message]]:
    """The ways from the root to each message that nothing follows; the latest last."""
    by_id = {message.id: message for message in messages}
    parents = {message.parent_id for message in messages}
    branches = []
    for last in messages:
        if last.id in parents:
            continue
        branch, place = [], last
        while True:
            branch.append(place)
            if place.parent_id is None:
                break
            place = by_id[place.parent_id]
        branches.append(branch[::-1])
    return branches


def _turns(branch: Sequence[Message]) -> list[Turn]:
    likings = {
        given.item: Liking(given.kind)
        for message in branch
        for given in message.feedback
        if given.item is not None and given.kind in ("like", "dislike")
    }
    titles = {film.uri: film.title for m in branch if m.explanation for film in _films(m)}
    turns = []
    for message in branch:
        shown = {film.uri for film in message.explanation.films} if message.explanation else set()
        wanted = {uri: title for uri, title in titles.items() if uri in shown or uri in likings}
        acts = message.explanation.sub_acts if message.explanation else []
        turns.append(
            Turn(
                Role(message.role), message.text, title_mentions(message.text, wanted, likings), (),
                tuple(Act.parse(act) for act in acts),
            )
        )  # fmt: skip
    return turns


def _films(message: Message) -> Sequence[ScoredFilm]:
    explanation = message.explanation
    return () if explanation is None else (*explanation.films, *explanation.others)


def parse(body: bytes, limits: Limits) -> list[list[NewMessage]]:
    """The conversations of a body in the corpus format.

    Raises:
      ApiError: a line is malformed, a conversation is too long, or there are none or too many.
    """
    conversations = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            conversation, _ = jsonl.parse(parse_json(line), Split.TRAIN)
            conversations.append(_messages(conversation, limits))
        except FieldError as error:
            raise bad_request(f"line {number}: {error}", "malformed_line") from error
        except ApiError as error:
            raise bad_request(f"line {number}: {error.message}", error.code) from error
    if not 0 < len(conversations) <= _MOST_CONVERSATIONS:
        raise bad_request(f"{len(conversations)} conversations; give 1 to {_MOST_CONVERSATIONS}")
    return conversations


def _messages(conversation: Conversation, limits: Limits) -> list[NewMessage]:
    if len(conversation.turns) > limits.turns:
        raise bad_request(f"{len(conversation.turns)} turns; {limits.turns} are the most", "conversation_too_long")
    messages = []
    for turn in conversation.turns:
        if len(turn.text) > limits.characters:
            raise bad_request(f"a turn of {len(turn.text)} characters; {limits.characters} are the most")
        try:
            storable(turn.text)
        except ValueError as error:
            raise bad_request(str(error)) from error
        if turn.role == Role.SEEKER:
            messages.append(NewMessage(turn.role.value, turn.text))
            continue
        films = {m.entity: m for m in turn.mentions if m.film and m.entity is not None}
        cards = [FilmCard(uri=uri, title=turn.text[m.start : m.end]) for uri, m in films.items()]
        explanation = ReplyExplanation(sub_acts=list(map(str, turn.acts)), films=cards)
        marks = [(uri, m.feedback.value) for uri, m in films.items() if m.feedback and m.feedback != Liking.UNSAID]
        messages.append(NewMessage(turn.role.value, turn.text, explanation=explanation.model_dump(), marks=marks))
    return messages
