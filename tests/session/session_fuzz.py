"""Statements made at random, run on a small warehouse: nothing but our errors comes out, and they leave nothing behind.

The statements are sound ones with pieces of others put in, left out or moved, or with words exchanged for others of
their kind. What is asked of each is little and holds for all: it returns, or raises an `IcefusionError` whose place
lies in the text; after an error every table is what it was, and no file is there that was not before.
"""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

import icefusion as ice
from icefusion.errors import SQLError

SEEDS = [
    "SELECT * FROM ns.a",
    "SELECT a.id, b.name FROM ns.a AS a LEFT JOIN ns.b b ON a.id = b.id WHERE a.n > 1.5 ORDER BY 1 DESC LIMIT 5",
    "SELECT day, count(*), sum(n) FROM ns.a GROUP BY day HAVING count(*) > 0",
    "WITH x AS (SELECT id, row_number() OVER (PARTITION BY day ORDER BY id) AS r FROM ns.a) FROM x WHERE r = 1",
    "SELECT s['x'], tags[1], m['k'] FROM ns.a WHERE id IN (SELECT id FROM ns.b) OR EXISTS (SELECT 1 FROM src)",
    "SELECT * FROM ns.a FOR VERSION AS OF 'main' AS v UNION ALL (FROM ns.a) EXCEPT SELECT * FROM ns.a",
    "SELECT CAST('1' AS int), DATE '2024-01-01' + INTERVAL '1 day', CASE WHEN n > 1 THEN 'x' ELSE NULL END FROM ns.a",
    "VALUES (1, 'a'), (2, NULL)",
    "EXPLAIN SELECT * FROM ns.a WHERE id = 1",
    "INSERT INTO ns.b VALUES (7, 'g'), (DEFAULT, DEFAULT)",
    "INSERT INTO ns.b (name) SELECT name FROM src WHERE id > 0 RETURNING id, name",
    "INSERT INTO ns.b BY NAME SELECT 'x' AS name, id FROM ns.a",
    "INSERT INTO ns.b SELECT id, name FROM src ON CONFLICT (id) DO UPDATE SET name = excluded.name || '!'",
    "INSERT OVERWRITE ns.a PARTITION (day = DATE '2024-01-01') SELECT 9, 1.5, NULL, NULL, NULL",
    "INSERT INTO ns.b REPLACE WHERE id = 1 SELECT 1, 'r'",
    "UPDATE ns.a SET n = n * 2, s.x = 5 WHERE id = 1 AND day >= DATE '2024-01-01'",
    "UPDATE ns.b SET name = src.name FROM src WHERE src.id = b.id",
    "DELETE FROM ns.a WHERE n IS NULL OR id BETWEEN 1 AND 2",
    "DELETE FROM ns.b USING src AS s WHERE s.id = b.id RETURNING *",
    "MERGE INTO ns.b AS t USING (SELECT id, name FROM src) AS s ON t.id = s.id WHEN MATCHED AND t.id > 1 THEN DELETE "
    "WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, DEFAULT)",
    "TRUNCATE TABLE ns.b",
    "CREATE TABLE ns.c (id bigint NOT NULL, t timestamp, l array<struct<a: int>>) PARTITIONED BY (bucket(4, id))",
    "CREATE TABLE ns.c AS SELECT id, year(day) AS y FROM ns.a",
    "CREATE VIEW v AS SELECT id FROM ns.a",
    "CREATE OR REPLACE TABLE ns.c (id bigint, name string COMMENT 'x', PRIMARY KEY (id) NOT ENFORCED) COMMENT 'y'",
    "CREATE OR REPLACE TABLE ns.c PARTITIONED BY (truncate(2, name)) AS SELECT id, name FROM src",
    "CREATE TABLE IF NOT EXISTS ns.c LIKE ns.b TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')",
    "ALTER TABLE ns.a ADD COLUMN note string COMMENT 'x' AFTER id, DROP COLUMN note",
    "ALTER TABLE ns.a ADD COLUMNS (s.z decimal(12, 2), k int FIRST)",
    "ALTER TABLE ns.b RENAME COLUMN name TO label, ALTER COLUMN label SET NOT NULL, RENAME COLUMN label TO name",
    "ALTER TABLE ns.b ALTER COLUMN name DROP NOT NULL COMMENT 'x' AFTER id",
    "ALTER TABLE ns.a ALTER COLUMN s.x TYPE bigint",
    "ALTER TABLE ns.a ADD PARTITION FIELD bucket(4, id), DROP PARTITION FIELD day, WRITE ORDERED BY id DESC NULLS LAST",
    "ALTER TABLE ns.b SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read', owner = 'me')",
    "ALTER TABLE ns.b UNSET TBLPROPERTIES IF EXISTS ('owner')",
    "ALTER TABLE ns.b CREATE OR REPLACE BRANCH audit RETAIN 7 DAYS WITH SNAPSHOT RETENTION 2 SNAPSHOTS",
    "ALTER TABLE ns.b CREATE TAG IF NOT EXISTS first, DROP TAG first",
    "ALTER TABLE ns.b DROP BRANCH IF EXISTS audit",
    "ALTER TABLE IF EXISTS ns.c RENAME TO ns.d",
    "INSERT INTO ns.b.branch_main VALUES (8, 'h')",
    "UPDATE ns.b.branch_main SET name = 'x' WHERE id = 2",
    "COMMENT ON COLUMN ns.a.n IS 'number'",
    "SELECT * FROM ns.a FOR TIMESTAMP AS OF now() AS v WHERE id > 0",
    "SELECT file_path, record_count, readable_metrics FROM ns.a.files",
    "SELECT name, type, snapshot_id FROM ns.b.refs",
    "CREATE OR REPLACE TEMP VIEW w (k, l COMMENT 'x') AS SELECT id, name FROM ns.b WHERE id IN (SELECT id FROM ns.a)",
    "DROP VIEW IF EXISTS w",
    "SHOW TABLES IN ns",
    "SHOW COLUMNS IN ns.a LIKE 'n*'",
    "SHOW CREATE TABLE ns.a",
    "SHOW TBLPROPERTIES ns.b",
    "SHOW FUNCTIONS LIKE 'array_*'",
    "DESCRIBE ns.a",
    "DESCRIBE EXTENDED ns.b",
    "DROP TABLE IF EXISTS ns.c",
    "SELECT * FROM ns.a.snapshots",
    "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'ns'",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
]


