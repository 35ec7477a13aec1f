"""Experts: who carries out a sub-task. A registry open to other packages, and calls that never raise.

An expert has a name, a description, the sub-tasks it serves and a time limit; behind it is a function of this process
or an address on the network. `Registry.ask` asks the experts of a sub-task one after another, those whose description
fits best first, until one gives an outcome. A failure is a value: an `Outcome` with its reason.

An expert of another package is an entry point of the group `ecr_jax.experts` that names an `Expert`.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal

import numpy as np

from ecr_jax.data.acts import Attribute
from ecr_jax.errors import require
from ecr_jax.features.dialogues import Utterance
from ecr_jax.features.plans import Fact
from ecr_jax.features.tokenizer import with_role
from ecr_jax.inference.memory import Memory
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.manager.schema import Choice

GROUP = "ecr_jax.experts"
"""Entry points of this group are the `Expert`s of other packages."""

_log = logging.getLogger(__name__)
_MOST_FAILURES, _WINDOW = 3, 60.0
"""An expert that failed so often within so many seconds is not asked for as long."""
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Call:
    """What an expert is asked.

    Attributes:
      choice: the sub-task with its arguments.
      memory: what the dialogue has come to.
      turns: the dialogue; the seeker spoke last.
      graph: of its entities.
      probabilities: float32 [I], of each item to be recommended, as the run ranks them.
    """

    choice: Choice
    memory: Memory
    turns: tuple[Utterance, ...]
    graph: KnowledgeGraph
    probabilities: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Attributes:
      status: "ok", "failed" or "timed out".
      reason: why it is not ok, in words.
      text: the result in words, for people and for prompts.
      scores: float [I], log-probabilities of the items, where it ranks them.
      films: what `facts` are about.
      facts: what it found out; `Fact.film` is a place in `films`.
      attribute: what the seeker should be asked for.
      options: values of it to offer.
    """

    status: Literal["ok", "failed", "timed out"] = "ok"
    reason: str = ""
    text: str = ""
    scores: np.ndarray | None = None
    films: tuple[int, ...] = ()
    facts: tuple[Fact, ...] = ()
    attribute: Attribute | None = None
    options: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.status == "ok"


@dataclass(frozen=True)
class Expert:
    """Who carries out sub-tasks.

    Attributes:
      name: unique in a registry.
      description: what it does and is good at; experts of one sub-task are chosen among by it.
      sub_tasks: names of those it serves.
      function: carries out a call. It may raise and may take too long; both are met in `ask`.
      seconds: after which a call counts as timed out.
    """

    name: str
    description: str
    sub_tasks: frozenset[str]
    function: Callable[[Call], Outcome]
    seconds: float = 5.0

    def __post_init__(self) -> None:
        require(self, "name", bool(self.name), "name the expert")
        require(self, "description", bool(self.description.strip()), "say what it does: it is chosen by that")
        require(self, "sub_tasks", bool(self.sub_tasks), "name at least one sub-task")
        require(self, "seconds", self.seconds > 0, "give seconds above 0")


def ask(expert: Expert, call: Call) -> Outcome:
    """What an expert answers, within its time. Never raises; a late answer of a local function is dropped."""
    box: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    threading.Thread(target=lambda: box.put(_guarded(expert, call)), name=f"expert {expert.name}", daemon=True).start()
    try:
        return box.get(timeout=expert.seconds)
    except queue.Empty:
        return Outcome("timed out", f"no answer within {expert.seconds:g} seconds")


def _guarded(expert: Expert, call: Call) -> Outcome:
    """The outcome of a call that may raise: what was raised is logged with its stack, and is the reason."""
    try:
        outcome = expert.function(call)
        fault = _fault(outcome, call)
    except Exception as error:  # of code that is not ours; the turn must go on
        _log.warning("expert %s failed", expert.name, exc_info=True)
        line = next(iter(str(error).splitlines()), "")
        return Outcome("failed", f"{type(error).__name__}: {line}".removesuffix(": "))
    return outcome if fault is None else Outcome("failed", fault)


def _fault(outcome: Any, call: Call) -> str | None:
    """Why an outcome is none that can be used; None where it can."""
    if not isinstance(outcome, Outcome):
        return f"it gave {type(outcome).__name__} and no Outcome"
    if outcome.scores is not None:
        if np.shape(outcome.scores) != np.shape(call.probabilities):
            return f"it scored {np.shape(outcome.scores)} items of {np.shape(call.probabilities)}"
        if np.isnan(outcome.scores).any():
            return "a score is not a number"
    if any(not 0 <= film < len(call.graph) for film in outcome.films):
        return f"it names films that the graph does not have: {outcome.films}"
    if any(not 0 <= fact.film < len(outcome.films) for fact in outcome.facts):
        return "a fact is about none of its films"
    return None


@dataclass(frozen=True)
class Answered:
    """The outcome of a sub-task, and who was asked before.

    Attributes:
      expert: who gave the outcome; "" where nobody could.
      outcome: it; of the last expert where all failed.
      failed: (expert, outcome) of those that were asked and failed, in order.
    """

    expert: str
    outcome: Outcome
    failed: tuple[tuple[str, Outcome], ...] = ()


