"""LoRA adapters in the folder format of Hugging Face's `peft`, which computes the same with them.

A folder holds `adapter_config.json` and `adapter_model.safetensors`: the adapter and, optionally, trained embeddings of
single tokens (PEFT's `trainable_token_indices`), such as that of `<movie>`.
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

# Settings that change what is computed and are supported here, and those that do not affect a loaded adapter.
_SUPPORTED = {
    "alpha_pattern", "bias", "exclude_modules", "layers_to_transform", "lora_alpha", "lora_dropout", "peft_type", "r",
    "rank_pattern", "target_modules", "trainable_token_indices", "use_rslora",
}  # fmt: skip
_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "layers_pattern", "loftq_config", "lora_ga_config", "megatron_core",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type",
}  # fmt: skip


class Adapter(NamedTuple):
    """An adapter with its settings and trained tokens.

    Attributes:
      params: a tree like that of `lora.init` (numpy arrays).
      config: its settings.
      tokens: (ids [n], embeddings [n, D]) of tokens that were trained with it, for `lora.with_rows`; or None.
    """

    params: lora.Adapter
    config: LoraConfig
    tokens: tuple[np.ndarray, np.ndarray] | None = None


class _Family(NamedTuple):
    """How `transformers` and `peft` name the parts of a model family.

    Attributes:
      prefix: of the names of the layers.
      embedding: the module of the token embedding.
      task: PEFT's task type.
      transposed: whether linear layers are Conv1D, [in, out], instead of Linear, [out, in].
    """

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
      folder: the target; it must be new or empty.
      adapter: of projections of the model, in every layer.
      config: sizes of the base.
      base: the base's name on the hub, or its path, for those who load the folder.

    Raises:
      ValueError: the folder is not empty; arrays that do not fit the sizes or the settings, all of them listed.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; name a new folder, or remove it")
    family, settings = _FAMILIES[type(config)], adapter.config
    modules = convert.projections(config)
    parts = lora.flat(adapter.params)
    problems = [f"{path} is no projection of {type(config).__name__}" for path in sorted(set(parts) - set(modules))]
    tensors, ranks, alphas, targets = {}, {}, {}, []
    for path, part in sorted(parts.items()):
        if path not in modules:
            continue
        module, (inputs, outputs) = modules[path]
        rank = settings.rank_of(path)
        shapes = {"a": (config.layers, inputs, rank), "b": (config.layers, rank, outputs)}
        for leaf, shape in shapes.items():
            actual = np.shape(part[leaf]) if leaf in part else "missing"
            if actual != shape:
                problems.append(f"{path}/{leaf} is {actual}, not {shape}")
                continue
            for layer, array in enumerate(np.asarray(part[leaf], np.float32)):
                name = f"{_ROOT}{family.prefix}{module.format(l=layer)}.lora_{leaf.upper()}.weight"
                tensors[name] = np.ascontiguousarray(array.T)  # torch stores linear layers as [out, in]
        targets += _target_modules(module, [name for name, _ in modules.values()], config.layers)
        pattern = re.escape(module).replace(r"\{l\}", r"\d+")
        if rank != settings.rank:
            ranks[pattern] = rank
        if settings.alpha_of(path) != settings.alpha:
            alphas[pattern] = settings.alpha_of(path)
    indices = None
    if adapter.tokens is not None:
        ids, rows = (np.asarray(array) for array in adapter.tokens)
        if rows.shape != (len(ids), config.width) or not ((ids >= 0) & (ids < config.vocab_size)).all():
            problems.append(
                f"tokens {ids.tolist()} with rows {rows.shape} are not [n, {config.width}] among "
                f"{config.vocab_size} tokens"
            )
        indices = {family.embedding.split(".")[-1]: ids.tolist()}
        tensors[f"{_ROOT}{family.prefix}{family.embedding}.{_ROWS}"] = np.ascontiguousarray(rows, np.float32)
    if problems:
        raise ValueError(f"the adapter does not fit the model: {'; '.join(problems)}")
    peft_config = {
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
        write_json(temporary / _CONFIG, peft_config)


def read(folder: Path, config: LanguageConfig) -> Adapter:
    """Reads a folder written by `peft` or by `write`.

    Where ranks and scales differ between layers, a projection gets one rank for all: smaller ones are padded with
    zeros, and `b` absorbs a scale that differs from that of the layer with the largest rank. Layers without an adapter
    get zeros. The computed function is the same.

    Args:
      folder: with `adapter_config.json` and `adapter_model.safetensors`.
      config: sizes of the base.

    Raises:
      FileNotFoundError: a file of the folder is missing.
      ValueError: another kind of adapter than LoRA, or an unsupported option; tensors that are missing, unused or of
        another shape, all of them listed.
    """
    folder = Path(folder)
    try:
        settings = _read_settings(folder)
        return _assemble(settings, _read_tensors(folder), config)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _target_modules(module: str, modules: Sequence[str], layers: int) -> list[str]:
    """PEFT's `target_modules` of a module: the shortest suffix of its name that no other module has, since PEFT adapts
    every module with the suffix; the names in all layers where there is none."""
    others = [other for other in modules if other != module]
    parts = module.split("{l}.")[1].split(".")
    for count in range(1, len(parts) + 1):
        suffix = ".".join(parts[-count:])
        if not any(f".{other}".endswith(f".{suffix}") for other in others):
            return [suffix]
    return [module.format(l=layer) for layer in range(layers)]


def _read_settings(folder: Path) -> dict[str, Any]:
    """The content of `adapter_config.json`; raises ValueError for unsupported settings that change the result."""
    path = folder / _CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give a folder written by `peft` (save_pretrained)")
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("peft_type") != "LORA":
        raise ValueError(f"peft_type {settings.get('peft_type')!r} is not supported, only LORA")
    if settings.get("bias", "none") != "none":
        raise ValueError(f"bias={settings['bias']!r} is not supported: the base is not changed; train with bias='none'")
    unsupported = sorted(name for name in settings.keys() - _SUPPORTED - _WITHOUT_EFFECT if settings[name])
    if unsupported:
        values = ", ".join(f"{name}={settings[name]!r}" for name in unsupported)
        raise ValueError(
            f"{values}: not supported; merge the adapter into its base with `peft` and load the whole model"
        )
    return settings


def _read_tensors(folder: Path) -> dict[str, np.ndarray]:
    path = folder / _WEIGHTS
    if not path.is_file():
        pickled = folder / "adapter_model.bin"
        hint = f" ({pickled.name} would need pickle: save the adapter as safetensors)" if pickled.is_file() else ""
        raise FileNotFoundError(f"{path} is missing{hint}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{_WEIGHTS} cannot be read ({error}); it may be cut off: fetch or copy it again") from error


class _LayerAdapter(NamedTuple):
    """The adapter of one layer's projection: a [in, r], b [r, out] and its own alpha."""

    a: np.ndarray
    b: np.ndarray
    alpha: float


