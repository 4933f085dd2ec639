"""Names: quoting, folding, guessing."""

import pytest

from icefusion.naming import fold_case, nearest, normalize, quote_identifier
from icefusion.sql.parser import parse_query
from icefusion.sql.statements import Identifier


@pytest.mark.parametrize("text", ["a", "A b", 'say "hi"', "from", "日本", "a'b;--"])
def test_a_quoted_identifier_stands_for_exactly_its_text(text: str) -> None:
    (table,) = parse_query(f"SELECT * FROM {quote_identifier(text)}").tables
    assert normalize(table.name.parts[0]) == text


def test_unquoted_identifiers_fold_in_ascii_only() -> None:
    assert normalize(Identifier("OrderId")) == "orderid"
    assert normalize(Identifier("OrderId", quoted=True)) == "OrderId"
    assert fold_case("ÉTÉ_A") == "ÉtÉ_a".replace("t", "t")


@pytest.mark.parametrize(
    ("name", "candidates", "expected"),
    [
        ("custmer", ["customer", "order"], "customer"),
        ("ID", ["id", "Idx"], "id"),
        ("xyz", ["customer"], None),
        ("anything", [], None),
        ("Sale", ["SALES", "sail"], "SALES"),
    ],
)
def test_the_nearest_name_is_guessed(name: str, candidates: list[str], expected: str | None) -> None:
    assert nearest(name, candidates) == expected
