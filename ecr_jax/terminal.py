"""The console that prints what people wrote: control characters of a corpus are shown, never sent to the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# All control characters but the line feed; and those that reorder the text around them.
_CONTROLS = (*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPED = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CONTROLS}


class Terminal(Console):
    """A rich console whose text can not move the cursor, change colours or reorder what stands beside it.

    Escape sequences of rich itself (styles, progress bars) are not text, and pass.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of `renderable`, with control characters as "\\x1b" for all that are not rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(segment.text.translate(_ESCAPED), segment.style)
