"""Writing files and folders so that a reader never sees half of one: a temporary name first, then a rename.

Tables are Parquet files, written through `datasets`. That library takes a second to import, so that only the functions
that need it import it.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import datasets

ColumnType: TypeAlias = "str | Sequence[ColumnType] | Mapping[str, ColumnType]"
"""The type of a Parquet column: a type's name ("string", "int32", ...), a list of one type, or named fields."""


_PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write a file or folder to; renames it when the block ends well.

    If the block raises (Ctrl-C too), the temporary is removed and what stood at `path` stays. A process that is killed
    leaves the temporary behind, for `remove_partial`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent))
    temporary = holder / path.name
    try:
        yield temporary
        _open_to_readers(temporary, holder / "probe")
        if path.is_dir() and temporary.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _open_to_readers(path: Path, probe: Path) -> None:
    """Gives safetensors files the permissions that new files get here; that library makes them the owner's alone."""
    written = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    tensors = [file for file in written if file.suffix == ".safetensors" and not file.is_symlink()]
    if tensors:
        probe.touch()
        for file in tensors:
            file.chmod(probe.stat().st_mode)


def remove_partial(folder: Path, name: str = "*") -> None:
    """Removes what killed processes left of files and folders called `name` (a pattern) that they were writing.

    Args:
      folder: of the files; only one process may write such files there at a time.
      name: of the files, all by default.
    """
    for holder in Path(folder).glob(f".{name}.{'?' * 8}{_PARTIAL}"):  # as `tempfile.mkdtemp` names them
        shutil.rmtree(holder)


def link(source: Path, target: Path) -> None:
    """Makes `target` a relative link to the folder `source`, unless it is the same place."""
    if target.exists() and target.samefile(source):
        return
    with replacing(target) as temporary:
        temporary.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()), target_is_directory=True)


def remove(folder: Path) -> None:
    """Removes a folder with all its content, or the link alone where it is one; does nothing where it is missing."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def peak_memory_mb() -> float:
    """The most memory this process has held so far, in MiB (earlier work of the same process included)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON with sorted keys, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, atomically."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl_rows(path: Path) -> list[dict[str, Any]]:
    """Reads what `write_jsonl` wrote."""
    with Path(path).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any]], types: Mapping[str, ColumnType]) -> None:
    """Writes a table as Parquet, atomically.

    Args:
      path: the file.
      columns: column name -> values, all columns of one length; None is a missing value.
      types: column name -> type, in the order of the file's columns.
    """
    import datasets

    features = datasets.Features({name: _feature(kind) for name, kind in types.items()})
    table = datasets.Dataset.from_dict({name: columns[name] for name in types}, features=features)
    bars_were_off = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with replacing(path) as temporary:
            table.to_parquet(str(temporary))
    finally:
        if not bars_were_off:
            datasets.enable_progress_bars()


def _feature(kind: ColumnType) -> datasets.Value | list[Any] | dict[str, Any]:
    import datasets

    if isinstance(kind, str):
        return datasets.Value(kind)
    if isinstance(kind, Mapping):
        return {name: _feature(part) for name, part in kind.items()}
    (element,) = kind
    return [_feature(element)]


def read_parquet(path: Path) -> dict[str, list[Any]]:
    """Reads a Parquet table: column name -> values.

    It uses the pyarrow of `datasets`, whose own reader would first copy the table into a cache in the home folder.
    """
    from pyarrow import parquet

    return parquet.read_table(path).to_pydict()
