"""The published code's arrays (tests/golden/published) as our parameter trees and batches; for tests only.

`python -m tests.models.published FULL.npz` writes `tests/golden/published/model.npz` from the complete set of arrays.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.losses.ranking import cross_entropy, feedback_cross_entropy
from ecr_jax.models.hyperparameters import PromptConfig
from ecr_jax.models.layers import last_state
from ecr_jax.models.lm import convert
from ecr_jax.models.lm.gpt2 import Gpt2, Gpt2Config
from ecr_jax.models.prompt import PromptSizes
from ecr_jax.models.recommender import Recommender
from ecr_jax.models.rgcn import graphs_tuple
from tests.models.configs import heads_config, prompt_config

LINEAR = {
    "entity_out": "entity_proj2",
    "token_out": "token_proj2",
    "emotion_out": "emo_proj2",
    "cross": "cross_attn",
    "key_values": "prompt_proj2",
    "emotion_fusion/down": "emo_fuse_proj1.0",
    "emotion_fusion/up": "emo_fuse_proj1.2",
    "emotion_fusion/out": "emo_fuse_proj2",
}
TOWERS = {
    "entity_tower": "entity_proj1",
    "token_tower": "token_proj1",
    "emotion_tower": "emo_proj1",
    "prompt_tower": "prompt_proj1",
    "recommendation/tower": "rec_prefix_proj",
    "conversation/tower": "conv_prefix_proj",
}
PLAIN = {
    "nodes": "node_embeds",
    "emotions": "emo_embeds",
    "recommendation/table": "rec_prefix_embeds",
    "conversation/table": "conv_prefix_embeds",
    "rgcn/bases": "kg_encoder.weight",
    "rgcn/comp": "kg_encoder.comp",
    "rgcn/root": "kg_encoder.root",
    "rgcn/bias": "kg_encoder.bias",
}
STORED_IN_PART = re.compile(r"grad/|opt/after|out/\w+/(?:hidden_last$|lm_logits$|past_)")
"""Large arrays that are only ever compared with; the repository holds every seventh element of them."""
COOCCURRENCE = {
    "cooccurrence/down": "copy_proj_1.0",
    "cooccurrence/up": "copy_proj_1.2",
    "cooccurrence/out": "copy_proj_2",
}


def name(path: str) -> tuple[str, bool]:
    """Our parameter path -> the published name, and whether its matrix is transposed."""
    if path in PLAIN:
        return PLAIN[path], False
    module, leaf = path.rsplit("/", 1)
    if module.rsplit("/", 1)[0] in TOWERS:
        tower, part = module.rsplit("/", 1)
        theirs = f"{TOWERS[tower]}.{0 if part == 'down' else 2}"
    else:
        theirs = (LINEAR | COOCCURRENCE)[module]
    return f"{theirs}.{'weight' if leaf == 'kernel' else 'bias'}", leaf == "kernel"


def fill(tree, arrays, prefix: str, dtype=jnp.float32):
    """A tree of the shapes of `tree` with the published arrays in it."""

    def take(path, leaf):
        theirs, transposed = name("/".join(str(part.key) for part in path))
        array = arrays[f"{prefix}{theirs}"]
        array = array.T if transposed else array
        assert array.shape == leaf.shape, (path, array.shape, leaf.shape)
        return jnp.asarray(array, dtype)

    return jax.tree_util.tree_map_with_path(take, tree)


def stored(key: str, array) -> np.ndarray:
    """The part of the array `key` that the repository holds: all of it, or every seventh element, flattened."""
    return np.asarray(array).ravel()[::7] if STORED_IN_PART.match(key) else np.asarray(array)


class Published:
    """The arrays, the graph, a config of the same sizes and the batch."""

    def __init__(self, folder: Path):
        with np.load(folder / "model.npz") as file:
            self.arrays = dict(file)
        self.graph = graphs_tuple(*(self.arrays[f"graph/edge_{part}"] for part in ("src", "dst", "type")), 50)

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def config(self, **fields) -> PromptConfig:
        widths = dict(entity_width=32, emotion_width=4, bases=8, recommendation_prefix=3, conversation_prefix=4)
        return prompt_config("code", **{**widths, **fields})

    def sizes(self, token_width: int = 64) -> PromptSizes:
        return PromptSizes(
            entities=49, relations=6, width=64, layers=2, kv_heads=4, head_dim=16, token_width=token_width
        )

    def batch(self, dtype=jnp.float32, token_states: str = "token_states") -> dict[str, jax.Array]:
        entities = self["in/entity_ids"]
        weights = self["in/nei_mvs"].astype(dtype)  # a dense row is a sparse row with every id in it
        return {
            "tokens": self["in/context_input_ids"],
            "token_mask": self["in/context_attention_mask"].astype(bool),
            "text_states": self[f"in/{token_states}"].astype(dtype),
            "text_mask": np.ones((4, 7), bool),
            "entities": entities,
            "entity_mask": entities != 49,
            "emotions": self["in/emotion_ids"],
            "emotion_probs": self["in/emotion_probs"].astype(dtype),
            "neighbours": np.broadcast_to(np.arange(50), weights.shape),
            "neighbour_weights": weights,
        }


MODES = {
    "pre": ("fusion", {}),
    "rec": ("recommendation", {}),
    "rec_noglobal": ("recommendation", dict(global_entities=False)),
    "rec_noemo": ("recommendation", dict(global_entities=False, emotions=False)),
    "rec_copy": ("recommendation", {}),
}
"""Mode of the published recommender -> the task, and the fields of the prompt that differ from the preset `code`."""


def published_gpt2(published, dtype=jnp.float32):
    """The published GPT-2, with its prefix's mask, as a `LanguageModel`."""
    config = Gpt2Config(vocab_size=300, width=64, layers=2, heads=4, hidden=256, positions=64)
    tensors = {key[5:]: array for key, array in published.arrays.items() if key.startswith("gpt2/")}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), convert.from_hf(tensors, config))

    module = Gpt2(config, dtype=dtype)

    def read(batch, prefix):
        mask = batch["token_mask"]
        return last_state(module.apply({"params": params}, batch["tokens"], mask, prefix[:2], prefix.mask).hidden, mask)

    return read


def published_run(published, mode, dtype):
    """A function from parameters to logits over all entities, and the published parameters."""
    task, fields = MODES[mode]
    heads = heads_config("code", cooccurrence="published" if mode == "rec_copy" else "none")
    model = Recommender(published.config(**fields), published.sizes(), heads)
    batch, everything, lm = published.batch(dtype), np.arange(50), published_gpt2(published, dtype)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), published.graph, batch, everything, task))["params"]
    params = {part: fill(tree, published.arrays, "kgA/", dtype) for part, tree in shapes.items()}

    def run(params):
        return model.apply({"params": params}, published.graph, batch, everything, task, lm).logits

    return run, params


def per_example(published, mode, logits):
    """The mode's loss of each row, weighted as it was published."""
    targets, where = published["in/rec_labels"][:, None], np.ones((4, 1), bool)
    weights = {"rec": "in/rec_sentiment_loss", "rec_noglobal": "in/label_weight_batch"}
    if mode not in weights:
        return cross_entropy(logits=logits, targets=targets, where=where)
    return feedback_cross_entropy(
        logits=logits, targets=targets, where=where, weights=published[weights[mode]][:, None]
    )


if __name__ == "__main__":
    with np.load(sys.argv[1]) as complete:
        parts = {key: stored(key, complete[key]) for key in complete.files}
    np.savez_compressed(Path(__file__).parents[1] / "golden" / "published" / "model.npz", **parts)
