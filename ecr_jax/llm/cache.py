"""Answers on disk, by the content of the question: a command that is killed and restarted asks nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecr_jax.files import write_json


def content_hash(value: Any) -> str:
    """The sha256 of a value's canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class AnswerCache:
    """One JSON file an answer, in folders named by the first two digits of the hash."""

    folder: Path

    def get(self, question: str) -> dict[str, Any] | None:
        """The stored answer to the question of this `content_hash`, None where there is none."""
        path = self._path(question)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def put(self, question: str, answer: Mapping[str, Any]) -> None:
        """Stores the answer to the question of this `content_hash`; a reader never sees half of one."""
        write_json(self._path(question), answer)

    def _path(self, question: str) -> Path:
        return self.folder / question[:2] / f"{question}.json"
