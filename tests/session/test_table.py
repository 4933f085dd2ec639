"""Changes as methods of a table: the same statements, for data that is at hand."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

import icefusion as ice

MODES = ("copy-on-write", "merge-on-read")


@pytest.fixture
def orders(session) -> ice.IcebergTable:
    session.sql("""
        CREATE TABLE ns.orders (id BIGINT, region STRING, total DECIMAL(9, 2), place STRUCT<city: STRING, zip: INT>)
        PARTITIONED BY (region)
    """)
    table = session.table("ns.orders")
    table.append(
        {
            "ID": [1, 2, 3],
            "region": ["eu", "us", "eu"],
            "total": [Decimal("1.50"), Decimal("2.50"), None],
            "place": [{"city": "Bern", "zip": 3000}, None, {"city": "Rome", "zip": None}],
        }
    )
    return table


def rows(outside, *columns: str) -> list[tuple]:
    found = outside.rows("ns.orders")
    return sorted((tuple(row[column] for column in columns) for row in found), key=str)


def counts(result: ice.Result) -> tuple[int, int, int]:
    return result.rows_inserted, result.rows_updated, result.rows_deleted


def test_a_wrong_name_is_told_at_once(session) -> None:
    with pytest.raises(ice.TableNotFoundError):
        session.table("ns.nothing")


@pytest.mark.parametrize("mode", MODES)
def test_delete(orders, outside, mode) -> None:
    assert counts(orders.delete("total > $least", params={"least": 2}, write_mode=mode)) == (0, 0, 1)
    assert rows(outside, "id") == [(1,), (3,)]
    assert counts(orders.delete(write_mode=mode)) == (0, 0, 2)
    assert rows(outside, "id") == []


@pytest.mark.parametrize("mode", MODES)
def test_update_takes_sql_as_text_and_binds_all_else(orders, outside, mode) -> None:
    values = {"total": "coalesce(total, 0) + 1", "place.zip": 9, "region": "upper(region)"}
    assert counts(orders.update(values, "id <> $id", params={"id": 2}, write_mode=mode)) == (0, 2, 0)
    assert rows(outside, "id", "region", "total", "place") == [
        (1, "EU", Decimal("2.50"), {"city": "Bern", "zip": 9}),
        (2, "us", Decimal("2.50"), None),
        (3, "EU", Decimal("1.00"), {"city": "Rome", "zip": 9}),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_upsert_updates_what_is_there_and_inserts_the_rest(orders, outside, mode) -> None:
    result = orders.upsert(pa.table({"id": [1, 9], "total": [Decimal("7"), Decimal("8")]}), "id", write_mode=mode)
    assert counts(result) == (1, 1, 0)
    assert rows(outside, "id", "region", "total") == [
        (1, "eu", Decimal("7.00")),
        (2, "us", Decimal("2.50")),
        (3, "eu", None),
        (9, None, Decimal("8.00")),
    ]


def test_upsert_refuses_two_rows_of_one_key_and_leaves_nothing(orders, outside) -> None:
    before = outside.files("*")
    with pytest.raises(ice.CardinalityError, match="id = 1"):
        orders.upsert(pa.table({"id": [1, 1], "total": [Decimal("7"), Decimal("8")]}), ["id"])
    assert outside.files("*") == before


@pytest.mark.parametrize("mode", MODES)
def test_merge_with_all_kinds_of_clauses(orders, outside, mode) -> None:
    source = pa.table({"id": [1, 2, 4, 5], "total": [Decimal("0"), Decimal("20"), Decimal("40"), None]})
    result = (
        orders.merge(source, "t.id = s.id", source_alias="s", target_alias="t", write_mode=mode)
        .when_matched_delete("s.total = 0")
        .when_matched_update({"total": "s.total + t.total", "region": "'xx'"})
        .when_not_matched_insert({"id": "s.id", "total": "s.total", "region": "'new'"}, "s.total IS NOT NULL")
        .when_not_matched_by_source_update({"total": Decimal("0.25")})
        .execute()
    )
    assert counts(result) == (1, 2, 1)
    assert rows(outside, "id", "region", "total") == [
        (2, "xx", Decimal("22.50")),
        (3, "eu", Decimal("0.25")),
        (4, "new", Decimal("40.00")),
    ]


def test_merge_from_a_table_and_from_a_query(session, orders, outside) -> None:
    session.sql("CREATE TABLE ns.others AS SELECT * FROM ns.orders WHERE id < 3")
    merged = orders.merge("ns.others", "target.id = source.id").when_matched_delete().execute()
    assert counts(merged) == (0, 0, 2)
    query = "(SELECT id + 10 AS id, region, total, place FROM ns.others)"
    merged = (
        orders.merge(query, "target.id = source.id").when_matched_update_all().when_not_matched_insert_all().execute()
    )
    assert counts(merged) == (2, 0, 0)
    assert rows(outside, "id") == [(11,), (12,), (3,)]


def test_overwrite_all_partitions_by_value_by_rows_and_by_condition(orders, outside) -> None:
    assert counts(orders.overwrite({"id": [4]}, partition={"region": "eu"})) == (1, 0, 2)
    assert rows(outside, "id", "region") == [(2, "us"), (4, "eu")]
    assert counts(orders.overwrite({"id": [5], "region": ["us"]}, partition=["region"])) == (1, 0, 1)
    assert rows(outside, "id", "region") == [(4, "eu"), (5, "us")]
    assert counts(orders.overwrite({"id": [6]}, where="id > 4")) == (1, 0, 1)
    with pytest.raises(ice.SchemaError, match="id = 1"):
        orders.overwrite({"id": [1]}, where="id > 4")
    assert counts(orders.overwrite({"id": [7]})) == (1, 0, 2)
    assert rows(outside, "id") == [(7,)]


def test_methods_take_part_in_the_open_transaction(session, orders, outside) -> None:
    with session.transaction() as tx:
        orders.append({"id": [4], "region": ["us"]})
        orders.update({"total": 4}, "id = 4")
        orders.delete("id = 1")
        assert tx.sql("SELECT id, total FROM ns.orders WHERE id IN (1, 4)").fetchall() == [(4, Decimal("4.00"))]
    assert outside.snapshots("ns.orders") == 2


def test_a_key_lands_once_and_tells_what_it_did(orders, outside) -> None:
    first = orders.update({"total": 1}, "region = 'eu'", idempotency_key="k")
    again = orders.update({"total": 2}, "region = 'eu'", idempotency_key="k")
    assert again.already_landed
    assert (again.snapshot_id, counts(again)) == (first.snapshot_id, (0, 2, 0))
    assert {row[0] for row in rows(outside, "total")} == {Decimal("1.00"), Decimal("2.50")}


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda t: t.delete("id = 1; DROP TABLE ns.orders"), ice.ParseError, ";"),
        (lambda t: t.delete("id = 1 OR"), ice.ParseError, "OR"),
        (lambda t: t.update({"nothing": 1}), ice.BindError, "no column nothing"),
        (lambda t: t.update({}), ice.ConfigurationError, "at least one column"),
        (lambda t: t.upsert({"id": [1]}, []), ice.ConfigurationError, "at least one key"),
        (lambda t: t.upsert({"total": [1]}, "id"), ice.BindError, "key id"),
        (lambda t: t.overwrite({"id": [1]}, "id = 1", partition=["region"]), ice.ConfigurationError, "both"),
        (lambda t: t.overwrite({"id": [1]}, partition=["total"]), ice.BindError, "no partition field"),
        (lambda t: t.merge({"id": [1]}, "target.id = source.id").execute(), ice.ConfigurationError, "clause"),
        (lambda t: t.delete(write_mode="sideways"), ice.ConfigurationError, "copy-on-write"),
        (lambda t: t.append({"id": ["x"]}), ice.SchemaError, "id"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(orders, outside, call, error, said) -> None:
    before = outside.files("*"), rows(outside, "id")
    with pytest.raises(error, match=said):
        call(orders)
    assert (outside.files("*"), rows(outside, "id")) == before


def test_dates_and_the_like_are_bound(session, outside) -> None:
    session.sql("CREATE TABLE ns.days (d DATE, t TIMESTAMP, n INT) PARTITIONED BY (day(t))")
    days = session.table("ns.days")
    days.append({"d": [dt.date(2026, 1, 1)], "t": [dt.datetime(2026, 1, 1, 5)], "n": [1]})
    days.append({"d": [dt.date(2026, 1, 2)], "t": [dt.datetime(2026, 1, 2, 5)], "n": [2]})
    days.update({"d": dt.date(2027, 1, 1)}, "n = 1")
    row = {"d": [None], "t": [dt.datetime(2026, 1, 2, 23)], "n": [3]}
    days.overwrite(
        pa.table(row, schema=pa.schema({"d": pa.date32(), "t": pa.timestamp("us"), "n": pa.int32()})),
        partition={"t_day": "2026-01-02"},
    )
    assert sorted((r["d"], r["n"]) for r in outside.rows("ns.days") if r["d"]) == [(dt.date(2027, 1, 1), 1)]
    assert sorted(r["n"] for r in outside.rows("ns.days")) == [1, 3]
