"""Named experiments: the files in `configs/` and their variants.

A file defines `config`, a `Config`, and may define `variants`, a dict of further ones: FILE:VARIANT names each.
"""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from types import ModuleType

from ecr_jax.config.schema import Config


def folder() -> Path:
    """The folder of the named configs: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def files() -> list[str]:
    """The names of the config files, sorted."""
    return sorted(path.stem for path in folder().glob("*.py"))


def names() -> list[str]:
    """All named configs, variants included, sorted by file."""
    all_names = []
    for name in files():
        variants = getattr(_module(folder() / f"{name}.py"), "variants", {})
        all_names += [name, *(f"{name}:{variant}" for variant in variants)]
    return all_names


def load(name: str) -> Config:
    """The config of an experiment.

    Args:
      name: a file in `configs/`, or the path of a Python file that defines `config`; with ":VARIANT" behind it, one of
        its variants.

    Raises:
      ValueError: there is no such file or variant (the message lists those there are), it cannot be run, or it defines
        no config.
    """
    name, colon, variant = name.partition(":")
    path = Path(name) if name.endswith(".py") else folder() / f"{name}.py"
    if not path.is_file():
        known = ", ".join(files())
        raise ValueError(f"no config {name!r}: give one of {known}, or the path of a .py file that defines `config`")
    module = _module(path)
    if colon:
        variants = getattr(module, "variants", {})
        if variant not in variants:
            raise ValueError(f"no variant {variant!r} of the config {name!r}: it has {', '.join(variants) or 'none'}")
        config = variants[variant]
    else:
        config = getattr(module, "config", None)
    if not isinstance(config, Config):
        raise ValueError(f"{path} must define `config`, a Config")
    return config


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ecr_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if isinstance(error, SyntaxError):
            line, reason = error.lineno, error.msg
        else:
            frames = traceback.extract_tb(error.__traceback__)
            line, reason = next((f.lineno for f in reversed(frames) if f.filename == spec.origin), None), error
        place = path if line is None else f"{path}:{line}"
        raise ValueError(f"{place}: {type(error).__name__}: {reason}") from error
    return module
