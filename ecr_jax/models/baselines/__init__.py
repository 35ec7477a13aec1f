"""The baselines: what others rank items with, each a short file, all called alike.

A baseline is a linen module that maps `(batch, frozen)` to logits [B, I] over the items. `batch` holds what is known of
the contexts, `frozen` what is known of the world; each module says which of their arrays it reads. A loss beside the
ranking's is sown as [B] into the collection "losses" and added to it by who trains. Graph, words and states come from
the same prepared corpus as ECR's; no baseline reads emotions, feedback, co-occurrence or film text, as none did.

Popularity, copy-last and co-occurrence learn nothing and are counted where predictions are made (`evaluation/`);
UniCRS is a config of ECR (`configs/redial_unicrs.py`).
"""
