"""The page of replies: a run's replies in place of turns of the test split, beside rivals, and what else was measured.

    python -m benchmarks.replies RUN [--count 200] [--csv FILE] [--page FILE --measured FILE ...]

The systems are those of `evaluation.replies.system_replies`, and the run's language model as it was, told through its
chat template to recommend the same films ("zero-shot"). Replies are kept in RUN/replies.jsonl, so that the page is
made again without writing them again (`--force` does). The page shows ten replies that were not chosen, the first ten
places, and the rows that other benchmarks wrote with `--json` to the files `--measured`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from benchmarks.tables import markdown, write_rows
from ecr_jax import config as configs
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import judging, replies, system_replies
from ecr_jax.evaluation.reply_measures import Judged, emotion_alignment, measure_replies
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.evaluation.significance import Mean, interval, resample
from ecr_jax.evaluation.system_replies import Place, SystemReply, by_system
from ecr_jax.evaluation.tables import ReportTable, cell_lines, tables
from ecr_jax.files import replacing
from ecr_jax.inference.agent import Agent
from ecr_jax.inference.decoding import Decoding
from ecr_jax.inference.writing import ChatWriter, Generator
from ecr_jax.runs import machine
from ecr_jax.stages import response, tuning

ZERO_SHOT = "zero-shot"
_MOST_PROMPT, _MOST_REPLY = 320, 64
"""Tokens of a chat and of an answer of the language model as it was."""
_SHOWN = 10


def written(agent: Agent, split: Split, console: Console) -> list[SystemReply]:
    """The replies of all systems to `evaluation.whole_replies` contexts."""
    ours = replies.system_replies(agent, split, console)
    given = [reply for reply in ours if reply.system == "ecr"]
    return [*ours, *judging.zero_shot(given, chat_writer(agent), ZERO_SHOT)]


def chat_writer(agent: Agent) -> ChatWriter:
    """The language model of the emotional response as it was before training, behind its chat template."""
    model, tokenizer = response.language_model(agent.experiment)
    adapter = agent.config.response.adapter
    variables = tuning.variables({"language_model": model.params}, {}, adapter, for_inference=True)
    return ChatWriter(Generator(model.module, variables, tokenizer, Decoding(max_new=_MOST_REPLY), _MOST_PROMPT))


def alignment_differences(
    of: Sequence[SystemReply], judged: Judged, targets: dict[Place, np.ndarray], corpus: str, split: str
) -> list[ReportRow]:
    """How much better the run's replies are aligned with the turns' emotions than those of each rival, paired by place.

    Args:
      of: the replies.
      judged: of them, in their order.
      targets: the emotions [9] of each place.
      corpus, split: names for the rows.
    """
    shown: dict[str, dict[Place, np.ndarray]] = {}
    for reply, emotions in zip(of, judged.emotions, strict=True):
        shown.setdefault(reply.system, {})[reply.place] = emotions
    rows = []
    for rival in shown:
        places = [place for place in shown["ecr"] if place in shown[rival] and place in targets]
        if rival in ("ecr", replies.HUMAN) or not places:
            continue
        target = np.array([targets[place] for place in places])
        ours, theirs = (
            emotion_alignment(np.array([shown[name][place] for place in places]), target) for name in ("ecr", rival)
        )
        draws = resample([conversation for conversation, _ in places], 1000, 0)
        mean = Mean.of(ours - theirs, draws.dialogue, draws.draws.shape[1])
        low, high = interval(mean.resampled(draws.draws)) or (None, None)
        rows.append(
            ReportRow(f"ecr - {rival}", corpus, split, "all", "emotion_alignment", mean.value, low, high, len(places))
        )
    return rows


def shown_reply(number: int, reply: SystemReply) -> str:
    """A reply with its dialogue's last turns: films bold, facts that it was given italic, the feelings behind it."""
    text = reply.reply
    for film in reply.films:
        text = text.replace(film, f"**{film}**")
    for fact in sorted({fact.rpartition(": ")[2] for fact in reply.facts}, key=len, reverse=True):
        if fact in text and not any(fact in film for film in reply.films):
            text = text.replace(fact, f"*{fact}*")
    turns = [f"> {role}: {said}" for role, said in reply.context[-2:]]
    feelings = f"heard: {reply.heard or 'nothing'}; planned tone: {reply.tone or 'open'}"
    return "\n>\n".join([f"{number}. {feelings}\n", *turns, f"> **ecr:** {text}"]).replace("\n\n>\n>", "\n\n>")


