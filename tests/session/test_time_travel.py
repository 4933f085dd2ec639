"""Earlier states of a table: by id, by parameter, by time, after a rollback, and inside of a transaction."""

import datetime as dt

import pyarrow as pa
import pytest

import icefusion as ice


def ids(session: ice.Session, rest: str, params: object = None) -> list[int]:
    return sorted(row[0] for row in session.sql(f"SELECT id FROM ns.t {rest}", params=params).fetchall())


@pytest.fixture
def snapshots(session: ice.Session) -> list[int]:
    session.sql("CREATE TABLE ns.t (id bigint)")
    return [session.sql("INSERT INTO ns.t VALUES (?)", params=[number]).snapshot_id for number in (1, 2, 3)]


def log(session: ice.Session) -> list[int]:
    return [entry.timestamp_ms for entry in session.catalog.load_table("ns.t").metadata.snapshot_log]


def moment(timestamp_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(timestamp_ms / 1000, dt.UTC)


def test_a_snapshot_is_named_by_its_id(session, snapshots) -> None:
    first, second, third = snapshots
    assert ids(session, f"FOR VERSION AS OF {first}") == [1]
    assert ids(session, f"VERSION AS OF '{second}' AS x") == [1, 2]
    assert ids(session, f"AT (VERSION => {second})") == [1, 2]
    assert ids(session, f"FOR SYSTEM_VERSION AS OF {third}") == [1, 2, 3]
    assert session.sql(f"SELECT id FROM ns.t.snapshot_id_{first}").fetchall() == [(1,)]
    assert session.sql(f"SELECT id FROM default.ns.t.SNAPSHOT_ID_{first} AS x").fetchall() == [(1,)]


@pytest.mark.parametrize("version", ["FOR VERSION AS OF ?", "VERSION AS OF $1 AS x", "AT (VERSION => ?)"])
def test_a_version_is_a_parameter(session, snapshots, version) -> None:
    for place, snapshot in enumerate(snapshots, start=1):
        assert ids(session, version, [snapshot]) == list(range(1, place + 1))
        assert ids(session, version, [str(snapshot)]) == list(range(1, place + 1))
    assert ids(session, version, ["main"]) == [1, 2, 3]


def test_parameters_of_versions_and_values_go_together(session, snapshots) -> None:
    first, second, _ = snapshots
    sql = """SELECT a.id + ? FROM ns.t FOR VERSION AS OF ? AS a JOIN ns.t FOR VERSION AS OF ? AS b ON a.id = b.id
             WHERE a.id < ?"""
    assert session.sql(sql, params=[10, second, first, 5]).fetchall() == [(11,)]
    named = "SELECT count(*) FROM ns.t FOR VERSION AS OF $v WHERE id < $v"
    assert session.sql(named, params={"v": second}).fetchall() == [(2,)]
    with pytest.raises(ice.BindError, match=r"no value for parameter \$2"):
        session.sql("SELECT ? FROM ns.t FOR VERSION AS OF ?", params=[1])


@pytest.mark.parametrize(
    ("value", "message"), [(None, "NULL is no version"), (1.5, "is no version"), (True, "True is")]
)
def test_a_value_that_is_no_version_is_told_at_its_place(session, snapshots, value, message) -> None:
    with pytest.raises(ice.BindError, match=message) as caught:
        session.sql("SELECT * FROM ns.t FOR VERSION AS OF ?", params=[value])
    assert (caught.value.line, caught.value.column) == (1, 38)


def test_a_time_is_a_parameter(session, snapshots) -> None:
    for place, timestamp_ms in enumerate(log(session), start=1):
        expected = list(range(1, place + 1))
        for value in (
            moment(timestamp_ms),
            moment(timestamp_ms).isoformat(),
            moment(timestamp_ms).replace(tzinfo=None),
        ):
            assert ids(session, "FOR TIMESTAMP AS OF ?", [value]) == expected
        zoned = moment(timestamp_ms).astimezone(dt.timezone(dt.timedelta(hours=5)))
        assert ids(session, "FOR TIMESTAMP AS OF ? AS x", [zoned]) == expected
        for unit in ("ms", "us", "ns"):
            scalar = pa.scalar(moment(timestamp_ms), pa.timestamp(unit, tz="UTC"))
            assert ids(session, "AT (TIMESTAMP => ?)", [scalar]) == expected
        assert session.sql(f"SELECT count(*) FROM ns.t.at_timestamp_{timestamp_ms}").fetchall() == [(place,)]
    assert ids(session, "FOR TIMESTAMP AS OF ? + INTERVAL '1 day'", [moment(log(session)[0])]) == [1, 2, 3]


@pytest.mark.parametrize(
    "text", ["9999-12-31", "9999-12-31T23:59:59.999999+01:00", "2262-05-01 00:00:00 Europe/Zurich"]
)
def test_a_time_in_text_may_lie_far_ahead(session, snapshots, text) -> None:
    assert ids(session, f"FOR TIMESTAMP AS OF '{text}'") == [1, 2, 3]
    assert ids(session, "FOR TIMESTAMP AS OF ?", [text]) == [1, 2, 3]


def test_before_the_first_snapshot_there_is_nothing(session, snapshots) -> None:
    first = log(session)[0]
    shown = moment(first).replace(tzinfo=None).isoformat(" ", "milliseconds")
    with pytest.raises(ice.BindError, match=f"its history begins at {shown} UTC") as caught:
        ids(session, "FOR TIMESTAMP AS OF ?", [moment(first - 1)])
    assert (caught.value.line, caught.value.column) == (1, 41)


@pytest.mark.parametrize(
    ("marked", "hint"),
    [
        ("SELECT * FROM ns.t FOR VERSION AS OF ^'mian' AS x", "did you mean main?"),
        ("SELECT * FROM ns.t\n AT (VERSION => ^5)", "known: "),
        ("SELECT * FROM ^ns.t.tag_v", "known: none yet"),
        ("DELETE FROM ns.t USING ns.t FOR VERSION AS OF ^'mian' AS s WHERE t.id = s.id", "did you mean main?"),
    ],
)
def test_an_unknown_version_is_told_at_its_place_with_the_nearest(session, snapshots, marked, hint) -> None:
    place = marked.index("^") - (marked.index("\n") + 1 if "\n" in marked else 0)
    with pytest.raises(ice.SQLError) as caught:
        session.sql(marked.replace("^", ""))
    assert caught.value.column == place + 1
    assert hint in (caught.value.hint or "")


def test_a_time_is_what_was_current_then_and_not_the_newest_snapshot(session, snapshots) -> None:
    """A snapshot that was rolled back counts while it was current; one of another branch does not count."""
    first, second, _ = snapshots
    table = session.catalog.load_table("ns.t")
    table.manage_snapshots().create_branch(first, "other").commit()
    table.manage_snapshots().rollback_to_snapshot(first).commit()
    entries = session.catalog.load_table("ns.t").metadata.snapshot_log
    assert entries[-1].snapshot_id == first
    assert ids(session, "FOR TIMESTAMP AS OF ?", [moment(entries[-1].timestamp_ms)]) == [1]
    assert ids(session, "FOR TIMESTAMP AS OF now()") == [1]
    assert ids(session, "FOR TIMESTAMP AS OF ?", [moment(entries[1].timestamp_ms)]) == [1, 2]
    assert ids(session, f"FOR VERSION AS OF {second}") == [1, 2]


def test_inside_a_transaction_an_earlier_state_stays_what_it_is(session, snapshots) -> None:
    first, _, third = snapshots
    with session.transaction() as tx:
        tx.sql("INSERT INTO ns.t VALUES (4)")
        assert ids(session, "") == [1, 2, 3, 4]
        assert ids(session, f"FOR VERSION AS OF {third}") == [1, 2, 3]
        assert ids(session, "FOR TIMESTAMP AS OF now()") == [1, 2, 3]
        assert ids(session, f"FOR VERSION AS OF {first}") == [1]
        tx.sql("DELETE FROM ns.t USING ns.t FOR VERSION AS OF ? AS old WHERE t.id = old.id", params=[first])
    assert ids(session, "") == [2, 3, 4]
    assert ids(session, "FOR VERSION AS OF ?", [third]) == [1, 2, 3]


def test_the_same_time_in_two_places_is_one_moment(session, snapshots) -> None:
    sql = """SELECT count(*) FROM ns.t FOR TIMESTAMP AS OF now() a FULL JOIN ns.t FOR TIMESTAMP AS OF now() b
             ON a.id = b.id WHERE a.id IS NULL OR b.id IS NULL"""
    assert session.sql(sql).fetchall() == [(0,)]


def test_every_statement_that_reads_can_travel(session, snapshots) -> None:
    first, second, _ = snapshots
    session.sql("CREATE TABLE ns.u AS SELECT * FROM ns.t FOR VERSION AS OF ?", params=[first])
    assert session.sql("SELECT id FROM ns.u").fetchall() == [(1,)]
    session.sql("UPDATE ns.u SET id = 7 FROM ns.t FOR VERSION AS OF ? AS old WHERE u.id = old.id", params=[second])
    assert session.sql("SELECT id FROM ns.u").fetchall() == [(7,)]
    plan = session.sql("EXPLAIN SELECT * FROM ns.t FOR TIMESTAMP AS OF now()").fetchall()
    assert "ns.t" in str(plan)
    explained = session.sql(
        "EXPLAIN DELETE FROM ns.u USING ns.t VERSION AS OF ? AS o WHERE u.id = o.id", params=[first]
    )
    assert explained.fetchall()
    rows = session.sql("SELECT id FROM ns.t WHERE id NOT IN (SELECT id FROM ns.t AT (VERSION => ?))", params=[second])
    assert rows.fetchall() == [(3,)]


def test_a_missing_table_is_told_by_the_name_that_was_asked_for(session) -> None:
    with pytest.raises(ice.TableNotFoundError, match="tag_x"):
        session.sql("SELECT * FROM ns.t.tag_x")
    session.sql("CREATE TABLE ns.t (id bigint)")
    with pytest.raises(ice.TableNotFoundError):
        session.sql("SELECT * FROM ns.t.tags_x")


def test_two_tables_of_one_statement_are_read_at_versions(session, snapshots) -> None:
    first, second, _ = snapshots
    sql = f"SELECT count(*) FROM ns.t.snapshot_id_{first} AS a, ns.t.snapshot_id_{second} AS b, ns.t AS c"
    assert session.sql(sql).fetchall() == [(1 * 2 * 3,)]
