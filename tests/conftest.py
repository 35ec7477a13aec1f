"""What all tests share: eight fake CPU devices, the golden numbers, and paths to real data and models, or a skip."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from ecr_jax.runs.machine import compilation_cache_environment

# Before anything imports jax, which reads these once.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
# Tests compile thousands of small programs and run each once or twice: what LLVM makes faster does not pay.
os.environ["XLA_FLAGS"] = f"{os.environ['XLA_FLAGS']} --xla_backend_optimization_level=0".strip()
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Compiling is two thirds of the time: what did not change since the last run is read back. The folder has no limit of
# size, for which JAX would measure it again at each of thousands of programs.
if compiled := compilation_cache_environment(Path(__file__).parents[1] / ".jax_cache"):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled["JAX_COMPILATION_CACHE_DIR"]
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# A process started in the background (`&`) ignores Ctrl-C, and so would those that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

collect_ignore = ["make_golden.py", "transformers_side.py"]  # they import torch, which only parity tests install

import pytest  # noqa: E402

from ecr_jax.pretrained import hub  # noqa: E402

_BESIDE = Path(__file__).resolve().parents[1].parent / "shared"


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set {variable} to run this")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets (`ECR_REAL_DATA`)."""
    return _folder("ECR_REAL_DATA", _BESIDE / "data")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of the published code's golden numbers (tests/golden/README.md)."""
    return Path(__file__).parent / "golden" / "published"


@pytest.fixture(scope="session")
def hub_model() -> Callable[[str], Path]:
    """A function from a hub name to its local path; it skips the test where the name cannot be fetched."""
    unreachable: dict[str, str] = {}

    def resolve(name: str) -> Path:
        if name not in unreachable:
            try:
                return hub.resolve(name)
            except hub.UnreachableError as error:
                unreachable[name] = str(error)
        pytest.skip(unreachable[name])

    return resolve
