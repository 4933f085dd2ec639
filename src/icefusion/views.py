"""The views that a session can name: its own, and those that catalogs keep.

Here it is decided which of the two a statement is about. A catalog that keeps views keeps those whose names lead into
its namespaces. All others are the session's: temporary ones, those without a namespace, and those in namespaces of
catalogs that keep none. Where both could be meant, a view of the session goes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icefusion.catalog_views import CatalogViews
from icefusion.errors import TransactionError
from icefusion.session_views import SessionViews, View
from icefusion.sql import statements as st
from icefusion.sql.view_expansion import ViewText

if TYPE_CHECKING:
    from icefusion.pinned import PinnedTables

__all__ = ["Views"]


class Views:
    """The views of one session.

    Attributes:
        session: Those that live as long as it does.
        catalog: Those that catalogs keep.
    """

    def __init__(self, session: SessionViews, catalog: CatalogViews) -> None:
        self.session = session
        self.catalog = catalog

    def define(self, statement: st.ViewDefinition, state: PinnedTables, *, in_transaction: bool) -> None:
        """Make, alter, rename or drop a view.

        Args:
            statement: What is to be done.
            state: The transaction whose tables a new query reads.
            in_transaction: Whether that lasts longer than this statement.

        Raises:
            TransactionError: The view is one of a catalog, which would be changed at once.
            IcefusionError: See `SessionViews` and `CatalogViews`.
        """
        keeper = self.catalog.keeper(statement.name)
        is_temporary = isinstance(statement, st.CreateView) and statement.temporary
        if keeper is None or is_temporary or self.session.is_view(statement.name):
            match statement:
                case st.CreateView():
                    self.session.create(statement)
                case st.AlterView():
                    self.session.alter(statement)
                case st.RenameView():
                    self.session.rename(statement)
                case st.DropView():
                    self.session.drop(statement)
            return
        if in_transaction:
            raise TransactionError(
                f"view {statement.name} is kept by catalog {keeper.name}, which makes, alters and drops views at "
                "once and so cannot do it inside a transaction",
                hint="COMMIT or ROLLBACK first, or make a view of the session: CREATE TEMP VIEW, without a namespace",
            )
        match statement:
            case st.CreateView():
                self.catalog.create(statement, keeper, state)
            case st.AlterView():
                self.catalog.alter(statement, keeper, state)
            case st.RenameView():
                self.catalog.rename(statement, keeper)
            case st.DropView():
                self.catalog.drop(statement, keeper)

    def find(self, name: st.Name, state: PinnedTables) -> ViewText | None:
        """What a name stands for in a query of a transaction; None where it is no view.

        Raises:
            BindError: It is a view that cannot be read.
        """
        found = self.session.find(name)
        if found is not None:
            return found
        view = state.find_kept_view(name)
        keeper = self.catalog.keeper(name)
        return None if view is None or keeper is None else self.catalog.read(view, keeper, state)

    def view(self, name: st.Name, state: PinnedTables) -> View | None:
        """The view that a name stands for, as it was made; None where it is no view."""
        found = self.session.view(name)
        if found is not None:
            return found
        kept = state.find_kept_view(name)
        return None if kept is None else self.catalog.shown(kept)
