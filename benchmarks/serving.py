"""`ecr serve` under load, over HTTP on loopback: requests and tokens a second, waiting times, refusals, memory.

    python -m benchmarks.serving runs/demo

Clients and server share the machine. Each client holds kept conversations of three turns, streamed. A reply is checked
as a whole before it is said, so that its first token comes when all of it is there.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np

from benchmarks.common import Row, report

_MAIN = "import sys; from ecr_jax.cli import main; sys.exit(main())"
_TURNS = ("Hi! I loved {}. What should I watch next?", "I have seen that one. Something else, and no horror please?",
          "Who directed it?")  # fmt: skip
_TIMEOUT = 300.0


@dataclass
class Measured:
    """What clients saw; times in seconds.

    Attributes:
      first: from each request to the first token of its reply.
      whole: to its end.
      between: between two tokens of a reply.
      tokens: of all replies.
      statuses: how many answers of each HTTP status.
      seconds: of the whole measurement.
    """

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    tokens: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0


@contextmanager
def server(run: Path, batch: int) -> Iterator[tuple[str, float]]:
    """A server of a run with an empty database: its address, and the seconds until it was ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--database", f"sqlite:///{folder}/c.db", "--limits.batch", str(batch),
                   "--limits.seconds", str(_TIMEOUT)]  # fmt: skip
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, "serve", str(run), *options], stdout=subprocess.DEVNULL
        )
        try:
            with httpx2.Client(verify=False) as client:
                while True:
                    if process.poll() is not None:
                        raise SystemExit(f"the server ended with status {process.returncode}")
                    try:
                        if client.get(f"{url}/readyz").status_code == 200:
                            break
                    except httpx2.ConnectError:
                        pass
                    time.sleep(0.05)
            yield url, time.monotonic() - begun
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


async def turn(client: httpx2.AsyncClient, model: str, text: str, place: str, measured: Measured) -> str:
    """One streamed turn of a kept conversation; returns where it is kept."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True,
            "stream_options": {"include_usage": True}, "ecr": {"conversation_id": place}}  # fmt: skip
    begun = last = time.monotonic()
    said = 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        measured.statuses[response.status_code] += 1
        if response.status_code != 200:
            return place
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            now = time.monotonic()
            if "error" in chunk:
                measured.statuses[500] += 1
                return place
            if chunk["usage"]:
                measured.tokens += chunk["usage"]["completion_tokens"]
            elif chunk["choices"][0]["delta"].get("content"):
                (measured.between if said else measured.first).append(now - (last if said else begun))
                said, last = said + 1, now
            elif "ecr" in chunk:
                place = chunk["ecr"]["conversation_id"]
    measured.whole.append(time.monotonic() - begun)
    return place


async def load(url: str, model: str, titles: Sequence[str], clients: int, requests: int) -> Measured:
    """So many clients at once, until so many requests were answered."""
    measured, numbers = Measured(), itertools.count()
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def talk(client: httpx2.AsyncClient, person: int) -> None:
        for conversation in itertools.count(person):
            place = "new"
            for text in _TURNS:
                if next(numbers) >= requests:
                    return
                words = text.format(titles[conversation % len(titles)])
                place = await turn(client, model, words, place, measured)

    async with httpx2.AsyncClient(base_url=url, timeout=_TIMEOUT, limits=limits, verify=False) as client:
        await client.get("/v1/models")  # one person, whose cookie all requests send
        begun = time.monotonic()
        await asyncio.gather(*(talk(client, person) for person in range(clients)))
        measured.seconds = time.monotonic() - begun
    return measured


def milliseconds(values: Sequence[float], percentile: float) -> float:
    """A percentile of times in seconds, in milliseconds."""
    return 1e3 * float(np.percentile(values, percentile))


def rows_of(case: str, measured: Measured) -> list[Row]:
    """The rows of one measurement."""
    rows = [
        Row(case, "requests", measured.statuses[200] / measured.seconds, "1/s"),
        Row(case, "tokens", measured.tokens / measured.seconds, "1/s"),
    ]
    times = {"first token": measured.first, "whole reply": measured.whole, "between tokens": measured.between}
    for name, values in times.items():
        rows += [Row(case, f"{name}, p{p}", milliseconds(values, p), "ms") for p in (50, 99)]
    return rows


def memory(url: str) -> float:
    """The server's resident memory in MiB."""
    text = httpx2.get(f"{url}/metrics", verify=False).text
    found = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    return float(found[1]) / 2**20 if found else float("nan")


def measure(run: Path, clients: Sequence[int], requests: int, crowd: int, lasting: int, batch: int) -> Iterator[Row]:
    """All rows.

    Args:
      run: the run's folder.
      clients: numbers of clients.
      requests: of each number of clients, at least three for each client.
      crowd: clients that send one request each at once; more than the queue takes.
      lasting: requests over which memory is watched; 0 for none.
      batch: dialogues of a batch.
    """
    with server(run, batch) as (url, seconds):
        yield Row("start", "ready after", seconds, "s")
        with httpx2.Client(base_url=url, timeout=_TIMEOUT, verify=False) as client:
            model = client.get("/v1/models").json()["data"][0]["id"]
            body = {"conversation": [{"role": "seeker", "text": "Hello"}], "k": 50}
            titles = [film["title"] for film in client.post("/recommend", json=body).json()["items"]]
            times = []
            for title in itertools.islice(itertools.cycle(titles), 50):
                turns = [{"role": "seeker", "text": _TURNS[0].format(title)}]
                begun = time.monotonic()
                client.post("/recommend", json={"conversation": turns, "k": 10}).raise_for_status()
                times.append(time.monotonic() - begun)
        yield from (Row("/recommend, 1 client", f"p{p}", milliseconds(times, p), "ms") for p in (50, 99))
        alone = None
        for count in clients:
            measured = asyncio.run(load(url, model, titles, count, max(requests, 3 * count)))
            rows = rows_of(f"chat, {count} client{'s' * (count > 1)}", measured)
            if count == 1:
                alone = rows[1].value
            for row in rows:
                ratio = row.value / alone if alone and row.metric == "tokens" else None
                yield Row(row.case, row.metric, row.value, row.unit, alone if ratio else None, ratio)
        if crowd:
            statuses = asyncio.run(load(url, model, titles, crowd, crowd)).statuses
            yield Row(f"chat, {crowd} clients at once", "answered", statuses[200], "requests")
            yield Row(f"chat, {crowd} clients at once", "refused (429)", statuses[429], "requests")
            other = sum(count for status, count in statuses.items() if status not in (200, 429))
            yield Row(f"chat, {crowd} clients at once", "other errors", other, "requests")
        if lasting:
            before = memory(url)
            asyncio.run(load(url, model, titles, 8, lasting))
            yield Row(f"after {lasting} requests more", "memory", memory(url), "MiB", before, before / memory(url))


def main() -> None:
    """Measures, prints the table, and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder, such as runs/demo")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--requests", type=int, default=96, help="of each number of clients")
    parser.add_argument("--crowd", type=int, default=256, help="clients that send one request each at once")
    parser.add_argument("--lasting", type=int, default=2000, help="requests over which memory is watched; 0: none")
    parser.add_argument("--batch", type=int, default=8, help="dialogues of a batch (--limits.batch)")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    rows = measure(options.run, options.clients, options.requests, options.crowd, options.lasting, options.batch)
    report(rows, f"ecr serve {options.run}", options.json)


if __name__ == "__main__":
    main()
