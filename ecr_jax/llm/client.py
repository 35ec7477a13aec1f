"""A client for any OpenAI-compatible address: concurrent, rate-limited, retried, and cached on disk.

The package `openai` sends the requests and repeats them after 429, 5xx, time-outs and broken connections, with
exponential back-off or as long as the server's `Retry-After` says. It is the extra `llm`, imported where it is used.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from ecr_jax.errors import require, require_at_least
from ecr_jax.llm.cache import AnswerCache, content_hash

Messages: TypeAlias = Sequence[Mapping[str, str]]
"""A chat: {"role": "system", "user" or "assistant", "content": text} each."""

_OPTIONAL = ("schema", "logprobs")
"""Parts of a request that not every server takes."""


_NO_KEY = "none"
"""Sent where there is no key: the header that holds it may not be empty."""


class LlmError(ConnectionError):
    """A server that cannot be reached, does not let us in, or does not speak the protocol."""


@dataclass(frozen=True)
class Address:
    """A model behind an OpenAI-compatible address.

    Attributes:
      base_url: such as https://api.openai.com/v1 or http://localhost:8000/v1.
      model: its name there.
      key_variable: the environment variable with the key; the key itself is never written anywhere. A server that needs
        none is given an empty one.
      concurrency: most requests under way at once.
      requests_per_minute: most requests begun in a minute; None sets no limit. Repeated ones wait by their back-off.
      timeout: seconds until a request counts as failed.
      retries: how often a failed request is repeated.
      input_price, output_price: of a million tokens, in any currency; None where it is not known.
    """

    base_url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout: float = 60.0
    retries: int = 6
    input_price: float | None = None
    output_price: float | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        valid = parts.scheme in ("http", "https") and bool(parts.netloc)
        require(self, "base_url", valid, "give an address such as http://localhost:8000/v1")
        require(self, "model", bool(self.model), "name the model as the server calls it")
        require_at_least(self, 1, "concurrency")
        require_at_least(self, 0, "retries", "input_price", "output_price")
        require(self, "timeout", self.timeout > 0, "give seconds above 0")
        limit = self.requests_per_minute
        require(self, "requests_per_minute", limit is None or limit > 0, "give a number above 0")

    @property
    def file_name(self) -> str:
        """The model's name as part of a path."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.model).strip("-.") or "model"

    @property
    def public(self) -> dict[str, str]:
        """What is recorded of it: the model, and the address without user name, password and query."""
        parts = urlsplit(self.base_url)
        return {"base_url": urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")),
                "model": self.model}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One question to a model.

    Attributes:
      messages: the chat.
      schema: JSON schema of the answer, sent where the server takes one; the messages must describe it as well.
      max_tokens: longest answer.
      temperature: of sampling; 0 is greedy.
      seed: of sampling, where the server takes one. Requests that differ in it alone are separate questions.
      top_logprobs: how many log probabilities to ask for at each token; 0 asks for none.
    """

    messages: Messages
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    top_logprobs: int = 0

    @property
    def content(self) -> dict[str, Any]:
        """Its content as JSON, by which its answer is stored."""
        return {
            "messages": [dict(message) for message in self.messages],
            "schema": self.schema,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "top_logprobs": self.top_logprobs,
        }


@dataclass(frozen=True)
class Token:
    """A token of an answer, and the log probabilities of it and of other tokens at its place."""

    text: str
    logprobs: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
      text: the answer; empty where there is none.
      fault: why the answer is none or not whole, in words; None for a whole one.
      tokens: with log probabilities, where the server gives them.
      input_tokens, output_tokens: as the server counts them, 0 where it does not.
      cached: whether it was on disk, or is that of an equal request of the same call; its tokens count once.
    """

    text: str
    fault: str | None = None
    tokens: tuple[Token, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    cached: bool = False


@dataclass(frozen=True)
class Usage:
    """What answers cost.

    Attributes:
      sent: questions asked of the server.
      cached: questions that were answered on disk, or by another one of the same content.
      input_tokens, output_tokens: of all different answers, those on disk included: they were paid for once.
      cost: of these tokens, None where a price is not known.
    """

    sent: int
    cached: int
    input_tokens: int
    output_tokens: int
    cost: float | None

    @classmethod
    def of(cls, answers: Sequence[Answer], address: Address) -> Usage:
        """Counts the tokens of answers on disk as well: they were paid for when they were asked."""
        tokens_in = sum(answer.input_tokens for answer in answers)
        tokens_out = sum(answer.output_tokens for answer in answers)
        cost = None
        if address.input_price is not None and address.output_price is not None:
            cost = (tokens_in * address.input_price + tokens_out * address.output_price) / 1e6
        cached = sum(answer.cached for answer in answers)
        return cls(len(answers) - cached, cached, tokens_in, tokens_out, cost)

    def __str__(self) -> str:
        price = "" if self.cost is None else f", cost {self.cost:.4g}"
        return (
            f"{self.sent} requests sent, {self.cached} answers on disk; "
            f"{self.input_tokens} input and {self.output_tokens} output tokens{price}"
        )


class Client:
    """Asks a model and keeps its answers on disk.

    Args:
      address: the model.
      cache: the folder of answers; clients of other models may share it.
    """

    def __init__(self, address: Address, cache: Path):
        self.address = address
        self._cache = AnswerCache(cache)
        self._dropped: frozenset[str] | None = (
            None  # optional parts the server refuses; None until it accepted a request
        )

    def answers(self, requests: Sequence[Request], done: Callable[[], None] = lambda: None) -> list[Answer]:
        """Asks all requests, several at once.

        Every answer is stored as soon as it is there. Ctrl-C ends the call at once and loses only what is under way.

        Args:
          requests: R questions.
          done: called after each answer.

        Returns:
          R answers in the order of the requests. A request that the server refuses, or answers with nothing, has a
          `fault`, and so has half an answer.

        Raises:
          LlmError: there is no server, it does not let us in, it fails `retries` times in a row, or what it sends is no
            chat completion. Running the same requests again goes on from there.
          ValueError: the package `openai` is not installed.
        """
        questions = [self._question(request) for request in requests]
        known = {question: answer for question in questions if (answer := self._stored(question)) is not None}
        missing = {
            question: request for question, request in zip(questions, requests, strict=True) if question not in known
        }
        for _ in range(len(questions) - len(missing)):
            done()
        if missing:
            known |= zip(missing, asyncio.run(self._ask(list(missing.values()), done)), strict=True)
        answers, given = [], set()
        for question in questions:
            answer = known[question]
            again = dataclasses.replace(answer, cached=True, input_tokens=0, output_tokens=0)
            answers.append(again if question in given else answer)
            given.add(question)
        return answers

    async def _ask(self, requests: Sequence[Request], done: Callable[[], None]) -> list[Answer]:
        openai = _package()
        key = os.environ.get(self.address.key_variable) or _NO_KEY
        begin = _pace(self.address.requests_per_minute)
        slots = asyncio.Semaphore(self.address.concurrency)
        async with openai.AsyncOpenAI(
            base_url=self.address.base_url,
            api_key=key,
            timeout=self.address.timeout,
            max_retries=self.address.retries,
        ) as server:

            async def one(request: Request) -> Answer:
                async with slots:
                    await asyncio.sleep(next(begin))
                    answer = await self._answer(server, request)
                done()
                return answer

            tasks = [asyncio.ensure_future(one(request)) for request in requests]
            try:
                return await asyncio.gather(*tasks)
            except openai.OpenAIError as error:
                raise LlmError(self._explain(error, key)) from None  # the SDK's own message may hold the key
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, server: Any, request: Request) -> Answer:
        openai = _package()
        refused = ""
        for parts in self._choices(request):
            try:
                completion = await server.chat.completions.create(**self._body(request, parts))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = str(error)
                continue
            except json.JSONDecodeError as error:
                raise self._no_completion(error.doc) from error
            answer = self._read(completion)
            self._dropped = _wanted(request) - parts
            self._cache.put(self._question(request), _to_json(answer))
            return answer
        return Answer("", fault=f"the server refuses the request: {refused}")

    def _choices(self, request: Request) -> Iterator[frozenset[str]]:
        """Which optional parts to send: what the server takes or, until that is known, all, then fewer and fewer."""
        wanted = _wanted(request)
        if self._dropped is not None:
            yield wanted - self._dropped
            return
        for size in range(len(wanted), -1, -1):
            for parts in itertools.combinations([part for part in reversed(_OPTIONAL) if part in wanted], size):
                yield frozenset(parts)

    def _body(self, request: Request, parts: frozenset[str]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.address.model,
            "messages": [dict(message) for message in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if "schema" in parts:
            form = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if "logprobs" in parts:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        return body

    def _read(self, completion: Any) -> Answer:
        """The answer in a chat completion. Raises LlmError where it is none."""
        choices = getattr(completion, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(choice, "message", None)
        if choice is None or message is None:
            raise self._no_completion(str(completion))
        fault = None
        if not message.content:
            fault = f"no text: {getattr(message, 'refusal', None) or choice.finish_reason}"
        elif choice.finish_reason == "length":
            fault = "cut off at max_tokens"
        listed = getattr(getattr(choice, "logprobs", None), "content", None) or ()
        tokens = tuple(
            Token(
                entry.token, {entry.token: entry.logprob} | {top.token: top.logprob for top in entry.top_logprobs or ()}
            )
            for entry in listed
        )
        usage = completion.usage
        counts = (0, 0) if usage is None else (usage.prompt_tokens or 0, usage.completion_tokens or 0)
        return Answer(message.content or "", fault, tokens, *counts)

    def _no_completion(self, body: str) -> LlmError:
        return LlmError(
            f"{self.address.public['base_url']} answers, but not with a chat completion: {body[:200]!r}; "
            "is it the address of an OpenAI-compatible server, with its /v1?"
        )

    def _question(self, request: Request) -> str:
        return content_hash(self.address.public | request.content)

    def _stored(self, question: str) -> Answer | None:
        stored = self._cache.get(question)
        if stored is None:
            return None
        tokens = tuple(Token(token["text"], token["logprobs"]) for token in stored["tokens"])
        return Answer(**{**stored, "tokens": tokens, "cached": True})

    def _explain(self, error: Exception, key: str) -> str:
        openai = _package()
        address, variable = self.address.public, self.address.key_variable
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            remedy = f"put its key into the environment variable {variable}"
        elif isinstance(error, openai.NotFoundError):
            remedy = "check the address and the model's name"
        else:
            remedy = "answers so far are on disk, and the same command goes on from there"
        said = str(error).replace(key, "***")
        return f"{address['model']} at {address['base_url']}: {said} ({remedy})"


def _package() -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError as error:
        raise ValueError("asking a language model needs the package openai: pip install 'ecr-jax[llm]'") from error


def _wanted(request: Request) -> frozenset[str]:
    """The optional parts of a request."""
    asked = {"schema": request.schema is not None, "logprobs": request.top_logprobs > 0}
    return frozenset(part for part in _OPTIONAL if asked[part])


def _pace(per_minute: float | None) -> Iterator[float]:
    """Seconds to wait before each next request, so that they begin at equal distances."""
    free = time.monotonic()
    while True:
        now = time.monotonic()
        free = max(free, now)
        yield free - now
        if per_minute is not None:
            free += 60 / per_minute


def _to_json(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "fault": answer.fault,
        "tokens": [{"text": token.text, "logprobs": dict(token.logprobs)} for token in answer.tokens],
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
    }
