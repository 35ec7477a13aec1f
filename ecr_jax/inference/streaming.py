"""Text of a reply while its tokens are generated, without incomplete characters or partial stop strings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Decode = Callable[[list[int]], str]


class TextStream:
    """The text of one reply, in pieces; the pieces joined are the text of all its tokens.

    A piece never ends within a character whose bytes are incomplete, nor within what may become a stop string. The
    first stop string ends the text before it.

    Attributes:
      stopped: whether a stop string has occurred.
    """

    def __init__(self, decode: Decode, stop: Sequence[str] = ()):
        """Begins an empty text.

        Args:
          decode: text of token ids, with U+FFFD for incomplete bytes; the text of the first ids must be a prefix of the
            text of more (so it must not tidy spaces).
          stop: strings that end the text.
        """
        self._decode, self._stop = decode, tuple(stop)
        self._ids: list[int] = []
        self._text, self._emitted = "", 0
        self.stopped = False

    def push(self, ids: Iterable[int]) -> int:
        """Adds tokens until a stop string occurs. Returns how many were added, including the one that completed it."""
        added = 0
        for token in ids:
            if self.stopped:
                break
            self._ids.append(int(token))
            self._text = self._decode(self._ids)
            positions = [position for position in map(self._text.find, self._stop) if position >= 0]
            if positions:
                self._text, self.stopped = self._text[: min(positions)], True
            added += 1
        return added

    def take(self, last: bool = False) -> str:
        """The text that can no longer change and was not taken before; all remaining text if `last`."""
        end = len(self._text) if last or self.stopped else self._settled_length()
        piece = self._text[self._emitted : end]
        self._emitted += len(piece)
        return piece

    def _settled_length(self) -> int:
        complete = self._text.rstrip("\ufffd")
        pending = (size for stop in self._stop for size in range(1, len(stop)) if complete.endswith(stop[:size]))
        return len(complete) - max(pending, default=0)
