"""The `ecr` command: parses the arguments and calls the function of the command. Imports no jax."""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import Config, registry
from ecr_jax.export import targets
from ecr_jax.llm.client import Address
from ecr_jax.pretrained.hub import HubError, default_cache
from ecr_jax.runs.machine import compilation_cache_environment, relaunch_keeping_freed_memory
from ecr_jax.serving.settings import Limits
from ecr_jax.terminal import Terminal
from ecr_jax.training.options import Strategy

_STAGES = tuple(spec.name for spec in registry.stages())
_BASELINES = tuple(spec.name for spec in registry.baselines())
Stage = Literal[(*_STAGES, *_BASELINES)]  # type: ignore[valid-type]
Ranker = Literal[("recommendation", *_BASELINES)]  # type: ignore[valid-type]
Settings = Annotated[tyro.conf.FlagConversionOff[Config], tyro.conf.arg(name="")]  # True or False, as in a sweep
_TARGETS = " ".join(f"{target.name}: {target.summary} ({', '.join(target.stages)})." for target in targets.TARGETS)
_KNOWN = f"{', '.join(configs.names())}; or the path of a .py file that defines `config`."
ExportTarget = Literal[targets.names()]  # type: ignore[valid-type]
ExportedStage = Literal[tuple(dict.fromkeys(stage for target in targets.TARGETS for stage in target.stages))]  # type: ignore[valid-type]
ConfigName = Annotated[str, tyro.conf.arg(help=f"A name in configs/: {_KNOWN}")]
StageName = Annotated[
    Stage,
    tyro.conf.arg(
        help=f"A stage, in this order: {', '.join(_STAGES)}; or a baseline, after `emotion`: {', '.join(_BASELINES)}. "
        "Its settings are --STAGE.… or --baselines.BASELINE.…"
    ),
]


@dataclass(frozen=True)
class Prepare:
    """Read a corpus, link it to the knowledge graph and write `prepared/NAME`."""

    settings: Settings
    config: ConfigName = "demo"
    force: bool = False
    """Prepare again even if it is complete."""
    skip_bad: bool = False
    """Leave malformed lines out instead of ending the command; they are written to rejected.jsonl."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.data.prepare import prepare

        skip_bad = self.skip_bad or self.settings.corpus.skip_bad
        settings = configs.replace(self.settings, "corpus.skip_bad", skip_bad)
        prepare(settings, force=self.force, console=console)


@dataclass(frozen=True)
class Reviews:
    """Turn dumps of film reviews (CSV, JSON lines) into the file that `corpus.reviews` names.

    Example: ecr reviews dump.csv --corpus prepared/redial --into data/my_reviews --columns film=title votes=

    Reviews are filtered as ECR's are, and what they name is linked to the corpus's graph; a table says what each step
    leaves out. All reviews of a film are in one split. Prepare the corpus (again) with --corpus.reviews afterwards.
    """

    dumps: tyro.conf.Positional[tuple[Path, ...]]
    """Files with one review a record; CSV files end in .csv and have a header."""
    corpus: Path
    """The prepared corpus whose films are reviewed, for example prepared/redial; it may have no reviews yet."""
    into: Path
    """The folder for reviews.jsonl, rejected.jsonl and manifest.json."""
    columns: tuple[str, ...] = ()
    """What differs from movie, year, review, rating, votes, as film=COLUMN year=COLUMN text=COLUMN rating=COLUMN
    votes=COLUMN; year=, rating= and votes= alone say that the dump has none. A film is a title, an IMDb id or a URI."""
    min_rating: float = 10
    """Lowest rating that is kept."""
    min_votes: int = 1
    """Fewest people who found it helpful."""
    min_words: int = 20
    """Fewest words."""
    max_words: int = 150
    """A longer review is cut to whole sentences of its beginning and end."""
    min_first_person: int = 0
    """Fewest words among I, me, my and mine."""
    valid_every: int = 20
    """The reviews of one film in this many are for validation."""
    skip_bad: bool = False
    """Leave malformed lines out instead of ending the command; they are written to rejected.jsonl."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.data.prepare import PreparedCorpus
        from ecr_jax.data.schema import Split
        from ecr_jax.knowledge import review_dumps

        columns = dict(review_dumps.COLUMNS)
        for change in self.columns:
            what, equals, name = change.partition("=")
            if not equals or what not in columns or (what in ("film", "text") and not name):
                raise ValueError(f"--columns {change!r}: give WHAT=COLUMN, WHAT one of {', '.join(columns)}")
            columns[what] = name
        rules = {field.name: getattr(self, field.name) for field in fields(review_dumps.ReviewRules)}
        corpus = PreparedCorpus.open(self.corpus)
        graph = corpus.graph
        mentions = (m.entity for c in corpus.split(Split.TRAIN) for turn in c.turns for m in turn.mentions)
        review_dumps.import_dumps(
            self.dumps,
            self.into,
            columns,
            graph,
            corpus.linker,
            {graph.ids[uri] for uri in mentions if uri in graph.ids},
            review_dumps.ReviewRules(**rules),
            skip_bad=self.skip_bad,
            console=console,
        )


