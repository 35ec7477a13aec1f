"""Whether a text gives a film's title away: nothing that a simulated seeker is told or says may do so."""

from __future__ import annotations

from ecr_jax.knowledge.common_words import FUNCTION, ordinary
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.naming import normalise, title_forms


def reveals(text: str, film: int, graph: KnowledgeGraph, linker: EntityLinker) -> bool:
    """Whether a text names a film.

    It does where it is the title, or has the title's words in any case and spelling, the title before a colon ("Rogue
    One: ...") included, or where the linker takes a part of it for the film. A title that is an everyday expression
    ("It", "The One", "Big") is left to the linker: a text has its words without meaning the film.

    Args:
      text: any.
      film: the entity id.
      graph: with its name.
      linker: of that graph.
    """
    name = graph.names[film]
    said = f" {normalise(text)} "
    forms = title_forms(name) | title_forms(name.partition(":")[0])
    if any(f" {form} " == said or (f" {form} " in said and _is_distinctive(form)) for form in forms):
        return True
    return any(link.entity == film for link in linker.link(text))


def _is_distinctive(form: str) -> bool:
    """Whether words are a title rather than an everyday expression: an uncommon word, or two with a meaning."""
    words = form.split()
    return any(not ordinary(word) for word in words) or sum(word not in FUNCTION for word in words) > 1
