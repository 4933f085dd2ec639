"""Random blocks that make, rename, fill and drop tables and namespaces, beside a model that does so with a dict."""

from __future__ import annotations

import copy
import random

import pytest

import icefusion as ice

BLOCKS = 6
STATEMENTS = 9
NAMESPACES = ("n0", "n1", "n2")
TABLES = ("a", "b", "c")

State = dict[str, dict[str, list[int]]]


class Model:
    """Namespaces, the tables in them and their rows; a statement that cannot be carried out changes nothing."""

    def __init__(self, state: State) -> None:
        self.state = state

    def apply(self, kind: str, namespace: str, table: str, other: tuple[str, str], number: int) -> bool:
        """Whether a statement is to succeed, and what it does."""
        there = namespace in self.state
        found = there and table in self.state[namespace]
        match kind:
            case "CREATE NAMESPACE":
                if there:
                    return False
                self.state[namespace] = {}
            case "DROP NAMESPACE":
                if not there or self.state[namespace]:
                    return False
                del self.state[namespace]
            case "CREATE TABLE":
                if not there or found:
                    return False
                self.state[namespace][table] = [number]
            case "DROP TABLE":
                if not found:
                    return False
                del self.state[namespace][table]
            case "INSERT":
                if not found:
                    return False
                self.state[namespace][table].append(number)
            case "DELETE":
                if not found:
                    return False
                self.state[namespace][table] = [each for each in self.state[namespace][table] if each % 2]
            case "RENAME":
                if not found or other[0] not in self.state or other[1] in self.state[other[0]]:
                    return False
                self.state[other[0]][other[1]] = self.state[namespace].pop(table)
        return True


def text(kind: str, namespace: str, table: str, other: tuple[str, str], number: int) -> str:
    name = f"{namespace}.{table}"
    return {
        "CREATE NAMESPACE": f"CREATE NAMESPACE {namespace}",
        "DROP NAMESPACE": f"DROP NAMESPACE {namespace}",
        "CREATE TABLE": f"CREATE TABLE {name} AS SELECT {number} AS id",
        "DROP TABLE": f"DROP TABLE {name}",
        "INSERT": f"INSERT INTO {name} VALUES ({number})",
        "DELETE": f"DELETE FROM {name} WHERE id % 2 = 0",
        "RENAME": f"ALTER TABLE {name} RENAME TO {'.'.join(other)}",
    }[kind]


KINDS = ("CREATE NAMESPACE", "DROP NAMESPACE", "CREATE TABLE", "DROP TABLE", "INSERT", "DELETE", "RENAME", "RENAME")


def look(session: ice.Session) -> State:
    """What a session sees, by statements alone."""
    state: State = {row[0]: {} for row in session.sql("SHOW NAMESPACES").fetchall()}
    for namespace, table, _ in session.sql("SHOW TABLES").fetchall():
        ids = session.sql(f"SELECT id FROM {namespace}.{table}").fetchall()
        state[namespace][table] = sorted(row[0] for row in ids)
    return state


def sorted_rows(state: State) -> State:
    return {name: {table: sorted(rows) for table, rows in tables.items()} for name, tables in state.items()}


@pytest.mark.parametrize("seed", range(6))
def test_blocks_see_and_leave_what_the_model_says(folder, seed) -> None:
    chance = random.Random(seed)
    committed: State = {}
    number = 0
    with ice.connect(folder) as session, ice.connect(folder) as other:
        for _ in range(BLOCKS):
            model = Model(copy.deepcopy(committed))
            done: list[str] = []
            session.sql("BEGIN")
            for _ in range(STATEMENTS):
                number += 1
                step = (
                    chance.choice(KINDS),
                    chance.choice(NAMESPACES),
                    chance.choice(TABLES),
                    (chance.choice(NAMESPACES), chance.choice(TABLES)),
                    number,
                )
                done.append(text(*step))
                if model.apply(*step):
                    session.sql(done[-1])
                else:
                    with pytest.raises(ice.CatalogError):
                        session.sql(done[-1])
            assert look(session) == sorted_rows(model.state), done
            assert look(other) == sorted_rows(committed), done
            if chance.random() < 0.7:
                session.sql("COMMIT")
                committed = model.state
            else:
                session.sql("ROLLBACK")
            assert look(other) == sorted_rows(committed), done
            assert look(session) == sorted_rows(committed), done