def table(of: ReportTable) -> str:
    """A table of a report as Markdown, its title above it."""
    body = [[model, *(" ".join(cell_lines(cell)) for cell in cells)] for model, cells in of.body]
    return f"**{of.title}**\n\n" + markdown(["model", *of.columns], body)


def measured_table(path: Path) -> str:
    """The rows of another benchmark."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    names = [name for name in rows[0] if any(row.get(name) not in (None, "") for row in rows)]
    body = [[_cell(row.get(name)) for name in names] for row in rows]
    return f"**{path.stem}**\n\n" + markdown(names, body)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def page_text(rows: Sequence[ReportRow], of: Sequence[SystemReply], measured: Sequence[Path], command: str) -> str:
    """The page."""
    shown = by_system(of)["ecr"][:_SHOWN]
    parts = [
        "# Replies",
        f"{len(by_system(of)['ecr'])} replies in place of turns of the test split. ecr u^r and ecr u^e are the parts of"
        " a reply; plain is the standard reply to the same plan, which no model writes; zero-shot is the language model"
        " as it was, told to recommend the same films; human is the turn of the corpus. docs/judging.md says what the"
        " columns are. 95 % intervals over dialogues.",
        *map(table, tables(rows)),
        f"## The first {_SHOWN} replies",
        "Not chosen. Bold: films; italic: facts that the writer was given.",
        *(shown_reply(number, reply) for number, reply in enumerate(shown, start=1)),
        *(["## Measured by other commands"] if measured else []),
        *map(measured_table, measured),
        f"`{command}`, commit {machine.commit()}, {machine.hardware()}.",
    ]
    return "\n\n".join(parts) + "\n"


def main(
    run: tyro.conf.Positional[Path],
    count: int = 200,
    force: bool = False,
    csv: Path | None = None,
    page: Path | None = None,
    measured: tuple[Path, ...] = (),
) -> None:
    """Measures replies of a run beside rivals.

    Args:
      run: the run's folder.
      count: contexts.
      force: write the replies again.
      csv: file for the rows.
      page: file for the page.
      measured: files of rows that other benchmarks wrote, for the page.
    """
    console = Console()
    experiment, split, path = Agent.open(run).experiment, Split.TEST, run / "replies.jsonl"
    agent = Agent(experiment.with_config(configs.replace(experiment.config, "evaluation.whole_replies", count)))
    if force or not path.is_file():
        system_replies.write(path, written(agent, split, console))
    of = system_replies.read(path)
    judged = replies.judged(agent, of)
    targets = replies.target_emotions(of, judged)
    corpus, config = agent.experiment.corpus, agent.config
    names = {"corpus": config.corpus.label, "split": split.value}
    rows = measure_replies(of, corpus.graph, corpus.linker, judged, targets=targets, **names)
    rows += alignment_differences(of, judged, targets, **names)
    for one in tables(rows):
        console.print(table(one), markup=False, highlight=False)
    if csv is not None:
        write_rows(rows, csv)
    if page is not None:
        listed = " ".join(["--measured", *map(str, measured)]) if measured else ""
        command = f"python -m benchmarks.replies {run} --count {count} --page {page} {listed}".strip()
        with replacing(page) as temporary:
            temporary.write_text(page_text(rows, of, measured, command), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
