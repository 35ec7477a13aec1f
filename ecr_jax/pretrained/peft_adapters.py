"""LoRA adapters read from and written to the folders of Hugging Face's `peft`, which computes the same with them.

A folder holds `adapter_config.json` and `adapter_model.safetensors`, and with the adapter, where there are any, trained
embeddings of single tokens (PEFT's `trainable_token_indices`), such as the one of `<movie>`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ecr_jax.files import replacing, write_json
from ecr_jax.models.lm import convert, lora
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.convert import LanguageConfig
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.models.lm.lora import LoraConfig

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ROOT = "base_model.model."
_ROWS = "token_adapter.trainable_tokens_delta"

# Settings that say what is computed and are understood here, and those that a loaded adapter does not depend on.
_UNDERSTOOD = {
    "alpha_pattern", "bias", "exclude_modules", "layers_to_transform", "lora_alpha", "lora_dropout", "peft_type", "r",
    "rank_pattern", "target_modules", "trainable_token_indices", "use_rslora",
}  # fmt: skip
_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "layers_pattern", "loftq_config", "lora_ga_config", "megatron_core",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type",
}  # fmt: skip


class Adapter(NamedTuple):
    """An adapter with what belongs to it.

    Attributes:
        params: its tree, as `lora.init` gives it (numpy arrays).
        config: its settings.
        tokens: (ids [n], embeddings [n, D]) of tokens that were trained with it, for `lora.with_rows`; or None.
    """

    params: lora.Adapter
    config: LoraConfig
    tokens: tuple[np.ndarray, np.ndarray] | None = None


class _Family(NamedTuple):
    """How `transformers` and `peft` name a family: before its layers, its embedding, its task; Conv1D or Linear."""

    prefix: str
    embedding: str
    task: str
    transposed: bool = False


_FAMILIES = {
    LlamaConfig: _Family("model.", "embed_tokens", "CAUSAL_LM"),
    Gpt2Config: _Family("transformer.", "wte", "CAUSAL_LM", transposed=True),
    BertConfig: _Family("", "embeddings.word_embeddings", "FEATURE_EXTRACTION"),
}


def write(folder: Path, adapter: Adapter, config: LanguageConfig, base: str | None = None) -> None:
    """Writes a folder that `peft.PeftModel.from_pretrained` loads over the base: LlamaForCausalLM, GPT2LMHeadModel or
    BertModel (RobertaModel), with a vocabulary that holds the trained tokens.

    Args:
        folder: where to; it must be new or empty.
        adapter: what is written; all its projections are the model's, every layer has all of them.
        config: sizes of the base.
        base: the base's name on the hub or path, for those who load the folder.

    Raises:
        ValueError: a folder with something in it; an array that does not fit the sizes or the settings, all are listed.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; name a new folder, or remove it")
    family, settings = _FAMILIES[type(config)], adapter.config
    names = convert.projections(config)
    parts = lora.flat(adapter.params)
    wrong = [f"{path} is no projection of {type(config).__name__}" for path in sorted(set(parts) - set(names))]
    tensors, ranks, alphas, targets = {}, {}, {}, []
    for path, part in sorted(parts.items()):
        if path not in names:
            continue
        name, (inputs, outputs) = names[path]
        rank = settings.rank_of(path)
        shapes = {"a": (config.layers, inputs, rank), "b": (config.layers, rank, outputs)}
        for leaf, shape in shapes.items():
            if np.shape(part.get(leaf)) != shape:
                wrong.append(f"{path}/{leaf} is {np.shape(part.get(leaf))}, not {shape}")
                continue
            for layer, array in enumerate(np.asarray(part[leaf], np.float32)):
                full = f"{_ROOT}{family.prefix}{name.format(l=layer)}.lora_{leaf.upper()}.weight"
                tensors[full] = np.ascontiguousarray(array.T)  # torch keeps linear layers as [out, in]
        targets += _targets(name, [name for name, _ in names.values()], config.layers)
        pattern = re.escape(name).replace(r"\{l\}", r"\d+")
        if rank != settings.rank:
            ranks[pattern] = rank
        if settings.alpha_of(path) != settings.alpha:
            alphas[pattern] = settings.alpha_of(path)
    indices = None
    if adapter.tokens is not None:
        ids, rows = (np.asarray(array) for array in adapter.tokens)
        if rows.shape != (len(ids), config.width) or not ((ids >= 0) & (ids < config.vocab_size)).all():
            wrong.append(
                f"tokens {ids.tolist()} with rows {rows.shape} are not [n, {config.width}] among "
                f"{config.vocab_size} tokens"
            )
        indices = {family.embedding.split(".")[-1]: ids.tolist()}
        tensors[f"{_ROOT}{family.prefix}{family.embedding}.{_ROWS}"] = np.ascontiguousarray(rows, np.float32)
    if wrong:
        raise ValueError(f"the adapter does not fit the model: {'; '.join(wrong)}")
    described = {
        "peft_type": "LORA",
        "task_type": family.task,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": sorted(targets),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "use_rslora": settings.rank_stabilised,
        "fan_in_fan_out": family.transposed,
        "bias": "none",
        "trainable_token_indices": indices,
    }
    with replacing(folder) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / _WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / _CONFIG, described)


