"""SHOW and DESCRIBE as the parser reads them."""

import pytest

from icefusion.errors import ParseError
from icefusion.sql.parser import parse_script
from icefusion.sql.statements import Describe, DescribeQuery, Show

# Text -> what, name, and what else was asked for.
SHOWN: dict[str, tuple[str, str | None, str | None]] = {
    "SHOW CATALOGS": ("catalogs", None, None),
    "show catalogs like 'p*'": ("catalogs", None, "p*"),
    "SHOW NAMESPACES": ("namespaces", None, None),
    "SHOW SCHEMAS IN a.b": ("namespaces", "a.b", None),
    "SHOW DATABASES FROM a LIKE 'x%'": ("namespaces", "a", "x%"),
    "SHOW TABLES": ("tables", None, None),
    "SHOW TABLES IN \"A b\" 'x|y'": ("tables", '"A b"', "x|y"),
    "SHOW VIEWS FROM a": ("views", "a", None),
    "SHOW COLUMNS IN a.t": ("columns", "a.t", None),
    "SHOW COLUMNS FROM t IN a LIKE 'x'": ("columns", "a.t", "x"),
    "SHOW PARTITIONS a.t": ("partitions", "a.t", None),
    "SHOW CREATE TABLE c.a.t": ("create table", "c.a.t", None),
    "SHOW CREATE VIEW a.v": ("create view", "a.v", None),
    "SHOW TBLPROPERTIES a.t": ("properties", "a.t", None),
    "SHOW TBLPROPERTIES a.t ('x.y')": ("properties", "a.t", "x.y"),
    "SHOW TBLPROPERTIES a.t (x.y)": ("properties", "a.t", "x.y"),
    "SHOW ALL FUNCTIONS LIKE 'abs'": ("functions", None, "abs"),
    "SHOW FUNCTIONS": ("functions", None, None),
    "DESCRIBE a.t": ("table", "a.t", ""),
    "DESC a.t": ("table", "a.t", ""),
    "DESCRIBE TABLE EXTENDED a.t": ("table extended", "a.t", ""),
    "DESC FORMATTED a.t": ("table extended", "a.t", ""),
    'DESCRIBE TABLE a.t x."Y"': ("table", "a.t", "x.Y"),
    "DESCRIBE schema.t": ("table", "schema.t", ""),
    "DESCRIBE extended.t": ("table", "extended.t", ""),
    "DESCRIBE history": ("table", "history", ""),
    "DESCRIBE NAMESPACE a.b": ("namespace", "a.b", ""),
    "DESC SCHEMA EXTENDED a": ("namespace extended", "a", ""),
    "DESCRIBE SELECT a FROM t": ("query", None, "SELECT a FROM t"),
    "DESCRIBE QUERY WITH x AS (SELECT ?) FROM x": ("query", None, "WITH x AS (SELECT $1) SELECT * FROM x"),
    "DESCRIBE (SELECT 1)": ("query", None, "(SELECT 1)"),
    "DESCRIBE QUERY TABLE a.t": ("query", None, "SELECT * FROM a.t"),
}
MISTAKES = {
    "SHOW": "behind SHOW, the statement ends",
    "SHOW TABELS": "did you mean SHOW TABLES",
    "SHOW TABLES LIK 'x'": "did you mean LIKE",
    "SHOW TABLES LIKE x": "expected a pattern as a string",
    "SHOW TABLES IN": "expected the name of a namespace or catalog, the statement ends",
    "SHOW TABLES IN a IN b": "expected LIKE or the end",
    "SHOW COLUMNS a.t": "expected IN or FROM",
    "SHOW CREATE t": "expected TABLE or VIEW",
    "SHOW TBLPROPERTIES a.t (": "expected the key of a property",
    "DESCRIBE": "expected a query or the name of a table",
    "DESCRIBE a.t b c": "expected the end of the statement, found c",
    "DESCRIBE NAMESPACE a b": "expected the end of the statement, found b",
    "DESCRIBE TABLE": "expected a query or the name of a table, found TABLE",
}


@pytest.mark.parametrize("text", SHOWN)
def test_what_is_asked_for_is_read(text: str) -> None:
    (statement,) = parse_script(text)
    match statement:
        case Show():
            name = None if statement.name is None else str(statement.name)
            found = (statement.what, name, statement.key if statement.what == "properties" else statement.pattern)
        case Describe():
            what = f"{statement.what} extended" if statement.extended else statement.what
            found = (what, str(statement.name), ".".join(part.text for part in statement.column))
        case DescribeQuery(query):
            found = ("query", None, query.text)
    assert found == SHOWN[text]


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told(text: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_script(text)
    assert MISTAKES[text] in str(caught.value)
