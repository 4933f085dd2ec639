"""Definitions of tables: alone, with rows in one transaction, and against others who define the same table."""

import threading

import pytest

import icefusion as ice


@pytest.fixture
def t(session):
    session.sql("CREATE TABLE ns.t (id BIGINT, v STRING); INSERT INTO ns.t VALUES (1, 'a'), (2, NULL)")
    return session


@pytest.fixture
def other(folder):
    with ice.connect(folder) as opened:
        yield opened


def metadata(session, table: str = "ns.t"):
    return session.catalog.load_table(table).metadata


def columns(session, table: str = "ns.t") -> list[str]:
    return [field.name for field in metadata(session, table).schema().fields]


def rows(session, table: str = "ns.t") -> list[tuple]:
    return session.sql(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def tables(session) -> list[str]:
    return sorted(name for _, name in session.catalog.list_tables("ns"))


# Inside transactions


def test_a_table_that_a_block_makes_is_there_for_it_and_lands_with_it(session, other) -> None:
    with session.transaction() as tx:
        tx.sql("CREATE TABLE ns.made (id BIGINT, v STRING) PARTITIONED BY (bucket(2, id))")
        tx.sql("INSERT INTO ns.made VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        tx.sql("DELETE FROM ns.Made WHERE id = 2")
        tx.sql("ALTER TABLE ns.made ADD COLUMN w INT")
        tx.sql("UPDATE ns.made SET w = 7 WHERE id = 3")
        assert rows(session, "ns.made") == [(1, "a", None), (3, "c", 7)]
        with pytest.raises(ice.TableNotFoundError):
            other.sql("SELECT * FROM ns.made")
    assert rows(other, "ns.made") == [(1, "a", None), (3, "c", 7)]
    assert len(metadata(session, "ns.made").snapshots) == 1
    assert tx.snapshot_ids == {"default.ns.made": metadata(session, "ns.made").current_snapshot_id}


def test_a_rollback_leaves_nothing_of_a_table_that_was_made(session, outside) -> None:
    before = outside.files()
    with session.transaction() as tx:
        tx.sql("CREATE TABLE ns.made AS SELECT 1 AS id")
        tx.sql("CREATE TABLE ns.empty (id INT)")
        tx.rollback()
    assert outside.files() == before
    assert tables(session) == []


def test_an_altered_table_shows_its_columns_to_the_block_alone(t, other) -> None:
    with t.transaction() as tx:
        tx.sql("ALTER TABLE ns.t ADD COLUMN n INT, RENAME COLUMN v TO w")
        tx.sql("INSERT INTO ns.t (id, n, w) VALUES (3, 30, 'c')")
        tx.sql("UPDATE ns.t SET n = id * 10 WHERE w IS NOT NULL")
        assert rows(t) == [(1, "a", 10), (2, None, None), (3, "c", 30)]
        assert rows(other) == [(1, "a"), (2, None)]
    assert columns(other) == ["id", "w", "n"]
    assert rows(other) == [(1, "a", 10), (2, None, None), (3, "c", 30)]
    assert len(metadata(t).snapshots) == 2
    assert metadata(t).current_snapshot().schema_id == metadata(t).current_schema_id


def test_a_rollback_takes_an_alteration_back(t, outside) -> None:
    before = outside.files()
    t.sql("BEGIN; ALTER TABLE ns.t DROP COLUMN v; INSERT INTO ns.t VALUES (3); ROLLBACK")
    assert rows(t) == [(1, "a"), (2, None)]
    assert outside.files() == before


def test_a_failed_alteration_leaves_the_block_as_it_was(t) -> None:
    with t.transaction() as tx:
        tx.sql("ALTER TABLE ns.t ADD COLUMN n INT")
        with pytest.raises(ice.SchemaError):
            tx.sql("ALTER TABLE ns.t ADD COLUMN m INT, ADD COLUMN n INT")
        tx.sql("INSERT INTO ns.t VALUES (3, 'c', 3)")
    assert columns(t) == ["id", "v", "n"]
    assert rows(t)[-1] == (3, "c", 3)


def test_rows_before_and_after_a_change_of_partitions_land_together(t) -> None:
    with t.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (3, 'c')")
        tx.sql("ALTER TABLE ns.t ADD PARTITION FIELD bucket(2, id)")
        tx.sql("INSERT INTO ns.t VALUES (4, 'd')")
        tx.sql("ALTER TABLE ns.t ADD PARTITION FIELD v")
        tx.sql("INSERT INTO ns.t VALUES (5, 'e')")
    files = t.catalog.load_table("ns.t").inspect.files()
    assert sorted(files["spec_id"].to_pylist()) == [0, 0, 1, 2]
    assert [row[0] for row in rows(t)] == [1, 2, 3, 4, 5]
    assert t.sql("SELECT id FROM ns.t WHERE v = 'e'").fetchall() == [(5,)]


def test_a_dropped_table_is_gone_for_the_block_and_back_after_a_rollback(t, outside) -> None:
    with t.transaction() as tx:
        tx.sql("DROP TABLE ns.t")
        with pytest.raises(ice.TableNotFoundError, match="this transaction has dropped it"):
            tx.sql("SELECT * FROM ns.t")
        tx.rollback()
    assert rows(t) == [(1, "a"), (2, None)]
    with t.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (3, 'c')")
        tx.sql("CREATE TABLE ns.u AS SELECT * FROM ns.t")
        tx.sql("DROP TABLE ns.t")
    assert tables(t) == ["u"]
    assert len(rows(t, "ns.u")) == 3
    assert len([path for path in outside.files("*.parquet") if path.startswith("ns/t/")]) == 1


def test_a_table_that_is_made_and_dropped_in_a_block_leaves_nothing(session, outside) -> None:
    before = outside.files()
    session.sql("BEGIN; CREATE TABLE ns.x AS SELECT 1 AS a; DROP TABLE ns.x; DROP TABLE IF EXISTS ns.x; COMMIT")
    assert outside.files() == before
    assert tables(session) == []


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("DROP TABLE ns.t PURGE", "PURGE deletes files at once"),
        ("INSERT INTO ns.t VALUES (3, 'c'); ALTER TABLE ns.t CREATE TAG x", "has written to branch main"),
    ],
)
def test_what_cannot_be_part_of_a_transaction_is_refused_before_anything_happens(t, text, match) -> None:
    with t.transaction() as tx:
        with pytest.raises(ice.TransactionError, match=match):
            tx.sql(text)
        tx.rollback()
    assert rows(t) == [(1, "a"), (2, None)]