@dataclass(frozen=True, kw_only=True)
class _Remote:
    """What the commands share that ask a language model behind an address."""

    address: str | None = None
    """An OpenAI-compatible address: https://api.openai.com/v1, or your own server's, as http://localhost:8000/v1"""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable with the key, if one is needed. The key itself is written nowhere."""
    concurrency: int = 8
    """Most requests under way at once."""
    requests_per_minute: float | None = None
    """Most requests begun in a minute; by default no limit but what the server says."""
    timeout: float = 60.0
    """Seconds until a request counts as failed."""
    retries: int = 6
    """How often a failed request is repeated, with growing pauses, before the command stops."""
    input_price: float | None = None
    """Price of a million input tokens, to report the cost."""
    output_price: float | None = None
    """Price of a million output tokens."""

    def model_address(self, model: str) -> Address:
        """A model at the address. Raises ValueError where there is no address."""
        if self.address is None:
            raise ValueError(
                "no address: this command asks a language model, so give --address, such as "
                "http://localhost:8000/v1 or https://api.openai.com/v1; nothing else stands in for it"
            )
        shared = {field.name: getattr(self, field.name) for field in fields(Address) if field.name in _REMOTE_FIELDS}
        return Address(self.address, model, **shared)


_REMOTE_FIELDS = {field.name for field in fields(_Remote)}


@dataclass(frozen=True)
class _Labelling(_Remote):
    """What the commands share that have a language model label the turns of a prepared corpus."""

    corpus: tyro.conf.Positional[Path]
    """The prepared corpus, for example prepared/redial."""
    model: str
    """The model as the server calls it."""
    label: str | None = None
    """What the labels are called; by default as the model."""
    splits: tuple[Literal["train", "valid", "test"], ...] = ("train", "valid", "test")
    """The splits that are labelled; the stage `emotion` needs all three."""
    limit: int | None = None
    """Most turns of each split, evenly spaced; by default all. (The paper annotates 5,082 utterances.)"""

    def labelled_with(self, annotation: Any, turns_of: Any, label: Any, console: Console) -> None:
        """Labels the turns that `turns_of` finds by the function `label`, both of the module `annotation`."""
        from ecr_jax.data.prepare import PreparedCorpus
        from ecr_jax.data.schema import Split
        from ecr_jax.llm.client import Client

        address = self.model_address(self.model)
        corpus = PreparedCorpus.open(self.corpus)
        label(
            turns_of(corpus.conversations, [Split(split) for split in self.splits], self.limit),
            Client(address, self.corpus.parent / "answers"),
            annotation.folder_of(self.corpus, self.label or address.file_name),
            corpus={part: corpus.manifest[part] for part in ("corpus", "inputs")},
            console=console,
        )


@dataclass(frozen=True)
class Annotate(_Labelling):
    """Label the emotions of seekers' turns, and how they feel about each film, with a language model.

    Example: ecr annotate prepared/redial --address http://localhost:8000/v1 --model llama-3.1-8b --limit 50

    It writes prepared/annotations/redial/LABEL. Every answer is kept in prepared/answers, so the same command goes on
    where it was stopped and asks nothing twice. `ecr train emotion --config redial --emotion.annotations LABEL` then
    learns from the labels.
    """

    def __call__(self, console: Console) -> None:
        from ecr_jax.emotion import annotation

        self.labelled_with(annotation, annotation.seeker_turns, annotation.annotate, console)


@dataclass(frozen=True)
class Label(_Labelling):
    """Label what recommenders' turns do, as sub-tasks of the stage `manager`, with a language model.

    Example: ecr label prepared/redial --address http://localhost:8000/v1 --model llama-3.1-8b --limit 50

    It writes prepared/labels/redial/LABEL, and goes on where it was stopped. `ecr train manager --manager.labels LABEL`
    then learns from them; without, labels are those of the corpus, or come from rules (`ecr agreement`).
    """

    def __call__(self, console: Console) -> None:
        from ecr_jax.manager import annotation

        self.labelled_with(annotation, annotation.replies_of, annotation.label, console)


@dataclass(frozen=True)
class Agreement(_Remote):
    """Compare labels of sub-tasks with those that people gave ReDial's turns (IARD): the rules, and a language model.

    Example: ecr agreement data/iard/iard.jsonl --splits valid test

    With --address and --model the language model is asked as well, with the prompt of `ecr label`.
    """

    iard: tyro.conf.Positional[Path]
    """IARD's file of labelled dialogues, iard.jsonl."""
    model: str | None = None
    """A language model, as the server at --address calls it."""
    splits: tuple[Literal["train", "valid", "test"], ...] = ("train", "valid", "test")
    """The splits that are compared; the rules were written without looking at any."""
    into: Path = Path("runs/agreement.json")
    """The report to write."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.data import iard
        from ecr_jax.data.schema import Split
        from ecr_jax.llm.client import Client
        from ecr_jax.manager import annotation

        client = None
        if self.model is not None:
            client = Client(self.model_address(self.model), self.into.parent / "answers")
        conversations = iard.read(self.iard, {}).conversations
        splits = [Split(split) for split in self.splits]
        annotation.compare(conversations, splits, client, self.into, console)


@dataclass(frozen=True)
class Train:
    """Train a stage or a baseline, or resume it; writes `runs/NAME/STAGE` or `runs/NAME/baselines/BASELINE`."""

    settings: Settings
    stage: tyro.conf.Positional[StageName]
    config: ConfigName = "demo"
    force: bool = False
    """Remove what it wrote before and train from the start."""
    profile: str | None = None
    """Steps to write a trace of, such as 20:25, to `runs/NAME/STAGE/profile`, for TensorBoard or Perfetto."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.losses import objective, policy, rewards
        from ecr_jax.stages import train
        from ecr_jax.training import processes, watching

        processes.join()
        if self.profile is not None:
            steps = re.fullmatch(r"(\d+):(\d+)", self.profile)
            if steps is None or int(steps[1]) >= int(steps[2]):
                raise ValueError(f"--profile {self.profile!r}: give FIRST:END, such as 20:25 for steps 20 to 24")
            watching.TRACED.set(range(int(steps[1]), int(steps[2])))
        objective.check(self.settings.recommendation.loss)  # not after hours of training
        policy.FAMILY.check(self.settings.rlpf.policy.loss)
        rewards.FAMILY.check(self.settings.rlpf.reward)
        train(self.settings, self.stage, force=self.force)


