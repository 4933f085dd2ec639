"""What a user can say in SQL, end to end on the embedded catalog."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from pyiceberg.transforms import BucketTransform, DayTransform, TruncateTransform

import icefusion as ice


def test_times_come_as_fine_as_python_has_them(session) -> None:
    kinds = "CAST('2024-05-01 01:02:03.123456789' AS TIMESTAMP)", "CAST('01:02:03.123456789' AS TIME)"
    moment = dt.datetime(2024, 5, 1, 1, 2, 3, 123456)
    sql = f"SELECT {', '.join(kinds)}, [{kinds[0]}], {{'t': {kinds[1]}}}, MAP {{'k': {kinds[0]}}}, now() - now()"
    row = session.sql(sql).fetchone()
    assert row == (moment, moment.time(), [moment], {"t": moment.time()}, [("k", moment)], dt.timedelta(0))
    assert isinstance(session.sql("SELECT current_timestamp").fetchone()[0], dt.datetime)


def test_what_is_no_text_is_no_statement(session) -> None:
    with pytest.raises(ice.ParseError, match="expected SQL as a text, found int"):
        session.sql(5)


def test_create_table_takes_types_partitioning_order_and_properties(session) -> None:
    session.sql(
        """CREATE TABLE ns.t (
             id BIGINT NOT NULL COMMENT 'the key', s STRING, ts TIMESTAMP, tz TIMESTAMP WITH TIME ZONE,
             d DECIMAL(10, 2), tags ARRAY<STRING>, m MAP<STRING, INT>, p STRUCT<x: DOUBLE, y: DOUBLE>, u UUID
           ) PARTITIONED BY (days(ts), bucket(16, id), truncate(s, 4))
           ORDER BY id DESC NULLS LAST
           TBLPROPERTIES ('write.target-file-size-bytes' = '1000000')"""
    )
    table = session.catalog.load_table("ns.t")
    assert [f.transform for f in table.spec().fields] == [DayTransform(), BucketTransform(16), TruncateTransform(4)]
    assert table.sort_order().fields[0].source_id == 1
    assert table.properties["write.target-file-size-bytes"] == "1000000"
    assert table.format_version == 2
    assert table.schema().find_field("id").required
    assert table.schema().find_field("id").doc == "the key"
    assert str(table.schema().find_type("p.x")) == "double"


def test_sql_catalogs_have_one_level_of_namespaces(session, outside) -> None:
    session.sql("CREATE NAMESPACE a; CREATE NAMESPACE a.b")
    with pytest.raises(ice.CatalogError, match="one level only") as told:
        session.sql("CREATE TABLE a.b.t (id INT)")
    assert told.value.hint.startswith("name it namespace.table")
    assert outside.files() == set()


def test_create_table_twice_is_an_error_unless_it_may_exist(session) -> None:
    session.sql("CREATE TABLE ns.t (id INT)")
    with pytest.raises(ice.TableExistsError, match=r"default\.ns\.t"):
        session.sql("CREATE TABLE ns.t (id INT)")
    session.sql("CREATE TABLE IF NOT EXISTS ns.t (other STRING)")
    assert session.catalog.load_table("ns.t").schema().column_names == ["id"]


def test_create_table_as_is_one_snapshot_with_the_querys_schema(session, outside) -> None:
    result = session.sql("CREATE TABLE ns.t AS SELECT 1 AS id, 'x' AS s UNION ALL SELECT 2, NULL")
    assert (result.rows_inserted, outside.snapshots()) == (2, 1)
    assert outside.ids() == [1, 2]


def test_create_table_as_a_failing_query_leaves_no_table_and_no_file(session, outside) -> None:
    before = outside.files()
    source = pa.table({"id": [1, 0]})
    with pytest.raises(ice.ExecutionError):
        session.sql("CREATE TABLE ns.t AS SELECT 1 / id AS id FROM src", src=source)
    assert outside.files() == before
    with pytest.raises(ice.TableNotFoundError):
        session.sql("SELECT * FROM ns.t")


def test_create_table_as_can_be_partitioned(session, outside) -> None:
    session.sql("CREATE TABLE ns.t PARTITIONED BY (bucket(4, id)) AS SELECT * FROM generate_series(1, 50) AS g(id)")
    assert outside.ids() == list(range(1, 51))
    assert len(outside.files("*.parquet")) == 4


def test_drop_table_takes_it_out_of_the_catalog_and_purge_out_of_storage(session, outside) -> None:
    session.sql("CREATE TABLE ns.t AS SELECT 1 AS id; CREATE TABLE ns.u AS SELECT 1 AS id")
    session.sql("DROP TABLE ns.t")
    assert outside.files("*/t/*.parquet") or any("/t/" in f for f in outside.files())
    session.sql("DROP TABLE ns.u PURGE")
    assert not any("/u/" in f for f in outside.files())
    with pytest.raises(ice.TableNotFoundError):
        session.sql("DROP TABLE ns.t")
    session.sql("DROP TABLE IF EXISTS ns.t")


def test_namespaces_are_made_and_dropped(session) -> None:
    session.sql("CREATE SCHEMA other")
    with pytest.raises(ice.NamespaceExistsError):
        session.sql("CREATE NAMESPACE other")
    session.sql("CREATE NAMESPACE IF NOT EXISTS other; CREATE TABLE other.t (id INT)")
    with pytest.raises(ice.NamespaceNotEmptyError):
        session.sql("DROP NAMESPACE other")
    session.sql("DROP TABLE other.t; DROP NAMESPACE other")
    with pytest.raises(ice.NamespaceNotFoundError):
        session.sql("DROP NAMESPACE other")
    session.sql("DROP NAMESPACE IF EXISTS other")


def test_a_table_in_a_missing_namespace_names_the_cure(session) -> None:
    with pytest.raises(ice.NamespaceNotFoundError, match="CREATE NAMESPACE elsewhere"):
        session.sql("CREATE TABLE elsewhere.t (id INT)")
    with pytest.raises(ice.TableNotFoundError, match="did you mean namespace 'ns'"):
        session.sql("SELECT * FROM nss.t")


def test_unquoted_names_compare_without_regard_to_case(session) -> None:
    session.sql('CREATE TABLE ns.Flights (Carrier STRING, "dep Delay" INT, Leg STRUCT<FromCity: STRING>)')
    session.sql("INSERT INTO NS.FLIGHTS (CARRIER) VALUES ('AA')")
    result = session.sql("SELECT carrier, f.CARRIER AS c2, \"dep Delay\" FROM ns.flights f WHERE Carrier = 'AA'")
    assert result.fetchall() == [("AA", "AA", None)]
    assert result.columns[0] == "Carrier"
    assert session.sql("SELECT count(*) FROM default.ns.flights").fetchall() == [(1,)]
    with pytest.raises(ice.TableNotFoundError):
        session.sql('SELECT * FROM ns."flights"')


def test_insert_fills_columns_that_are_not_listed_with_null(session, outside) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT NOT NULL, a STRING, b DOUBLE)")
    session.sql("INSERT INTO ns.t (b, id) VALUES (0.1, 7)")
    assert outside.rows("ns.t") == [{"id": 7, "a": None, "b": 0.1}]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INSERT INTO ns.t VALUES (3000000000, 'a')", "id"),
        ("INSERT INTO ns.t VALUES (1.5, 'a')", "id"),
        ("INSERT INTO ns.t VALUES (NULL, 'a')", "id"),
        ("INSERT INTO ns.t VALUES (1)", "2"),
        ("INSERT INTO ns.t (s) VALUES ('a')", "id"),
        ("INSERT INTO ns.t VALUES ('1', 'a')", "id"),
        ("INSERT INTO ns.t VALUES (1, 2)", "s"),
    ],
)
def test_what_does_not_fit_names_the_column_and_leaves_nothing(session, outside, statement, message) -> None:
    session.sql("CREATE TABLE ns.t (id INT NOT NULL, s STRING)")
    before = outside.files()
    with pytest.raises(ice.SchemaError, match=message):
        session.sql(statement)
    assert outside.files() == before


def test_unknown_and_doubled_insert_columns_are_named(session) -> None:
    session.sql("CREATE TABLE ns.t (id INT, name STRING)")
    with pytest.raises(ice.BindError, match="did you mean name"):
        session.sql("INSERT INTO ns.t (id, nme) VALUES (1, 'a')")
    with pytest.raises(ice.BindError, match="twice"):
        session.sql("INSERT INTO ns.t (id, ID) VALUES (1, 1)")


def test_parameters_are_bound_and_never_pasted(session) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT, s STRING, d DATE, x DECIMAL(20, 3))")
    nasty = "x'); DROP TABLE ns.t; --"
    session.sql("INSERT INTO ns.t VALUES (?, ?, ?, ?)", [1, nasty, dt.date(2024, 1, 2), Decimal("1.125")])
    session.sql("INSERT INTO ns.t VALUES ($id, $s, NULL, $x)", {"id": 2, "s": None, "x": None})
    assert session.sql("SELECT s, d, x FROM ns.t WHERE id = $1", [1]).fetchall() == [
        (nasty, dt.date(2024, 1, 2), Decimal("1.125"))
    ]
    with pytest.raises(ice.BindError):
        session.sql("SELECT $a", {"b": 1})


def test_a_script_runs_in_order_and_gives_the_last_result(session) -> None:
    result = session.sql(
        """CREATE TABLE ns.t (id INT); -- a comment; with a semicolon
           INSERT INTO ns.t VALUES ($a);
           INSERT INTO ns.t VALUES ($b);
           SELECT sum(id) FROM ns.t""",
        {"a": 1, "b": 41},
    )
    assert result.fetchall() == [(42,)]


def test_a_script_may_hold_a_transaction(session, outside) -> None:
    session.sql("CREATE TABLE ns.t (id INT); BEGIN; INSERT INTO ns.t VALUES (1); INSERT INTO ns.t VALUES (2); COMMIT")
    assert (outside.ids(), outside.snapshots()) == ([1, 2], 1)


def test_earlier_versions_are_read_with_their_own_schema(session) -> None:
    first = session.sql("CREATE TABLE ns.t AS SELECT 1 AS id, 'a' AS s").snapshot_id
    with session.catalog.load_table("ns.t").update_schema() as update:
        update.rename_column("s", "label")
    session.sql("INSERT INTO ns.t VALUES (2, 'b')")
    old = session.sql(f"SELECT * FROM ns.t FOR VERSION AS OF {first}")
    assert (old.columns, old.fetchall()) == (["id", "s"], [(1, "a")])
    both = session.sql(
        f"SELECT n.id, o.id FROM ns.t AS n LEFT JOIN ns.t FOR VERSION AS OF {first} AS o ON n.id = o.id ORDER BY 1"
    )
    assert both.fetchall() == [(1, 1), (2, None)]
    assert session.sql("SELECT t.label FROM ns.t FOR VERSION AS OF 'main' ORDER BY label").fetchall() == [
        ("a",),
        ("b",),
    ]
    with pytest.raises(ice.BindError, match="no snapshot 7"):
        session.sql("SELECT * FROM ns.t FOR VERSION AS OF 7")


def test_objects_are_read_by_name_and_streams_are_not_collected(session) -> None:
    pulled: list[int] = []

    def batches():
        for n in range(1000):
            pulled.append(n)
            yield pa.record_batch({"n": pa.array([n] * 1000)})

    reader = pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches())
    result = session.sql("SELECT n FROM stream LIMIT 1", stream=reader)
    assert result.fetchall() == [(0,)]
    assert len(pulled) < 100
    joined = session.sql(
        "SELECT a.id, b.v FROM a JOIN b ON a.id = b.id", a=pa.table({"id": [1, 2]}), b=[{"id": 2, "v": "x"}]
    )
    assert joined.fetchall() == [(2, "x")]


def test_the_result_speaks_arrow_and_python(session) -> None:
    result = session.sql("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, NULL ORDER BY a")
    assert result.to_arrow().to_pydict() == {"a": [1, 2], "b": ["x", None]}
    assert pa.table(result).num_rows == 2
    assert pa.RecordBatchReader.from_stream(result).read_all().num_rows == 2
    assert result.fetchone() == (1, "x")
    assert [row[0] for row in result] == [1, 2]


def test_values_survive_the_way_through_sql(session, outside) -> None:
    session.sql(
        "CREATE TABLE ns.t (id INT, f DOUBLE, r FLOAT, d DECIMAL(38, 10), t TIMESTAMP, z TIMESTAMPTZ, b BINARY)"
    )
    session.sql(
        """INSERT INTO ns.t VALUES
             (1, 0.1, 0.5, 1234567890123456789012345678.0123456789, '0001-01-01T00:00:00', NULL, X'00FF'),
             (2, 'NaN'::double, -0.0::float, NULL, '9999-12-31T23:59:59.999999', '1969-12-31T23:59:59+01:00', NULL)"""
    )
    first, second = sorted(outside.rows("ns.t"), key=lambda row: row["id"])
    assert first["d"] == Decimal("1234567890123456789012345678.0123456789")
    assert (first["f"], first["b"], first["t"]) == (0.1, b"\x00\xff", dt.datetime(1, 1, 1))
    assert second["f"] != second["f"]
    assert str(second["r"]) == "-0.0"
    assert second["t"] == dt.datetime(9999, 12, 31, 23, 59, 59, 999999)
    assert second["z"] == dt.datetime(1969, 12, 31, 22, 59, 59, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "statement",
    [
        "COPY ns.t TO '/tmp/x'",
        "SET datafusion.execution.batch_size = 1",
        "CREATE MATERIALIZED VIEW v AS SELECT 1",
    ],
)
def test_what_is_not_there_yet_says_where_and_what_to_do(session, statement) -> None:
    with pytest.raises(ice.UnsupportedStatementError) as raised:
        session.sql("SELECT 1;\n" + statement)
    assert (raised.value.line, raised.value.hint is not None) == (2, True)


def test_an_empty_text_is_an_error(session) -> None:
    with pytest.raises(ice.ParseError, match="no statement"):
        session.sql(" -- nothing\n")


def test_v3_tables_are_refused_for_writing(session) -> None:
    with pytest.raises(ice.UnsupportedStatementError, match="format-version"):
        session.sql("CREATE TABLE ns.t (id INT) TBLPROPERTIES ('format-version' = '3')")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("write.target-file-size-bytes", "64MB", "expected a whole number, found '64MB'"),
        ("write.delete.mode", "fast", "expected copy-on-write or merge-on-read"),
        ("write.distribution-mode", "even", "expected none, hash or range"),
        ("current-schema", "{}", "property current-schema is reserved"),
    ],
)
@pytest.mark.parametrize("what", ["(id BIGINT) TBLPROPERTIES ({})", "TBLPROPERTIES ({}) AS SELECT 1 AS id"])
def test_a_property_without_sense_makes_no_table(session, what: str, key: str, value: str, words: str) -> None:
    with pytest.raises(ice.ConfigurationError) as caught:
        session.sql("CREATE TABLE ns.t " + what.format(f"'{key}' = '{value}'"))
    assert words in str(caught.value)
    assert not session.catalog.table_exists("ns.t")


def test_properties_of_other_engines_are_kept(session) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT) TBLPROPERTIES ('other.engine' = 'x', 'write.other-engine.size' = 'XL')")
    properties = session.catalog.load_table("ns.t").properties
    assert (properties["other.engine"], properties["write.other-engine.size"]) == ("x", "XL")


def test_v1_tables_are_appended_to(session, outside) -> None:
    session.sql("CREATE TABLE ns.t (id INT, s STRING) PARTITIONED BY (s) TBLPROPERTIES ('format-version' = '1')")
    session.sql("INSERT INTO ns.t VALUES (1, 'a'), (2, 'b')")
    session.sql("INSERT INTO ns.t VALUES (3, 'a')")
    assert outside.ids() == [1, 2, 3]
    assert session.catalog.load_table("ns.t").format_version == 1


def test_reports_tell_what_was_read_and_written(folder) -> None:
    reporter = ice.InMemoryReporter()
    with ice.connect(folder, reporter=reporter) as session:
        session.sql(
            "CREATE NAMESPACE ns; CREATE TABLE ns.t PARTITIONED BY (id) AS SELECT * FROM (VALUES (1), (2)) AS v(id)"
        )
        result = session.sql("SELECT * FROM ns.t WHERE id = 1")
        assert result.fetchall() == [(1,)]
    scan = result.report.scans[0]
    assert (scan.files_total, scan.files_read) == (2, 1)
    kinds = {type(event).__name__ for event in reporter.events}
    assert kinds == {"StatementReport", "ScanReport", "WriteReport", "CommitReport"}


def test_literals_take_the_type_of_a_float_column_and_computed_values_must_fit(session, outside) -> None:
    session.sql("CREATE TABLE ns.t (id INT, r FLOAT)")
    session.sql("INSERT INTO ns.t VALUES (1, 0.1)")
    assert outside.rows("ns.t")[0]["r"] == pytest.approx(0.1, rel=1e-7)
    with pytest.raises(ice.SchemaError, match="too large for float"):
        session.sql("INSERT INTO ns.t VALUES (2, 1e300)")
    with pytest.raises(ice.SchemaError, match="r"):
        session.sql("INSERT INTO ns.t SELECT 2, x FROM src", src=pa.table({"x": [0.1]}))
    session.sql("INSERT INTO ns.t SELECT 2, CAST(x AS REAL) FROM src", src=pa.table({"x": [0.1]}))
    assert outside.ids() == [1, 2]


def test_numbers_too_long_for_a_double_keep_their_digits(session) -> None:
    row = session.sql("SELECT 12345678901234567890.12, -123456789012345678901234567890, 12.5").fetchone()
    assert row == (Decimal("12345678901234567890.12"), Decimal("-123456789012345678901234567890"), 12.5)


def test_columns_of_the_same_text_are_no_obstacle(session, outside) -> None:
    session.sql("CREATE TABLE ns.t (id BIGINT, a BIGINT, b BIGINT)")
    session.sql("INSERT INTO ns.t SELECT 0, 0, NULL")
    session.sql("INSERT INTO ns.t SELECT id + 1, id, id FROM ns.t")
    assert outside.ids() == [0, 1]
    assert session.sql("SELECT id, id FROM ns.t ORDER BY id").fetchall() == [(0, 0), (1, 1)]


@pytest.mark.parametrize("text", ["now()", "current_timestamp", "CURRENT_TIMESTAMP()", "now() - INTERVAL '1 hour'"])
def test_the_current_time_goes_into_a_timestamp(session, text) -> None:
    session.sql("CREATE TABLE ns.t (id INT, tz TIMESTAMPTZ, ts TIMESTAMP)")
    session.sql(f"INSERT INTO ns.t SELECT 1, {text}, CAST({text} AS TIMESTAMP)")
    ((tz, ts),) = session.sql("SELECT tz, ts FROM ns.t").fetchall()
    assert abs(dt.datetime.now(dt.UTC) - tz) < dt.timedelta(hours=1, minutes=5)
    assert tz.replace(tzinfo=None) == ts


def test_columns_called_like_the_current_time_stay_columns(session) -> None:
    session.sql('CREATE TABLE ns.t ("now" INT, x INT)')
    session.sql('INSERT INTO ns.t SELECT n."now", 2 AS x FROM (SELECT 1 AS "now") AS n')
    assert session.sql('SELECT "now", x FROM ns.t').fetchall() == [(1, 2)]


def test_a_fixed_column_is_no_partition_because_not_every_engine_could_read_it(session) -> None:
    with pytest.raises(ice.SchemaError, match="reference implementation"):
        session.sql("CREATE TABLE ns.t (f FIXED(3)) PARTITIONED BY (f)")
    session.sql("CREATE TABLE ns.t (f FIXED(3)) PARTITIONED BY (bucket(4, f))")
