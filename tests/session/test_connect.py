"""The ways to open a catalog, and what is said when none can be opened."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pyiceberg.catalog.sql import SqlCatalog

import icefusion as ice


def use(session: ice.Session) -> None:
    session.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT 1 AS id")
    assert session.sql("SELECT id FROM ns.t").fetchall() == [(1,)]


def properties(folder: Path) -> dict[str, str]:
    return {"type": "sql", "uri": f"sqlite:///{folder / 'c.db'}", "warehouse": folder.as_uri()}


def test_a_folder_is_made_and_found_again(tmp_path) -> None:
    folder = tmp_path / "deep" / "er"
    with ice.connect(folder) as session:
        use(session)
    with ice.connect(str(folder)) as session:
        assert session.sql("SELECT id FROM ns.t").fetchall() == [(1,)]


def test_properties_open_a_catalog_under_a_name(tmp_path) -> None:
    with ice.connect(catalog=properties(tmp_path), name="prod") as session:
        use(session)
        assert session.sql("SELECT id FROM prod.ns.t").fetchall() == [(1,)]
        assert session.catalog.name == "prod"


def test_an_object_is_used_and_left_open(tmp_path) -> None:
    catalog = SqlCatalog("mine", **{k: v for k, v in properties(tmp_path).items() if k != "type"})
    with ice.connect(catalog=catalog) as session:
        use(session)
    assert catalog.list_tables("ns") == [("ns", "t")]
    catalog.close()


def test_a_name_alone_is_looked_up_in_pyicebergs_configuration(tmp_path) -> None:
    lines = [f"      {key}: {value}" for key, value in properties(tmp_path).items()]
    (tmp_path / ".pyiceberg.yaml").write_text("catalog:\n  prod:\n" + "\n".join(line[2:] for line in lines) + "\n")
    code = (
        "import icefusion as ice\n"
        "with ice.connect(name='prod') as s:\n"
        "    s.sql('CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT 1 AS id')\n"
        "    print(s.sql('SELECT id FROM prod.ns.t').fetchall())\n"
    )
    env = {**os.environ, "PYICEBERG_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.returncode) == ("[(1,)]", 0), run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs one catalog"),
        ({"path": "x", "catalog": {"type": "sql"}}, "path and catalog"),
        ({"catalog": {"type": "sql"}}, "uri"),
        ({"catalog": {"type": "nonsense"}}, "nonsense"),
        ({"catalog": {"type": "sql", "uri": "sqlite:///:memory:"}}, "in-memory"),
        ({"catalog": "production"}, "expected PyIceberg's properties"),
        ({"name": "no-such-catalog"}, "no-such-catalog"),
        ({"path": "s3://lake/tables"}, "expected a folder of this machine"),
        ({"path": "https://catalog.example"}, "expected a folder of this machine"),
        ({"path": "postgresql://localhost/lake"}, "expected a folder of this machine"),
        ({"path": "x", "threads": 0}, "threads"),
        ({"path": "x", "memory_limit": "much"}, "memory_limit"),
    ],
)
def test_what_describes_no_catalog_is_a_configuration_error(tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ice.ConfigurationError, match=message):
        ice.connect(**arguments)


def test_a_file_is_no_warehouse(tmp_path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(ice.ConfigurationError, match="warehouse"):
        ice.connect(tmp_path / "f")


def test_a_database_that_cannot_be_reached_is_a_catalog_error(tmp_path) -> None:
    with pytest.raises(ice.CatalogError) as raised:
        ice.connect(catalog={"type": "sql", "uri": f"sqlite:///{tmp_path}/no/such/folder/c.db", "warehouse": "x"})
    assert raised.value.retryable


def test_every_error_can_be_pickled() -> None:
    errors = [getattr(ice, name) for name in ice.__all__ if name.endswith("Error")]
    for kind in errors:
        again = pickle.loads(pickle.dumps(kind("what", hint="how")))
        assert (type(again), str(again)) == (kind, "what\nHint: how")
    again = pickle.loads(pickle.dumps(ice.ParseError("bad", sql="a b", offset=2)))
    assert (again.line, again.column) == (1, 3)


def test_public_names_are_what_can_be_imported() -> None:
    public = {
        name for name, value in vars(ice).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    public.discard("version")
    assert public == set(ice.__all__)


def test_a_warehouse_that_was_made_under_a_name_is_found_without_it(tmp_path):
    with ice.connect(tmp_path, name="prod") as made:
        made.sql("CREATE NAMESPACE ns; CREATE TABLE ns.t AS SELECT 1 AS a")
    with ice.connect(tmp_path) as found:
        assert found.catalog.name == "prod"
        assert found.sql("SELECT a FROM prod.ns.t").fetchall() == [(1,)]
    with ice.connect(tmp_path, name="test") as other:
        other.sql("CREATE NAMESPACE ns")
    with ice.connect(tmp_path) as two:
        assert two.catalog.name == "default"
