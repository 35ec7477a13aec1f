"""A small film graph for tests of the conversation engine, and turns to talk about it."""

from __future__ import annotations

import numpy as np

from ecr_jax.data.schema import Role
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.dialogues import Utterance
from ecr_jax.inference.memory import TurnReading, remember
from ecr_jax.inference.planning import decide
from ecr_jax.inference.relevance import stated_entities
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge.linking import EntityLinker

FILMS = {
    "Heat (1995)": {"director": ["Michael Mann"], "starring": ["Al Pacino", "Robert De Niro"],
                    "writer": ["Michael Mann"], "genre": ["Crime", "Thriller"], "country": ["USA"],
                    "language": ["English"]},
    "Collateral (2004)": {"director": ["Michael Mann"], "starring": ["Tom Cruise", "Jamie Foxx"], "genre": ["Thriller"],
                          "country": ["USA"], "language": ["English"]},
    "Amelie (2001)": {"director": ["Jean-Pierre Jeunet"], "starring": ["Audrey Tautou"], "genre": ["Comedy", "Romance"],
                      "country": ["France"], "language": ["French"]},
    "Alien (1979)": {"director": ["Ridley Scott"], "starring": ["Sigourney Weaver"], "genre": ["Horror", "Sci-Fi"],
                     "country": ["UK"], "language": ["English"]},
    "Big (1988)": {"director": ["Penny Marshall"], "starring": ["Tom Hanks"], "genre": ["Comedy"], "country": ["USA"]},
    "Cast Away (2000)": {"director": ["Robert Zemeckis"], "starring": ["Tom Hanks"], "genre": ["Drama"]},
    "Halloween (1978)": {"director": ["John Carpenter"], "genre": ["Horror"]},
    "Ghostbusters (1984)": {"director": ["Ivan Reitman"], "starring": ["Sigourney Weaver", "Bill Murray"],
                            "genre": ["Comedy"]},
    "Unknown Land (2010)": {},
}  # fmt: skip
_SCHEME = {"director": "person", "starring": "person", "writer": "person"}
_URIS = {title: f"imdb:tt{number}" for number, title in enumerate(FILMS)}

GRAPH = graphs.build(
    [
        (_URIS[title], relation, f"{_SCHEME.get(relation, relation)}:{name}")
        for title, facts in FILMS.items()
        for relation, names in facts.items()
        for name in names
    ],
    _URIS.values(),
    titles=[(uri, title) for title, uri in _URIS.items()],
    kinds={
        f"{_SCHEME.get(relation, relation)}:{name}": _SCHEME.get(relation, relation)
        for facts in FILMS.values()
        for relation, names in facts.items()
        for name in names
    },
)
LINKER = EntityLinker(GRAPH)


def film(title):
    """The id of a film by its title without year."""
    return next(GRAPH.ids[uri] for name, uri in _URIS.items() if name.startswith(f"{title} ("))


def entity(name, kind="person"):
    return GRAPH.ids[f"{kind}:{name}"]


class Talk:
    """A dialogue with the engine's pure parts: `say` returns the decision; the reply is the plan alone."""

    def __init__(self, acts=None):
        self.turns, self.readings, self.acts = [], [], acts or {}
        self.memory, self.decision = None, None

    def say(self, text, emotion=None, **options):
        links = tuple(LINKER.link(text, [e for turn in self.turns for e in turn.entities]))
        emotions = ((EMOTIONS.index(emotion), 0.9),) if emotion else ()
        entities = tuple(link.entity for link in links)
        self.turns.append(Utterance(Role.SEEKER, text, text, entities, (), emotions))
        self.readings.append(TurnReading(links))
        self.memory = remember(self.turns, self.readings, GRAPH)
        probabilities = np.linspace(2, 1, len(GRAPH.items)) / (1.5 * len(GRAPH.items))
        self.decision = decide(self.memory, GRAPH.items, probabilities, self.acts, GRAPH, **options)
        plan = self.decision.plan
        self.turns.append(Utterance(Role.RECOMMENDER, "…", "…", stated_entities(plan, GRAPH), plan=plan))
        self.readings.append(TurnReading())
        return self.decision

    @property
    def recommended(self):
        """Titles, without years, of what the last reply recommends."""
        plan = self.decision.plan
        return [GRAPH.names[f] for f in plan.films[len(plan.films) - plan.recommended :]]


def names(films):
    return [GRAPH.names[f] for f in films]
