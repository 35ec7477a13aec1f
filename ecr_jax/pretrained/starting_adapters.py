"""LoRA adapters that the stages `conversation` and `response` begin with; `films`, of the built-in corpus, is shipped.

A folder holds `adapter.json` and one safetensors file for each stage. The description names the base model, the
adapter's settings, the checksums of the files, and the command, the commit and the corpus that they were made with;
`write` makes such a folder from what a run trained.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from ecr_jax.files import replacing, write_json
from ecr_jax.models.hyperparameters import LoraConfig

SHIPPED = Path(__file__).parent / "adapters"
"""The folder of the shipped adapters, each in a folder of its name."""

_DESCRIPTION = "adapter.json"


@dataclass(frozen=True)
class StartingAdapter:
    """What a stage begins with.

    Attributes:
      params: its trained parameters by name, float32: "adapter", a tree like that of `lora.init`, and "movie" with the
        `rows` of added tokens where the stage trains them.
      config: the adapter's settings.
    """

    params: Mapping[str, Any]
    config: LoraConfig


def write(
    folder: Path, base: str, stages: Mapping[str, StartingAdapter], made_with: Mapping[str, Any], dtype: str = "float16"
) -> None:
    """Writes a folder of adapters, completely or not at all.

    Args:
      folder: the target; it must not be there.
      base: name of the language model that they adapt.
      stages: stage -> its adapter.
      made_with: the command, commit and corpus that they come from, for people.
      dtype: that the arrays are stored in.

    Raises:
      ValueError: the folder is there already.
    """
    if folder.exists():
        raise ValueError(f"{folder} is there already; name a new folder, or remove it")
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        described = {}
        for stage, adapter in stages.items():
            file = temporary / f"{stage}.safetensors"
            arrays = flatten_dict(dict(adapter.params), sep="/")
            save_file({name: np.asarray(array, dtype) for name, array in arrays.items()}, file)
            described[stage] = {"sha256": _sha256(file), "lora": dataclasses.asdict(adapter.config)}
        write_json(temporary / _DESCRIPTION, {"base": base, "stages": described, "made_with": dict(made_with)})


def load(name: str, stage: str, base: str, config: LoraConfig) -> StartingAdapter:
    """The adapter that a stage begins with.

    Args:
      name: of a shipped adapter, or the path of a folder that `write` wrote.
      stage: which stage begins with it.
      base: the language model that is to be adapted.
      config: the settings of the adapter that is to be trained; all but its dropout must be those it was made with.

    Raises:
      ValueError: there is no such adapter or it has none for the stage; it is of another base or has other settings;
        its file is not the one that its description names.
    """
    folder = next((path for path in (SHIPPED / name, Path(name)) if (path / _DESCRIPTION).is_file()), None)
    if folder is None:
        shipped = sorted(path.parent.name for path in SHIPPED.glob(f"*/{_DESCRIPTION}"))
        raise ValueError(f"no adapter {name!r} to begin with; shipped are {', '.join(shipped) or 'none'}")
    description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
    if stage not in description["stages"]:
        raise ValueError(f"{folder} has adapters of {', '.join(description['stages'])}, and none of {stage!r}")
    if description["base"] != base:
        raise ValueError(
            f"the adapter {name!r} is one of {description['base']!r}, and {stage!r} adapts {base!r}: set "
            f"{stage}.begin_with to None, or choose that language model"
        )
    described = description["stages"][stage]
    made = json.loads(json.dumps(dataclasses.asdict(config)))
    different = [key for key, value in described["lora"].items() if key != "dropout" and made[key] != value]
    if different:
        raise ValueError(
            f"the adapter {name!r} has other settings than {stage}.adapter: "
            + "; ".join(f"{key} {described['lora'][key]}, not {made[key]}" for key in different)
        )
    file = folder / f"{stage}.safetensors"
    if not file.is_file() or _sha256(file) != described["sha256"]:
        raise ValueError(f"{file} is not the file that {_DESCRIPTION} names; install the package or copy it again")
    arrays = {path: np.asarray(array, np.float32) for path, array in load_file(file).items()}
    return StartingAdapter(unflatten_dict(arrays, sep="/"), config)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
