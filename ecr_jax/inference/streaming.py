"""Text from tokens as they come: no half characters, no half stop strings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Decode = Callable[[list[int]], str]


class TextStream:
    """The text of one reply, told piece by piece; the pieces joined are the text of all its tokens.

    A piece never ends within a character whose bytes are still to come, nor within what may become a stop string. The
    first stop string ends the text before it.

    Attributes:
      stopped: whether a stop string was met.
    """

    def __init__(self, decode: Decode, stop: Sequence[str] = ()):
        """Begins an empty text.

        Args:
          decode: text of token ids, with U+FFFD for incomplete bytes; the text of fewer ids must begin the text of more
            (so it must not tidy spaces).
          stop: strings that end the text.
        """
        self._decode, self._stop = decode, tuple(stop)
        self._ids: list[int] = []
        self._text, self._told = "", 0
        self.stopped = False

    def push(self, ids: Iterable[int]) -> int:
        """Reads tokens until a stop string is met. Returns how many were read, the one that completed it among them."""
        read = 0
        for token in ids:
            if self.stopped:
                break
            self._ids.append(int(token))
            self._text = self._decode(self._ids)
            found = [at for at in map(self._text.find, self._stop) if at >= 0]
            if found:
                self._text, self.stopped = self._text[: min(found)], True
            read += 1
        return read

    def take(self, last: bool = False) -> str:
        """The text that is certain and was not taken yet; all of it where no token follows."""
        sure = len(self._text) if last or self.stopped else self._certain()
        piece = self._text[self._told : sure]
        self._told += len(piece)
        return piece

    def _certain(self) -> int:
        whole = self._text.rstrip("\ufffd")
        held = (size for stop in self._stop for size in range(1, len(stop)) if whole.endswith(stop[:size]))
        return len(whole) - max(held, default=0)