@dataclass(frozen=True)
class Shardings:
    """Show how a stage's arrays lie on devices that need not be there, and the bytes that one of them holds.

    Example: ecr shardings response --config redial_paper --devices 256 --strategy fsdp --memory 80GiB

    It follows from shapes alone: no weights are read, and no earlier stage is needed; the stages that read the
    knowledge graph need the prepared corpus. With --memory, what does not fit ends with status 1.
    """

    settings: Settings
    stage: tyro.conf.Positional[Literal[_STAGES]]  # type: ignore[valid-type]
    config: ConfigName = "demo"
    devices: int = 1
    """How many devices, up to thousands."""
    strategy: Strategy | None = None
    """What is split; by default as --STAGE.train.sharding.strategy says."""
    model: int | None = None
    """Devices on the mesh axis `model`; by default 2 for `tensor` and `fsdp_tensor`, or what the config says."""
    memory: str | None = None
    """What a device has, for example 80GiB."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.stages import shardings

        shardings.show(
            self.settings,
            self.stage,
            devices=self.devices,
            strategy=self.strategy,
            model=self.model,
            memory=self.memory,
            console=console,
        )


@dataclass(frozen=True)
class Sweep:
    """Train a grid of losses, settings and seeds, and compare them in one table; writes `runs/FOLDER/report.json`."""

    settings: Settings
    config: ConfigName = "demo"
    stage: Ranker = "recommendation"
    """What is trained and measured: the recommender or a baseline."""
    losses: tuple[str, ...] = ()
    """Ranking losses as in --recommendation.loss, each in quotes if it has brackets or a sum."""
    grid: tuple[str, ...] = ()
    """Other settings, PATH=VALUE,VALUE each: all combinations are trained."""
    each: tuple[str, ...] = ()
    """Single changes, PATH=VALUE each: the config as it is, and with one change at a time."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each combination; the table shows their mean."""
    seed_from: Stage | None = None
    """The first stage that a seed changes; the stages before it are trained once. By default --stage alone."""
    split: Literal["valid", "test"] = "valid"
    """The split that is measured; make all choices on `valid` before you look at `test`."""
    folder: str = "sweep"
    """Where the trainings and the table go, under `runs`."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.data.schema import Split
        from ecr_jax.runs import sweep

        sweep.run(
            self.settings,
            stage=self.stage,
            losses=self.losses,
            grid=self.grid,
            each=self.each,
            seeds=self.seeds,
            seed_from=self.seed_from,
            split=Split(self.split),
            folder=self.folder,
            console=console,
        )


@dataclass(frozen=True)
class Evaluate:
    """Measure a run beside its baselines, once; writes report.json and report.html to `runs/NAME/SPLIT`."""

    settings: Settings
    config: ConfigName = "demo"
    split: Literal["valid", "test"] = "test"
    """The split that is measured; make all choices on `valid` before you look at `test`."""
    protocol: Literal["default", "published"] = "default"
    """`default`: one target for each item of a turn; `published`: one for each mention, as in the released code, to
    compare with papers."""
    force: bool = False
    """Measure again even if it is complete for the same parameters and settings; `reads.jsonl` records it."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.data.schema import Split
        from ecr_jax.evaluation.run import evaluate

        evaluate(self.settings, split=Split(self.split), protocol=self.protocol, force=self.force, console=console)


