"""Functions under the names that people bring from DuckDB and Spark.

Where the engine has a function of another name that does exactly the same, the call is written with that name. Where it
has none, the error says what to write instead. Functions of the user's own, and those that the engine has, come first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from icefusion.naming import fold_case, quote_identifier
from icefusion.sql.extents import completes_operand
from icefusion.sql.lexer import Kind, Token, tokenize
from icefusion.sql.references import Edit, apply_edits
from icefusion.sql.statements import Query

__all__ = ["INSTEAD", "RENAMED", "rename_functions"]

RENAMED: dict[str, tuple[str, str]] = {
    # DuckDB
    "list_value": ("make_array(", ")"),
    "list": ("array_agg(", ")"),
    "strftime": ("to_char(", ")"),
    "string_split": ("string_to_array(", ")"),
    "str_split": ("string_to_array(", ")"),
    "prefix": ("starts_with(", ")"),
    "suffix": ("ends_with(", ")"),
    "regexp_matches": ("regexp_like(", ")"),
    "group_concat": ("string_agg(", ")"),
    "listagg": ("string_agg(", ")"),
    "approx_quantile": ("approx_percentile_cont(", ")"),
    "epoch": ("date_part('epoch', ", ")"),
    "gen_random_uuid": ("uuid(", ")"),
    # Spark
    "startswith": ("starts_with(", ")"),
    "endswith": ("ends_with(", ")"),
    "ucase": ("upper(", ")"),
    "lcase": ("lower(", ")"),
    "rlike": ("regexp_like(", ")"),
    "sign": ("signum(", ")"),
    "array_size": ("cardinality(", ")"),
    "sort_array": ("array_sort(", ")"),
    "sequence": ("generate_series(", ")"),
    "explode": ("unnest(", ")"),
    "first": ("first_value(", ")"),
    "last": ("last_value(", ")"),
    "every": ("bool_and(", ")"),
    "variance": ("var_samp(", ")"),
    "percentile_approx": ("approx_percentile_cont(", ")"),
    "approx_percentile": ("approx_percentile_cont(", ")"),
    "approx_count_distinct": ("approx_distinct(", ")"),
    "iff": ("if(", ")"),
    "isnull": ("((", ") IS NULL)"),
    "isnotnull": ("((", ") IS NOT NULL)"),
    # Both
    "count_if": ("count(nullif(", ", FALSE))"),
    "year": ("date_part('year', ", ")"),
    "quarter": ("date_part('quarter', ", ")"),
    "month": ("date_part('month', ", ")"),
    "day": ("date_part('day', ", ")"),
    "dayofmonth": ("date_part('day', ", ")"),
    "dayofyear": ("date_part('doy', ", ")"),
    "weekofyear": ("date_part('week', ", ")"),
    "week": ("date_part('week', ", ")"),
}
"""What stands in the place of a name and its parenthesis, and of the closing one."""

INSTEAD: dict[str, str] = {
    "arg_max": "write first_value(x ORDER BY y DESC NULLS LAST)",
    "arg_min": "write first_value(x ORDER BY y NULLS LAST)",
    "max_by": "write first_value(x ORDER BY y DESC NULLS LAST)",
    "min_by": "write first_value(x ORDER BY y NULLS LAST)",
    "date_format": "write to_char(x, '%Y-%m-%d'), whose patterns are those of strftime",
    "dayofweek": "write date_part('dow', x), where Sunday is 0",
    "locate": "write strpos(text, part)",
    "regexp_extract": "write regexp_match(text, pattern)[1]",
    "strptime": "write to_timestamp(text, '%Y-%m-%d %H:%M:%S'), which needs all parts down to seconds, or none of them",
    "split": "write string_to_array(text, ','), which takes no patterns",
    "typeof": "write arrow_typeof(x)",
    "struct_pack": "write named_struct('a', 1) or {'a': 1}",
    "unix_timestamp": "write date_part('epoch', x)",
    "epoch_ms": "write to_timestamp_millis(x), or date_part('epoch', x) * 1000",
    "mode": "count the values and take the first: GROUP BY x ORDER BY count(*) DESC LIMIT 1",
    "percentile": "write percentile_cont(0.5) WITHIN GROUP (ORDER BY x)",
    "quantile": "write percentile_cont(0.5) WITHIN GROUP (ORDER BY x)",
    "get_json_object": "there are no functions for JSON; read it as columns, with read_json or in Python",
    "json_extract": "there are no functions for JSON; read it as columns, with read_json or in Python",
    "from_json": "there are no functions for JSON; read it as columns, with read_json or in Python",
    "to_json": "there are no functions for JSON; make it in Python",
}
"""What to write where the engine has nothing of that name."""

_NO_CALL_BEHIND = ("NULLS", "FETCH", ".", "AS", "INTERVAL")


def rename_functions(query: Query, is_known: Callable[[str], bool], spelled: Mapping[str, str]) -> Query:
    """The query with each function under the name that the engine knows it by.

    Args:
        query: The query.
        is_known: Whether the engine has a function of this name, in lower case.
        spelled: The exact names of functions that have capital letters, by their lower case.
    """
    tokens = tokenize(query.text)
    edits: list[Edit] = []
    open_calls: list[tuple[int, str] | None] = []
    for index, token in enumerate(tokens[:-1]):
        if token.key == "(":
            open_calls.append(_begun(tokens, index, is_known, spelled))
        elif token.key == ")" and open_calls:
            begun = open_calls.pop()
            if begun is None or _defines_names(tokens, index):
                continue
            first, name = begun
            if name in spelled:
                edits.append(Edit(tokens[first].start, tokens[first].end, quote_identifier(spelled[name])))
                continue
            head, tail = RENAMED[name]
            edits.append(Edit(tokens[first].start, tokens[first + 1].end, head))
            edits.append(Edit(token.start, token.end, tail))
    return apply_edits(query, edits)


def _begun(
    tokens: list[Token], index: int, is_known: Callable[[str], bool], spelled: Mapping[str, str]
) -> tuple[int, str] | None:
    """Where the name stands of the call that the parenthesis at ``index`` opens, and the name, if it has to change."""
    if index == 0 or tokens[index - 1].kind is not Kind.WORD:
        return None
    name = fold_case(tokens[index - 1].text)
    if name not in spelled and (name not in RENAMED or is_known(name)):
        return None
    if index > 1:
        before = tokens[index - 2]
        if before.key in _NO_CALL_BEHIND or completes_operand(before):
            return None  # `t AS list (a, b)`, `WITH first (a) AS`
    return index - 1, name


def _defines_names(tokens: list[Token], index: int) -> bool:
    """Whether the parenthesis closed at ``index`` is the list of columns of a common table expression."""
    after = tokens[index + 1 : index + 3]
    return len(after) == 2 and after[0].key == "AS" and after[1].key in ("(", "MATERIALIZED", "NOT")
