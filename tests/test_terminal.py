"""What a corpus can send to the terminal: nothing but text."""

from __future__ import annotations

import io

import pytest
from rich.progress import track
from rich.table import Table

from ecr_jax import cli
from ecr_jax.data.schema import BadLine, CorpusError
from ecr_jax.terminal import Terminal

HOSTILE = "a\x1b[2J\x1b]0;title\x07\x9b31m\x7f\u202eb\u2066"


@pytest.fixture
def terminal():
    return Terminal(file=io.StringIO(), force_terminal=True, color_system=None, width=200)


def printed(terminal):
    return terminal.file.getvalue()


@pytest.mark.parametrize("markup", [True, False])
def test_control_characters_are_shown(terminal, markup):
    terminal.print(HOSTILE.replace("[", "\\[" if markup else "["), markup=markup, highlight=False)
    # rich itself leaves out the bell
    assert printed(terminal) == "a\\x1b[2J\\x1b]0;title\\x9b31m\\x7f\\u202eb\\u2066\n"


def test_in_tables_and_beside_progress_too(terminal):
    table = Table()
    table.add_column(HOSTILE)
    table.add_row("x\x1bc")
    terminal.print(table)
    for _ in track([1], description="d\x9bc", console=terminal):
        terminal.print("e\x1bc", style="bold")
    text = printed(terminal)
    assert "\x9b" not in text and "\x1bc" not in text and "\x1b]" not in text and "\x1b[2J\x1b" not in text
    assert "\x1b[?25l" in text  # rich's own: the progress bar hides the cursor


def test_line_ends_and_tabs_stay(terminal):
    terminal.print("a\n  b\tc")
    assert printed(terminal).split() == ["a", "b", "c"] and printed(terminal).count("\n") == 2


def test_an_error_that_quotes_a_corpus_is_safe(monkeypatch, capfd):
    def refuse(arguments):
        raise CorpusError([BadLine("f", 3, f"movieMentions[{HOSTILE}] is 3; expected a text")])

    monkeypatch.setattr(cli, "parse", refuse)
    assert cli.main([]) == 1
    error = capfd.readouterr().err
    assert "\\x1b[2J" in error and not set("\x1b\x9b\x07\x7f\u202e\u2066") & set(error)
