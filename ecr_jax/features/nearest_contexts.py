"""Which items were recommended after the training contexts that are most similar to a context: dialogue neighbours.

The untrained baseline `nearest contexts` ranks by these scores, and the recommender's mixture head reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from ecr_jax.features.dialogues import Dialogue, TextContext
from ecr_jax.features.instances import film_sequence_instances


class NearestContexts:
    """The training contexts, and the items that were recommended after each.

    The similarity is the cosine of TF-IDF vectors of the words, without English function words, and of the entities;
    each of the nearest contexts counts by a power of it.
    """

    def __init__(
        self,
        contexts: Sequence[TextContext],
        targets: Sequence[Sequence[int]],
        dialogues: Sequence[int],
        items: np.ndarray,
        *,
        count: int,
        power: float,
    ):
        """Prepares the search.

        Args:
          contexts: of the train split.
          targets: the items that were recommended after each.
          dialogues: the index of each context's dialogue, never falling.
          items: int [I], sorted entity ids.
          count: how many contexts are the nearest.
          power: of the similarity.
        """
        self.items, self.count, self.power = items, min(count, len(contexts)), power
        self._dialogues = np.asarray(dialogues, np.int64)
        rows = np.repeat(np.arange(len(contexts)), [len(each) for each in targets])
        columns = np.searchsorted(items, np.asarray([item for each in targets for item in each], np.int64))
        shape = (len(contexts), len(items))
        self._recommended = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape)
        self._vectorizer = TfidfVectorizer(analyzer=_words_and_entities, sublinear_tf=True, dtype=np.float32)
        self._known = None  # [V, contexts]; None where the contexts have no word and no entity
        if any(map(_words_and_entities, contexts)):
            vectors = scipy.sparse.csr_array(self._vectorizer.fit_transform(contexts))
            self._known = scipy.sparse.csr_array(vectors.T)

    @classmethod
    def of(cls, dialogues: Sequence[Dialogue], items: np.ndarray, *, count: int, power: float) -> NearestContexts:
        """Of training dialogues. Where only the films of one are known, each film follows those before it."""
        instances = film_sequence_instances(dialogues)
        return cls(
            [TextContext.of(dialogues[instance.dialogue].turns[: instance.turn]) for instance in instances],
            [[item for item, _, _ in instance.targets] for instance in instances],
            [instance.dialogue for instance in instances],
            items,
            count=count,
            power=power,
        )

    def scores(self, contexts: Sequence[TextContext], exclude: int | None = None) -> scipy.sparse.csr_array:
        """Scores of the items, float64 [B, I], at least 0; an empty row where no context is similar.

        Args:
          contexts: B of them.
          exclude: index of the dialogue whose own contexts are left out.
        """
        if self._known is None or not len(contexts):
            return scipy.sparse.csr_array((len(contexts), len(self.items)))
        vectors = scipy.sparse.csr_array(self._vectorizer.transform(contexts))
        similarities = scipy.sparse.csr_array(vectors @ self._known).toarray()
        if exclude is not None:
            first, last = np.searchsorted(self._dialogues, [exclude, exclude + 1])
            similarities[:, first:last] = 0
        nearest = np.argpartition(-similarities, self.count - 1, axis=1)[:, : self.count]
        weights = np.take_along_axis(similarities, nearest, axis=1).astype(np.float64) ** self.power
        bounds = np.arange(len(nearest) + 1) * self.count
        chosen = scipy.sparse.csr_array((weights.ravel(), nearest.ravel(), bounds), similarities.shape)
        return scipy.sparse.csr_array(chosen @ self._recommended)


_words = TfidfVectorizer(stop_words="english").build_analyzer()


def _words_and_entities(context: TextContext) -> list[str]:
    """The words of a context's text that are no function words, and its entities as words of their own."""
    return [*_words(context.text), *(f"<{entity}>" for entity in context.entities)]