def test_a_branch_is_made_and_written_to_in_one_block(t) -> None:
    with t.transaction() as tx:
        tx.sql("ALTER TABLE ns.t CREATE BRANCH dev")
        tx.sql("INSERT INTO ns.t.branch_dev VALUES (3, 'c')")
        tx.sql("INSERT INTO ns.t VALUES (4, 'd')")
    assert [row[0] for row in rows(t)] == [1, 2, 4]
    assert [row[0] for row in rows(t, "ns.t.branch_dev")] == [1, 2, 3]


def test_what_a_block_makes_and_drops_is_listed_to_it_alone(t, other) -> None:
    listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'ns' ORDER BY 1"
    with t.transaction() as tx:
        tx.sql("CREATE TABLE ns.made (id INT); DROP TABLE ns.t")
        assert [row[1] for row in tx.sql("SHOW TABLES IN ns")] == ["made"]
        assert tx.sql(listed).fetchall() == [("made",)]
        assert tx.sql("DESCRIBE ns.made").fetchall()[0][:2] == ("id", "int")
        columns_listed = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'ns'"
        assert tx.sql(columns_listed).fetchall() == [("made", "id")]
        assert tx.sql("SELECT count(*) FROM ns.made.snapshots").fetchall() == [(0,)]
        assert other.sql(listed).fetchall() == [("t",)]


# Alone


