"""Writing: the old stays until the new is whole, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ecr_jax.files import (
    read_jsonl_rows,
    read_parquet,
    remove_partial,
    replacing,
    write_json,
    write_jsonl,
    write_parquet,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_is_replaced(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    for text in ("one", "two"):
        with replacing(path) as temporary:
            temporary.write_text(text)
            assert temporary.name == path.name  # writers that look at the suffix see the right one
            assert not path.exists() or path.read_text() == "one"
    assert path.read_text() == "two" and names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt])
def test_exception_keeps_the_old_file(tmp_path, raised):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(raised), replacing(path) as temporary:
        temporary.write_text("half")
        raise raised
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("one", "two"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert names(path) == ["two"] and names(tmp_path) == ["folder"]


def test_exception_keeps_the_old_folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "half").write_text("half")
        raise RuntimeError
    assert names(path) == ["old"] and names(tmp_path) == ["folder"]


def test_nothing_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]


def test_tensors_have_the_permissions_of_other_new_files(tmp_path):
    (tmp_path / "ordinary").touch()
    for target in (tmp_path / "a.safetensors", tmp_path / "folder" / "b.safetensors"):
        with replacing(target.parent if target.parent != tmp_path else target) as temporary:
            file = temporary if temporary.suffix else temporary / target.name
            file.parent.mkdir(exist_ok=True)
            save_file({"x": np.zeros(2)}, file)
        assert target.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "a": "ü",\n "b": 1\n}\n'
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert names(tmp_path) == ["a.json"]


def test_jsonl_round_trip(tmp_path):
    rows = [{"text": "line\nbreak \u2028 ü"}, {}]
    write_jsonl(tmp_path / "rows.jsonl", iter(rows))
    assert read_jsonl_rows(tmp_path / "rows.jsonl") == rows
    write_jsonl(tmp_path / "rows.jsonl", [])
    assert read_jsonl_rows(tmp_path / "rows.jsonl") == []


def test_parquet_round_trip(tmp_path, capfd):
    types = {"id": "int32", "spans": [{"start": "int32", "name": "string"}], "weights": ["float64"]}
    columns = {
        "id": [1, None],
        "spans": [[{"start": 0, "name": "ü"}, {"start": 3, "name": None}], []],
        "weights": [[], [0.1]],
    }
    write_parquet(tmp_path / "table.parquet", columns, types)
    assert read_parquet(tmp_path / "table.parquet") == columns
    write_parquet(tmp_path / "table.parquet", {name: [] for name in types}, types)
    assert read_parquet(tmp_path / "table.parquet") == {name: [] for name in types}
    assert names(tmp_path) == ["table.parquet"] and capfd.readouterr() == ("", "")  # no progress bars


def test_parquet_keeps_the_old_table(tmp_path):
    write_parquet(tmp_path / "table.parquet", {"id": [1]}, {"id": "int32"})
    with pytest.raises((TypeError, ValueError)):
        write_parquet(tmp_path / "table.parquet", {"id": ["one"]}, {"id": "int32"})
    assert read_parquet(tmp_path / "table.parquet") == {"id": [1]} and names(tmp_path) == ["table.parquet"]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    """A process is killed while it writes; what stood there stays, and what belongs to other names too."""
    (tmp_path / "a.json").write_text("old")
    (tmp_path / ".hidden").mkdir()
    code = (
        "import os, pathlib, signal, sys\n"
        "from ecr_jax.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for name in ("a.json", "a.json.v2"):
        killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], env=environment, check=False)
        assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 4
    remove_partial(tmp_path, "a.json")
    left = [name for name in names(tmp_path) if name not in (".hidden", "a.json")]
    assert len(left) == 1 and left[0].startswith(".a.json.v2.")
    remove_partial(tmp_path)
    assert names(tmp_path) == [".hidden", "a.json"] and (tmp_path / "a.json").read_text() == "old"
    remove_partial(tmp_path / "missing")
