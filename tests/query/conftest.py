from pathlib import Path

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from query_helpers import make_catalog

from icefusion.query.engine import Engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(threads=2)


@pytest.fixture
def catalog(tmp_path: Path) -> SqlCatalog:
    catalog = make_catalog(tmp_path)
    yield catalog
    catalog.close()
