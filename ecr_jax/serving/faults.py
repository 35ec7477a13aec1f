"""Errors that a client is told of, each with its HTTP status, in OpenAI's form."""

from __future__ import annotations

import math


class ApiError(Exception):
    """An answer that is not a success.

    Attributes:
      status: the HTTP status.
      message: what is wrong and what to do.
      code: for programs.
      retry_after: seconds to wait before the request is tried again, where that helps.
    """

    def __init__(self, status: int, message: str, code: str, retry_after: float | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after = status, message, code, retry_after

    @property
    def type(self) -> str:
        """OpenAI's name of this kind of error."""
        if self.status == 429:
            return "rate_limit_error"
        if self.status == 401:
            return "authentication_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    @property
    def body(self) -> dict[str, dict[str, str]]:
        """The error as JSON, see `schemas.Error`."""
        return {"error": {"message": self.message, "type": self.type, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def not_found(what: str, identifier: str) -> ApiError:
    """There is no such thing, or it is somebody else's: the answer does not tell which."""
    return ApiError(404, f"there is no {what} {identifier!r}", "not_found")


def bad_request(message: str, code: str = "invalid_value") -> ApiError:
    """The request is wrong."""
    return ApiError(400, message, code)


def conflict(message: str) -> ApiError:
    """The request does not fit what is stored."""
    return ApiError(409, message, "conflict")


def unavailable(message: str, code: str, retry_after: float) -> ApiError:
    """The server cannot answer now."""
    return ApiError(503, message, code, retry_after)