def test_not_null_is_set_only_where_no_row_is_null(t) -> None:
    with pytest.raises(ice.SchemaError, match="holds NULL in rows") as caught:
        t.sql("ALTER TABLE ns.t ALTER COLUMN v SET NOT NULL")
    assert "UPDATE" in caught.value.hint
    t.sql("ALTER TABLE ns.t CREATE BRANCH before")
    t.sql("UPDATE ns.t SET v = 'b' WHERE v IS NULL")
    with pytest.raises(ice.SchemaError, match="of branch before"):
        t.sql("ALTER TABLE ns.t ALTER COLUMN v SET NOT NULL")
    t.sql("ALTER TABLE ns.t DROP BRANCH before")
    t.sql("ALTER TABLE ns.t ALTER COLUMN v SET NOT NULL")
    with pytest.raises(ice.SchemaError):
        t.sql("INSERT INTO ns.t VALUES (3, NULL)")
    assert metadata(t).schema().find_field("v").required


def test_not_null_of_a_field_asks_only_where_its_struct_is_there(session) -> None:
    session.sql("CREATE TABLE ns.s (id INT, p STRUCT<x: INT>)")
    session.sql("INSERT INTO ns.s VALUES (1, NULL), (2, {'x': 1})")
    session.sql("ALTER TABLE ns.s ALTER COLUMN p.x SET NOT NULL")
    assert metadata(session, "ns.s").schema().find_field("p.x").required
    session.sql("ALTER TABLE ns.s ALTER COLUMN p.x DROP NOT NULL")
    session.sql("INSERT INTO ns.s VALUES (3, {'x': NULL})")
    with pytest.raises(ice.SchemaError, match=r"column p\.x"):
        session.sql("ALTER TABLE ns.s ALTER COLUMN p.x SET NOT NULL")


def test_a_replaced_table_keeps_its_history_and_nothing_else(t) -> None:
    first = metadata(t)
    t.sql("ALTER TABLE ns.t CREATE TAG old")
    t.sql("CREATE OR REPLACE TABLE ns.t PARTITIONED BY (truncate(1, v)) AS SELECT v, id + 1 AS n FROM ns.t")
    assert rows(t) == [(None, 3), ("a", 2)] or rows(t) == [("a", 2), (None, 3)]
    now = metadata(t)
    assert now.table_uuid == first.table_uuid
    assert len(now.snapshots) == 2
    assert now.current_snapshot().parent_snapshot_id is None
    assert t.sql("SELECT id, v FROM ns.t FOR VERSION AS OF 'old' ORDER BY id").fetchall() == [(1, "a"), (2, None)]
    ids = {field.name: field.field_id for field in now.schema().fields}
    assert ids["v"] == first.schema().find_field("v").field_id
    assert ids["n"] > first.last_column_id
    t.sql("CREATE OR REPLACE TABLE ns.t (z INT)")
    assert rows(t) == []
    assert metadata(t).current_snapshot_id is None
    assert len(metadata(t).snapshots) == 2


def test_a_replaced_table_of_a_failed_query_is_as_it_was(t, outside) -> None:
    before = outside.files()
    with pytest.raises(ice.ExecutionError):
        t.sql("CREATE OR REPLACE TABLE ns.t AS SELECT id / 0 AS n FROM ns.t")
    assert outside.files() == before
    assert rows(t) == [(1, "a"), (2, None)]


def test_tables_are_made_like_others(session) -> None:
    session.sql(
        "CREATE TABLE ns.model (id BIGINT NOT NULL COMMENT 'key', v STRING, PRIMARY KEY (id) NOT ENFORCED) "
        "PARTITIONED BY (bucket(4, id)) ORDER BY (v DESC) TBLPROPERTIES ('a' = 'b')"
    )
    session.sql("INSERT INTO ns.model VALUES (1, 'a')")
    session.sql("CREATE TABLE ns.copy LIKE ns.model")
    model, copy = metadata(session, "ns.model"), metadata(session, "ns.copy")
    assert copy.schema() == model.schema()
    assert copy.schema().identifier_field_ids == [1]
    assert (copy.spec(), copy.sort_order()) == (model.spec(), model.sort_order())
    assert copy.properties["a"] == "b"
    assert copy.location != model.location
    assert rows(session, "ns.copy") == []


