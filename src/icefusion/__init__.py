"""Transactional SQL for Apache Iceberg from Python, without a JVM.

``icefusion.connect`` opens a catalog and returns a session; everything else is reached from there. The names below are
the public ones.
"""

from importlib.metadata import version

from icefusion.commit.pools import PoolStats
from icefusion.config import BatchConfig, PoolConfig, RetryConfig
from icefusion.errors import (
    BindError,
    CardinalityError,
    CatalogError,
    CommitConflictError,
    CommitError,
    CommitFailedError,
    CommitStateUnknownError,
    ConfigurationError,
    ExecutionError,
    IcefusionError,
    NamespaceExistsError,
    NamespaceNotEmptyError,
    NamespaceNotFoundError,
    OutOfMemoryError,
    ParseError,
    SchemaError,
    SQLError,
    StorageError,
    TableExistsError,
    TableNotFoundError,
    TransactionError,
    UnsupportedStatementError,
)
from icefusion.pinned import Status
from icefusion.reports import (
    CommitReport,
    InMemoryReporter,
    LoggingReporter,
    Reporter,
    RowCounts,
    ScanReport,
    StatementReport,
    WriteReport,
)
from icefusion.result import Result
from icefusion.session import Session, connect
from icefusion.table import IcebergTable, MergeBuilder
from icefusion.transaction import Transaction
from icefusion.writer import IcebergTableWriter

__version__ = version("icefusion")

__all__ = [
    "BatchConfig",
    "BindError",
    "CardinalityError",
    "CatalogError",
    "CommitConflictError",
    "CommitError",
    "CommitFailedError",
    "CommitReport",
    "CommitStateUnknownError",
    "ConfigurationError",
    "ExecutionError",
    "IcebergTable",
    "IcebergTableWriter",
    "IcefusionError",
    "InMemoryReporter",
    "LoggingReporter",
    "MergeBuilder",
    "NamespaceExistsError",
    "NamespaceNotEmptyError",
    "NamespaceNotFoundError",
    "OutOfMemoryError",
    "ParseError",
    "PoolConfig",
    "PoolStats",
    "Reporter",
    "Result",
    "RetryConfig",
    "RowCounts",
    "SQLError",
    "ScanReport",
    "SchemaError",
    "Session",
    "StatementReport",
    "Status",
    "StorageError",
    "TableExistsError",
    "TableNotFoundError",
    "Transaction",
    "TransactionError",
    "UnsupportedStatementError",
    "WriteReport",
    "connect",
]