@dataclass(frozen=True)
class Simulate(_Remote):
    """Have simulated seekers, who want a film of the test split, talk with a run, and measure how soon it finds it.

    Example: ecr simulate runs/demo --dialogues 100 --baselines popularity ranker

    A seeker knows attributes of its film, never the title. By default it is played by rule, the same way each time;
    --model has a language model at --address play it. The tables and the dialogues go to RUN/SPLIT/simulated. A command
    that was stopped goes on with the dialogues that are missing.
    """

    run: tyro.conf.Positional[Path]
    """The run's folder, for example runs/demo."""
    split: Literal["valid", "test"] = "test"
    """Whose films are looked for."""
    dialogues: int = 100
    """Most dialogues of each system, each about another film."""
    turns: int = 8
    """A dialogue ends without success after so many replies."""
    baselines: tuple[Literal["popularity", "ranker"], ...] = ("popularity",)
    """Rows beside the run's. popularity: the most recommended film that fulfils all that was said; ranker: the run's
    recommender alone, without memory, plans and checks."""
    model: str | None = None
    """The model that plays the seekers, as the server at --address calls it."""
    seed: int = 0
    """Of the films and the seekers."""
    force: bool = False
    """Begin anew even if it is complete for the same parameters and settings."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.data.schema import Split
        from ecr_jax.evaluation.simulation.run import simulate
        from ecr_jax.inference.agent import Agent
        from ecr_jax.llm.client import Client

        if self.dialogues < 1 or self.turns < 1:
            raise ValueError(f"--dialogues {self.dialogues} --turns {self.turns}: give 1 or more of each")
        if self.model is None and self.address is not None:
            raise ValueError("--address without --model: name the model that plays the seekers")
        client = None if self.model is None else Client(self.model_address(self.model), self.run / "answers")
        simulate(
            Agent.open(self.run),
            split=Split(self.split),
            count=self.dialogues,
            rounds=self.turns,
            baselines=tuple(dict.fromkeys(self.baselines)),
            seed=self.seed,
            client=client,
            force=self.force,
            console=console,
        )


@dataclass(frozen=True)
class Compare:
    """Compare evaluated runs on the same targets: the first with each other one, with intervals and tests."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Each [LABEL=]RUN[:MODEL][,RUN[:MODEL]...]: a run's folder or a predictions.jsonl, and a model in it (by default
    the run's own); with commas, the seeds of one model. Such as runs/ecr-s0,runs/ecr-s1 runs/redial:co-occurrence"""
    split: Literal["valid", "test"] = "test"
    """The split whose predictions are read from the runs' folders."""
    every_pair: bool = False
    """Compare every two runs, not only the first with the others."""
    metrics: tuple[str, ...] = ()
    """What is tested, for example recall@10 auc_pooled; by default what the tables show. p is adjusted for all."""
    strata: tuple[str, ...] = ()
    """Where it is tested, for example all new."""
    resamples: int = 10_000
    """Bootstrap resamples, and permutations of each test."""
    into: Path = Path("runs/comparison")
    """Folder for report.json and report.html."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.data.schema import Split
        from ecr_jax.evaluation.compare import compare

        compare(
            self.runs,
            split=Split(self.split),
            into=self.into,
            console=console,
            strata=self.strata,
            metrics=self.metrics,
            every_pair=self.every_pair,
            resamples=self.resamples,
        )


@dataclass(frozen=True)
class ZeroShot(_Remote):
    """Have a language model reply to the same dialogues and recommend the same films, to judge it beside a run.

    Example: ecr zero-shot runs/redial/test/replies.jsonl --address http://localhost:8000/v1 --model llama-3.1-8b

    It writes zero-shot-MODEL.jsonl beside the file, for `ecr judge` and `ecr human`.
    """

    replies: tyro.conf.Positional[Path]
    """A replies.jsonl of `ecr evaluate`."""
    model: str
    """The model as the server calls it."""
    system: str = "ecr"
    """The system whose films the model is told to recommend."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.evaluation import judging, system_replies
        from ecr_jax.llm.client import Client
        from ecr_jax.llm.writer import RemoteWriter

        address = self.model_address(self.model)
        given = [reply for reply in system_replies.read(self.replies) if reply.system == self.system]
        if not given:
            raise ValueError(f"{self.replies} has no replies of {self.system!r}")
        writer = RemoteWriter(Client(address, self.replies.parent / "answers"), temperature=0.0)
        path = self.replies.with_name(f"zero-shot-{address.file_name}.jsonl")
        system_replies.write(path, judging.zero_shot(given, writer, f"zero-shot {self.model}"))
        console.print(f"{len(given)} replies: {path}")