def words(text: str) -> list[str]:
    return text.split()


PIECES = words(
    """SELECT FROM WHERE AND OR NOT NULL ( ) , ; . * = <> < 'text' '2024-01-01' 1 -1 1.5 99999999999999999999 ns.a ns.b
    src ns.zzz id name nnn day s.x tags m "Id" "" ? $1 count(*) sum(n) max(name) nope(id) lower(n) CAST(id AS string)
    id::date VALUES (1) (1,2) DEFAULT BY NAME RETURNING * ON CONFLICT DO NOTHING SET UNION INTERSECT LIMIT OFFSET OVER
    () GROUP BY PARTITION INTO AS x [1,2] {'x':1} -- /* */ ' " \\ é ’ 1e400 NaN 0x1 :: -> ~ |> INTERVAL DATE TRUE IS
    DISTINCT COPY SET DROP TABLE CREATE INSERT DELETE FROM ns.a UPDATE EXECUTE PREPARE \x00"""
)
LITERALS = words(
    """1 0 -1 5 7 1.5 'x' '' NULL TRUE DATE_'2024-01-01' '2024-01-01' TIMESTAMP_'2024-01-01_10:00:00' 1e400 [] [1,_2]
    99999999999999999999 {'x':_1} x'00' 'NaN'::double 9223372036854775807 'é' (SELECT_max(id)_FROM_ns.b) ? random()
    now() -0.0 INTERVAL_'1_day' CAST(NULL_AS_double) repeat('x',_1000) 0.1::decimal(38,37) 'inf'::float '\x00'"""
)
KINDS = [
    LITERALS,
    words("id name n s tags m day s.x t.id b.id a.n nnn"),
    words("ns.a ns.b src ns.zzz ns.c v w ns.a.snapshots ns.a.files ns.b.branch_audit ns.b.branch_main ns.b.tag_first"),
    words("string bigint int double decimal(12,_2) date timestamp_ns struct<q:_int> unknown variant nope"),
    words("ADD DROP ALTER RENAME CREATE REPLACE SET UNSET"),
    words("TABLE COLUMN VIEW BRANCH TAG NAMESPACE PARTITION_FIELD TBLPROPERTIES"),
    words("audit first main label note"),
    words("= <> < >= + - * / % || AND OR LIKE IN"),
    words("count sum max lower abs year row_number coalesce length sqrt nope array_agg median"),
]
"""Words that can stand for each other; an underscore is a blank."""
SLOWEST_S = 30.0


def _is_like(part: str, kind: list[str]) -> bool:
    return kind is LITERALS and bool(re.fullmatch(r"-?[\d.]+|'[^']*'|NULL|TRUE", part))


@dataclass(frozen=True)
class Seen:
    """What others see of the warehouse."""

    tables: dict[str, str]
    files: frozenset[str]