def read(folder: Path, config: LanguageConfig) -> Adapter:
    """Reads a folder that `peft` wrote, or `write`.

    Ranks and scales that differ from layer to layer are brought to one rank a projection: smaller ones are filled up
    with zeros, and `b` makes up for a scale that differs from that of the layer with the largest rank. Layers without
    an adapter get zeros. What is computed is the same.

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        config: sizes of the base.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: another kind of adapter than LoRA, or an option that is not supported; tensors that are missing,
            left over or of another shape: all are listed.
    """
    folder = Path(folder)
    try:
        settings = _settings(folder)
        return _assemble(settings, _tensors(folder), config)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _targets(name: str, names: Sequence[str], layers: int) -> list[str]:
    """The shortest end of a module's name that no other has (PEFT adapts every module that ends so), or all of them."""
    others = [other for other in names if other != name]
    parts = name.split("{l}.")[1].split(".")
    for count in range(1, len(parts) + 1):
        end = ".".join(parts[-count:])
        if not any(f".{other}".endswith(f".{end}") for other in others):
            return [end]
    return [name.format(l=layer) for layer in range(layers)]


def _settings(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`, with nothing in it that changes what is computed and is not understood."""
    path = folder / _CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give a folder that `peft` wrote (save_pretrained)")
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("peft_type") != "LORA":
        raise ValueError(f"peft_type {settings.get('peft_type')!r} is not supported, only LORA")
    if settings.get("bias", "none") != "none":
        raise ValueError(f"bias={settings['bias']!r} is not supported: the base stays as it is; train with bias='none'")
    others = sorted(name for name in settings.keys() - _UNDERSTOOD - _WITHOUT_EFFECT if settings[name])
    if others:
        said = ", ".join(f"{name}={settings[name]!r}" for name in others)
        raise ValueError(f"{said}: not supported; merge the adapter into its base with `peft` and load the whole model")
    return settings


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    path = folder / _WEIGHTS
    if not path.is_file():
        pickled = folder / "adapter_model.bin"
        hint = f" ({pickled.name} would need pickle: save the adapter as safetensors)" if pickled.is_file() else ""
        raise FileNotFoundError(f"{path} is missing{hint}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{_WEIGHTS} cannot be read ({error}); it may be cut off: fetch or copy it again") from error


class _Part(NamedTuple):
    """One layer's adapter of a projection, as PEFT has it: a [in, r], b [r, out]."""

    a: np.ndarray
    b: np.ndarray
    alpha: float


def _assemble(settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], config: LanguageConfig) -> Adapter:
    modules, left, wrong = convert.projections(config), dict(tensors), []
    found: dict[str, dict[int, _Part]] = {}
    for path, layer, name, shape in _targeted(settings, tensors, config):
        rank = _first(settings.get("rank_pattern"), name, settings.get("r", 8))
        alpha = _first(settings.get("alpha_pattern"), name, settings.get("lora_alpha", 8))
        arrays = []
        for letter, expected in (("A", (rank, shape[0])), ("B", (shape[1], rank))):
            tensor = left.pop(f"{_ROOT}{name}.lora_{letter}.weight", None)
            if tensor is None or tensor.shape != expected:
                is_ = "missing" if tensor is None else f"{tensor.shape}, not {expected}"
                wrong.append(f"{name}.lora_{letter}.weight is {is_}")
            else:
                arrays.append(tensor.T.astype(np.float32))
        if len(arrays) == 2:
            found.setdefault(path, {})[layer] = _Part(*arrays, alpha)
    tokens = _tokens(settings, left, config, wrong)
    if left:
        wrong.append(
            f"not used: {', '.join(sorted(left))} (only projections inside the layers of a "
            f"{type(config).__name__} are adapted: {', '.join(name for name, _ in modules.values())})"
        )
    if not (found or wrong):
        wrong.append("it adapts nothing")
    if wrong:
        raise ValueError(f"the adapter does not fit; {'; '.join(wrong)}")

    stabilised = bool(settings.get("use_rslora"))

    def scale(part: _Part) -> float:
        rank = part.a.shape[1]
        return part.alpha / (math.sqrt(rank) if stabilised else rank)

    params, ranks, alphas = {}, [], []
    for path, layers in found.items():
        inputs, outputs = modules[path][1]
        rank = max(part.a.shape[1] for part in layers.values())
        widest = next(part for part in layers.values() if part.a.shape[1] == rank)
        made = {"a": np.zeros((config.layers, inputs, rank), np.float32),
                "b": np.zeros((config.layers, rank, outputs), np.float32)}  # fmt: skip
        for layer, part in layers.items():
            own = part.a.shape[1]
            made["a"][layer, :, :own] = part.a
            made["b"][layer, :own] = part.b * (scale(part) / scale(widest))
        params[path] = made
        ranks.append((re.escape(path), rank))
        alphas.append((re.escape(path), float(widest.alpha)))
    rank, alpha = int(settings.get("r", 8)), float(settings.get("lora_alpha", 8))
    return Adapter(
        lora.unflat(params),
        LoraConfig(
            patterns=tuple(re.escape(path) for path in found),
            rank=rank,
            alpha=alpha,
            dropout=float(settings.get("lora_dropout", 0.0)),
            rank_pattern=tuple(pair for pair in ranks if pair[1] != rank),
            alpha_pattern=tuple(pair for pair in alphas if pair[1] != alpha),
            rank_stabilised=stabilised,
        ),
        tokens,
    )


def _first(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """The value of the first pattern that PEFT finds at the end of a module's name."""
    return next((value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", name)), default)


def _targeted(
    settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], config: LanguageConfig
) -> Iterator[tuple[str, int, str, tuple[int, int]]]:
    """(path, layer, module's name, (in, out)) of everything the settings say is adapted, by PEFT's rules."""
    targets, excluded = settings.get("target_modules") or (), settings.get("exclude_modules") or ()
    layers = settings.get("layers_to_transform")
    layers = (layers,) if isinstance(layers, int) else layers or range(config.layers)

    def matches(rule: Any, name: str) -> bool:
        if isinstance(rule, str):
            return rule == "all-linear" or re.fullmatch(rule, name) is not None
        return any(f".{name}".endswith(f".{end}") for end in rule)

    modules = convert.projections(config)
    # What comes before the layers depends on the class that was adapted: with a head or without one.
    before = re.escape(next(iter(modules.values()))[0].split("{l}")[0])
    inside = (re.match(rf"{re.escape(_ROOT)}(.*?){before}\d+\.", tensor) for tensor in tensors)
    prefix = next((match[1] for match in inside if match), _FAMILIES[type(config)].prefix)
    for path, (template, shape) in modules.items():
        for layer in layers:
            name = prefix + template.format(l=layer)
            if matches(targets, name) and not matches(excluded, name):
                yield path, layer, name, shape


def _tokens(
    settings: Mapping[str, Any], left: dict[str, np.ndarray], config: LanguageConfig, wrong: list[str]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Takes the trained embeddings out of `left`; notes in `wrong` what does not fit."""
    indices = settings.get("trainable_token_indices")
    if not indices:
        return None
    embedding = _FAMILIES[type(config)].embedding
    if isinstance(indices, dict):
        others = [name for name in indices if name.split(".")[-1] != embedding.split(".")[-1]]
        if others:
            wrong.append(f"trainable_token_indices of {', '.join(others)} are not supported, only of {embedding}")
            return None
        (indices,) = indices.values()
    if not indices:
        return None
    name = next((name for name in left if name.endswith(f"{embedding}.{_ROWS}")), None)
    if name is None:
        wrong.append(f"{embedding}.{_ROWS} is missing")
        return None
    ids, rows = np.asarray(indices, np.int32), left.pop(name).astype(np.float32)
    if rows.shape != (len(ids), config.width):
        wrong.append(f"{name} is {rows.shape}, not {(len(ids), config.width)}")
    if ids.max() >= config.vocab_size:
        wrong.append(f"token {ids.max()} was trained, but the base has {config.vocab_size}; extend it first "
                     f"(`pretrained.extend`)")  # fmt: skip
    return ids, rows
