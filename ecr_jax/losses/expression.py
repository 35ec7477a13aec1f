"""The syntax of a loss expression: names, options and weighted sums of losses. Imports no jax.

For example "focal(gamma=1)" or "feedback_cross_entropy + 0.3*pairwise_batch". A name is that of a loss in
`losses.ranking`, of an entry point, or "package.module:function"; `losses.objective` finds what is named.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_COLON = "\u02d0"
"""Stands for ":" while Python parses an expression: a letter of the same length, which is allowed in identifiers."""

_NAME = re.compile(r"[A-Za-z_][\w.]*(:\w+)?")


@dataclass(frozen=True)
class Term:
    """One summand of a loss: `weight` times the mean of the loss called `name` with `options`."""

    name: str
    options: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value:g}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


def parse(text: str) -> tuple[Term, ...]:
    """Parses a loss expression, without looking up the losses.

    Args:
      text: names, each with options in brackets and a factor before it, joined by "+".

    Returns:
      The summands in order.

    Raises:
      ValueError: it is not such an expression; the message names the part that is not.

    >>> parse("feedback_cross_entropy + 0.3*pairwise_batch(margin=1)")[1]
    Term(name='pairwise_batch', options={'margin': 1.0}, weight=0.3)
    >>> parse("my_package.losses:squared")[0].name
    'my_package.losses:squared'
    >>> parse("bpr - focal")
    Traceback (most recent call last):
    ValueError: 'bpr - focal' in 'bpr - focal' is not a loss: write NAME, NAME(option=number, ...), a factor as in \
0.5*NAME, and + between several
    """
    source = re.sub(r"\s", " ", text).replace(":", _COLON)
    indent = len(source) - len(source.lstrip())
    try:
        expression = ast.parse(source[indent:], mode="eval").body
    except SyntaxError as error:
        offset = indent + max((error.offset or 1) - 1, 0)
        raise _not_a_loss(text[text.rfind("+", 0, offset) + 1 :], text) from error
    return tuple(_term(node, source[indent:], text) for node in _summands(expression))


def _summands(node: ast.expr) -> Iterator[ast.expr]:
    """The nodes between the plus signs."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _summands(node.left)
        yield from _summands(node.right)
    else:
        yield node


def _term(node: ast.expr, source: str, text: str) -> Term:
    """One summand: [NUMBER *] NAME [(options)]."""
    weight, loss, options = 1.0, node, {}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        factor = _number(node.left)
        if factor is None or isinstance(node.left, ast.UnaryOp):
            raise _not_a_loss(_segment(source, node), text)
        weight, loss = factor, node.right
    if isinstance(loss, ast.Call):
        for argument in loss.args:
            raise _not_an_option(_segment(source, argument), text)
        for keyword in loss.keywords:
            value = _number(keyword.value)
            if keyword.arg is None or value is None or keyword.arg in options:
                raise _not_an_option(_segment(source, keyword), text)
            options[keyword.arg] = value
        loss = loss.func
    name = _segment(source, loss)
    if not isinstance(loss, ast.Name | ast.Attribute) or not _NAME.fullmatch(name):
        raise _not_a_loss(_segment(source, node), text)
    return Term(name, options, weight)


def _number(node: ast.expr) -> float | None:
    """The value of a number with or without a sign, else None."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _number(node.operand) if isinstance(node.operand, ast.Constant) else None
        return value if value is None or isinstance(node.op, ast.UAdd) else -value
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    return None


def _segment(source: str, node: ast.expr | ast.keyword) -> str:
    """The text of a node, as it was written."""
    return (ast.get_source_segment(source, node) or "").replace(_COLON, ":")


def _not_a_loss(part: str, text: str) -> ValueError:
    return ValueError(
        f"{part!r} in {text!r} is not a loss: write NAME, NAME(option=number, ...), a factor as in 0.5*NAME, "
        "and + between several"
    )


def _not_an_option(part: str, text: str) -> ValueError:
    return ValueError(f"{part!r} in {text!r} is not an option: write name=number, each name once")