def _assemble(settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], config: LanguageConfig) -> Adapter:
    modules, unused, problems = convert.projections(config), dict(tensors), []
    adapters: dict[str, dict[int, _LayerAdapter]] = {}
    for path, layer, name, shape in _targeted_modules(settings, tensors, config):
        rank = _first_match(settings.get("rank_pattern"), name, settings.get("r", 8))
        alpha = _first_match(settings.get("alpha_pattern"), name, settings.get("lora_alpha", 8))
        arrays = []
        for letter, expected in (("A", (rank, shape[0])), ("B", (shape[1], rank))):
            tensor = unused.pop(f"{_ROOT}{name}.lora_{letter}.weight", None)
            if tensor is None or tensor.shape != expected:
                actual = "missing" if tensor is None else f"{tensor.shape}, not {expected}"
                problems.append(f"{name}.lora_{letter}.weight is {actual}")
            else:
                arrays.append(tensor.T.astype(np.float32))
        if len(arrays) == 2:
            adapters.setdefault(path, {})[layer] = _LayerAdapter(arrays[0], arrays[1], alpha)
    tokens = _take_tokens(settings, unused, config, problems)
    if unused:
        problems.append(
            f"not used: {', '.join(sorted(unused))} (only projections inside the layers of a "
            f"{type(config).__name__} are adapted: {', '.join(name for name, _ in modules.values())})"
        )
    if not (adapters or problems):
        problems.append("it adapts nothing")
    if problems:
        raise ValueError(f"the adapter does not fit; {'; '.join(problems)}")

    stabilised = bool(settings.get("use_rslora"))

    def scale(part: _LayerAdapter) -> float:
        rank = part.a.shape[1]
        return part.alpha / (math.sqrt(rank) if stabilised else rank)

    params, ranks, alphas = {}, [], []
    for path, layers in adapters.items():
        inputs, outputs = modules[path][1]
        rank = max(part.a.shape[1] for part in layers.values())
        widest = next(part for part in layers.values() if part.a.shape[1] == rank)
        a = np.zeros((config.layers, inputs, rank), np.float32)
        b = np.zeros((config.layers, rank, outputs), np.float32)
        for layer, part in layers.items():
            own_rank = part.a.shape[1]
            a[layer, :, :own_rank] = part.a
            b[layer, :own_rank] = part.b * (scale(part) / scale(widest))
        params[path] = {"a": a, "b": b}
        ranks.append((re.escape(path), rank))
        alphas.append((re.escape(path), float(widest.alpha)))
    rank, alpha = int(settings.get("r", 8)), float(settings.get("lora_alpha", 8))
    return Adapter(
        lora.unflat(params),
        LoraConfig(
            patterns=tuple(re.escape(path) for path in adapters),
            rank=rank,
            alpha=alpha,
            dropout=float(settings.get("lora_dropout", 0.0)),
            rank_pattern=tuple(pair for pair in ranks if pair[1] != rank),
            alpha_pattern=tuple(pair for pair in alphas if pair[1] != alpha),
            rank_stabilised=stabilised,
        ),
        tokens,
    )


