"""Views that a REST catalog keeps: what is stored, who sees it, what is answered."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.rest import RestCatalog
from rest_server import RestServer
from rest_views import DROP_DIALECT, HISTORY, JavaViewStore, Spark, find_spark_python

import icefusion as ice

Open = Callable[..., ice.Session]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory):
    """Spark, and with it Iceberg's Java library."""
    python, reason = find_spark_python()
    if python is None:
        pytest.skip(reason)
    engine = Spark(python, tmp_path_factory.mktemp("spark"))
    yield engine
    engine.stop()


@pytest.fixture(params=["python", pytest.param("java", marks=pytest.mark.spark)])
def server(request: pytest.FixtureRequest, tmp_path: Path):
    """A catalog whose views are kept by our own few lines, or by Iceberg's Java library."""
    opened = RestServer(tmp_path, views=True)
    if request.param == "java":
        opened.views = JavaViewStore(request.getfixturevalue("spark"), tmp_path.name)
    yield opened
    opened.close()


@pytest.fixture
def connect(server: RestServer):
    sessions: list[ice.Session] = []

    def opened(name: str = "prod", **options) -> ice.Session:
        retry = ice.RetryConfig(initial_delay_ms=1, max_delay_ms=5, total_timeout_ms=3_000)
        sessions.append(ice.connect(catalog={"type": "rest", "uri": server.uri}, name=name, retry=retry, **options))
        return sessions[-1]

    yield opened
    for session in sessions:
        session.close()


@pytest.fixture
def session(connect: Open) -> ice.Session:
    found = connect()
    found.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint, name text, price decimal(9, 2))")
    found.sql("INSERT INTO ns.t VALUES (1, 'a', 1.5), (2, 'b', 2.5), (3, 'c', 3.5)")
    return found


def own(properties: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in properties.items() if not key.startswith("icefusion.")}


def rows(session: ice.Session, sql: str) -> list[tuple]:
    return sorted(session.sql(sql).fetchall())


def stored(server: RestServer, name: str = "v") -> dict:
    return server.views.views["ns", name]


def current(metadata: dict) -> dict:
    return next(v for v in metadata["versions"] if v["version-id"] == metadata["current-version-id"])


def put(server: RestServer, text: str, columns: dict[str, str], name: str = "v", **version) -> None:
    """A view that another engine has made."""
    fields = [
        {"id": number, "name": column, "required": False, "type": kind}
        for number, (column, kind) in enumerate(columns.items(), start=1)
    ]
    texts = version.pop("texts", {"spark": text})
    body = {
        "name": name,
        "schema": {"type": "struct", "schema-id": 0, "fields": fields},
        "view-version": {
            "version-id": 1,
            "schema-id": 0,
            "timestamp-ms": 1,
            "summary": {},
            "representations": [{"type": "sql", "sql": sql, "dialect": each} for each, sql in texts.items()],
            "default-namespace": ["ns"],
            **version,
        },
        "properties": {},
    }
    server.views.create(("ns", name), body)


# What is kept


def test_another_session_sees_a_view_under_its_own_name_of_the_catalog(session, connect) -> None:
    session.sql("CREATE VIEW ns.v AS SELECT id, name FROM ns.t WHERE id > 1")
    assert session.views == ()
    other = connect("elsewhere")
    assert rows(other, "SELECT name FROM ns.v") == [("b",), ("c",)]
    assert rows(other, "SELECT v.id FROM Elsewhere.NS.V WHERE v.id < 3") == [(2,)]
    session.sql("INSERT INTO ns.t VALUES (4, 'd', 4)")
    assert rows(other, "SELECT count(*) FROM ns.v") == [(3,)]


def test_what_is_stored_is_a_view_by_the_specification(session, server) -> None:
    session.sql(
        "CREATE VIEW ns.v (k COMMENT 'key', n) COMMENT 'hi' TBLPROPERTIES (a = 1) AS SELECT id, upper(name) FROM ns.t"
    )
    view = RestCatalog("pyiceberg", uri=server.uri).load_view("ns.v")
    assert own(view.properties) == {"a": "1", "comment": "hi"}
    assert [(f.field_id, f.name, str(f.field_type), f.doc) for f in view.schema().fields] == [
        (1, "k", "long", "key"),
        (2, "n", "string", None),
    ]
    version = view.current_version()
    assert (version.version_id, version.default_catalog, version.default_namespace) == (1, None, ())
    (representation,) = version.representations
    assert representation.root.dialect == "spark"
    assert representation.root.sql == "SELECT id, upper(name) FROM ns.t"