@dataclass(frozen=True)
class Judge(_Remote):
    """Have language models score replies on the paper's five measures (0 to 9), and compare systems in both orders.

    Example: ecr judge runs/redial/test/replies.jsonl --judges gpt-4-turbo@https://api.openai.com/v1,OPENAI_API_KEY

    The tables have intervals over dialogues, seen films apart from unseen ones, and the judges' agreement. A malformed
    answer is a missing score, never a zero; the same command goes on where it was stopped.
    """

    replies: tyro.conf.Positional[tuple[Path, ...]]
    """Files of replies: replies.jsonl of `ecr evaluate`, those of `ecr zero-shot`, or your own (docs/judging.md)."""
    judges: tuple[str, ...]
    """Models, each MODEL[@ADDRESS[,KEY_VARIABLE]]; by default at --address with the key in --key-variable."""
    systems: tuple[str, ...] = ()
    """Systems that are judged; the first is compared with the others. By default all of the files."""
    sample: int = 1000
    """Most turns that are judged, drawn at random from those that all systems reply to."""
    pairs: bool = True
    """Compare every two systems as well: two questions a turn and pair."""
    into: Path | None = None
    """Folder for the results; by default `judged` beside the first file."""
    seed: int = 0
    """Of the sample and the bootstrap."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.evaluation import judging
        from ecr_jax.llm.client import Client

        addresses = [self._address(judge) for judge in self.judges]
        sample = judging.draw_sample(self.replies, self.systems, self.sample, self.seed)
        into = self.into or self.replies[0].parent / "judged"
        clients = [Client(address, self.replies[0].parent / "answers") for address in addresses]
        judging.judge(sample, clients, into, pairs=self.pairs, console=console, seed=self.seed)

    def _address(self, judge: str) -> Address:
        parts = re.fullmatch(r"(.+?)(?:@(https?://[^,]+)(?:,(\w+))?)?", judge)
        if parts is None:
            raise ValueError(f"{judge!r} names no judge; give MODEL[@ADDRESS[,KEY_VARIABLE]]")
        model, address, variable = parts.groups()
        changes = {"address": address or self.address, "key_variable": variable or self.key_variable}
        return replace(self, **changes).model_address(model)


@dataclass(frozen=True)
class HumanExport:
    """Write blinded sheets of replies in random order, for people to score: CSV and a page for the browser each."""

    replies: tyro.conf.Positional[tuple[Path, ...]]
    """Files of replies, as for `ecr judge`."""
    into: Path
    """A new folder for the sheets and their key."""
    systems: tuple[str, ...] = ()
    """Systems that are judged; by default all of the files."""
    sample: int = 50
    """Most turns, drawn at random; a sheet has each of them once for every system."""
    raters: int = 3
    """How many sheets."""
    seed: int = 0
    """Of the sample, the codes and the orders."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.evaluation import human, judging

        sample = judging.draw_sample(self.replies, self.systems, self.sample, self.seed)
        human.export(sample, self.into, raters=self.raters, seed=self.seed, console=console)


