"""Blinded, randomised sheets for people who judge replies, and the same tables of what they say as of models.

A folder of `export` has, for each rater, `sheet-N.csv` and `sheet-N.html` (one page that needs nothing else: it keeps
what is entered in the browser and saves it as CSV), and `key.json`, which alone knows the systems and stays here.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from rich.console import Console

from ecr_jax.evaluation import system_replies
from ecr_jax.evaluation.judge_tables import MEASURES, Score, score_rows
from ecr_jax.evaluation.judging import HIGHEST, QUESTIONS, Sample, dialogue_text, finish
from ecr_jax.evaluation.report import Report
from ecr_jax.evaluation.system_replies import SystemReply
from ecr_jax.files import replacing, write_json
from ecr_jax.runs import machine

KEY, REPLIES = "key.json", "replies.jsonl"
_COLUMNS = ("code", "conversation", "reply", *MEASURES)


def export(sample: Sample, into: Path, *, raters: int, seed: int, console: Console) -> None:
    """Writes a sheet for each rater, with the same replies in an order of its own, and the key.

    Codes say nothing of the systems, and replies to one dialogue are not next to each other but by chance.

    Args:
      sample: what is judged.
      into: a new folder.
      raters: how many sheets.
      seed: of the codes and orders.
      console: where it says what to do next.

    Raises:
      ValueError: the folder has a key already, so that sheets handed out would lose theirs.
    """
    if (into / KEY).exists():
        raise ValueError(f"{into} has sheets already, and their key would be lost; choose another folder")
    rng = np.random.default_rng(seed)
    codes = [f"R{number:04d}" for number in rng.permutation(len(sample.replies)) + 1]
    coded = dict(zip(codes, sample.replies, strict=True))
    for rater in range(1, raters + 1):
        order = [codes[i] for i in rng.permutation(len(codes))]
        rows = [(code, dialogue_text(coded[code]), coded[code].reply) for code in order]
        with (
            replacing(into / f"sheet-{rater}.csv") as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows((*row, *[""] * len(MEASURES)) for row in rows)
        with replacing(into / f"sheet-{rater}.html") as temporary:
            temporary.write_text(_page(rater, rows), encoding="utf-8")
    system_replies.write(into / REPLIES, sample.replies)
    key = {code: [reply.conversation, reply.turn, reply.system] for code, reply in sorted(coded.items())}
    write_json(into / KEY, {"codes": key, "seed": seed})
    console.print(
        f"{raters} sheets of {len(codes)} replies: {into}. Hand out a sheet-N.html or sheet-N.csv to each rater, but "
        f"not {KEY} or {REPLIES}; then run `ecr human import {into} FILLED.csv ...`"
    )


def read_sheet(path: Path, key: dict[str, list], rater: str) -> list[Score]:
    """The scores of a filled sheet; an empty cell is a missing score.

    Raises:
      ValueError: a column is missing, a code is unknown or occurs twice, or a score is no whole number from 0 to 9;
        says the file and the line.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in ("code", *MEASURES) if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} has no column {missing[0]!r}; is it a filled sheet of `ecr human export`?")
        scores: dict[str, Score] = {}
        for row in reader:
            where, code = f"{path}:{reader.line_num}", (row["code"] or "").strip()
            if code not in key:
                raise ValueError(f"{where}: the code {code!r} is not in {KEY}: the sheet is of another export")
            if code in scores:
                raise ValueError(f"{where}: the code {code} occurs twice")
            values = tuple(_score(row[name], f"{where}: {name}") for name in MEASURES)
            conversation, turn, system = key[code]
            scores[code] = Score(rater, conversation, turn, system, values)
    return list(scores.values())


def collect(
    folder: Path,
    sheets: Sequence[Path],
    beside: Sequence[Score],
    *,
    console: Console,
    resamples: int = 1000,
    seed: int = 0,
) -> Report:
    """Reads filled sheets and writes the tables to `folder/judged`.

    Args:
      folder: of `export`.
      sheets: filled, one a rater; raters are named by them.
      beside: scores of other judges of the same replies, such as `ecr judge`'s, to see how far they agree.
      console: where the tables are shown.
      resamples, seed: of the bootstrap over dialogues.

    Raises:
      ValueError: the folder has no key, or a sheet is malformed.
    """
    if not (folder / KEY).is_file():
        raise ValueError(f"{folder} has no {KEY}; it is the folder that `ecr human export` wrote")
    key = json.loads((folder / KEY).read_text(encoding="utf-8"))["codes"]
    replies: list[SystemReply] = system_replies.read(folder / REPLIES)
    raters = [sheet.stem for sheet in sheets]
    if len(set(raters)) < len(raters):
        raise ValueError(f"two sheets are called the same: {', '.join(raters)}; a rater is named by the file")
    scores = [score for sheet, rater in zip(sheets, raters, strict=True) for score in read_sheet(sheet, key, rater)]
    rows = score_rows([*scores, *beside], replies, resamples=resamples, seed=seed)
    places = len({reply.place for reply in replies})
    provenance = {"commit": machine.commit(), "raters": raters, "turns": places}
    if beside:
        provenance["beside"] = sorted({score.judge for score in beside})
    return finish(Report(tuple(rows), provenance), folder / "judged", console)


def _score(cell: str | None, where: str) -> int | None:
    text = (cell or "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) > HIGHEST:
        raise ValueError(f"{where} is {text!r}; a score is a whole number from 0 to {HIGHEST}, or empty")
    return int(text)


def _page(rater: int, rows: Sequence[tuple[str, str, str]]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ecr_jax", "evaluation"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("human_sheet.html.jinja").render(
        rater=rater, rows=rows, questions=QUESTIONS, highest=HIGHEST, columns=_COLUMNS
    )