@pytest.mark.parametrize(
    ("query", "dialect"),
    [
        ("SELECT count(*) AS n FROM ns.t GROUP BY name", "spark"),
        ("SELECT id / 2 AS half FROM ns.t", "datafusion"),
        ('SELECT "name" FROM ns.t', "datafusion"),
        ("SELECT id FROM ns.t ORDER BY id LIMIT 2", "datafusion"),
    ],
)
def test_the_dialect_is_sparks_only_where_the_query_means_the_same_there(session, server, query, dialect) -> None:
    session.sql(f"CREATE VIEW ns.v AS {query}")
    assert [each["dialect"] for each in current(stored(server))["representations"]] == [dialect]
    assert rows(session, "SELECT * FROM ns.v") == rows(session, query)


def test_views_are_replaced_altered_renamed_and_dropped(session, server, connect) -> None:
    other = connect("other")
    session.sql("CREATE VIEW ns.v (x) COMMENT 'c' TBLPROPERTIES (a = 1, b = 2) AS SELECT 1")
    session.sql("CREATE VIEW IF NOT EXISTS ns.v AS SELECT 2 AS y")
    assert rows(other, "SELECT x FROM ns.v") == [(1,)]
    session.sql("ALTER VIEW ns.v AS SELECT 3 AS other_name")
    assert rows(other, "SELECT x FROM ns.v") == [(3,)]
    session.sql("ALTER VIEW ns.v SET TBLPROPERTIES (c = 3)")
    session.sql("ALTER VIEW ns.v UNSET TBLPROPERTIES (a)")
    assert own(stored(server)["properties"]) == {"b": "2", "c": "3", "comment": "c"}
    identity = stored(server)["view-uuid"]
    session.sql("ALTER VIEW ns.v RENAME TO w")
    assert stored(server, "w")["view-uuid"] == identity
    session.sql("CREATE OR REPLACE VIEW ns.w TBLPROPERTIES (b = 5) AS SELECT id FROM ns.t WHERE id = 2")
    assert rows(other, "SELECT id FROM ns.w") == [(2,)]
    assert own(stored(server, "w")["properties"]) == {"b": "5", "c": "3"}
    assert len(stored(server, "w")["version-log"]) == 3
    session.sql("DROP VIEW ns.w; DROP VIEW IF EXISTS ns.w; ALTER VIEW IF EXISTS ns.w RENAME TO x")
    assert server.views.views == {}


def test_old_versions_are_kept_as_far_as_the_property_says(session, server) -> None:
    session.sql(f"CREATE VIEW ns.v TBLPROPERTIES ('{HISTORY}' = 2) AS SELECT 0 AS n")
    for number in range(1, 5):
        session.sql(f"CREATE OR REPLACE VIEW ns.v AS SELECT {number} AS n")
    assert sorted(each["version-id"] for each in stored(server)["versions"]) == [4, 5]
    assert rows(session, "SELECT n FROM ns.v") == [(4,)]
    with pytest.raises(ice.ConfigurationError, match=HISTORY):
        session.sql(f"ALTER VIEW ns.v SET TBLPROPERTIES ('{HISTORY}' = 'all')")


