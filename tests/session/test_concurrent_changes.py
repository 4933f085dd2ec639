"""What others do to a table while a transaction is open: files keep the meaning they were written with."""

import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.transforms import BucketTransform, IdentityTransform

import icefusion as ice


@pytest.fixture
def table(session):
    session.sql("CREATE TABLE ns.t (id BIGINT, a INT, b INT) PARTITIONED BY (a)")
    session.sql("INSERT INTO ns.t VALUES (1, 1, 100)")
    return lambda: session.catalog.load_table("ns.t")


def test_every_statement_begins_from_the_newest_state(session, folder, table) -> None:
    with ice.connect(folder) as other:
        for n in range(2, 5):
            other.sql("INSERT INTO ns.t VALUES (?, 1, 1)", [n])
            assert session.sql("SELECT max(id) FROM ns.t").fetchone() == (n,)
    with table().update_schema() as update:
        update.add_column("c", update._schema.find_type("a"))
    assert session.sql("SELECT * FROM ns.t").columns == ["id", "a", "b", "c"]


def test_files_stay_bound_to_the_spec_they_were_written_under(session, table) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (2, 7, 700)")
        with table().update_spec() as update:
            update.remove_field("a")
            update.add_field("b", IdentityTransform(), "b")
        table().append(session.sql("SELECT 3 AS id, 8 AS a, 800 AS b").to_arrow().cast(table().schema().as_arrow()))
    for column, value in (("a", 7), ("b", 700)):
        assert session.sql(f"SELECT id FROM ns.t WHERE {column} = {value}").fetchall() == [(2,)]
        assert table().scan(row_filter=EqualTo(column, value)).to_arrow()["id"].to_pylist() == [2]
    assert session.sql("SELECT id FROM ns.t WHERE b = 7").fetchall() == []


def test_a_spec_of_another_arity_does_no_harm(session, table) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (2, 7, 700)")
        with table().update_spec() as update:
            update.add_field("id", BucketTransform(4), "shard")
    assert session.sql("SELECT id FROM ns.t WHERE a = 7").fetchall() == [(2,)]
    assert sorted(row["id"] for row in table().scan().to_arrow().to_pylist()) == [1, 2]


def test_columns_that_were_renamed_added_or_dropped_meanwhile_are_found_by_id(session, table) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (2, 7, 700)")
        with table().update_schema(allow_incompatible_changes=True) as update:
            update.rename_column("b", "value")
            update.add_column("c", update._schema.find_type("a"))
    assert session.sql("SELECT id, value, c FROM ns.t ORDER BY id").fetchall() == [(1, 100, None), (2, 700, None)]


def test_a_column_that_became_not_null_meanwhile_is_a_conflict(session, table, outside) -> None:
    session.sql("CREATE TABLE ns.n (id BIGINT)")
    before = outside.files("*.parquet")

    def run() -> None:
        with session.transaction() as tx:
            tx.sql("INSERT INTO ns.n VALUES (NULL)")
            with session.catalog.load_table("ns.n").update_schema(allow_incompatible_changes=True) as update:
                update._set_column_requirement("id", required=True)

    with pytest.raises(ice.CommitConflictError, match="NOT NULL"):
        run()
    assert outside.files("*.parquet") == before


def test_properties_that_changed_meanwhile_are_kept(session, table) -> None:
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (2, 7, 700)")
        with table().transaction() as txn:
            txn.set_properties(owner="somebody")
    assert table().properties["owner"] == "somebody"
    assert session.sql("SELECT count(*) FROM ns.t").fetchone() == (2,)
