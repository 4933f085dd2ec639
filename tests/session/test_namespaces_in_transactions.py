"""Namespaces that are made, altered and dropped in a transaction: what it sees, what others see, and who collides."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sqlalchemy

import icefusion as ice
from icefusion.testing import ScriptedCatalog


@pytest.fixture
def other(folder):
    with ice.connect(folder) as opened:
        yield opened


def namespaces(session, inside: str = "") -> list[str]:
    return [row[0] for row in session.sql(f"SHOW NAMESPACES{inside}").fetchall()]


def properties(folder, namespace: str) -> dict[str, str]:
    """What the database holds, by no catalog at all."""
    engine = sqlalchemy.create_engine(f"sqlite:///{folder / 'catalog.db'}")
    query = "SELECT property_key, property_value FROM iceberg_namespace_properties WHERE namespace = :name"
    try:
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(query), {"name": namespace})
            return {row.property_key: row.property_value for row in found}
    finally:
        engine.dispose()


def seen_by_another_process(folder) -> list[str]:
    """The namespaces that a process of its own finds."""
    code = (
        "import sys, icefusion; session = icefusion.connect(sys.argv[1]); "
        "print(*[row[0] for row in session.sql('SHOW NAMESPACES').fetchall()])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    return done.stdout.split()


# What the transaction sees, and what others see


def test_a_namespace_that_a_block_makes_holds_its_tables_and_lands_with_them(session, other, folder, outside) -> None:
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE New WITH PROPERTIES ('a' = '1')")
        tx.sql("CREATE TABLE new.t AS SELECT 1 AS id")
        tx.sql("INSERT INTO New.t VALUES (2)")
        assert namespaces(session) == ["New", "ns"]
        assert [row[:2] for row in tx.sql("SHOW TABLES IN new")] == [("New", "t")]
        assert tx.sql("SELECT id FROM new.t ORDER BY id").fetchall() == [(1,), (2,)]
        schemata = "SELECT schema_name FROM information_schema.schemata"
        assert ("New",) in tx.sql(schemata).fetchall()
        tables = "SELECT table_schema, table_name FROM information_schema.tables"
        assert tx.sql(tables).fetchall() == [("New", "t")]
        described = dict(tx.sql("DESCRIBE NAMESPACE EXTENDED new").fetchall())
        assert described["Properties"] == "[a=1]"
        assert "New.t" in tx.sql("SHOW CREATE TABLE new.t").fetchall()[0][0]
        assert ("New",) not in other.sql(schemata).fetchall()
        assert seen_by_another_process(folder) == ["ns"]
        with pytest.raises(ice.NamespaceNotFoundError):
            other.sql("CREATE TABLE New.x (id INT)")
    assert namespaces(other) == ["New", "ns"]
    assert properties(folder, "New") == {"a": "1"}
    assert seen_by_another_process(folder) == ["New", "ns"]
    assert outside.ids("New.t") == [1, 2]
    assert all(path.startswith("New/t/") for path in outside.files("*.parquet"))


def test_a_rollback_leaves_nothing_of_namespaces(session, other, folder, outside) -> None:
    session.sql("CREATE NAMESPACE old WITH PROPERTIES ('a' = '1')")
    before = outside.files()
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE new; CREATE TABLE new.t AS SELECT 1 AS id")
        tx.sql("ALTER NAMESPACE ns SET PROPERTIES ('b' = '2'); DROP NAMESPACE old")
        assert namespaces(session) == ["new", "ns"]
        tx.rollback()
    assert namespaces(session) == ["ns", "old"]
    assert properties(folder, "old") == {"a": "1"}
    assert properties(folder, "ns") == {"exists": "true"}
    assert outside.files() == before
    assert not [path for path in folder.iterdir() if path.name == "new" and any(path.rglob("*.*"))]


def test_properties_are_altered_for_the_block_and_then_for_all(session, other, folder) -> None:
    session.sql("CREATE NAMESPACE n WITH PROPERTIES ('a' = '1', 'b' = '2')")
    with session.transaction() as tx:
        tx.sql("ALTER NAMESPACE N SET PROPERTIES ('b' = '3', 'c' = '4')")
        tx.sql("ALTER NAMESPACE n UNSET PROPERTIES ('a')")
        assert "3" in str(tx.sql("DESCRIBE NAMESPACE EXTENDED n").fetchall())
        assert "3" not in str(other.sql("DESCRIBE NAMESPACE EXTENDED n").fetchall())
        assert properties(folder, "n") == {"a": "1", "b": "2"}
    assert properties(folder, "n") == {"b": "3", "c": "4"}
    session.sql("BEGIN; ALTER NAMESPACE n UNSET PROPERTIES ('b', 'c'); COMMIT")
    assert properties(folder, "n") == {"exists": "true"}


def test_tables_go_where_the_block_has_put_their_namespace(session, tmp_path) -> None:
    place = tmp_path / "elsewhere"
    with session.transaction() as tx:
        tx.sql(f"CREATE NAMESPACE n; ALTER NAMESPACE n SET LOCATION '{place.as_uri()}'")
        tx.sql("CREATE TABLE n.t AS SELECT 1 AS id")
        assert "LOCATION" not in tx.sql("SHOW CREATE TABLE n.t").fetchall()[0][0]
    assert session.catalog.load_table("n.t").location() == f"{place.as_uri()}/t"
    assert len(list(place.rglob("*.parquet"))) == 1


def test_a_namespace_is_dropped_with_its_tables_and_not_without_them(session, other, folder) -> None:
    session.sql("CREATE NAMESPACE n; CREATE TABLE n.t AS SELECT 1 AS id")
    with session.transaction() as tx:
        with pytest.raises(ice.NamespaceNotEmptyError, match="it holds t"):
            tx.sql("DROP NAMESPACE n")
        tx.sql("DROP TABLE n.t; DROP NAMESPACE n")
        assert namespaces(session) == ["ns"]
        with pytest.raises(ice.NamespaceNotFoundError):
            tx.sql("CREATE TABLE n.u (id INT)")
        with pytest.raises(ice.NamespaceNotFoundError):
            tx.sql("DROP NAMESPACE n")
        tx.sql("DROP NAMESPACE IF EXISTS n")
        assert namespaces(other) == ["n", "ns"]
    assert namespaces(other) == ["ns"]
    assert properties(folder, "n") == {}


def test_tables_that_the_block_made_keep_a_namespace_from_being_dropped(session) -> None:
    session.sql("CREATE NAMESPACE n")
    with session.transaction() as tx:
        tx.sql("CREATE TABLE n.t (id INT)")
        with pytest.raises(ice.NamespaceNotEmptyError):
            tx.sql("DROP NAMESPACE n")
        tx.sql("DROP TABLE n.t; DROP NAMESPACE n")
        tx.sql("CREATE NAMESPACE m; CREATE TABLE m.t (id INT)")
        with pytest.raises(ice.NamespaceNotEmptyError):
            tx.sql("DROP NAMESPACE m")
        tx.sql("DROP TABLE m.t; DROP NAMESPACE m")
        assert namespaces(session) == ["ns"]
    assert namespaces(session) == ["ns"]


def test_namespaces_within_namespaces(session, folder) -> None:
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE a.b.c")
        assert namespaces(session) == ["a", "ns"]
        assert namespaces(session, " IN a") == ["a.b"]
        assert namespaces(session, " IN A.b") == ["a.b.c"]
        tx.sql("CREATE NAMESPACE IF NOT EXISTS a.b.c")
        with pytest.raises(ice.NamespaceExistsError):
            tx.sql("CREATE NAMESPACE a.b")
    assert namespaces(session, " IN a") == ["a.b"]
    session.sql("CREATE NAMESPACE x; CREATE NAMESPACE x.y")
    with session.transaction() as tx:
        tx.sql("DROP NAMESPACE x")
        assert namespaces(session) == ["a", "ns", "x"]
        tx.sql("DROP NAMESPACE x.y")
        assert namespaces(session) == ["a", "ns"]
    assert namespaces(session) == ["a", "ns"]


def test_a_namespace_that_is_dropped_can_be_made_anew(session, folder) -> None:
    session.sql("CREATE NAMESPACE n WITH PROPERTIES ('a' = '1')")
    session.sql("BEGIN; DROP NAMESPACE n; CREATE NAMESPACE n WITH PROPERTIES ('b' = '2'); COMMIT")
    assert properties(folder, "n") == {"b": "2"}
    session.sql("BEGIN; CREATE NAMESPACE m; DROP NAMESPACE m; COMMIT")
    assert properties(folder, "m") == {}


def test_a_statement_that_fails_leaves_the_block_as_it_was(session, folder) -> None:
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE n")
        with pytest.raises(ice.TableNotFoundError, match=r"n\.t does not exist\n") as caught:
            tx.sql("SELECT * FROM n.t")
        assert caught.value.hint == "tables in n: none yet"
        for text, error in (
            ("CREATE NAMESPACE N", ice.NamespaceExistsError),
            ("CREATE NAMESPACE ns", ice.NamespaceExistsError),
            ("ALTER NAMESPACE nowhere SET PROPERTIES ('a' = '1')", ice.NamespaceNotFoundError),
            ("DROP NAMESPACE nowhere", ice.NamespaceNotFoundError),
        ):
            with pytest.raises(error):
                tx.sql(text)
    assert properties(folder, "n") == {"exists": "true"}


def test_views_of_the_session_may_lie_where_the_block_makes_a_place(session) -> None:
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE n; CREATE TABLE n.t AS SELECT 1 AS id; CREATE VIEW n.v AS SELECT * FROM n.t")
        with pytest.raises(ice.TableExistsError):
            tx.sql("CREATE VIEW n.t AS SELECT 1 AS id")
        assert tx.sql("SELECT * FROM n.v").fetchall() == [(1,)]
    assert session.sql("SELECT * FROM n.v").fetchall() == [(1,)]


# Against others


def test_a_namespace_that_others_make_meanwhile(session, other, folder, outside) -> None:
    session.sql("BEGIN; CREATE NAMESPACE n WITH PROPERTIES ('a' = '1'); CREATE TABLE n.t AS SELECT 1 AS id")
    other.sql("CREATE NAMESPACE n WITH PROPERTIES ('b' = '2')")
    before = outside.files()
    with pytest.raises(ice.NamespaceExistsError, match="made by somebody else"):
        session.sql("COMMIT")
    assert properties(folder, "n") == {"b": "2"}
    assert len(outside.files()) == len(before) - 1
    assert session.catalog.list_tables("n") == []
    session.sql("BEGIN; CREATE NAMESPACE IF NOT EXISTS m WITH PROPERTIES ('a' = '1'); CREATE TABLE m.t (id INT)")
    other.sql("CREATE NAMESPACE m WITH PROPERTIES ('b' = '2')")
    session.sql("COMMIT")
    assert properties(folder, "m") == {"b": "2"}
    assert session.catalog.list_tables("m") == [("m", "t")]


def test_a_namespace_that_others_drop_meanwhile(session, other, folder, outside) -> None:
    session.sql("CREATE NAMESPACE n; CREATE NAMESPACE m")
    before = outside.files()
    session.sql("BEGIN; ALTER NAMESPACE n SET PROPERTIES ('a' = '1'); CREATE TABLE m.t AS SELECT 1 AS id")
    other.sql("DROP NAMESPACE n")
    with pytest.raises(ice.CommitConflictError, match="namespace n was dropped"):
        session.sql("COMMIT")
    session.sql("BEGIN; CREATE TABLE m.t AS SELECT 1 AS id")
    other.sql("DROP NAMESPACE m")
    with pytest.raises(ice.NamespaceNotFoundError, match="dropped during the transaction"):
        session.sql("COMMIT")
    assert namespaces(session) == ["ns"]
    assert outside.files() == before
    session.sql("CREATE NAMESPACE n; BEGIN; DROP NAMESPACE n")
    other.sql("DROP NAMESPACE n")
    with pytest.raises(ice.CommitConflictError, match="dropped by somebody else"):
        session.sql("COMMIT")
    session.sql("CREATE NAMESPACE n; BEGIN; DROP NAMESPACE IF EXISTS n; CREATE NAMESPACE o")
    other.sql("DROP NAMESPACE n")
    session.sql("COMMIT")
    assert namespaces(session) == ["ns", "o"]


def test_a_namespace_that_others_alter_meanwhile(session, other, folder) -> None:
    session.sql("CREATE NAMESPACE n WITH PROPERTIES ('a' = '1', 'b' = '1')")
    session.sql("BEGIN; ALTER NAMESPACE n SET PROPERTIES ('a' = '2', 'c' = '2')")
    other.sql("ALTER NAMESPACE n SET PROPERTIES ('b' = '3', 'd' = '3')")
    session.sql("COMMIT")
    assert properties(folder, "n") == {"a": "2", "b": "3", "c": "2", "d": "3"}
    session.sql("BEGIN; ALTER NAMESPACE n SET PROPERTIES ('a' = '4')")
    other.sql("ALTER NAMESPACE n SET PROPERTIES ('a' = '5')")
    with pytest.raises(ice.CommitConflictError, match="property a of namespace n"):
        session.sql("COMMIT")
    session.sql("BEGIN; ALTER NAMESPACE n UNSET PROPERTIES ('b')")
    other.sql("ALTER NAMESPACE n SET PROPERTIES ('b' = '6')")
    with pytest.raises(ice.CommitConflictError, match="property b of namespace n"):
        session.sql("COMMIT")
    assert properties(folder, "n") == {"a": "5", "b": "6", "c": "2", "d": "3"}


def test_tables_that_others_put_into_a_namespace_that_is_to_go(session, other, folder) -> None:
    session.sql("CREATE NAMESPACE n; BEGIN; DROP NAMESPACE n; CREATE TABLE ns.t AS SELECT 1 AS id")
    other.sql("CREATE TABLE n.t (id INT)")
    with pytest.raises(ice.NamespaceNotEmptyError, match="somebody else has put t into it"):
        session.sql("COMMIT")
    assert properties(folder, "n") == {"exists": "true"}
    assert other.sql("SHOW TABLES").to_arrow()["tableName"].to_pylist() == ["t"]


def test_a_block_that_collides_runs_again(session, other, folder) -> None:
    session.sql("CREATE NAMESPACE n")
    runs = []

    def work(tx) -> None:
        tx.sql("ALTER NAMESPACE n SET PROPERTIES ('a' = '1')")
        if not runs:
            other.sql("ALTER NAMESPACE n SET PROPERTIES ('a' = '2')")
        runs.append(1)

    session.run(work)
    assert len(runs) == 2
    assert properties(folder, "n")["a"] == "1"


# With other catalogs


def test_a_catalog_that_cannot_do_that_refuses_it(session) -> None:
    with ice.connect(catalog=ScriptedCatalog(session.catalog)) as plain, plain.transaction() as tx:
        for text in ("CREATE NAMESPACE n", "ALTER NAMESPACE ns SET PROPERTIES ('a' = '1')", "DROP NAMESPACE ns"):
            with pytest.raises(ice.TransactionError, match="namespaces cannot be made, altered or dropped inside"):
                tx.sql(text)


def test_a_transaction_changes_namespaces_of_one_catalog(session, tmp_path) -> None:
    with ice.connect(tmp_path / "other") as made:
        made.sql("CREATE NAMESPACE ns; CREATE TABLE ns.u AS SELECT 1 AS id")
    session.attach("o", path=tmp_path / "other")
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE o.more; CREATE TABLE o.more.t AS SELECT * FROM o.ns.u")
        assert namespaces(session, " IN o") == ["more", "ns"]
        assert namespaces(session) == ["ns"]
        for text in ("CREATE NAMESPACE more", "CREATE TABLE ns.t (id INT)"):
            with pytest.raises(ice.TransactionError, match="they are in two catalogs"):
                tx.sql(text)
        with pytest.raises(ice.TransactionError):
            session.detach("o")
    with ice.connect(tmp_path / "other") as look:
        assert namespaces(look) == ["more", "ns"]
        assert look.sql("SELECT * FROM more.t").fetchall() == [(1,)]
    with session.transaction() as tx:
        tx.sql("CREATE NAMESPACE more; SELECT * FROM o.more.t")
    assert namespaces(session) == ["more", "ns"]


def test_a_key_lets_a_block_with_a_namespace_land_once(session, folder) -> None:
    for _ in range(2):
        with session.transaction(idempotency_key="k") as tx:
            tx.sql("CREATE NAMESPACE IF NOT EXISTS n; CREATE TABLE IF NOT EXISTS n.t (id BIGINT)")
            tx.sql("INSERT INTO n.t VALUES (1)")
    assert session.sql("SELECT * FROM n.t").fetchall() == [(1,)]
