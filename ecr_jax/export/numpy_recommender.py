"""Ranks films with the parameters beside this file. It needs numpy alone, and computes in float32.

As a program it ranks the saved examples and compares the result with that of the run:

    python recommender.py

As a module: `Recommender(folder)(batch)` gives the probability of each item, `ranking(probabilities)` the best ones.
`recommender.json` lists the arrays of a batch, with their axes, padding and meaning.

Letters: B rows, T tokens, S text states, E context entities, P prefix positions, D width, L layers, H heads, I items.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
_DTYPES = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "I64": np.int64, "BOOL": np.bool_}


def read_safetensors(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file by name: eight bytes with the header's length, the header (JSON), the data."""
    content = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            arrays[name] = np.frombuffer(data[start:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


class Recommender:
    """The recommender of a run: knowledge prompt, frozen language model behind it, scoring heads.

    Attributes:
      settings: the content of `recommender.json`.
      arrays: the parameters and tables of `recommender.safetensors`.
      entities: one {"uri", "title", "kind"} for each entity id.
      items: int [I] the entity id of each candidate.
    """

    def __init__(self, folder: Path | str):
        folder = Path(folder)
        self.settings = json.loads((folder / "recommender.json").read_text(encoding="utf-8"))
        self.entities = json.loads((folder / "entities.json").read_text(encoding="utf-8"))
        self.arrays = read_safetensors(folder / "recommender.safetensors")
        self.items = self.arrays["items"]
        padding = len(self.arrays["table"]) - 1  # N, the padding entity
        self._columns = np.full(padding + 1, len(self.items))
        self._columns[self.items] = np.arange(len(self.items))

    def ranking(self, probabilities: Array, k: int = 10) -> list[list[tuple[str, float]]]:
        """For each row of probabilities [B, I] the k best (title, probability), best first."""
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        return [
            [(self.entities[self.items[column]]["title"], float(row[column])) for column in columns]
            for row, columns in zip(probabilities, order, strict=True)
        ]

    def __call__(self, batch: Mapping[str, Array]) -> Array:
        """The probability of each item to be recommended next: float32 [B, I], rows sum to 1.

        Args:
          batch: the arrays that `recommender.json` lists.
        """
        fused = self._fuse(batch)
        keys, values, mask = self._prefix(fused)
        state = self._language_model(batch["tokens"], batch["token_mask"], keys, values, mask)
        logits, like = self._scores(batch, fused, state)
        if like is not None:  # log p + power times the log odds of being liked
            logits = log_softmax(logits) + self.settings["heads"]["like_power"] * like
        return np.exp(log_softmax(logits))

    # ------------------------------------------------------------------------------------------------ small layers

    def _linear(self, path: str, x: Array) -> Array:
        y = x @ self.arrays[f"{path}/kernel"]
        return y + self.arrays[f"{path}/bias"] if f"{path}/bias" in self.arrays else y

    def _tower(self, path: str, x: Array) -> Array:
        return x + self._linear(f"{path}/up", relu(self._linear(f"{path}/down", x)))

    def _norm(self, path: str, x: Array, eps: float = 1e-6) -> Array:
        return layer_norm(x, eps) * self.arrays[f"{path}/scale"] + self.arrays[f"{path}/bias"]

    def _pool(self, path: str, x: Array, mask: Array, bias: Array | float = 0.0) -> Array:
        x = self._norm(f"{path}/norm", x)
        scores = self._linear(f"{path}/score", np.tanh(self._linear(f"{path}/hidden", x)))[..., 0]
        weights = masked_softmax(scores + bias, mask, axis=1)
        return self._linear(f"{path}/out", np.einsum("bs,bsd->bd", weights, x))

    # ------------------------------------------------------------------------------------------- knowledge prompt

    def _emotions(self) -> Array:
        table = self.arrays["encoder/emotions"]
        if self.settings["prompt"]["emotion_table"] == "direct":
            return table
        return self._linear("encoder/emotion_out", self._tower("encoder/emotion_tower", table))

    def _emotion_fusion(self, entity: Array, emotion: Array) -> Array:
        path, kind = "encoder/emotion_fusion", self.settings["prompt"]["emotion_fusion"]
        x = np.concatenate([entity, emotion], axis=-1)
        if kind == "linear":
            return self._linear(f"{path}/out", x)
        hidden = relu(self._linear(f"{path}/down", x))
        if kind == "residual":
            return entity + self._linear(f"{path}/out", hidden)
        return self._linear(f"{path}/out", self._linear(f"{path}/up", hidden))

    def _fuse(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Words, entities, their neighbours and emotions, by cross-attention (ECR Eqs. 2-6)."""
        c, table = self.settings["prompt"], self.arrays["table"]
        masked, entity_mask = c["masked"], batch["entity_mask"].astype(bool)
        text = batch["text_states"].astype(np.float32)
        tokens = self._linear("encoder/token_out", self._tower("encoder/token_tower", text))  # [B, S, D]
        entities = table[batch["entities"]]  # [B, E, D]
        scores = np.einsum("bsd,bed->bse", self._linear("encoder/cross", tokens), entities)
        scores = scores * np.float32(tokens.shape[-1] ** -c["cross_attention_exponent"])
        text_mask = batch["text_mask"].astype(bool)[:, :, None] if masked else None
        weights = masked_softmax(scores, text_mask, axis=1)
        local = np.einsum("bse,bsd->bed", weights, tokens) + entities
        prompt, mask = local, entity_mask
        if c["global_entities"]:
            weights = batch["neighbour_weights"]
            neighbours = np.einsum("bek,bekd->bed", weights, table[batch["neighbours"]])
            prompt = np.concatenate([prompt, neighbours], axis=1)
            mask = np.concatenate([mask, entity_mask & (weights != 0).any(axis=-1)], axis=1)
        if c["emotions"]:
            emotion = np.einsum("bel,belm->bem", batch["emotion_probs"], self._emotions()[batch["emotions"]])
            prompt = self._emotion_fusion(prompt, np.tile(emotion, (1, prompt.shape[1] // emotion.shape[1], 1)))
        return {"tokens": tokens, "local": local, "prompt": prompt, "mask": mask if masked else np.ones_like(mask)}

    def _prefix(self, fused: Mapping[str, Array]) -> tuple[Array, Array, Array]:
        """Keys and values [L, B, Hkv, P, Dh] for every layer of the language model, and their mask [B, P]."""
        c, model, rows = self.settings["prompt"], self.settings["language_model"], len(fused["mask"])
        learned = self._tower("encoder/recommendation/tower", self.arrays["encoder/recommendation/table"])
        prompt = np.concatenate([np.broadcast_to(learned, (rows, *learned.shape)), fused["prompt"]], axis=1)
        mask = np.concatenate([np.ones((rows, len(learned)), bool), fused["mask"]], axis=1)
        prompt = self._tower("encoder/prompt_tower", prompt)
        if c["normalise"]:
            prompt = self._norm("encoder/prompt_norm", prompt)
        shape = (*mask.shape, model["layers"], 2, model["kv_heads"], model["head_dim"])
        both = self._linear("encoder/key_values", prompt).reshape(shape).transpose(3, 2, 0, 4, 1, 5)
        return both[0], both[1], mask

    # --------------------------------------------------------------------------------------------- language model

    def _language_model(self, tokens: Array, mask: Array, keys: Array, values: Array, prefix_mask: Array) -> Array:
        """The state [B, D] of each row's last token, after the final norm."""
        model, mask = self.settings["language_model"], mask.astype(bool)
        rows, length = tokens.shape
        last = np.maximum(mask.sum(axis=1) - 1, 0)
        sees_prefix = np.ones((rows, length), bool)
        if self.settings["prefix_visibility"] == "last":
            sees_prefix = np.arange(length)[None, :] == last[:, None]
        causal = np.tril(np.ones((length, length), bool))
        visible = np.concatenate(
            [sees_prefix[:, :, None] & prefix_mask[:, None, :], causal[None] & mask[:, None, :]], axis=2
        )  # [B, T, P + T]
        positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
        layer = {"llama": self._llama_layer, "gpt2": self._gpt2_layer}[model["family"]]
        x = self.arrays["language_model/embed/embedding"][tokens]
        if model["family"] == "gpt2":
            x = x + self.arrays["language_model/position/embedding"][positions]
        for index in range(model["layers"]):
            weights = {
                name.removeprefix("language_model/layers/"): array[index]
                for name, array in self.arrays.items()
                if name.startswith("language_model/layers/")
            }

            def attend(queries: Array, k: Array, v: Array, index: int = index) -> Array:
                k = np.concatenate([keys[index], k.swapaxes(1, 2)], axis=2)  # [B, Hkv, P + T, Dh]
                v = np.concatenate([values[index], v.swapaxes(1, 2)], axis=2)
                return attention(queries, k, v, visible)

            x = layer(weights, x, positions, attend)
        scale, eps = self.arrays["language_model/norm/scale"], model["eps"]
        if model["family"] == "gpt2":
            x = layer_norm(x, eps) * scale + self.arrays["language_model/norm/bias"]
        else:
            x = rms_norm(x, eps) * scale
        return x[np.arange(rows), last]

    def _llama_layer(self, w: Mapping[str, Array], x: Array, positions: Array, attend: Callable[..., Array]) -> Array:
        model = self.settings["language_model"]
        shape = (*x.shape[:2], -1, model["head_dim"])
        angles = positions[:, :, None, None].astype(np.float32) * np.asarray(model["frequencies"], np.float32)
        cos, sin = np.cos(angles), np.sin(angles)

        def rotate(y: Array) -> Array:
            first, second = np.split(y, 2, axis=-1)
            return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

        normed = rms_norm(x, model["eps"]) * w["attention_norm/scale"]
        q, k, v = ((normed @ w[f"attention/{name}/kernel"]).reshape(shape) for name in "qkv")
        x = x + attend(rotate(q), rotate(k), v) @ w["attention/o/kernel"]
        normed = rms_norm(x, model["eps"]) * w["mlp_norm/scale"]
        gate = normed @ w["mlp/gate/kernel"]
        return x + (gate / (1 + np.exp(-gate)) * (normed @ w["mlp/up/kernel"])) @ w["mlp/down/kernel"]

    def _gpt2_layer(self, w: Mapping[str, Array], x: Array, positions: Array, attend: Callable[..., Array]) -> Array:
        model = self.settings["language_model"]
        shape = (*x.shape[:2], -1, model["head_dim"])

        def linear(path: str, y: Array) -> Array:
            return y @ w[f"{path}/kernel"] + w[f"{path}/bias"]

        def norm(path: str, y: Array) -> Array:
            return layer_norm(y, model["eps"]) * w[f"{path}/scale"] + w[f"{path}/bias"]

        parts = np.split(linear("attention/qkv", norm("attention_norm", x)), 3, axis=-1)
        x = x + linear("attention/o", attend(*(part.reshape(shape) for part in parts)))
        hidden = linear("mlp/up", norm("mlp_norm", x))
        hidden = 0.5 * hidden * (1 + np.tanh(np.float32((2 / np.pi) ** 0.5) * (hidden + 0.044715 * hidden**3)))
        return x + linear("mlp/down", hidden)

    # ----------------------------------------------------------------------------------------------- scoring heads

    def _scores(self, batch: Mapping[str, Array], fused: Mapping[str, Array], state: Array) -> tuple[Array, Any]:
        """Logits [B, I] of the items, and their log odds [B, I] of being liked, None without that head."""
        c, arrays = self.settings["heads"], self.arrays
        entity_mask, text_mask = batch["entity_mask"].astype(bool), batch["text_mask"].astype(bool)
        count = entity_mask.cumsum(axis=1)
        recency = np.clip(count[:, -1:] - count, 0, c["recency_slots"] - 1)  # how many mentions follow each
        columns = self._columns[batch["entities"]]  # [B, E]

        query, width = state, state.shape[-1]
        if c["query"] == "pooled":
            parts = fused["prompt"].shape[1] // recency.shape[1]
            bias = arrays["head/query/recency"][np.tile(recency, (1, parts))]
            query = self._linear("head/query/state", self._norm("head/query/state_norm", state))
            query = query + self._pool("head/query/entity_pool", fused["prompt"], fused["mask"], bias)
            query = query + self._pool("head/query/token_pool", fused["tokens"], text_mask)
            query = query * np.float32(width**-0.5)
        logits = query @ arrays["table"][self.items].T
        feelings = self._feelings(batch) if c["feeling"] and self.settings["prompt"]["emotions"] else None
        if c["mixture"]:
            logits = arrays["head/correction"] * logits
            logits = logits + self._mixture(batch, columns, recency, entity_mask, text_mask, feelings)
        if c["prior"]:
            logits = logits + arrays["head/prior/scale"] * arrays["item_prior"][self.items]
        if c["repetition"] != "none":
            scores = arrays["head/repetition/recency"][recency] + arrays["head/repetition/kind"][self._kinds(batch)]
            normed = self._norm("head/repetition/norm", fused["local"])
            scores = scores + self._linear("head/repetition/score", normed)[..., 0]
            scores = scores + self._log_feeling("head/repetition/feeling", feelings)
            logits = logits + self._scatter(columns, np.where(entity_mask, scores, 0))
        if c["two_hop"]:
            logits = logits + self._two_hop(batch, fused["prompt"][:, : entity_mask.shape[1]], recency, feelings)
        if c["cooccurrence"] == "mass":
            log_weights = arrays["head/cooccurrence/recency"][recency]
            log_weights = log_weights + self._log_feeling("head/cooccurrence/feeling", feelings)
            weights = np.exp(log_weights)[..., None] * batch["cooccurrence_weights"]
            mass = self._scatter(self._columns[batch["cooccurring_items"]], weights)
            unit = np.exp(arrays["head/cooccurrence/unit"])
            logits = logits + arrays["head/cooccurrence/scale"] * np.log1p(unit * mass)
        elif c["cooccurrence"] == "published":
            emotion = np.einsum("bel,belm->bem", batch["emotion_probs"], self._emotions()[batch["emotions"]])
            hidden = self._linear("head/cooccurrence/up", relu(self._linear("head/cooccurrence/down", emotion)))
            weights = self._linear("head/cooccurrence/out", hidden) * batch["neighbour_weights"]
            logits = logits + 0.5 * self._scatter(self._columns[batch["neighbours"]], weights)
        if feelings is not None:
            logits = logits + self._aversion(batch, np.where(entity_mask, dislike(feelings), 0))
        if c["repetition"] == "gate":
            logits = self._gate(batch, logits, columns, entity_mask, text_mask)
        return logits, self._like(batch, entity_mask, text_mask) if c["like_probability"] else None

    def _scatter(self, columns: Array, values: Array) -> Array:
        """Adds values [B, ...] to the items' columns [B, ...]; what is no item is dropped."""
        sums = np.zeros((len(columns), len(self.items) + 1), np.float32)
        rows = np.arange(len(columns)).reshape(-1, *(1,) * (columns.ndim - 1))
        np.add.at(sums, (np.broadcast_to(rows, columns.shape), columns), values)
        return sums[:, :-1]

    def _kinds(self, batch: Mapping[str, Array]) -> Array:
        """The kind of each mention: how many turns ago, whether by the seeker, how often."""
        c = self.settings["heads"]
        age, by_seeker, number = np.moveaxis(batch["mentions"], -1, 0)
        age = np.clip(age, 1, c["mention_turns"]) - 1
        return (age * 2 + by_seeker) * c["mention_counts"] + np.clip(number, 1, c["mention_counts"]) - 1

    def _feelings(self, batch: Mapping[str, Array]) -> Array:
        """The nine emotions' probabilities and the valence of each mention [B, E, 10]."""
        nine = np.einsum("bel,belk->bek", batch["emotion_probs"], np.eye(10, 9, dtype=np.float32)[batch["emotions"]])
        return np.concatenate([nine, batch["valence"][..., None]], axis=-1)

    def _log_feeling(self, path: str, feelings: Array | None) -> Array | float:
        """The logarithm of each mention's factor [B, E]; 0 without feelings."""
        if feelings is None:
            return 0.0
        kept = np.maximum(1 - dislike(feelings), np.float32(0.01))
        return feelings @ self.arrays[f"{path}/weights"] + np.log(kept)

    def _mixture(
        self,
        batch: Mapping[str, Array],
        columns: Array,
        recency: Array,
        entity_mask: Array,
        text_mask: Array,
        feelings: Array | None,
    ) -> Array:
        """The log probabilities of the weighted sum of distributions."""
        arrays, path, items = self.arrays, "head/mixture", len(self.items)
        popular = np.exp(log_softmax(arrays["item_prior"][self.items].astype(np.float32)))
        parts = {
            "nearest": self._scatter(self._columns[batch["nearest_items"]], batch["nearest_weights"]),
            "popular": np.tile(popular, (len(columns), 1)),
        }

        def weights(name: str, log_weights: Array | float, where: Array) -> tuple[Array, Array]:
            log_weights = log_weights + arrays[f"{path}/{name}_recency"][recency]
            plain = np.where(where, np.exp(log_weights), 0).astype(np.float32)
            if feelings is None:
                return plain, plain
            if name == "disliked":
                return plain, plain * dislike(feelings)
            return plain, plain * np.exp(self._log_feeling(f"{path}/{name}_feeling", feelings))

        associated = {name: (batch[f"{name}_items"], batch[f"{name}_weights"]) for name in ("liked", "disliked")}
        associated["cooccurrence"] = batch["cooccurring_items"], batch["cooccurrence_weights"]
        if "similar_films/entities" in arrays:
            similar = (arrays[f"similar_films/{name}"][batch["entities"]] for name in ("entities", "weights"))
            associated["film_text"] = tuple(similar)
        for name, (ids, strengths) in associated.items():
            plain, felt = weights(name, 0.0, entity_mask)
            total = (plain * strengths.sum(axis=-1)).sum(axis=1, keepdims=True)
            mass = self._scatter(self._columns[ids], felt[..., None] * strengths)
            parts[name] = mass / np.maximum(total, np.float32(1e-12))
        kind = arrays[f"{path}/kind"][self._kinds(batch)] - np.float32(0.5) * recency
        plain, felt = weights("mentioned", kind, entity_mask & (columns < items))
        total = np.maximum(plain.sum(axis=1, keepdims=True), np.float32(1e-12))
        parts["mentioned"] = self._scatter(columns, felt) / total

        last = masked_mean(batch["text_states"].astype(np.float32), text_mask & (batch["text_ages"] == 1))
        gates = arrays[f"{path}/share"] + layer_norm(last, 1e-6) @ arrays[f"{path}/last_turn/kernel"]
        shares = np.exp(log_softmax(gates))
        mixed = sum(shares[:, number, None] * parts[name] for number, name in enumerate(sorted(parts)))
        return np.log(np.maximum(mixed, np.float32(1e-12)))

    def _aversion(self, batch: Mapping[str, Array], disliked: Array) -> Array:
        """Logits of at most 0: how much each item shares with what is disliked."""
        arrays, entities = self.arrays, batch["entities"]
        facts, types, weights = (arrays[f"facts/{name}"] for name in ("entities", "types", "weights"))
        strength = softplus(arrays["head/aversion/relations"])
        own, itself = len(strength) - 1, softplus(arrays["head/aversion/itself"])
        degree = np.maximum(weights, np.float32(1e-6)) ** -2.0
        specific = np.where(weights > 0, np.clip(1 - np.log(degree) / np.log(len(facts) - 1), 0, 1), 0)
        first = strength[types[entities]] * specific[entities]
        first = disliked[..., None] * np.where(types[entities] == own, itself, first)  # [B, E, A]
        reached = np.zeros((len(entities), len(facts)), np.float32)
        np.add.at(reached, (np.arange(len(entities))[:, None, None], facts[entities]), first)
        reached[:, -1] = 0
        shared = np.einsum("bia,ia->bi", reached[:, facts[self.items]], weights[self.items] > 0)
        strengths = batch["cooccurrence_weights"]
        strongest = np.maximum(strengths.max(axis=-1, keepdims=True, initial=0), np.float32(1e-12))
        roots = disliked[..., None] * np.sqrt(strengths / strongest)
        together = self._scatter(self._columns[batch["cooccurring_items"]], roots)
        return -shared - softplus(arrays["head/aversion/cooccurrence"]) * together

    def _two_hop(self, batch: Mapping[str, Array], states: Array, recency: Array, feelings: Array | None) -> Array:
        """asinh of the mass that reaches an item from the mentions over shared facts."""
        arrays, path = self.arrays, "head/two_hop"
        facts, types, weights = (arrays[f"facts/{name}"] for name in ("entities", "types", "weights"))
        mention = 1 + self._linear(f"{path}/mention", self._norm(f"{path}/norm", states))[..., 0]
        mention = mention * np.exp(arrays[f"{path}/recency"][recency] + self._log_feeling(f"{path}/feeling", feelings))
        mention = np.where(batch["entity_mask"], mention, 0)
        relations, entities = np.exp(arrays[f"{path}/relations"]), batch["entities"]
        first = mention[..., None] * relations[0][types[entities]] * weights[entities]  # [B, E, A]
        reached = np.zeros((len(entities), len(facts)), np.float32)
        np.add.at(reached, (np.arange(len(entities))[:, None, None], facts[entities]), first)
        reached[:, -1] = 0
        second = relations[1][types[self.items]] * weights[self.items]  # [I, A]
        mass = np.einsum("bia,ia->bi", reached[:, facts[self.items]], second)
        return arrays[f"{path}/scale"] * np.arcsinh(np.exp(arrays[f"{path}/unit"]) * mass)

    def _gate(
        self, batch: Mapping[str, Array], logits: Array, columns: Array, entity_mask: Array, text_mask: Array
    ) -> Array:
        """Log probabilities g · p(mentioned) + (1 - g) · p(new)."""
        arrays, items = self.arrays, len(self.items)
        repeatable = entity_mask & (columns < items)
        mentioned = self._scatter(columns, repeatable.astype(np.float32)) > 0
        last = text_mask & (batch["text_ages"] == 1)
        turn = layer_norm(masked_mean(batch["text_states"].astype(np.float32), last), 1e-6)
        odds = arrays["head/gate/bias"] + self._linear("head/gate/last_turn", turn)[:, 0]
        odds = odds + log_sum(arrays["head/gate/kind"][self._kinds(batch)], repeatable)
        repeat = np.where((~mentioned).any(axis=1), -np.logaddexp(0, -odds), 0)[:, None]
        new = np.where(mentioned.any(axis=1), -np.logaddexp(0, odds), 0)[:, None]
        return np.where(
            mentioned,
            repeat + logits - log_sum(logits, mentioned)[:, None],
            new + logits - log_sum(logits, ~mentioned)[:, None],
        ).astype(np.float32)

    def _like(self, batch: Mapping[str, Array], entity_mask: Array, text_mask: Array) -> Array:
        """The log odds [B, I] that the items are liked: of the turn, the item, and the entities with the item."""
        arrays, path = self.arrays, "head/like_probability"
        emotions = self.settings["prompt"]["emotions"]
        text = batch["text_states"].astype(np.float32)
        masks = (text_mask, text_mask & (batch["text_ages"] == 1))
        parts = [layer_norm(masked_mean(text, mask), 1e-6) for mask in masks]
        by_seeker = entity_mask & (batch["mentions"][..., 1] > 0)
        named = np.stack([by_seeker.sum(axis=1), (entity_mask & ~by_seeker).sum(axis=1)], axis=-1)
        parts.append(np.log1p(named.astype(np.float32)))
        if emotions:
            parts.append(np.log1p(batch["emotion_totals"]))
        turn = self._linear(f"{path}/logit", np.concatenate(parts, axis=-1))  # [B, 1]

        item = arrays[f"{path}/item_scale"] * arrays["item_odds"][self.items]
        mention = arrays[f"{path}/entity_weight"] * entity_mask.astype(np.float32)
        if emotions:
            mention = mention + arrays[f"{path}/valence_weight"] * batch["valence"]
        mass = self._scatter(
            self._columns[batch["cooccurring_items"]], mention[..., None] * batch["cooccurrence_weights"]
        )
        mass = mass / np.sqrt(np.maximum(entity_mask.sum(axis=1, keepdims=True), 1)).astype(np.float32)
        mass = mass * np.exp(np.float32(-0.5) * arrays["item_prior"][self.items])
        entities = arrays[f"{path}/entity_scale"] * np.arcsinh(np.exp(arrays[f"{path}/unit"]) * mass)
        return turn + item + entities


def dislike(feelings: Array) -> Array:
    """How clearly each mention is disliked, in [0, 1], from its valence, the last of its feelings."""
    return np.clip(-2 * feelings[..., -1] - 1, 0, 1)


def softplus(x: Array) -> Array:
    """log(1 + e^x)."""
    return np.logaddexp(0, x)


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def layer_norm(x: Array, eps: float) -> Array:
    """x less its mean, over its standard deviation, along the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(eps))


def rms_norm(x: Array, eps: float) -> Array:
    """x over its root mean square along the last axis."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + np.float32(eps))


def log_softmax(x: Array) -> Array:
    """The logarithm of the softmax along the last axis."""
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def masked_softmax(scores: Array, mask: Array | None, axis: int) -> Array:
    """Softmax over the True entries of an axis; zeros where there is none. None: all are real."""
    if mask is not None:
        scores = np.where(mask, scores, np.finfo(np.float32).min)
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    weights = weights / weights.sum(axis=axis, keepdims=True)
    return weights if mask is None else np.where(mask, weights, 0)


def masked_mean(rows: Array, mask: Array) -> Array:
    """The mean of the rows [B, S, D] whose mask [B, S] is True; zero where there is none."""
    weights = (mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return np.einsum("bs,bsd->bd", weights, rows)


def log_sum(scores: Array, where: Array) -> Array:
    """log Σ exp of the scores [B, X] where `where` is True: [B]."""
    scores = np.where(where, scores, np.float32(-1e30))
    most = scores.max(axis=-1)
    return most + np.log(np.exp(scores - most[:, None]).sum(axis=-1))


def attention(queries: Array, keys: Array, values: Array, visible: Array) -> Array:
    """Scaled dot products; a query that sees nothing gets zero.

    Args:
      queries: [B, T, H, Dh].
      keys, values: [B, Hkv, X, Dh]; H is a multiple of Hkv.
      visible: bool [B, T, X].

    Returns:
      [B, T, H * Dh].
    """
    rows, length, heads, size = queries.shape
    groups = keys.shape[1]
    queries = queries.reshape(rows, length, groups, heads // groups, size)
    scores = np.einsum("btkgd,bksd->bkgts", queries, keys) * np.float32(size**-0.5)
    weights = masked_softmax(scores, visible[:, None, None], axis=-1)
    return np.einsum("bkgts,bksd->btkgd", weights, values).reshape(rows, length, heads * size)


def main() -> None:
    """Ranks the saved examples, prints the best items of each, and compares with the run's probabilities."""
    folder = Path(__file__).resolve().parent
    recommender, example = Recommender(folder), read_safetensors(folder / "example.safetensors")
    expected = example.pop("probabilities")
    probabilities = recommender(example)
    for number, row in enumerate(recommender.ranking(probabilities, k=5), start=1):
        print(f"example {number}: " + ", ".join(f"{title} {probability:.3f}" for title, probability in row))
    print(f"largest difference from the run: {np.abs(probabilities - expected).max():.2g}")


if __name__ == "__main__":
    main()