class Fuzz:
    """One run: a warehouse, and a source of statements."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self.ran = 0
        self._session = ice.connect(folder, memory_limit="256MiB", threads=1)
        self._source = pa.table({"id": [1, 2, 5], "name": ["x", None, "z"]})
        self._session.sql(
            "CREATE NAMESPACE ns; CREATE TABLE ns.b (id bigint, name string); CREATE TABLE ns.a (id bigint, n double, "
            "s struct<x: int, y: string>, tags array<string>, m map<string, int>, day date) PARTITIONED BY (day)"
        )
        self._session.sql(
            "INSERT INTO ns.a VALUES (1, 1.5, {'x': 1, 'y': 'a'}, ['t'], MAP {'k': 1}, DATE '2024-01-01'), "
            "(2, NULL, NULL, NULL, NULL, DATE '2024-01-02'), (3, 'NaN'::double, {'x': 2, 'y': 'b'}, [], NULL, NULL)"
        )
        self._session.sql("INSERT INTO ns.b VALUES (1, 'one'), (2, 'two')")

    def run(self, count: int) -> None:
        """Run so many statements."""
        for _ in range(count):
            self.step(self.statement())
        if self._session.in_transaction:
            self._session.sql("ROLLBACK")
        for table in ("ns.a", "ns.b"):
            if table in self._seen().tables:
                self._session.sql(f"SELECT * FROM {table}").to_arrow()
        self._session.close()

    def statement(self) -> str:
        """A statement, sound or not."""
        return self._exchanged() if self._random.random() < 0.6 else self._mutated()

    def _exchanged(self) -> str:
        """A statement with words in the place of others of their kind."""
        chance = self._random
        parts = re.split(r"([\s(),]+)", chance.choice(SEEDS))
        for _ in range(chance.choice((1, 1, 2, 3))):
            fitting = [
                (place, kind)
                for place, part in enumerate(parts)
                for kind in KINDS
                if part in kind or _is_like(part, kind)
            ]
            if fitting:
                place, kind = chance.choice(fitting)
                parts[place] = chance.choice(kind).replace("_", " ")
        return "".join(parts)

    def _mutated(self) -> str:
        chance = self._random
        words = chance.choice(SEEDS).split(" ")
        for _ in range(chance.choice((0, 1, 1, 2, 3))):
            place = chance.randrange(len(words) + 1)
            match chance.randrange(6):
                case 0:
                    words[place:place] = [chance.choice(PIECES)]
                case 1:
                    words[place : place + chance.choice((1, 1, 2, 4))] = []
                case 2:
                    words[place : place + 1] = [chance.choice(PIECES)]
                case 3:
                    other = chance.choice(SEEDS).split(" ")
                    start = chance.randrange(len(other))
                    words[place:place] = other[start : start + chance.randrange(1, 8)]
                case 4:
                    words[place:place] = ["(", chance.choice(SEEDS), ")"]
                case 5 if words:
                    word = words.pop(chance.randrange(len(words)))
                    words.insert(chance.randrange(len(words) + 1), word)
        text = " ".join(words)
        if chance.random() < 0.1 and text:
            cut = chance.randrange(len(text))
            text = text[:cut] if chance.random() < 0.5 else text[:cut] + chance.choice(PIECES) + text[cut + 1 :]
        return text

    def step(self, text: str) -> None:
        """Run one statement and look at what is there afterwards."""
        before, inside = self._seen(), self._session.in_transaction
        began = time.perf_counter()
        failure: ice.IcefusionError | None = None
        try:
            params = [1] * text.count("?") or None
            self._session.sql(text, params, src=self._source).to_arrow()
        except ice.IcefusionError as error:
            failure = error
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error}\nof {text!r}") from error
        if failure is not None:
            assert failure.message.strip(), text
            assert "This issue was likely caused by a bug" not in str(failure), text
            assert not isinstance(failure, SQLError) or (failure.line or 1) <= text.count("\n") + 1, text
        assert time.perf_counter() - began < SLOWEST_S, f"too slow: {text!r}"
        self.ran += 1
        after = self._seen()
        if failure is not None and ";" not in text:
            assert self._session.in_transaction or not inside, f"the transaction is gone after {text!r}"
            assert after.tables == before.tables, f"tables changed by {text!r}, which failed"
            left = sorted(after.files - before.files)
            assert not left, f"{text!r} failed and left {left}"

    def _seen(self) -> Seen:
        catalog = self._session.catalog
        names = sorted(".".join(name) for space in catalog.list_namespaces() for name in catalog.list_tables(space))
        files = frozenset(
            str(path.relative_to(self._folder))
            for path in self._folder.rglob("*")
            if path.is_file() and not path.name.startswith("catalog.db")
        )
        return Seen({name: catalog.load_table(name).metadata_location for name in names}, files)