def test_a_dialect_of_somebody_else_is_not_lost_unasked(session, server) -> None:
    session.sql("CREATE VIEW ns.own AS SELECT id FROM ns.t")
    session.sql("CREATE OR REPLACE VIEW ns.own AS SELECT id FROM ns.t ORDER BY id")  # both dialects were chosen here
    assert current(stored(server, "own"))["representations"][0]["dialect"] == "datafusion"
    put(server, "SELECT id FROM t", {"id": "long"})
    with pytest.raises(ice.UnsupportedStatementError, match=r"prod\.ns\.v has its query in dialect spark"):
        session.sql("CREATE OR REPLACE VIEW ns.v AS SELECT id FROM ns.t ORDER BY id")
    session.sql("CREATE OR REPLACE VIEW ns.v AS SELECT id FROM ns.t WHERE id > 2")
    session.sql(f"ALTER VIEW ns.v SET TBLPROPERTIES ('{DROP_DIALECT}' = 'false')")
    with pytest.raises(ice.UnsupportedStatementError, match=DROP_DIALECT):
        session.sql("ALTER VIEW ns.v AS SELECT id FROM ns.t ORDER BY id")
    session.sql(f"CREATE OR REPLACE VIEW ns.v TBLPROPERTIES ('{DROP_DIALECT}' = true) AS SELECT 7 AS id ORDER BY id")
    assert rows(session, "SELECT id FROM ns.v") == [(7,)]


# What is read


def test_views_stand_on_views_and_in_changes(session) -> None:
    session.sql("CREATE VIEW ns.a AS SELECT id + 1 AS id, name FROM ns.t")
    session.sql("CREATE VIEW ns.b (n, m) AS SELECT x.id, y.name FROM ns.a x JOIN prod.ns.a AS y ON x.id = y.id")
    assert rows(session, "SELECT n, m FROM ns.b") == [(2, "a"), (3, "b"), (4, "c")]
    session.sql("CREATE VIEW plain AS SELECT max(n) AS n FROM ns.b")  # of the session, over one of the catalog
    assert rows(session, "SELECT n FROM plain") == [(4,)]
    session.sql("CREATE TABLE ns.u AS SELECT n FROM ns.b")
    assert session.sql("DELETE FROM ns.u WHERE n IN (SELECT n FROM ns.b WHERE m = 'a')").rows_deleted == 1
    merge = "MERGE INTO ns.u USING ns.b ON u.n = b.n WHEN NOT MATCHED THEN INSERT (n) VALUES (b.n)"
    assert session.sql(merge).rows_inserted == 1
    assert rows(session, "WITH a AS (SELECT 1 AS one) SELECT count(*) FROM ns.u, ns.b, a") == [(9,)]


def test_a_view_of_an_attached_catalog_reads_that_catalog(session, server, connect, tmp_path) -> None:
    session.sql("CREATE VIEW ns.v AS SELECT id, ns.t.name FROM ns.t WHERE t.id > 1")
    session.sql("CREATE VIEW ns.w AS SELECT id FROM ns.v")
    with ice.connect(tmp_path / "embedded") as local:
        local.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t (id bigint); INSERT INTO ns.t VALUES (77)")
        local.attach("far", catalog={"type": "rest", "uri": server.uri})
        assert rows(local, "SELECT * FROM far.ns.v") == [(2, "b"), (3, "c")]
        assert rows(local, "SELECT id FROM far.ns.w") == [(2,), (3,)]
        assert rows(local, "SHOW VIEWS IN far") == [("ns", "v", False), ("ns", "w", False)]
        # Names in a statement are the session's own, whichever catalog keeps what it makes.
        local.sql("CREATE VIEW far.ns.mixed AS SELECT t.id AS here, v.id AS there FROM ns.t, far.ns.v")
        assert rows(local, "SELECT here, there FROM far.ns.mixed") == [(77, 2), (77, 3)]
        assert local.views == ()
    assert current(stored(server, "mixed"))["default-catalog"] == "default"
    with pytest.raises(ice.BindError, match=r"names in it are those of a catalog default"):
        session.sql("SELECT * FROM ns.mixed")