def _first_match(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of a module's name, as PEFT matches it."""
    return next((value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", name)), default)


def _targeted_modules(
    settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], config: LanguageConfig
) -> Iterator[tuple[str, int, str, tuple[int, int]]]:
    """(path, layer, module's name, (in, out)) of all modules that the settings adapt, by PEFT's rules."""
    targets, excluded = settings.get("target_modules") or (), settings.get("exclude_modules") or ()
    layers = settings.get("layers_to_transform")
    layers = (layers,) if isinstance(layers, int) else layers or range(config.layers)

    def matches(rule: Any, name: str) -> bool:
        if isinstance(rule, str):
            return rule == "all-linear" or re.fullmatch(rule, name) is not None
        return any(f".{name}".endswith(f".{suffix}") for suffix in rule)

    modules = convert.projections(config)
    # The prefix of the layers' names depends on the class that was adapted: with a head or without one.
    layers_name = re.escape(next(iter(modules.values()))[0].split("{l}")[0])
    inside = (re.match(rf"{re.escape(_ROOT)}(.*?){layers_name}\d+\.", tensor) for tensor in tensors)
    prefix = next((match[1] for match in inside if match), _FAMILIES[type(config)].prefix)
    for path, (template, shape) in modules.items():
        for layer in layers:
            name = prefix + template.format(l=layer)
            if matches(targets, name) and not matches(excluded, name):
                yield path, layer, name, shape


def _take_tokens(
    settings: Mapping[str, Any], tensors: dict[str, np.ndarray], config: LanguageConfig, problems: list[str]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Removes the trained embeddings from `tensors` and returns (ids, embeddings); adds misfits to `problems`."""
    indices = settings.get("trainable_token_indices")
    if not indices:
        return None
    embedding = _FAMILIES[type(config)].embedding
    if isinstance(indices, dict):
        others = [name for name in indices if name.split(".")[-1] != embedding.split(".")[-1]]
        if others:
            problems.append(f"trainable_token_indices of {', '.join(others)} are not supported, only of {embedding}")
            return None
        (indices,) = indices.values()
    if not indices:
        return None
    name = next((name for name in tensors if name.endswith(f"{embedding}.{_ROWS}")), None)
    if name is None:
        problems.append(f"{embedding}.{_ROWS} is missing")
        return None
    ids, rows = np.asarray(indices, np.int32), tensors.pop(name).astype(np.float32)
    if rows.shape != (len(ids), config.width):
        problems.append(f"{name} is {rows.shape}, not {(len(ids), config.width)}")
    if ids.max() >= config.vocab_size:
        problems.append(f"token {ids.max()} was trained, but the base has {config.vocab_size}; extend it first "
                     f"(`pretrained.language_models.extend`)")  # fmt: skip
    return ids, rows
