"""Conversations that are kept: trees of messages with feedback, each owned by one person.

What a method has returned is on disk. All methods may be called from any thread.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import delete, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ecr_jax.serving.faults import bad_request, conflict, not_found
from ecr_jax.serving.schemas import (
    ConversationDetail,
    ConversationSummary,
    Explanation,
    Feedback,
    Mark,
    Message,
    ReplyExplanation,
)
from ecr_jax.serving.store.database import Database
from ecr_jax.serving.store.tables import ConversationRow, FeedbackRow, MessageRow

_TITLE = 60
_ASPECTS = {"up": "thumb", "down": "thumb", "like": "taste", "dislike": "taste", "seen": "seen"}


class Latest:
    """The place after the latest message of a conversation."""


LATEST = Latest()


@dataclass(frozen=True)
class StoredMessage:
    """A message on the way from the root of a conversation to a turn.

    Attributes:
      id: its identifier.
      role: "seeker" or "recommender".
      text: what was said.
      explanation: of a reply.
      plan: of a reply, as its engine wrote it.
      forgotten: beliefs that the seeker withdrew with it.
      marks: (film, mark) of a reply: what its films were marked with, in the order of marking.
    """

    id: str
    role: str
    text: str
    explanation: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] | None = None
    forgotten: tuple[str, ...] = ()
    marks: tuple[tuple[str, Mark], ...] = ()


@dataclass(frozen=True)
class BegunTurn:
    """A turn whose message of the seeker is stored.

    Attributes:
      conversation_id: where.
      message_id: the seeker's message.
      path: the messages from the root to it, it last.
      replies: the replies that it has already, oldest first.
    """

    conversation_id: str
    message_id: str
    path: tuple[StoredMessage, ...]
    replies: tuple[StoredMessage, ...] = ()


@dataclass(frozen=True)
class NewMessage:
    """A message of a conversation that is brought from elsewhere."""

    role: str
    text: str
    plan: Mapping[str, Any] | None = None
    explanation: Mapping[str, Any] | None = None
    marks: Sequence[tuple[str, str]] = field(default_factory=list)


class Store:
    """The conversations of a database."""

    def __init__(self, database: Database):
        self.database = database

    @classmethod
    def open(cls, url: str) -> Store:
        """Opens and migrates a database; see `Database`."""
        return cls(Database(url))

    # ----------------------------------------------------------------------------------------------------------- turns

    def begin_turn(
        self,
        owner: str,
        text: str,
        conversation_id: str | None = None,
        parent_id: str | None | Latest = LATEST,
        *,
        message_id: str | None = None,
        forget: Iterable[str] = (),
        regenerate: bool = False,
        most_turns: int | None = None,
    ) -> BegunTurn:
        """Stores what the seeker says, unless it is stored already.

        Args:
          owner: whose conversation it is.
          text: the message.
          conversation_id: None begins a conversation.
          parent_id: the message after which it comes; None: it begins the conversation anew.
          message_id: its identifier, where the client chose one.
          forget: beliefs that are withdrawn with it.
          regenerate: the message is stored already.
          most_turns: most messages from the root to this one.

        Raises:
          ApiError: there is no such conversation or message of the owner; the identifier is that of another message; or
            the conversation is too long.
        """
        request = (owner, text, conversation_id, parent_id, message_id, tuple(forget), regenerate, most_turns)
        try:
            return self._begin_turn(*request)
        except IntegrityError:  # the same request at the same moment stored the message
            return self._begin_turn(*request)

    def _begin_turn(
        self,
        owner: str,
        text: str,
        conversation_id: str | None,
        parent_id: str | None | Latest,
        message_id: str | None,
        forget: tuple[str, ...],
        regenerate: bool,
        most_turns: int | None,
    ) -> BegunTurn:
        now = time.time()
        with self.database.writing() as session:
            if message_id is not None:
                known = session.scalar(select(MessageRow).where(MessageRow.id == message_id))
                if known is not None:
                    return self._known_turn(session, owner, known, text, conversation_id)
            if regenerate:
                raise not_found("message", str(message_id))
            if conversation_id is None:
                title = " ".join(text.split())
                title = title if len(title) <= _TITLE else f"{title[: _TITLE - 1].rstrip()}…"
                conversation = ConversationRow(id=_new_id(), owner=owner, title=title, created=now, updated=now)
                session.add(conversation)
                session.flush()  # before its messages, which refer to it
                rows: list[MessageRow] = []
            else:
                conversation = self._owned(session, owner, conversation_id)
                rows = self._messages(session, conversation.id)
                conversation.updated = now
            by_id = {row.id: row for row in rows}
            if isinstance(parent_id, Latest):
                parent = rows[-1].id if rows else None
            else:
                parent = parent_id
                if parent is not None and parent not in by_id:
                    raise not_found("message", parent)
            message = MessageRow(
                id=message_id or _new_id(),
                conversation_id=conversation.id,
                parent_id=parent,
                role="seeker",
                text=text,
                created=now,
                forgotten=list(forget) or None,
            )
            session.add(message)
            session.flush()
            path = _path({**by_id, message.id: message}, message.id, self._feedback(session, conversation.id))
            if most_turns is not None and len(path) > most_turns:
                raise bad_request(
                    f"the conversation has {len(path) - 1} messages, and {most_turns} are the most; begin a new one",
                    "conversation_too_long",
                )
            return BegunTurn(conversation.id, message.id, path)

    def _known_turn(
        self, session: Session, owner: str, message: MessageRow, text: str, conversation_id: str | None
    ) -> BegunTurn:
        conversation = self._owned(session, owner, message.conversation_id, what=("message", message.id))
        if message.role != "seeker" or message.text != text or conversation_id not in (None, conversation.id):
            raise conflict(f"message {message.id!r} is stored already, and is another one")
        rows = self._messages(session, conversation.id)
        feedback = self._feedback(session, conversation.id)
        path = _path({row.id: row for row in rows}, message.id, feedback)
        replies = tuple(_stored(row, feedback) for row in rows if row.parent_id == message.id and row.role != "seeker")
        return BegunTurn(conversation.id, message.id, path, replies)

    def add_reply(
        self, turn: BegunTurn, reply_id: str, text: str, explanation: ReplyExplanation, plan: Mapping[str, Any] | None
    ) -> bool:
        """Stores the reply to a turn.

        Returns:
          Whether it is stored; it is not where the conversation was deleted meanwhile.
        """
        now = time.time()
        with self.database.writing() as session:
            conversation = session.get(ConversationRow, turn.conversation_id)
            if conversation is None:
                return False
            conversation.updated = now
            session.add(
                MessageRow(
                    id=reply_id,
                    conversation_id=turn.conversation_id,
                    parent_id=turn.message_id,
                    role="recommender",
                    text=text,
                    created=now,
                    explanation=explanation.model_dump(),
                    plan=None if plan is None else dict(plan),
                )
            )
            return True

    # --------------------------------------------------------------------------------------------------- conversations

    def conversations(
        self, owner: str, query: str = "", limit: int = 100, offset: int = 0
    ) -> list[ConversationSummary]:
        """The conversations of a person, the latest first.

        Args:
          owner: the person.
          query: words that the title or a message has, in any case; "" for all.
          limit: most of them.
          offset: how many are passed over.
        """
        turns = (
            select(func.count())
            .where(MessageRow.conversation_id == ConversationRow.id, MessageRow.role == "seeker")
            .scalar_subquery()
        )
        wanted = select(ConversationRow, turns).where(ConversationRow.owner == owner)
        if query:
            said = select(MessageRow.id).where(
                MessageRow.conversation_id == ConversationRow.id, MessageRow.text.icontains(query, autoescape=True)
            )
            wanted = wanted.where(or_(ConversationRow.title.icontains(query, autoescape=True), said.exists()))
        wanted = wanted.order_by(ConversationRow.updated.desc(), ConversationRow.id).limit(limit).offset(offset)
        with self.database.reading() as session:
            return [_summary(row, count) for row, count in session.execute(wanted)]

    def conversation(self, owner: str, conversation_id: str) -> ConversationDetail:
        """A conversation with all its branches, messages in the order in which they came.

        Raises:
          ApiError: the person has no such conversation.
        """
        with self.database.reading() as session:
            conversation = self._owned(session, owner, conversation_id)
            rows = self._messages(session, conversation_id)
            feedback = self._feedback(session, conversation_id)
            return ConversationDetail(
                id=conversation.id, title=conversation.title, messages=[_message(row, feedback) for row in rows]
            )

    def rename(self, owner: str, conversation_id: str, title: str) -> ConversationSummary:
        """Gives a conversation a new title.

        Raises:
          ApiError: the person has no such conversation.
        """
        with self.database.writing() as session:
            conversation = self._owned(session, owner, conversation_id)
            conversation.title = title
            rows = self._messages(session, conversation_id)
            return _summary(conversation, sum(row.role == "seeker" for row in rows))

    def delete(self, owner: str, conversation_id: str) -> None:
        """Deletes a conversation with all that belongs to it.

        Raises:
          ApiError: the person has no such conversation.
        """
        with self.database.writing() as session:
            session.delete(self._owned(session, owner, conversation_id))
        self.database.shrink()

    def delete_all(self, owner: str) -> int:
        """Deletes everything that a person said. Returns the number of conversations."""
        with self.database.writing() as session:
            of_owner = select(ConversationRow.id).where(ConversationRow.owner == owner)
            deleted = len(session.scalars(of_owner).all())
            session.execute(delete(ConversationRow).where(ConversationRow.owner == owner))
        self.database.shrink()
        return deleted

    def add_conversations(self, owner: str, conversations: Iterable[Sequence[NewMessage]]) -> list[ConversationSummary]:
        """Stores conversations from elsewhere, each a chain of messages; all or none."""
        added = []
        with self.database.writing() as session:
            for messages in conversations:
                now = time.time()
                first = next((message.text for message in messages if message.role == "seeker"), messages[0].text)
                title = " ".join(first.split())[:_TITLE]
                conversation = ConversationRow(id=_new_id(), owner=owner, title=title, created=now, updated=now)
                session.add(conversation)
                session.flush()
                parent = None
                for message in messages:
                    row = MessageRow(
                        id=_new_id(), conversation_id=conversation.id, parent_id=parent, role=message.role,
                        text=message.text, created=now,
                        plan=None if message.plan is None else dict(message.plan),
                        explanation=None if message.explanation is None else dict(message.explanation),
                    )  # fmt: skip
                    session.add(row)
                    session.flush()
                    for item, kind in message.marks:
                        session.add(_feedback_row(row.id, kind, item, now))
                    parent = row.id
                added.append(_summary(conversation, sum(message.role == "seeker" for message in messages)))
        return added

    # -------------------------------------------------------------------------------------------------------- feedback

    def set_feedback(
        self, owner: str, conversation_id: str, message_id: str, kind: str, item: str | None
    ) -> list[Feedback]:
        """Stores or clears feedback on a reply; of like and dislike, and of both thumbs, the later one counts.

        Args:
          owner: the person.
          conversation_id: of the reply.
          message_id: the reply.
          kind: "up" or "down" of the reply, "like", "dislike" or "seen" of a film; "clear" for the thumb, or for
            everything about a film.
          item: URI of the film.

        Returns:
          All feedback on the reply.

        Raises:
          ApiError: the person has no such reply, or the kind does not fit the item.
        """
        if kind != "clear" and (_ASPECTS[kind] == "thumb") != (item is None):
            raise bad_request(
                "up and down are about a reply, without an item; like, dislike and seen are about an item"
            )
        try:
            with self.database.writing() as session:
                self._owned(session, owner, conversation_id)
                message = session.scalar(
                    select(MessageRow).where(MessageRow.id == message_id, MessageRow.conversation_id == conversation_id)
                )
                if message is None:
                    raise not_found("message", message_id)
                if message.role != "recommender":
                    raise bad_request(f"message {message_id!r} is not a reply")
                old = delete(FeedbackRow).where(FeedbackRow.message_id == message_id, FeedbackRow.item == (item or ""))
                if kind != "clear":
                    old = old.where(FeedbackRow.aspect == _ASPECTS[kind])
                session.execute(old)
                if kind != "clear":
                    session.add(_feedback_row(message_id, kind, item, time.time()))
                session.flush()
                return _feedback_of(self._feedback(session, conversation_id)[message_id])
        except IntegrityError as error:
            raise conflict("the same feedback was given twice at once; try it again") from error

    # ----------------------------------------------------------------------------------------------------------- parts

    def _owned(
        self, session: Session, owner: str, conversation_id: str, what: tuple[str, str] | None = None
    ) -> ConversationRow:
        row = session.get(ConversationRow, conversation_id)
        if row is None or row.owner != owner:
            raise not_found(*(what or ("conversation", conversation_id)))
        return row

    def _messages(self, session: Session, conversation_id: str) -> list[MessageRow]:
        of_conversation = select(MessageRow).where(MessageRow.conversation_id == conversation_id)
        return list(session.scalars(of_conversation.order_by(MessageRow.number)))

    def _feedback(self, session: Session, conversation_id: str) -> Mapping[str, list[FeedbackRow]]:
        rows = session.scalars(
            select(FeedbackRow)
            .join(MessageRow, MessageRow.id == FeedbackRow.message_id)
            .where(MessageRow.conversation_id == conversation_id)
            .order_by(FeedbackRow.number)
        )
        found: dict[str, list[FeedbackRow]] = defaultdict(list)
        for row in rows:
            found[row.message_id].append(row)
        return found


def _new_id() -> str:
    return uuid.uuid4().hex


def new_reply_id() -> str:
    """An identifier that no message has."""
    return _new_id()


def _path(
    rows: Mapping[str, MessageRow], message_id: str, feedback: Mapping[str, list[FeedbackRow]]
) -> tuple[StoredMessage, ...]:
    path: list[StoredMessage] = []
    place: str | None = message_id
    while place is not None:
        path.append(_stored(rows[place], feedback))
        place = rows[place].parent_id
    return tuple(reversed(path))


def _stored(row: MessageRow, feedback: Mapping[str, list[FeedbackRow]]) -> StoredMessage:
    marks: tuple[tuple[str, Mark], ...] = tuple(
        (given.item, cast("Mark", given.kind)) for given in feedback.get(row.id, ()) if given.item
    )
    return StoredMessage(row.id, row.role, row.text, row.explanation, row.plan, tuple(row.forgotten or ()), marks)


def _message(row: MessageRow, feedback: Mapping[str, list[FeedbackRow]]) -> Message:
    place = {"conversation_id": row.conversation_id, "message_id": row.parent_id, "reply_id": row.id}
    return Message(
        id=row.id,
        parent_id=row.parent_id,
        role="seeker" if row.role == "seeker" else "recommender",
        text=row.text,
        created=_time(row.created),
        explanation=None if row.explanation is None else Explanation(**row.explanation, **place),
        feedback=_feedback_of(feedback.get(row.id, ())),
    )


def _feedback_of(rows: Iterable[FeedbackRow]) -> list[Feedback]:
    return [Feedback.model_validate({"kind": row.kind, "item": row.item or None}) for row in rows]


def _feedback_row(message_id: str, kind: str, item: str | None, now: float) -> FeedbackRow:
    return FeedbackRow(message_id=message_id, item=item or "", aspect=_ASPECTS[kind], kind=kind, created=now)


def _summary(row: ConversationRow, turns: int) -> ConversationSummary:
    return ConversationSummary(
        id=row.id, title=row.title, created=_time(row.created), updated=_time(row.updated), turns=turns
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