def test_a_transaction_reads_a_view_as_it_was_first_seen(session, connect) -> None:
    session.sql("CREATE VIEW ns.v AS SELECT id FROM ns.t")
    other = connect("other")
    with session.transaction() as tx:
        assert rows(session, "SELECT count(*) FROM ns.v") == [(3,)]
        other.sql("INSERT INTO ns.t VALUES (9, 'z', 9); CREATE OR REPLACE VIEW ns.v AS SELECT 0 AS id")
        assert rows(session, "SELECT count(*), min(id) FROM ns.v") == [(3, 1)]
        tx.sql("INSERT INTO ns.t VALUES (5, 'e', 5)")
        tx.sql("ALTER TABLE ns.t ADD COLUMN more int")
        assert rows(session, "SELECT count(*), max(id) FROM ns.v") == [(4, 5)]
        with pytest.raises(ice.TransactionError, match=r"ns\.w is kept by catalog prod"):
            tx.sql("CREATE VIEW ns.w AS SELECT id FROM ns.t")
        tx.sql("CREATE TEMP VIEW mine AS SELECT id FROM ns.v")
        tx.rollback()
    assert rows(session, "SELECT id FROM ns.v") == [(0,)]


def test_a_view_keeps_the_columns_that_it_was_made_with(session) -> None:
    session.sql("CREATE VIEW ns.v AS SELECT * FROM ns.t")
    session.sql("ALTER TABLE ns.t ADD COLUMN more int")
    assert session.sql("SELECT * FROM ns.v WHERE id = 1").to_arrow().column_names == ["id", "name", "price"]
    session.sql("ALTER TABLE ns.t DROP COLUMN price; ALTER TABLE ns.t DROP COLUMN more")
    with pytest.raises(ice.BindError, match=r"view prod\.ns\.v has 3 columns in the catalog, and its query has 2 now"):
        session.sql("SELECT id FROM ns.v")
    session.sql("CREATE OR REPLACE VIEW ns.v AS SELECT * FROM ns.t")
    assert rows(session, "SELECT * FROM ns.v WHERE id = 1") == [(1, "a")]


def test_views_of_spark_are_read(session, server) -> None:
    text = r"""SELECT `id`, concat("x", 'it\'s') AS z, id / 2, 1L, name <=> 'a' FROM `t` WHERE name == "b" """
    columns = {"Key": "long", "text": "string", "half": "double", "one": "long", "same": "boolean"}
    put(server, text, columns)
    assert rows(session, 'SELECT "Key", text, half, one, same FROM ns.v') == [(2, "xit's", 1.0, 1, False)]


def test_the_text_of_the_nearest_dialect_is_read(session, server) -> None:
    texts = {"trino": "SELECT 1", "spark": "SELECT 2", "DataFusion": "SELECT 3"}
    put(server, "", {"id": "long"}, "ours", texts=texts)
    assert rows(session, "SELECT id FROM ns.ours") == [(3,)]
    texts.popitem()
    put(server, "", {"id": "long"}, "sparks", texts=texts)
    assert rows(session, "SELECT id FROM ns.sparks") == [(2,)]
    put(server, "", {"id": "long"}, texts={"hive": "SELECT 1"})
    with pytest.raises(ice.BindError, match=r"view prod\.ns\.v says its query in no dialect .*: hive"):
        session.sql("SELECT id FROM ns.v")


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("SELEC id FROM t", {"id": "long"}, "is no query here"),
        ("SELECT nothing FROM t", {"id": "long"}, "nothing"),
        ("SELECT id FROM gone", {"id": "long"}, r"table prod\.ns\.gone does not exist"),
        ("SELECT id FROM a.b.t", {"id": "long"}, "those of a catalog a, which is not known here"),
        ("SELECT id FROM t", {"id": "long", "more": "long"}, "2 columns in the catalog, and its query has 1 now"),
        ("SELECT id FROM t", {"id": "double"}, r"column id is double in the catalog, and its query gives bigint"),
        ("SELECT id FROM t", {"id": "string"}, "column id is string"),
        ("SELECT id FROM t WHERE id = ?", {"id": "long"}, "parameters"),
        ("SELECT * FROM read_csv('/etc/passwd')", {"id": "string"}, "names files"),
        ("SELECT id FROM v", {"id": "long"}, r"reads itself: prod\.ns\.v -> prod\.ns\.v"),
    ],
)
def test_a_view_that_cannot_be_read_is_named(session, server, text, columns, message) -> None:
    put(server, text, columns)
    with pytest.raises(ice.BindError, match=message) as raised:
        session.sql("SELECT * FROM ns.v")
    assert "view prod.ns.v" in str(raised.value)
    session.sql("DROP VIEW ns.v")