def test_tables_are_renamed(t) -> None:
    t.sql("CREATE NAMESPACE more; CREATE TABLE ns.taken (a INT)")
    with pytest.raises(ice.TableExistsError):
        t.sql("ALTER TABLE ns.t RENAME TO taken")
    t.sql("ALTER TABLE ns.t RENAME TO s")
    t.sql("ALTER TABLE ns.s RENAME TO more.s")
    assert rows(t, "more.s") == [(1, "a"), (2, None)]
    with pytest.raises(ice.TableNotFoundError):
        t.sql("SELECT * FROM ns.t")
    t.sql("ALTER TABLE IF EXISTS ns.t RENAME TO u")
    t.sql("ALTER TABLE IF EXISTS ns.t ADD COLUMN x INT")


# Against others


def test_rows_that_come_meanwhile_are_no_conflict_for_an_alteration(t, other) -> None:
    t.sql("BEGIN; ALTER TABLE ns.t ADD COLUMN n INT")
    other.sql("INSERT INTO ns.t VALUES (3, 'c')")
    t.sql("COMMIT")
    assert rows(t) == [(1, "a", None), (2, None, None), (3, "c", None)]


def test_alterations_of_different_things_are_put_on_top_of_each_other(t, other) -> None:
    t.sql("BEGIN; ALTER TABLE ns.t ADD COLUMN mine INT, SET TBLPROPERTIES ('a' = '1')")
    other.sql("ALTER TABLE ns.t ADD COLUMN yours INT; ALTER TABLE ns.t SET TBLPROPERTIES ('b' = '2')")
    other.sql("ALTER TABLE ns.t CREATE TAG yours; ALTER TABLE ns.t ADD PARTITION FIELD bucket(2, id)")
    t.sql("COMMIT")
    now = metadata(t)
    assert columns(t) == ["id", "v", "yours", "mine"]
    assert [field.field_id for field in now.schema().fields] == [1, 2, 3, 4]
    assert (now.properties["a"], now.properties["b"]) == ("1", "2")
    assert set(now.refs) == {"main", "yours"}
    assert len(now.spec().fields) == 1


@pytest.mark.parametrize(
    ("mine", "yours"),
    [
        ("ADD COLUMN n INT", "ADD COLUMN n STRING"),
        ("DROP COLUMN v", "RENAME COLUMN v TO w"),
        ("ALTER COLUMN v COMMENT 'x'", "DROP COLUMN v"),
        ("SET TBLPROPERTIES ('a' = '1')", "SET TBLPROPERTIES ('a' = '2')"),
        ("ADD PARTITION FIELD bucket(2, id)", "ADD PARTITION FIELD v"),
        ("WRITE ORDERED BY id", "WRITE ORDERED BY v"),
        ("CREATE TAG x", "CREATE TAG x"),
    ],
)
def test_alterations_of_the_same_thing_collide(t, other, mine, yours) -> None:
    t.sql(f"BEGIN; ALTER TABLE ns.t {mine}")
    other.sql(f"ALTER TABLE ns.t {yours}")
    if yours == "CREATE TAG x":
        other.sql("INSERT INTO ns.t VALUES (3, 'c'); ALTER TABLE ns.t REPLACE TAG x")
    before = metadata(t)
    with pytest.raises(ice.CommitConflictError):
        t.sql("COMMIT")
    assert metadata(t) == before


def test_rows_written_under_new_columns_keep_their_ids_or_conflict(t, other, outside) -> None:
    t.sql("BEGIN; ALTER TABLE ns.t ADD COLUMN mine INT; INSERT INTO ns.t VALUES (3, 'c', 33)")
    other.sql("ALTER TABLE ns.t ADD COLUMN yours STRING; INSERT INTO ns.t VALUES (4, 'd', 'yours')")
    files = outside.files("*.parquet")
    with pytest.raises(ice.CommitConflictError, match="columns were added meanwhile"):
        t.sql("COMMIT")
    assert rows(t) == [(1, "a", None), (2, None, None), (4, "d", "yours")]
    assert len(outside.files("*.parquet")) == len(files) - 1


