"""SHOW CREATE VIEW: a view as the statement that makes it."""

from __future__ import annotations

from icefusion.bridge.schema import sql_name
from icefusion.introspection.create_table import quoted_properties, quoted_string
from icefusion.session_views import View

__all__ = ["create_view_text"]


def create_view_text(view: View) -> str:
    """The statement; the query is as it was written."""
    names = view.columns or (tuple(view.schema.names) if view.comments else ())
    comments = dict(view.comments)
    temporary = "" if "." in view.name else "TEMPORARY "
    text = f"CREATE {temporary}VIEW {view.name}"
    if names:
        text += " (\n" + ",\n".join(f"  {_column(name, comments.get(name))}" for name in names) + "\n)"
    if view.comment is not None:
        text += f"\nCOMMENT {quoted_string(view.comment)}"
    return f"{text}{quoted_properties(dict(view.properties))}\nAS {view.text}"


def _column(name: str, comment: str | None) -> str:
    return sql_name(name) + (f" COMMENT {quoted_string(comment)}" if comment is not None else "")
