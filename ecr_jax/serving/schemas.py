"""What the server takes and gives, as Pydantic models: its OpenAPI document is made of them.

Requests are read strictly: a number is not taken for a text. Parts of a chat request that OpenAI's clients send and
that do not change what this engine says (temperature, penalties, ...) are ignored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"


def storable(text: str) -> str:
    """The text, if it is one that databases store.

    Raises:
      ValueError: it has U+0000 or half of a surrogate pair.
    """
    if "\x00" in text:
        raise ValueError("the character U+0000 is not allowed")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("half of a surrogate pair is not allowed")
    return text


Text = Annotated[str, AfterValidator(storable)]
"""Any text of whole characters but U+0000."""
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
"""An identifier of a conversation or of a message."""
Uri = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(storable)]
BeliefId = Annotated[str, StringConstraints(min_length=1, max_length=600), AfterValidator(storable)]

Mark = Literal["like", "dislike", "seen"]
"""What a person marks a film with."""
FeedbackKind = Literal["up", "down", "like", "dislike", "seen"]
BeliefKind = Literal["liked", "disliked", "seen", "refused", "constraint"]


class _Request(BaseModel):
    model_config = ConfigDict(strict=True)


# --------------------------------------------------------------------------------------------------------------- errors


class ErrorDetail(BaseModel):
    """What went wrong, for a person (`message`) and for a program (`type`, `code`)."""

    message: str
    type: str
    code: str | None = None


class Error(BaseModel):
    """The body of every answer that is not a success, as OpenAI's."""

    error: ErrorDetail


# ---------------------------------------------------------------------------------------------------------- explanation


class ScoredFilm(BaseModel):
    """A film that could be recommended; the probability is null in a conversation from elsewhere."""

    uri: str
    title: str
    year: int | None = None
    probability: float | None = None


class Why(BaseModel):
    """Why a film is recommended: what the graph says, what was mentioned, what was felt."""

    facts: list[str] = []
    mentions: list[str] = []
    feelings: list[str] = []


class Film(ScoredFilm):
    """A film with its reasons."""

    why: Why = Why()


class FilmCard(Film):
    """A recommended film."""

    people: list[str] = []
    genres: list[str] = []


class Emotion(BaseModel):
    """An emotion of the seeker's last turn."""

    name: str
    probability: float


class Entity(BaseModel):
    """A name that the conversation mentions."""

    uri: str
    name: str


class Belief(BaseModel):
    """Something that the engine believes about the seeker; `id` is the same in every reply."""

    id: str
    kind: BeliefKind
    text: str


class ManagedSubTask(BaseModel):
    """The sub-task of a reply, and who carried it out.

    `by` is who chose it, "manager" or "acts". `expert` is null where none was asked or none gave an outcome; `outcome`
    is what it found, in words. `failures` are in words too: of the manager's choice, and of experts that were asked.
    """

    sub_task: str
    arguments: dict[str, str] = {}
    by: str
    expert: str | None = None
    outcome: str = ""
    failures: list[str] = []


class ReplyExplanation(BaseModel):
    """What explains a reply; `managed` is null in a conversation from elsewhere."""

    managed: ManagedSubTask | None = None
    sub_acts: list[str] = []
    writer: str = ""
    films: list[FilmCard] = []
    others: list[ScoredFilm] = []
    emotions: list[Emotion] = []
    entities: list[Entity] = []
    beliefs: list[Belief] = []


class Place(BaseModel):
    """Where a turn is kept; all null where the request was stateless. `message_id` is the seeker's message."""

    conversation_id: str | None = None
    message_id: str | None = None
    reply_id: str | None = None


class Explanation(ReplyExplanation, Place):
    """What explains a reply, and where it is kept."""


# ----------------------------------------------------------------------------------------------------------------- chat


class TextPart(_Request):
    """A part of a message's content; only text is understood."""

    type: Literal["text"]
    text: Text


