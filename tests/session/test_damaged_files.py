"""Files of a table that are damaged: each gives one of our errors with the place and a cure, or rows that are right.

Bits are flipped, and ends cut off, in real files of each kind. Not every flipped bit is noticed, since Iceberg has no
checksums; but nothing foreign comes out, and a statement that fails leaves no file behind.
"""

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import icefusion as ice
from icefusion.errors import IcefusionError, StorageError
from icefusion.query.generated import make_batch

KINDS = ["metadata", "manifest list", "manifest", "delete manifest", "data file", "delete file"]
STATEMENTS = [
    "SELECT * FROM ns.t",
    "SELECT count(*), max(name), sum(f) FROM ns.t WHERE id > 5 AND name <> 'x'",
    "DELETE FROM ns.t WHERE id = 17",
    "UPDATE ns.t SET f = 0 WHERE name = 'name 5'",
    "INSERT INTO ns.t VALUES (1, 'x', 2)",
]
# What does not need the file is done without it.
NOT_NEEDED = {("manifest", 4), ("delete manifest", 4), ("data file", 4), ("delete file", 4)}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with a table that has a delete file."""
    folder = tmp_path_factory.mktemp("sound") / "warehouse"
    with ice.connect(folder) as session:
        session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint, name string, f double)")
        session.sql("INSERT INTO ns.t SELECT value, concat('name ', value), value / 3 FROM range(5000)")
        session.sql("DELETE FROM ns.t WHERE id % 1000 = 7", write_mode="merge-on-read")
    return folder


@pytest.fixture
def warehouse(sound: Path) -> Iterator[Path]:
    """The same at the same place, to be damaged; files know where they are."""
    copy = sound.with_name("copy")
    shutil.copytree(sound, copy)
    yield sound
    shutil.rmtree(sound)
    copy.rename(sound)


def file_of(folder: Path, kind: str) -> Path:
    with ice.connect(folder) as session:
        table = session.catalog.load_table("ns.t")
        snapshot = table.current_snapshot()
        assert snapshot is not None
        manifests = {manifest.content: manifest for manifest in snapshot.manifests(table.io)}
        entries = {content: manifest.fetch_manifest_entry(table.io)[0] for content, manifest in manifests.items()}
    data, deletes = manifests
    location = {
        "metadata": table.metadata_location,
        "manifest list": snapshot.manifest_list,
        "manifest": manifests[data].manifest_path,
        "delete manifest": manifests[deletes].manifest_path,
        "data file": entries[data].data_file.file_path,
        "delete file": entries[deletes].data_file.file_path,
    }[kind]
    return Path(location.removeprefix("file://"))


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("catalog.db")}


def attempt(folder: Path, sql: str) -> IcefusionError | None:
    """Run a statement in a new session; what is not our error comes through."""
    with ice.connect(folder) as session:
        before = files(folder)
        try:
            session.sql(sql).to_arrow()
        except IcefusionError as error:
            assert files(folder) == before, f"{sql} failed and left something behind"
            return error
    return None


def middle_zeroed(data: bytes) -> bytes:
    size = min(200, len(data) // 4)
    return data[: len(data) // 2] + bytes(size) + data[len(data) // 2 + size :]


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda _: None,
    "empty": lambda _: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "cut at the end": lambda data: data[:-1],
    "another file": lambda _: b"\x00\x01garbage" * 20,
    "without a head": lambda data: bytes(8) + data[8:],
    "without a tail": lambda data: data[:-8] + bytes(8),
    "zeros in the middle": middle_zeroed,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_with_a_cure(warehouse: Path, kind: str, damage: str) -> None:
    path = file_of(warehouse, kind)
    damaged = DAMAGE[damage](path.read_bytes())
    if damaged is None:
        path.unlink()
    else:
        path.write_bytes(damaged)
    # A file of columns can lack its head and part of its middle without being read there.
    surely = kind != "data file" or damage not in ("without a head", "zeros in the middle")
    for number, sql in enumerate(STATEMENTS):
        error = attempt(warehouse, sql)
        if error is None:
            assert not surely or (kind, number) in NOT_NEEDED, f"{sql}: no error"
            continue
        assert isinstance(error, StorageError), f"{sql}: {error!r}"
        assert path.name in error.message, f"{sql}: {error}"
        assert error.path is not None
        assert error.hint, f"{sql}: {error}"
        assert len(error.message.splitlines()) == 1 or kind.endswith(" file")


@pytest.mark.parametrize("kind", KINDS)
def test_any_flipped_bit_gives_our_error_or_rows(warehouse: Path, kind: str) -> None:
    path = file_of(warehouse, kind)
    whole = path.read_bytes()
    chance = random.Random(kind)
    told = 0
    for _ in range(25):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(damaged))
        for sql in STATEMENTS[:2]:
            error = attempt(warehouse, sql)
            if error is not None:
                told += 1
                assert isinstance(error, IcefusionError)
                assert error.message
    assert told or kind == "data file"


def test_a_damaged_page_is_found_among_many_files(warehouse: Path) -> None:
    with ice.connect(warehouse) as session:
        for number in range(4):
            session.sql(f"INSERT INTO ns.t SELECT value, repeat('x', value), 0 FROM range({number}, 500)")
        tasks = [task.file.file_path for task in session.catalog.load_table("ns.t").scan().plan_files()]
    victim = Path(tasks[2].removeprefix("file://"))
    data = bytearray(victim.read_bytes())
    data[10 : len(data) // 2] = bytes(len(data) // 2 - 10)
    victim.write_bytes(bytes(data))
    error = attempt(warehouse, "SELECT max(name), min(name), sum(id) FROM ns.t")
    assert isinstance(error, StorageError)
    assert victim.name in error.message
    assert error.path == tasks[2]
    assert "restore it" in (error.hint or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"protocol": {"minReaderVersion": 1}}', "format-version"),
        ('{"format-version": 9}', "9"),
        ('{"format-version": 2}', "(?i)field required"),
        ("[]", "cannot be read"),
        ("<html>", "(?i)invalid json"),
        ("null", "cannot be read"),
    ],
)
def test_metadata_of_another_format_is_told(warehouse: Path, text: str, message: str) -> None:
    path = file_of(warehouse, "metadata")
    path.write_text(text)
    for sql in ("SELECT * FROM ns.t", "INSERT INTO ns.t VALUES (1, 'x', 1)", "DESCRIBE ns.t"):
        error = attempt(warehouse, sql)
        assert isinstance(error, StorageError), repr(error)
        assert path.name in error.message
        assert re.search(message, error.message), error.message
        assert "another table format" in (error.hint or "")


def test_files_of_another_format_are_told(warehouse: Path) -> None:
    path = file_of(warehouse, "data file")
    path.write_bytes(b"ORC" + bytes(path.stat().st_size))
    error = attempt(warehouse, "SELECT * FROM ns.t")
    assert isinstance(error, StorageError)
    assert path.name in error.message


def test_metadata_that_contradicts_itself_is_told(warehouse: Path) -> None:
    path = file_of(warehouse, "metadata")
    sound = json.loads(path.read_text())
    for key, value in (("current-snapshot-id", 17), ("current-schema-id", 99), ("default-spec-id", 77)):
        path.write_text(json.dumps({**sound, key: value}))
        error = attempt(warehouse, "SELECT * FROM ns.t")
        assert isinstance(error, IcefusionError), key


@pytest.mark.parametrize("number", [2**40, 2**70])
def test_a_number_beyond_its_type_is_damage(number: int) -> None:
    schema = pa.schema([("spec_id", pa.int32())])
    with pytest.raises(StorageError, match="column spec_id: what the table's metadata says makes no sense") as caught:
        make_batch(schema, ["spec_id"], {"spec_id": lambda _: [number]})
    assert "FOR VERSION AS OF" in caught.value.hint