@dataclass(frozen=True)
class HumanImport:
    """Read filled sheets, and write the tables of `ecr judge` to FOLDER/judged."""

    folder: tyro.conf.Positional[Path]
    """The folder that `ecr human export` wrote, with its key."""
    sheets: tyro.conf.Positional[tuple[Path, ...]]
    """Filled sheets, one CSV file a rater."""
    beside: Path | None = None
    """A scores.jsonl of `ecr judge` on the same replies: how far do people and models agree?"""

    def __call__(self, console: Console) -> None:
        from ecr_jax.evaluation import human, judge_tables

        beside = [] if self.beside is None else judge_tables.read_scores(self.beside)
        human.collect(self.folder, self.sheets, beside, console=console)


@dataclass(frozen=True)
class Human:
    """Have people judge replies: `ecr human export` writes sheets, `ecr human import` reads them."""

    action: Annotated[
        Annotated[HumanExport, tyro.conf.subcommand("export")] | Annotated[HumanImport, tyro.conf.subcommand("import")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self, console: Console) -> None:
        self.action(console)


@dataclass(frozen=True, kw_only=True)
class _Managed:
    """What the commands share in which a language model behind an address may choose what each reply does."""

    llm: str | None = None
    """An OpenAI-compatible address whose model chooses the sub-tasks, in place of the run's own manager."""
    model: str | None = None
    """The model as the server calls it; needed with --llm."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable with the key, if one is needed. The key itself is written nowhere."""
    timeout: float = 10.0
    """Seconds until the model counts as silent; the learned acts then choose."""

    def client(self, run: Path) -> Any:
        """The client of the model, which keeps its answers with the run; None where no address is given."""
        from ecr_jax.llm.client import Client

        if self.llm is None:
            return None
        if self.model is None:
            raise ValueError("--llm needs --model: the model's name as the server calls it")
        return Client(
            Address(self.llm, self.model, self.key_variable, timeout=self.timeout, retries=0), run / "answers"
        )


@dataclass(frozen=True)
class Chat(_Managed):
    """Talk with a trained run in the terminal.

    A run that has the stage `manager`, or a language model behind an address, chooses what each reply does:
    ecr chat runs/demo --llm http://localhost:8000/v1 --model llama-3.1-8b
    """

    run: tyro.conf.Positional[Path]
    """The run's folder, for example runs/demo."""
    explain: bool = False
    """Show with each reply what was heard, which sub-task was chosen and by whom, the expert, the plan and the checks.
    """
    items: int = 0
    """Fewest films a reply recommends; with 0 it recommends as many as its plan does."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.inference.chat import talk

        talk(self.run, explain=self.explain, items=self.items, console=console, client=self.client(self.run))


@dataclass(frozen=True)
class Serve(_Managed):
    """Serve a trained run: an API for OpenAI's clients, kept conversations, and a web page at its address.

    Example: ecr serve runs/demo

    docs/serving.md says what it answers, and how it is run as a service.
    """

    run: tyro.conf.Positional[Path]
    """The run's folder, for example runs/demo. Clients call the model by the folder's name."""
    host: str = "127.0.0.1"
    """Address to listen on; by default this machine alone can reach the server, 0.0.0.0 is for all."""
    port: int = 8000
    """Port to listen on."""
    database: str | None = None
    """Where conversations are kept: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME; by default
    RUN/conversations.db."""
    keys: Path | None = None
    """File of API keys that `ecr serve-key` writes; without one anybody is let in who can reach the server."""
    hosts: tuple[str, ...] = ()
    """Names by which browsers may call the server, against DNS rebinding; by default those of this machine, or any with
    another --host."""
    limits: Limits = Limits()
    """Bounds of requests."""

    def __call__(self, console: Console) -> None:
        try:
            from ecr_jax.serving.server import serve
        except ModuleNotFoundError as error:
            raise ValueError(f"{error.name} is not installed; `pip install 'ecr-jax[serve]'` brings it") from error

        serve(
            self.run,
            host=self.host,
            port=self.port,
            database=self.database,
            keys=self.keys,
            hosts=self.hosts,
            limits=self.limits,
            client=self.client(self.run),
            console=console,
        )


@dataclass(frozen=True)
class ServeKey:
    """Make an API key for `ecr serve --keys FILE` and print it once; the file has only its hash."""

    file: tyro.conf.Positional[Path]
    """The file of keys; it is made where it is missing."""
    name: tyro.conf.Positional[str]
    """Whose key it is; conversations belong to the name. A key of the same name is replaced."""
    requests_per_minute: int | None = None
    """Most requests of its holder in a minute; by default no limit."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.serving.callers import add_key

        console.print(add_key(self.file, self.name, self.requests_per_minute), highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Export:
    """Write a trained stage for another program, checked by that program; writes `RUN/exports/TO-STAGE`."""

    run: tyro.conf.Positional[Path]
    """The run's folder, for example runs/demo."""
    to: Annotated[ExportTarget, tyro.conf.arg(help=f"What it is exported to. {_TARGETS}")]
    stage: ExportedStage | None = None
    """The stage that is exported; by default the first that the target is for."""
    into: Path | None = None
    """The folder to write; it must not exist."""
    unverified: bool = False
    """Export even if the program that reads it is not installed, so that it cannot check it; the manifest says so."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.export.run import export

        export(self.run, self.to, stage=self.stage, into=self.into, unverified=self.unverified, console=console)


@dataclass(frozen=True)
class Demo:
    """Prepare the built-in corpus, train all stages, report, and show three replies."""

    short: bool = False
    """A few steps of each stage, to check that everything works."""

    def __call__(self, console: Console) -> None:
        from ecr_jax.runs import demo

        demo.run(short=self.short, console=console)


Command = (
    Prepare
    | Reviews
    | Annotate
    | Label
    | Agreement
    | Train
    | Shardings
    | Sweep
    | Evaluate
    | Simulate
    | Compare
    | ZeroShot
    | Judge
    | Human
    | Chat
    | Serve
    | ServeKey
    | Export
    | Demo
)

_DESCRIPTION = "Empathetic conversational recommendation of films. Start with `ecr demo`."


def main(arguments: list[str] | None = None) -> int:
    """Entry point.

    Args:
      arguments: by default those of the process.

    Returns:
      The exit status.
    """
    # transformers warns that torch is missing, which nothing here needs.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    console = Terminal()
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if arguments is None:
            for name, value in compilation_cache_environment(default_cache() / "compiled").items():
                os.environ.setdefault(name, value)
            if isinstance(command, Train | Sweep | Demo):
                relaunch_keeping_freed_memory()
        command(console)
    except KeyboardInterrupt:
        console.print("\nstopped; finished work is saved, and the same command resumes")
        return 130
    except (ValueError, OSError, FloatingPointError, HubError) as error:
        message = error
        if isinstance(error, OSError) and error.filename is not None:
            message = f"cannot read or write {error.filename}: {error.strerror}"
        Terminal(stderr=True).print(f"error: {message}", style="bold red", highlight=False, markup=False)
        return 1
    return 0


def parse(arguments: list[str]) -> Command:
    """The command that arguments describe; a mistyped one ends the program with a message, as `--help` does."""
    # The named config is the default that the other flags change, so it is looked up first.
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config", default="demo")
    name = first.parse_known_args(arguments)[0].config
    settings = configs.load(name)
    defaults: dict[str, Any] = {
        "prepare": Prepare(settings, name),
        "reviews": Reviews(tyro.MISSING, tyro.MISSING, tyro.MISSING),
        "annotate": Annotate(tyro.MISSING, tyro.MISSING),
        "label": Label(tyro.MISSING, tyro.MISSING),
        "agreement": Agreement(tyro.MISSING),
        "train": Train(settings, tyro.MISSING, name),
        "shardings": Shardings(settings, tyro.MISSING, name),
        "sweep": Sweep(settings, name),
        "evaluate": Evaluate(settings, name),
        "simulate": Simulate(tyro.MISSING),
        "compare": Compare(tyro.MISSING),
        "zero-shot": ZeroShot(tyro.MISSING, tyro.MISSING),
        "judge": Judge(tyro.MISSING, tyro.MISSING),
        "human": Human(tyro.MISSING),
        "chat": Chat(tyro.MISSING),
        "serve": Serve(tyro.MISSING),
        "serve-key": ServeKey(tyro.MISSING, tyro.MISSING),
        "export": Export(tyro.MISSING, tyro.MISSING),
        "demo": Demo(),
    }
    kinds = tuple(
        Annotated[type(default), tyro.conf.subcommand(command, default=default, description=_summary(type(default)))]
        for command, default in defaults.items()
    )
    if arguments and arguments[0] in defaults:  # so that messages are about this command alone
        default = defaults[arguments[0]]
        return tyro.cli(type(default), args=arguments[1:], default=default, prog=f"ecr {arguments[0]}")
    return tyro.cli(Union[kinds], args=arguments, prog="ecr", description=_DESCRIPTION)  # type: ignore[arg-type]  # noqa: UP007


def _summary(command: type) -> str:
    """The first paragraph of a command's help."""
    return " ".join((command.__doc__ or "").partition("\n\n")[0].split())