def test_rows_written_before_a_column_was_made_not_null_are_a_conflict(t, other) -> None:
    t.sql("DELETE FROM ns.t WHERE v IS NULL")
    t.sql("BEGIN; INSERT INTO ns.t VALUES (3, NULL)")
    other.sql("ALTER TABLE ns.t ALTER COLUMN v SET NOT NULL")
    with pytest.raises(ice.CommitConflictError, match="made NOT NULL"):
        t.sql("COMMIT")


def test_rows_that_come_while_a_column_is_made_not_null_are_a_conflict(t, other) -> None:
    t.sql("DELETE FROM ns.t WHERE v IS NULL")
    t.sql("BEGIN ISOLATION LEVEL SNAPSHOT; ALTER TABLE ns.t ALTER COLUMN v SET NOT NULL")
    other.sql("INSERT INTO ns.t VALUES (3, NULL)")
    with pytest.raises(ice.CommitConflictError):
        t.sql("COMMIT")
    assert not metadata(t).schema().find_field("v").required


def test_a_table_that_is_made_twice_is_made_once(session, other) -> None:
    session.sql("BEGIN; CREATE TABLE ns.x AS SELECT 1 AS a")
    other.sql("CREATE TABLE ns.x AS SELECT 2 AS a")
    with pytest.raises(ice.TableExistsError):
        session.sql("COMMIT")
    assert rows(session, "ns.x") == [(2,)]


def test_a_table_that_is_dropped_meanwhile_is_a_conflict(t, other) -> None:
    t.sql("BEGIN; ALTER TABLE ns.t ADD COLUMN n INT")
    other.sql("DROP TABLE ns.t; CREATE TABLE ns.t (id INT)")
    with pytest.raises(ice.CommitConflictError, match="made anew"):
        t.sql("COMMIT")
    assert columns(t) == ["id"]


def test_threads_that_alter_one_table_lose_no_alteration(session, folder) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT)")
    errors: list[BaseException] = []

    def work(start: int) -> None:
        try:
            with ice.connect(folder) as own:
                for number in range(start, start + 4):
                    own.sql(f"ALTER TABLE ns.t ADD COLUMN c{number} INT")
                    own.sql(f"ALTER TABLE ns.t SET TBLPROPERTIES ('p{number}' = 'x')")
                    own.sql("INSERT INTO ns.t (id) VALUES (?)", [number])
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    numbers = [number + 10 * n for n in range(3) for number in range(4)]
    now = metadata(session)
    assert {field.name for field in now.schema().fields} == {"id", *(f"c{number}" for number in numbers)}
    assert len({field.field_id for field in now.schema().fields}) == 13
    assert {key for key in now.properties if key.startswith("p")} == {f"p{number}" for number in numbers}
    assert sorted(row[0] for row in session.sql("SELECT id FROM ns.t").fetchall()) == numbers


def test_a_wrong_name_is_shown_at_its_place(t) -> None:
    with pytest.raises(ice.BindError, match=r"no column vv \(line 2, column") as caught:
        t.sql("ALTER TABLE ns.t\n  DROP COLUMN id, RENAME COLUMN vv TO w")
    assert caught.value.hint == "did you mean v?"
    assert columns(t) == ["id", "v"]


def test_a_table_is_renamed_within_its_catalog(t, tmp_path) -> None:
    with ice.connect(tmp_path / "other") as made:
        made.sql("CREATE NAMESPACE ns; CREATE NAMESPACE more; CREATE TABLE ns.u (id INT)")
    t.attach("o", path=tmp_path / "other")
    for text in ("ALTER TABLE ns.t RENAME TO o.ns.t", "ALTER TABLE o.ns.u RENAME TO default.ns.u"):
        with pytest.raises(ice.BindError, match="lies in another catalog"):
            t.sql(text)
    t.sql(
        "ALTER TABLE o.ns.u RENAME TO more.v; ALTER TABLE o.more.v RENAME TO o.more.w; ALTER TABLE o.more.w RENAME TO x"
    )
    assert [row[:2] for row in t.sql("SHOW TABLES IN o.more")] == [("more", "x")]
    assert tables(t) == ["t"]
