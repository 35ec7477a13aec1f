"""The tables of the store. A change here needs a migration beside it (`migrations/versions/`); a test compares them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up integers of this type alone."""


class Base(DeclarativeBase):
    """All tables."""


class ConversationRow(Base):
    """A conversation of one person; times are seconds since 1970 in UTC."""

    __tablename__ = "conversations"
    __table_args__ = (Index("conversations_by_owner", "owner", "updated"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(100))
    title: Mapped[str] = mapped_column(String(200))
    created: Mapped[float] = mapped_column(Float(53))
    updated: Mapped[float] = mapped_column(Float(53))


class MessageRow(Base):
    """A message: the root or the child of another one.

    Attributes:
      number: orders the messages of a conversation.
      role: "seeker" or "recommender".
      explanation: of a reply.
      plan: of a reply, as its engine wrote it.
      forgotten: ids of the beliefs that the seeker withdrew with this message.
    """

    __tablename__ = "messages"

    number: Mapped[int] = mapped_column(_Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    parent_id: Mapped[str | None] = mapped_column(String(64), index=True)
    role: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float(53))
    explanation: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    plan: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    forgotten: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))


class FeedbackRow(Base):
    """What a person thinks of a reply or of a film in it.

    Attributes:
      item: URI of the film; "" where the feedback is a thumb on the reply.
      aspect: "thumb", "taste" (like, dislike) or "seen": of each there is one.
    """

    __tablename__ = "feedback"
    __table_args__ = (UniqueConstraint("message_id", "item", "aspect", name="feedback_once"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True, autoincrement=True)
    message_id: Mapped[str] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    item: Mapped[str] = mapped_column(String(500))
    aspect: Mapped[str] = mapped_column(String(8))
    kind: Mapped[str] = mapped_column(String(8))
    created: Mapped[float] = mapped_column(Float(53))
