"""The trained baselines: recommenders of other papers, one short file each, all with the same interface.

A baseline is a flax module that maps `(batch, frozen)` to logits [B, I] over the items. `batch` holds arrays of the
contexts, `frozen` constants such as the knowledge graph; each module says which of them it reads. An auxiliary loss is
sown as [B] into the collection "losses", and training adds it to the ranking loss. Graph, words and text states come
from the same prepared corpus as ECR's. No baseline reads emotions, feedback, co-occurrence or film text, as in their
papers.

The trivial baselines (popularity, copy-last, co-occurrence, ...) are not trained and live in `evaluation/`. UniCRS is a
config of ECR.
"""