def test_views_that_read_each_other_are_refused(session, server) -> None:
    put(server, "SELECT id FROM w", {"id": "long"})
    put(server, "SELECT id FROM v", {"id": "long"}, "w")
    with pytest.raises(ice.BindError, match=r"reads itself: prod\.ns\.v -> prod\.ns\.w -> prod\.ns\.v"):
        session.sql("SELECT * FROM ns.v")
    session.sql("CREATE VIEW ns.a AS SELECT id FROM ns.t; CREATE VIEW ns.b AS SELECT id FROM ns.a")
    with pytest.raises(ice.BindError, match="reads itself"):
        session.sql("CREATE OR REPLACE VIEW ns.a AS SELECT id FROM ns.b")


def test_a_view_whose_maker_calls_the_catalog_otherwise_is_read_once_that_is_said(session, server) -> None:
    elsewhere = {"default-catalog": "spark_catalog", "default-namespace": ["default"]}
    put(server, "SELECT id FROM rest.ns.t", {"id": "long"}, **elsewhere)
    with pytest.raises(ice.BindError, match=r"view prod\.ns\.v cannot be read: .* catalog rest, which is not known"):
        session.sql("SELECT id FROM ns.v")
    session.attach("rest", catalog=session.catalog)
    assert rows(session, "SELECT id FROM ns.v") == [(1,), (2,), (3,)]


# What cannot be done


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("CREATE VIEW ns.v AS SELECT 1 AS x", ice.TableExistsError, "view ns.v exists already"),
        ("CREATE VIEW NS.V AS SELECT 1 AS x", ice.TableExistsError, "exists already"),
        ("CREATE VIEW ns.t AS SELECT 1 AS x", ice.TableExistsError, "ns.t is a table"),
        ("ALTER VIEW ns.v RENAME TO t", ice.TableExistsError, "ns.t is a table"),
        ("ALTER VIEW ns.v RENAME TO w", ice.TableExistsError, "view ns.w exists already"),
        ("CREATE VIEW nowhere.v AS SELECT 1 AS x", ice.NamespaceNotFoundError, "namespace nowhere does not exist"),
        ("CREATE VIEW ns.x AS SELECT * FROM ns.nothing", ice.TableNotFoundError, "ns.nothing"),
        ("CREATE VIEW ns.x AS SELECT nothing FROM ns.t", ice.BindError, "nothing"),
        ("CREATE VIEW ns.x (a, b) AS SELECT 1", ice.SchemaError, "2 columns are named, and its query has 1"),
        ("CREATE VIEW ns.x AS SELECT NULL AS n", ice.SchemaError, "column n"),
        ("CREATE VIEW ns.x AS SELECT * FROM mine", ice.UnsupportedStatementError, "a view of this session"),
        ("CREATE VIEW ns.x AS SELECT * FROM passed", ice.UnsupportedStatementError, "which has no namespace"),
        ("INSERT INTO ns.v VALUES (1)", ice.UnsupportedStatementError, "ns.v is a view, and no table"),
        ("UPDATE ns.v SET id = 1", ice.UnsupportedStatementError, "ns.v is a view"),
        ("DELETE FROM NS.V", ice.UnsupportedStatementError, "NS.V is a view"),
        ("TRUNCATE TABLE ns.v", ice.UnsupportedStatementError, "ns.v is a view"),
        ("DROP TABLE IF EXISTS ns.v", ice.UnsupportedStatementError, "ns.v is a view"),
        ("ALTER TABLE ns.v ADD COLUMN x int", ice.UnsupportedStatementError, "ns.v is a view"),
        ("CREATE TABLE ns.v (id int)", ice.UnsupportedStatementError, "ns.v is a view"),
        ("CREATE OR REPLACE TABLE ns.v AS SELECT 1 AS x", ice.UnsupportedStatementError, "ns.v is a view"),
        ("DROP VIEW ns.t", ice.TableNotFoundError, "view prod.ns.t does not exist"),
        ("ALTER VIEW ns.nothing AS SELECT 1 AS x", ice.TableNotFoundError, "view prod.ns.nothing does not exist"),
        ("ALTER VIEW ns.v UNSET TBLPROPERTIES (nothing)", ice.BindError, "no property nothing"),
        ("SELECT * FROM ns.v FOR VERSION AS OF 1", ice.BindError, "has no versions"),
    ],
)
def test_mistakes_are_told_and_change_nothing(session, server, sql, error, message) -> None:
    session.sql("CREATE VIEW ns.v AS SELECT id FROM ns.t; CREATE VIEW ns.w AS SELECT id FROM ns.v")
    session.sql("CREATE VIEW mine AS SELECT 1 AS x")
    before = json.dumps([stored(server), stored(server, "w")])
    with pytest.raises(error, match=message):
        session.sql(sql)
    assert json.dumps([stored(server), stored(server, "w")]) == before
    assert set(server.views.views) == {("ns", "v"), ("ns", "w")}
    assert server.sql.list_tables("ns") == [("ns", "t")]


