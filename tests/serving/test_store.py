"""The store: migrations, transactions, deletion; on SQLite, and on a PostgreSQL server that the test starts."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from ecr_jax.serving.faults import ApiError
from ecr_jax.serving.schemas import FilmCard, ReplyExplanation
from ecr_jax.serving.store import Store, new_reply_id
from ecr_jax.serving.store.database import Database, migrate
from ecr_jax.serving.store.tables import Base


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The URL of a PostgreSQL server of the test, with an empty database for each call."""
    found = [shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    initdb = next((path for path in found if path), None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    folder = tmp_path_factory.mktemp("postgresql")
    # PostgreSQL refuses to run as root; Debian's package makes a user for it.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == 0 and parent != Path("/tmp") and Path("/tmp") in parent.parents:
                parent.chmod(0o755)
        shutil.chown(folder, "postgres")
    data, programs = folder / "data", Path(initdb).resolve().parent
    subprocess.run([*user, str(programs / "initdb"), "-A", "trust", "-U", "ecr", "-D", str(data)], check=True, cwd="/",
                   capture_output=True)  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    control = [*user, str(programs / "pg_ctl"), "-D", str(data), "-w", "-s"]
    subprocess.run([*control, "-l", str(folder / "log"), "-o", options, "start"], check=True, cwd="/")
    numbers = itertools.count()

    def new_database():
        name = f"test{next(numbers)}"
        create = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "ecr", name]
        subprocess.run(create, check=True)
        return f"postgresql://ecr@127.0.0.1:{port}/{name}"

    yield new_database
    subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'folder' / 'conversations.db'}"
    return request.getfixturevalue("postgresql")()


@pytest.fixture
def store(url):
    store = Store.open(url)
    yield store
    store.database.close()


CARD = FilmCard(uri="<x:heat>", title="Heat (1995)", probability=0.5)


def reply(store, turn, text="fine"):
    identifier = new_reply_id()
    explanation = ReplyExplanation(sub_acts=["recommend"], films=[CARD])
    assert store.add_reply(turn, identifier, text, explanation, {"films": []})
    return identifier


def test_migrations_make_the_tables_that_the_code_declares_and_remove_them(url):
    database = Database(url)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    migrate(database.engine)  # nothing to do
    migrate(database.engine, "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    database.close()


def test_servers_that_start_at_once_migrate_once(url):
    with ThreadPoolExecutor(4) as threads:
        databases = list(threads.map(lambda _: Database(url), range(4)))
    for database in databases:
        database.check()
        database.close()


def test_what_was_written_is_there_after_it_is_opened_again(store, url):
    turn = store.begin_turn("me", "hello 🎬 '; --", forget=["liked:x"])
    reply(store, turn)
    store.database.close()
    again = Store.open(url)
    kept = again.conversation("me", turn.conversation_id)
    assert [(m.role, m.text) for m in kept.messages] == [("seeker", "hello 🎬 '; --"), ("recommender", "fine")]
    assert again.begin_turn("me", "more", turn.conversation_id).path[0].forgotten == ("liked:x",)
    again.database.close()


def test_the_same_request_at_the_same_moment_is_one_message(store):
    first = store.begin_turn("me", "hello")
    with ThreadPoolExecutor(8) as threads:
        turns = list(
            threads.map(lambda _: store.begin_turn("me", "again", first.conversation_id, message_id="m-1"), range(8))
        )
    assert {turn.message_id for turn in turns} == {"m-1"}
    assert len(store.conversation("me", first.conversation_id).messages) == 2


def test_many_write_at_once_and_nothing_is_lost(store):
    def talk(number):
        turn = store.begin_turn(f"person {number % 4}", f"hello {number}")
        reply(store, turn)
        return turn.conversation_id

    with ThreadPoolExecutor(16) as threads:
        ids = list(threads.map(talk, range(64)))
    kept = [c for number in range(4) for c in store.conversations(f"person {number}")]
    assert sorted(c.id for c in kept) == sorted(ids)


def test_a_turn_that_is_refused_leaves_nothing(store):
    turn = store.begin_turn("me", "hello")
    with pytest.raises(ApiError, match="1 messages, and 1 are the most"):
        store.begin_turn("me", "more", turn.conversation_id, most_turns=1)
    with pytest.raises(ApiError, match="no message 'x'"):
        store.begin_turn("me", "more", turn.conversation_id, "x")
    assert len(store.conversation("me", turn.conversation_id).messages) == 1


def test_a_reply_to_a_deleted_conversation_is_not_stored(store):
    turn = store.begin_turn("me", "hello")
    store.delete("me", turn.conversation_id)
    assert not store.add_reply(turn, new_reply_id(), "fine", ReplyExplanation(), None)


def test_deleting_a_person_takes_everything_of_theirs_and_nothing_else(store):
    for owner in ("me", "you"):
        turn = store.begin_turn(owner, f"a secret of {owner}")
        store.set_feedback(owner, turn.conversation_id, reply(store, turn), "like", "<x:heat>")
    assert store.delete_all("me") == 1
    assert store.conversations("me") == [] and len(store.conversations("you")) == 1
    with store.database.engine.connect() as connection:
        counts = [connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() for name in Base.metadata.tables]
    assert counts == [1, 2, 1]


def test_deleted_words_are_not_left_in_the_files_of_sqlite(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'c.db'}")
    turn = store.begin_turn("me", "an unmistakable secret")
    reply(store, turn, "a secret reply")
    store.delete_all("me")
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    store.database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("conversations.db", "is no database; give sqlite"),
        ("mysql://localhost/x", "is no database that is supported"),
        ("sqlite://", "is no database that is supported"),
        ("sqlite:////proc/nowhere/c.db", "nowhere"),
        ("postgresql://me:secret@127.0.0.1:1/x", "cannot be opened: .*onnection"),
    ],
)
def test_a_database_that_cannot_be_opened_is_a_clear_error(url, message):
    with pytest.raises((ValueError, OSError), match=message) as error:
        Database(url)
    assert "secret" not in str(error.value)