Similarity = Callable[[str, Sequence[str]], np.ndarray]
"""(goal, descriptions) -> how well each fits, float [n]; called where several experts serve a sub-task."""


@dataclass
class Registry:
    """Experts by name.

    Attributes:
      experts: in the order in which they are asked where no description fits better.
      similarity: chooses among several.
    """

    experts: Sequence[Expert]
    similarity: Similarity
    _failures: dict[str, list[float]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        names = [expert.name for expert in self.experts]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two experts are called {', '.join(sorted(repeated))}; give one another name")

    def serves(self, sub_task: str) -> bool:
        """Whether any expert serves a sub-task."""
        return any(sub_task in expert.sub_tasks for expert in self.experts)

    def candidates(self, goal: str, sub_task: str) -> list[Expert]:
        """The experts that serve a sub-task, those whose description fits the goal best first."""
        serving = [expert for expert in self.experts if sub_task in expert.sub_tasks]
        if len(serving) < 2:
            return serving
        fit = self.similarity(goal, [expert.description for expert in serving])
        return [serving[place] for place in np.argsort(-np.asarray(fit), kind="stable")]

    def ask(self, call: Call, goal: str) -> Answered:
        """Asks the experts of the call's sub-task until one gives an outcome. Never raises.

        An expert that failed three times within a minute is passed over for as long, so that no turn waits for it.

        Args:
          call: what is asked.
          goal: the sub-task in words.
        """
        failed: list[tuple[str, Outcome]] = []
        for expert in self.candidates(goal, call.choice.sub_task):
            now, moments = time.monotonic(), self._failures.setdefault(expert.name, [])
            moments[:] = [moment for moment in moments if now - moment < _WINDOW]
            if len(moments) >= _MOST_FAILURES:
                outcome = Outcome("failed", f"it failed {len(moments)} times within a minute and is not asked now")
            else:
                outcome = ask(expert, call)
                if not outcome.ok:
                    moments.append(now)
            if outcome.ok:
                return Answered(expert.name, outcome, tuple(failed))
            failed.append((expert.name, outcome))
        last = failed[-1][1] if failed else Outcome("failed", f"no expert serves {call.choice.sub_task!r}")
        return Answered("", last, tuple(failed))


def installed() -> list[Expert]:
    """The experts that other packages register.

    Raises:
      ValueError: an entry point of the group that is no `Expert`.
    """
    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        expert = entry.load()
        if not isinstance(expert, Expert):
            raise ValueError(f"the entry point {entry.name!r} of {GROUP} is a {type(expert).__name__}, not an Expert")
        found.append(expert)
    return found


def remote(name: str, description: str, sub_tasks: Iterable[str], address: str, seconds: float = 5.0) -> Expert:
    """An expert behind an HTTP address.

    It is sent {"sub_task", "arguments", "dialogue": [lines], "films": {URI: title} of the films that were named} as a
    POST request, and answers with an object that may have "text", "scores": {URI of an item: number}, "facts":
    [{"film": URI, "attribute", "values"}], and "attribute" with "options". Items that it does not score come last.

    Args:
      name, description, sub_tasks, seconds: as of `Expert`.
      address: an http or https URL.
    """
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"expert {name!r}: {address!r} is no http address")

    def function(call: Call) -> Outcome:
        body = json.dumps(_question(call)).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=seconds) as response:
            text = response.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise ValueError(f"the answer has more than {_MOST_BYTES} bytes")
        return _outcome(json.loads(text), call)

    return Expert(name, description, frozenset(sub_tasks), function, seconds)


def _question(call: Call) -> dict[str, Any]:
    graph = call.graph
    return {
        "sub_task": call.choice.sub_task,
        "arguments": dict(call.choice.arguments),
        "dialogue": [with_role(turn.role, turn.text) for turn in call.turns],
        "films": {graph.uris[film]: graph.title(film) for film in call.memory.named},
    }


def _outcome(value: Any, call: Call) -> Outcome:
    """The outcome in a JSON value. Raises ValueError, TypeError or KeyError where it is none."""
    if not isinstance(value, Mapping):
        raise ValueError(f"the answer is a {type(value).__name__} and no object")
    graph, scores = call.graph, None
    if value.get("scores"):
        places = {graph.uris[item]: place for place, item in enumerate(graph.items)}
        known = {places[uri]: float(score) for uri, score in value["scores"].items() if uri in places}
        if not known:
            raise ValueError("none of the scored items is in the graph")
        scores = np.full(len(graph.items), min(known.values()) - 20.0)
        scores[list(known)] = list(known.values())
    facts = value.get("facts") or []
    films = tuple(dict.fromkeys(graph.ids[fact["film"]] for fact in facts))
    return Outcome(
        text=str(value.get("text") or ""),
        scores=scores,
        films=films,
        facts=tuple(
            Fact(films.index(graph.ids[fact["film"]]), Attribute(fact["attribute"]), tuple(map(str, fact["values"])))
            for fact in facts
        ),
        attribute=Attribute(value["attribute"]) if value.get("attribute") else None,
        options=tuple(map(str, value.get("options") or ())),
    )