def test_files_are_not_read_by_views_of_a_catalog(session, tmp_path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    with pytest.raises(ice.UnsupportedStatementError, match="cannot read file"):
        session.sql(f"CREATE VIEW ns.v AS SELECT * FROM read_csv('{tmp_path / 'x.csv'}')")
    session.sql(f"CREATE TEMP VIEW v AS SELECT * FROM read_csv('{tmp_path / 'x.csv'}')")


# What is told


def test_what_is_there_is_told(session, connect) -> None:
    session.sql("CREATE VIEW ns.v (k COMMENT 'key', n) COMMENT 'hi' AS SELECT id, upper(name) FROM ns.t")
    session.sql("CREATE TEMP VIEW mine AS SELECT 1 AS x")
    other = connect("other")
    assert session.sql("SHOW VIEWS").fetchall() == [("", "mine", True), ("ns", "v", False)]
    assert other.sql("SHOW VIEWS IN ns LIKE 'v*'").fetchall() == [("ns", "v", False)]
    assert other.sql("DESCRIBE ns.v").fetchall() == [("k", "bigint", "key"), ("n", "string", None)]
    assert rows(other, "SELECT table_name, table_type FROM information_schema.tables") == [
        ("t", "BASE TABLE"),
        ("v", "VIEW"),
    ]
    assert rows(other, "SELECT table_schema, table_name, view_definition FROM information_schema.views") == [
        ("ns", "v", "SELECT id, upper(name) FROM ns.t")
    ]
    columns = "SELECT column_name, comment FROM information_schema.columns WHERE table_name = 'v'"
    assert rows(other, columns) == [("k", "key"), ("n", None)]
    ((text,),) = other.sql("SHOW CREATE VIEW ns.v").fetchall()
    other.sql("DROP VIEW ns.v")
    other.sql(text)
    assert other.sql("SHOW CREATE VIEW ns.v").fetchall() == [(text,)]
    with pytest.raises(ice.TableNotFoundError, match=r"view ns\.vv does not exist") as raised:
        other.sql("SHOW CREATE VIEW ns.vv")
    assert "did you mean ns.v" in str(raised.value)


def test_a_table_costs_no_request_more_than_before(session, server) -> None:
    server.tables_loaded = 0
    session.sql("SELECT count(*) FROM ns.t")
    assert server.tables_loaded == 1


# What is answered


@pytest.mark.parametrize("fault", [("after", 409), ("after", 500), ("after", 503), ("after", 0), 429, 500, 503, 0])
def test_whatever_is_answered_a_view_is_changed_once(session, server, fault) -> None:
    server.view_faults = [fault]
    session.sql("CREATE VIEW ns.v AS SELECT 1 AS x")
    server.view_faults = [fault]
    session.sql("CREATE OR REPLACE VIEW ns.v AS SELECT 2 AS x")
    server.view_faults = [fault]
    session.sql("ALTER VIEW ns.v AS SELECT 3 AS x")
    assert [each["representations"][0]["sql"] for each in stored(server)["versions"]] == [
        "SELECT 1 AS x",
        "SELECT 2 AS x",
        "SELECT 3 AS x",
    ]
    server.view_faults = [fault]
    session.sql("ALTER VIEW ns.v SET TBLPROPERTIES (a = 1)")
    server.view_faults = [fault]
    session.sql("ALTER VIEW ns.v RENAME TO w")
    assert own(stored(server, "w")["properties"]) == {"a": "1"}
    server.view_faults = [fault]
    session.sql("DROP VIEW ns.w")
    assert server.views.views == {}


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_is_final(session, server, status) -> None:
    server.view_faults = [status] * 20
    with pytest.raises(ice.CatalogError):
        session.sql("CREATE VIEW ns.v AS SELECT 1 AS x")
    assert server.views.views == {}


def test_a_server_that_keeps_failing_gives_an_unknown_outcome(session, server) -> None:
    server.view_faults = [500] * 10_000
    with pytest.raises(ice.CommitStateUnknownError, match=r"whether view prod\.ns\.v was changed is unknown"):
        session.sql("CREATE VIEW ns.v AS SELECT 1 AS x")


def test_lost_races_end_after_as_many_attempts_as_allowed(session, server) -> None:
    session.sql("CREATE VIEW ns.v AS SELECT 1 AS x")
    server.view_faults = [409] * 10_000
    with pytest.raises(ice.CommitFailedError, match="gave up after 4 attempts"):
        session.sql("CREATE OR REPLACE VIEW ns.v AS SELECT 2 AS x")
    server.view_faults = []
    assert rows(session, "SELECT x FROM ns.v") == [(1,)]


def test_of_many_who_make_one_view_each_is_answered_right(session, server, connect) -> None:
    outcomes: list[str] = []

    def make(number: int, statement: str) -> None:
        with ice.connect(catalog={"type": "rest", "uri": server.uri}, name="prod") as mine:
            try:
                mine.sql(statement.format(number))
                outcomes.append("made")
            except ice.TableExistsError:
                outcomes.append("there")

    for statement in ("CREATE VIEW ns.v AS SELECT {} AS x", "CREATE OR REPLACE VIEW ns.v AS SELECT {} AS x"):
        outcomes.clear()
        threads = [threading.Thread(target=make, args=(number, statement)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count("made") == (6 if "REPLACE" in statement else 1)
        assert len(outcomes) == 6
    assert len(stored(server)["version-log"]) == 7


def test_without_view_endpoints_views_are_the_sessions(tmp_path) -> None:
    server = RestServer(tmp_path)
    with ice.connect(catalog={"type": "rest", "uri": server.uri}, name="prod") as session:
        session.sql("CREATE NAMESPACE ns; CREATE VIEW ns.v AS SELECT 1 AS x")
        assert [view.name for view in session.views] == ["ns.v"]
        assert session.sql("SHOW VIEWS").fetchall() == [("ns", "v", True)]
        assert server.view_requests == 0
    server.close()


def test_a_writer_and_a_table_are_not_those_of_a_view(session) -> None:
    session.sql("CREATE VIEW ns.v AS SELECT id FROM ns.t")
    with pytest.raises(ice.UnsupportedStatementError, match=r"ns\.v is a view, and no table"):
        session.table("ns.v")
    with pytest.raises(ice.UnsupportedStatementError, match=r"ns\.v is a view, and no table"):
        session.writer("ns.v").write_batch(pa.record_batch({"id": [1]}))


def test_metadata_tables_are_found_beside_views(session) -> None:
    session.sql("CREATE VIEW ns.files AS SELECT file_path, record_count FROM ns.t.files")
    assert rows(session, "SELECT count(*) FROM ns.t.snapshots") == [(1,)]
    assert rows(session, "SELECT record_count FROM prod.ns.t$files") == [(3,)]
    assert rows(session, "SELECT record_count FROM ns.files") == [(3,)]
    assert rows(session, "SELECT record_count FROM prod.ns.files") == [(3,)]
    with pytest.raises(ice.UnsupportedStatementError, match=r"ns\.files is a view, and no table"):
        session.sql("SELECT * FROM ns.files.snapshots")
    assert rows(session, "SELECT count(*) FROM ns.t FOR VERSION AS OF 'main'") == [(3,)]