class ChatMessage(_Request):
    """A message. System messages are taken and not followed: the engine has its own way to reply."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Text | list[TextPart]

    @property
    def text(self) -> str:
        """Its text; parts are joined."""
        return self.content if isinstance(self.content, str) else " ".join(part.text for part in self.content)


class ChatExtension(_Request):
    """What OpenAI's requests do not have.

    Without `conversation_id` nothing is kept; "new" begins a conversation. `parent_id` is the message after which the
    turn comes: by default the latest of the conversation, null for its root. `message_id` is an id that the client
    gives the seeker's message, so that a repeated request is not a second message; with `regenerate` the stored message
    gets another reply. `forget` withdraws beliefs before the turn is replied to. `items` is the fewest films to
    recommend.
    """

    conversation_id: Id | None = None
    parent_id: Id | None = None
    message_id: Id | None = None
    regenerate: bool = False
    forget: list[BeliefId] = Field(default=[], max_length=100)
    items: int = Field(default=0, ge=0, le=3)


class StreamOptions(_Request):
    """As OpenAI's."""

    include_usage: bool = False


class ChatRequest(_Request):
    """A chat completion, as OpenAI's."""

    model: Text
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    ecr: ChatExtension | None = None


class Usage(BaseModel):
    """Tokens of the run's own tokenizer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReplyMessage(BaseModel):
    """What the engine says."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """The one choice."""

    index: int = 0
    message: ReplyMessage
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatCompletion(BaseModel):
    """A whole reply, as OpenAI's, with what explains it."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    ecr: Explanation


class Delta(BaseModel):
    """A piece of a reply."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """The one choice of a chunk."""

    index: int = 0
    delta: Delta
    finish_reason: Literal["stop"] | None = None
    logprobs: None = None


class ChatChunk(BaseModel):
    """A chunk of a streamed reply. The first says where the turn is kept, the last explains the reply."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    ecr: Explanation | Place | None = None


class Model(BaseModel):
    """The served run."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["ecr_jax"] = "ecr_jax"


class Models(BaseModel):
    """All models: one."""

    object: Literal["list"] = "list"
    data: list[Model]


# ------------------------------------------------------------------------------------------------------------ recommend


class ConversationTurn(_Request):
    """A turn of a conversation that is not kept."""

    role: Literal["seeker", "recommender"]
    text: Text


class RecommendRequest(_Request):
    """A conversation in which the seeker spoke last; `k` films are asked for."""

    conversation: list[ConversationTurn] = Field(min_length=1)
    k: int = Field(default=10, ge=1, le=100)


class Recommendation(BaseModel):
    """Films that were not mentioned yet, best first."""

    items: list[Film]


# -------------------------------------------------------------------------------------------------------- conversations


class Feedback(BaseModel):
    """A thumb on a reply (`item` is null), or what a film of it is marked with."""

    kind: FeedbackKind
    item: str | None = None


class FeedbackRequest(_Request):
    """Feedback on a reply; "clear" takes the thumb back, or with an item everything about that film."""

    conversation_id: Id
    message_id: Id
    kind: FeedbackKind | Literal["clear"]
    item: Uri | None = None


class FeedbackList(BaseModel):
    """All feedback on a reply."""

    feedback: list[Feedback]


class ConversationSummary(BaseModel):
    """A conversation in a list; `turns` is the number of the seeker's messages."""

    id: str
    title: str
    created: datetime
    updated: datetime
    turns: int


class ConversationList(BaseModel):
    """Conversations of which something is new."""

    conversations: list[ConversationSummary]


class Message(BaseModel):
    """A message of a conversation, which is a tree: an edited message is a sibling of the one before."""

    id: str
    parent_id: str | None
    role: Literal["seeker", "recommender"]
    text: str
    created: datetime
    explanation: Explanation | None = None
    feedback: list[Feedback] = []


class ConversationDetail(BaseModel):
    """A conversation with all its branches."""

    id: str
    title: str
    messages: list[Message]


class TitleRequest(_Request):
    """A new title."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(storable)]


class Status(BaseModel):
    """Whether the server lives, or may be sent requests."""

    status: str
