"""An engine for the tests of the page: it recommends with cards, reasons, emotions and beliefs, by a few rules."""

from __future__ import annotations

import threading

from ecr_jax.serving.engine import EngineReply
from ecr_jax.serving.schemas import (
    Belief,
    Emotion,
    Entity,
    Film,
    FilmCard,
    ManagedSubTask,
    ReplyExplanation,
    ScoredFilm,
    Why,
)

FILMS = (
    FilmCard(
        uri="<film:hoosiers>", title="Hoosiers (1986)", year=1986, probability=0.214,
        people=["Gene Hackman", "Barbara Hershey", "Dennis Hopper"], genres=["drama", "sport"],
        why=Why(
            facts=["stars Gene Hackman", "is a drama about sport"], mentions=["you liked Moneyball (2011)"],
            feelings=["happy (71%)", "curious (18%)"],
        ),
    ),
    FilmCard(
        uri="<film:rudy>", title="Rudy (1993)", year=1993, probability=0.162,
        people=["Sean Astin", "Ned Beatty"], genres=["drama", "sport", "biography"],
        why=Why(facts=["tells a true story"], mentions=["you liked Moneyball (2011)"]),
    ),
    FilmCard(
        uri="<film:social>", title="The Social Network (2010)", year=2010, probability=0.121,
        people=["Jesse Eisenberg", "Andrew Garfield"], genres=["drama"],
        why=Why(facts=["was written by Aaron Sorkin"]),
    ),
)  # fmt: skip
_BELIEFS = {
    "moneyball": Belief(id="liked:moneyball", kind="liked", text="Moneyball (2011)"),
    "horror": Belief(id="constraint:no-horror", kind="constraint", text="no horror"),
    "saw": Belief(id="seen:saw", kind="seen", text="Saw (2004)"),
    "boring": Belief(id="disliked:drive", kind="disliked", text="Drive (2011)"),
}
_MARKS = {"like": "liked", "dislike": "disliked", "seen": "seen"}


class TalkingEngine:
    """Replies with the first film that is neither marked nor passed over; with two of them where "two" is asked for.

    Attributes:
      gate: replies wait until it is set.
      queries: the dialogues that were replied to.
    """

    name = "talking"

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.queries: list = []

    def warm_up(self, batch):
        pass

    def replies(self, queries):
        self.gate.wait()
        self.queries += queries
        return [_reply(query) for query in queries]

    def recommend(self, queries):
        return [[Film(**film.model_dump(include=set(Film.model_fields))) for film in FILMS[: q.k]] for q in queries]


def _reply(query):
    last = query.turns[-1]
    if "fail" in last.text:
        raise RuntimeError("the engine of the tests was told to fail")
    marks = [mark for turn in query.turns for mark in turn.marks]
    left = [film for film in FILMS if film.uri not in last.passed and film.uri not in dict(marks)]
    films = left[: 2 if "two" in last.text.lower() else 1]
    if films:
        names = " or ".join(film.title for film in films)
        text = f"That sounds like an evening for an underdog. How about {names}? It is warm and ends well."
    else:
        text = "I have no other film for you."
    said = " ".join(turn.text.lower() for turn in query.turns if turn.role == "seeker")
    beliefs = [belief for word, belief in _BELIEFS.items() if word in said]
    beliefs += [
        Belief(id=f"{mark}:{uri}", kind=_MARKS[mark], text=next(film.title for film in FILMS if film.uri == uri))
        for uri, mark in marks
    ]
    gone = {name for turn in query.turns for name in turn.forgotten}
    explanation = ReplyExplanation(
        managed=ManagedSubTask(
            sub_task="recommend",
            arguments={"category": "drama"},
            by="manager",
            expert="ranking:run",
            outcome="; ".join(film.title for film in films),
            failures=["ranking:elsewhere: no answer within 5 seconds"],
        ),
        sub_acts=["react", "recommend"],
        writer="talking",
        films=films,
        others=[
            ScoredFilm(**film.model_dump(include=set(ScoredFilm.model_fields))) for film in left if film not in films
        ],
        emotions=[Emotion(name="happy", probability=0.71), Emotion(name="curious", probability=0.18)],
        entities=[Entity(uri="<film:moneyball>", name="Moneyball (2011)")],
        beliefs=[belief for belief in beliefs if belief.id not in gone],
    )
    return EngineReply(text, explanation, tokens=len(text.split()))
