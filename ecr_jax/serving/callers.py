"""Who calls: the holder of an API key, or an anonymous browser that a cookie tells apart from others.

Neither a key nor a cookie is stored: what is kept is its SHA-256. Both are 256 random bits, so a plain hash is enough.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from ecr_jax.files import write_json
from ecr_jax.serving.faults import ApiError

COOKIE = "ecr_caller"
COOKIE_SECONDS = 365 * 24 * 3600
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """An API key as it is stored.

    Attributes:
      name: whose it is; conversations belong to the name, so that a key can be replaced.
      sha256: of the key.
      requests_per_minute: its limit; None sets none.
    """

    name: str
    sha256: str
    requests_per_minute: int | None = None


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Attributes:
      owner: whose conversations it sees.
      new_cookie: the cookie that it is given, where it had none.
    """

    owner: str
    new_cookie: str | None = None


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file of `add_key`.

    Raises:
      ValueError: it is not such a file.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["keys"]
        keys = tuple(Key(**row) for row in rows)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no file of API keys ({error}); `ecr serve-key` writes one") from error
    for key in keys:
        limit = key.requests_per_minute
        if not _NAME.fullmatch(key.name) or not _HASH.fullmatch(key.sha256) or not (limit is None or limit > 0):
            raise ValueError(f"{path}: the key {key.name!r} is malformed; `ecr serve-key` writes keys")
    return keys


def add_key(path: Path, name: str, requests_per_minute: int | None = None) -> str:
    """Makes a key, or replaces that of the same name, and returns it; only its hash is stored.

    Raises:
      ValueError: the name or the limit is malformed, or the file is not one of keys.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a key; use up to 64 letters, digits, dots, dashes and underscores")
    if requests_per_minute is not None and requests_per_minute < 1:
        raise ValueError(f"{requests_per_minute} requests a minute: give 1 or more, or nothing for no limit")
    key = f"ecr-{secrets.token_urlsafe(32)}"
    kept = [other for other in (read_keys(path) if path.exists() else ()) if other.name != name]
    rows: list[Mapping[str, Any]] = [vars(other) for other in (*kept, Key(name, _sha256(key), requests_per_minute))]
    write_json(path, {"keys": rows})
    path.chmod(0o600)
    return key


class Callers:
    """Tells callers apart and holds them to their limits. The limits are those of one server process."""

    def __init__(self, keys: tuple[Key, ...] | None, requests_per_minute: int | None = None):
        """Args:
        keys: None lets anybody in.
        requests_per_minute: of an address without a key; None sets no limit.
        """
        self._keys = None if keys is None else {key.sha256: key for key in keys}
        self._anonymous_limit = requests_per_minute
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    @property
    def need_key(self) -> bool:
        """Whether callers need a key."""
        return self._keys is not None

    def identify(self, key: str | None, cookie: str | None, address: str) -> Caller:
        """The caller of a request.

        Args:
          key: the key that it was sent with.
          cookie: its cookie.
          address: where it came from.

        Raises:
          ApiError: the key is missing or unknown (401), or the caller's limit is reached (429).
        """
        if self._keys is None:
            self._count(f"address:{address}", self._anonymous_limit)
            if cookie is not None and _TOKEN.fullmatch(cookie):
                return Caller(f"cookie:{_sha256(cookie)}")
            token = secrets.token_urlsafe(32)
            return Caller(f"cookie:{_sha256(token)}", token)
        if key is None:
            raise ApiError(401, "send an API key, as `Authorization: Bearer KEY`", "missing_api_key")
        found = self._keys.get(_sha256(key))
        if found is None:
            raise ApiError(401, "this API key is not known", "invalid_api_key")
        self._count(f"key:{found.name}", found.requests_per_minute)
        return Caller(f"key:{found.name}")

    def _count(self, who: str, limit: int | None) -> None:
        if limit is None:
            return
        item = RateLimitItemPerMinute(limit)
        if not self._limiter.hit(item, who):
            wait = self._limiter.get_window_stats(item, who).reset_time - time.time()
            raise ApiError(429, f"more than {limit} requests in a minute; try again later", "rate_limit", wait)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
