"""Option values and the table properties that icefusion honours.

Options are frozen dataclasses that check themselves when they are made. Table properties are read through
`WriteProperties.of`, the one place that knows their names, defaults and units.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, TypeVar

from icefusion.errors import ConfigurationError

__all__ = [
    "ISOLATION_LEVELS",
    "WRITE_MODES",
    "BatchConfig",
    "Isolation",
    "PoolConfig",
    "RetryConfig",
    "RowLevelProperties",
    "WriteMode",
    "WriteProperties",
    "default_threads",
    "parse_bytes",
]

WriteMode = Literal["copy-on-write", "merge-on-read"]
WRITE_MODES: tuple[WriteMode, ...] = ("copy-on-write", "merge-on-read")
Isolation = Literal["serializable", "snapshot"]
ISOLATION_LEVELS: tuple[Isolation, ...] = ("serializable", "snapshot")

MIB = 1024 * 1024


def default_threads() -> int:
    """The number of cores this process may run on."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every platform
        return max(1, os.cpu_count() or 1)


def parse_bytes(value: int | str, *, name: str = "size") -> int:
    """Read a size in bytes from ``268435456``, ``"256MiB"``, ``"2 GB"`` or ``"512k"``.

    Decimal units (kB, MB, GB, TB) are powers of 1000, binary ones (KiB, MiB, GiB, TiB) and bare letters powers of 1024.

    Raises:
        ConfigurationError: The text is not a size, or the size is not positive.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size: float = value
    else:
        text = str(value).strip()
        digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
        unit = text[len(digits) :].strip().lower()
        power = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}.get(unit.removesuffix("ib").removesuffix("b"))
        if power is None:
            raise ConfigurationError(f"{name}: {value!r} is not a size", hint="write it like '512MiB' or '2GiB'")
        base = 1000 if unit.endswith("b") and not unit.endswith("ib") else 1024
        try:
            size = float(digits) * base**power
        except ValueError:
            raise ConfigurationError(
                f"{name}: {value!r} is not a size", hint="write it like '512MiB' or '2GiB'"
            ) from None
    if size < 1:
        raise ConfigurationError(f"{name}: expected a positive size, found {value!r}")
    return int(size)


def _require(condition: bool, option: str, value: object, expected: str) -> None:
    if not condition:
        raise ConfigurationError(f"{option}: expected {expected}, found {value!r}")


@dataclass(frozen=True)
class RetryConfig:
    """How often a lost race is tried again, and how long a catalog that cannot be reached is waited for.

    A table's ``commit.retry.*`` properties override what is left at its default here.

    Attributes:
        max_attempts: Attempts in all, the first one included; those that the catalog was not there for do not count.
        initial_delay_ms: Upper end of the first wait.
        max_delay_ms: No wait is longer than this.
        backoff_multiplier: Each wait's upper end is the last one's times this.
        total_timeout_ms: No new attempt starts this long after the first one began, and a catalog that cannot be
            reached is given up.
        jitter: ``"full"`` waits a random time up to the upper end, ``"none"`` the upper end itself.
    """

    max_attempts: int = 4
    initial_delay_ms: int = 100
    max_delay_ms: int = 5_000
    backoff_multiplier: float = 2.0
    total_timeout_ms: int = 120_000
    jitter: Literal["full", "none"] = "full"

    def __post_init__(self) -> None:
        _require(self.max_attempts >= 1, "RetryConfig.max_attempts", self.max_attempts, "at least 1")
        _require(self.initial_delay_ms >= 0, "RetryConfig.initial_delay_ms", self.initial_delay_ms, "0 or more")
        _require(self.max_delay_ms >= 0, "RetryConfig.max_delay_ms", self.max_delay_ms, "0 or more")
        _require(self.backoff_multiplier >= 1, "RetryConfig.backoff_multiplier", self.backoff_multiplier, "at least 1")
        _require(self.total_timeout_ms > 0, "RetryConfig.total_timeout_ms", self.total_timeout_ms, "more than 0")
        _require(self.jitter in ("full", "none"), "RetryConfig.jitter", self.jitter, "'full' or 'none'")

    def for_table(self, properties: Mapping[str, str]) -> RetryConfig:
        """This configuration with the table's ``commit.retry.*`` in place of what was left at its default."""
        names = {
            "max_attempts": "commit.retry.num-retries",
            "initial_delay_ms": "commit.retry.min-wait-ms",
            "max_delay_ms": "commit.retry.max-wait-ms",
            "total_timeout_ms": "commit.retry.total-timeout-ms",
        }
        defaults = {f.name: f.default for f in fields(self)}
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for option, key in names.items():
            if key in properties and values[option] == defaults[option]:
                # The property counts retries, the option counts attempts.
                first_attempt = 1 if option == "max_attempts" else 0
                values[option] = _int_property(properties, key, 0, at_least=0) + first_attempt
        return RetryConfig(**values)

    def delay_ceiling_ms(self, attempt: int) -> float:
        """The upper end of the wait after attempt number ``attempt`` (from 1), in milliseconds."""
        try:
            return float(min(self.initial_delay_ms * self.backoff_multiplier ** (attempt - 1), self.max_delay_ms))
        except OverflowError:  # after so many attempts the limit was reached long ago
            return float(self.max_delay_ms if self.initial_delay_ms else 0)


@dataclass(frozen=True)
class BatchConfig:
    """How a table writer cuts its input.

    Attributes:
        max_rows_per_batch: Rows that one batch may hold before it is cut (or refused, without ``auto_split``).
        max_memory_per_batch_bytes: Arrow bytes that one batch may hold before it is cut, likewise.
        auto_split: Cut a larger batch instead of raising `SchemaError`; the pieces stay one snapshot.
        concurrent_batches: How many batches are encoded at the same time; None means one a core.
    """

    max_rows_per_batch: int = 1_000_000
    max_memory_per_batch_bytes: int = 128 * MIB
    auto_split: bool = True
    concurrent_batches: int | None = None

    def __post_init__(self) -> None:
        _require(self.max_rows_per_batch >= 1, "BatchConfig.max_rows_per_batch", self.max_rows_per_batch, "at least 1")
        _require(
            self.max_memory_per_batch_bytes >= 1,
            "BatchConfig.max_memory_per_batch_bytes",
            self.max_memory_per_batch_bytes,
            "at least 1",
        )
        _require(
            self.concurrent_batches is None or self.concurrent_batches >= 1,
            "BatchConfig.concurrent_batches",
            self.concurrent_batches,
            "at least 1, or None for one a core",
        )


@dataclass(frozen=True)
class PoolConfig:
    """Connections to the catalog.

    Attributes:
        min_connections: Connections kept open.
        max_connections: Connections open at most.
        connect_timeout_ms: How long to wait for a connection, from the pool or from the server.
        idle_timeout_s: A connection unused for this long is checked before it is used again.
        max_lifetime_s: A connection older than this is replaced.
    """

    min_connections: int = 2
    max_connections: int = 10
    connect_timeout_ms: int = 5_000
    idle_timeout_s: int = 300
    max_lifetime_s: int = 1_800

    def __post_init__(self) -> None:
        _require(self.min_connections >= 0, "PoolConfig.min_connections", self.min_connections, "0 or more")
        _require(
            self.max_connections >= max(1, self.min_connections),
            "PoolConfig.max_connections",
            self.max_connections,
            "at least 1 and at least min_connections",
        )
        for option in ("connect_timeout_ms", "idle_timeout_s", "max_lifetime_s"):
            _require(getattr(self, option) > 0, f"PoolConfig.{option}", getattr(self, option), "more than 0")


_CODECS = {
    "zstd": "zstd",
    "snappy": "snappy",
    "gzip": "gzip",
    "brotli": "brotli",
    "lz4": "lz4",
    "lz4_raw": "lz4",
    "uncompressed": "none",
    "none": "none",
}


@dataclass(frozen=True)
class WriteProperties:
    """The table properties that say how files are written, read once from a table's properties.

    Attributes:
        target_file_size_bytes: ``write.target-file-size-bytes``, encoded bytes; 512 MiB.
        row_group_size_bytes: ``write.parquet.row-group-size-bytes``, Arrow bytes that one row group takes in; 128 MiB.
        row_group_limit: ``write.parquet.row-group-limit``, rows of a row group at most; 1,048,576.
        page_size_bytes: ``write.parquet.page-size-bytes``; 1 MiB.
        page_row_limit: ``write.parquet.page-row-limit``; 20,000.
        dict_size_bytes: ``write.parquet.dict-size-bytes``; 2 MiB.
        compression_codec: ``write.parquet.compression-codec``, as pyarrow names it; zstd.
        compression_level: ``write.parquet.compression-level``; None leaves it to the codec (3 for zstd).
        metrics_default: ``write.metadata.metrics.default``: none, counts, truncate(n) or full; truncate(16).
        metrics_columns: ``write.metadata.metrics.column.<name>``, by dotted column name.
        metrics_max_columns: ``write.metadata.metrics.max-inferred-column-defaults``; 100.
        data_path: ``write.data.path``; None means ``<location>/data``.
        object_storage: ``write.object-storage.enabled``; false.
        fanout_memory_bytes: ``write.icefusion.fanout-memory-bytes``, rows held back while they are sorted
            into partitions, in Arrow bytes; None lets the writer choose.
        delete_granularity: ``write.delete.granularity``: ``file`` or ``partition``, what one position delete file is
            for; file.
        summary_partition_limit: ``write.summary.partition-limit``; 0.
        target_manifest_size_bytes: ``commit.manifest.target-size-bytes``; 8 MiB.
        manifest_merge_min_count: ``commit.manifest.min-count-to-merge``; 100.
        manifest_merge_enabled: ``commit.manifest-merge.enabled``; true.
        avro_compression_codec: ``write.avro.compression-codec``; gzip.
        metadata_previous_versions_max: ``write.metadata.previous-versions-max``; 100.
        metadata_delete_after_commit: ``write.metadata.delete-after-commit.enabled``; false.
    """

    target_file_size_bytes: int = 512 * MIB
    row_group_size_bytes: int = 128 * MIB
    row_group_limit: int = 1_048_576
    page_size_bytes: int = MIB
    page_row_limit: int = 20_000
    dict_size_bytes: int = 2 * MIB
    compression_codec: str = "zstd"
    compression_level: int | None = None
    metrics_default: str = "truncate(16)"
    metrics_columns: Mapping[str, str] = field(default_factory=dict)
    metrics_max_columns: int = 100
    data_path: str | None = None
    object_storage: bool = False
    fanout_memory_bytes: int | None = None
    delete_granularity: str = "file"
    summary_partition_limit: int = 0
    target_manifest_size_bytes: int = 8 * MIB
    manifest_merge_min_count: int = 100
    manifest_merge_enabled: bool = True
    avro_compression_codec: str = "gzip"
    metadata_previous_versions_max: int = 100
    metadata_delete_after_commit: bool = False

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> WriteProperties:
        """Read a table's properties.

        Raises:
            ConfigurationError: A property has a value that makes no sense; the message names it.
        """
        codec = properties.get("write.parquet.compression-codec", "zstd").lower()
        if codec not in _CODECS:
            raise ConfigurationError(
                f"write.parquet.compression-codec: unknown codec {codec!r}",
                hint=f"one of {', '.join(sorted(_CODECS))}",
            )
        file_format = properties.get("write.format.default", "parquet").lower()
        if file_format != "parquet":
            raise ConfigurationError(
                f"write.format.default: {file_format!r} cannot be written", hint="icefusion writes parquet"
            )
        prefix = "write.metadata.metrics.column."
        level = properties.get("write.parquet.compression-level")
        fanout = properties.get("write.icefusion.fanout-memory-bytes")
        return cls(
            target_file_size_bytes=_int_property(properties, "write.target-file-size-bytes", 512 * MIB),
            row_group_size_bytes=_int_property(properties, "write.parquet.row-group-size-bytes", 128 * MIB),
            row_group_limit=_int_property(properties, "write.parquet.row-group-limit", 1_048_576),
            page_size_bytes=_int_property(properties, "write.parquet.page-size-bytes", MIB),
            page_row_limit=_int_property(properties, "write.parquet.page-row-limit", 20_000),
            dict_size_bytes=_int_property(properties, "write.parquet.dict-size-bytes", 2 * MIB),
            compression_codec=_CODECS[codec],
            compression_level=None
            if level is None or level in ("", "null")
            else _int_property(properties, "write.parquet.compression-level", 3, at_least=None),
            metrics_default=properties.get("write.metadata.metrics.default", "truncate(16)"),
            metrics_columns={k[len(prefix) :]: v for k, v in properties.items() if k.startswith(prefix)},
            metrics_max_columns=_int_property(properties, "write.metadata.metrics.max-inferred-column-defaults", 100),
            data_path=properties.get("write.data.path")
            or properties.get("write.object-storage.path")
            or properties.get("write.folder-storage.path"),
            object_storage=_bool_property(properties, "write.object-storage.enabled", False),
            fanout_memory_bytes=None
            if fanout is None
            else _int_property(properties, "write.icefusion.fanout-memory-bytes", 0),
            delete_granularity=_choice(properties, "write.delete.granularity", ("file", "partition")),
            summary_partition_limit=_int_property(properties, "write.summary.partition-limit", 0, at_least=0),
            target_manifest_size_bytes=_int_property(properties, "commit.manifest.target-size-bytes", 8 * MIB),
            manifest_merge_min_count=_int_property(properties, "commit.manifest.min-count-to-merge", 100),
            manifest_merge_enabled=_bool_property(properties, "commit.manifest-merge.enabled", True),
            avro_compression_codec=properties.get("write.avro.compression-codec", "gzip").lower(),
            metadata_previous_versions_max=_int_property(properties, "write.metadata.previous-versions-max", 100),
            metadata_delete_after_commit=_bool_property(
                properties, "write.metadata.delete-after-commit.enabled", False
            ),
        )


@dataclass(frozen=True)
class RowLevelProperties:
    """The table properties that say how one kind of row-level change is made.

    Attributes:
        mode: ``write.<kind>.mode``: ``copy-on-write`` writes the touched files anew, ``merge-on-read`` notes which of
            their rows are gone; copy-on-write.
        isolation: ``write.<kind>.isolation-level``, for statements outside of a transaction; serializable.
    """

    mode: WriteMode = "copy-on-write"
    isolation: Isolation = "serializable"

    @classmethod
    def of(cls, properties: Mapping[str, str], kind: Literal["delete", "update", "merge"]) -> RowLevelProperties:
        """Read a table's properties.

        Raises:
            ConfigurationError: A property has a value that makes no sense; the message names it.
        """
        return cls(
            mode=_choice(properties, f"write.{kind}.mode", WRITE_MODES),
            isolation=_choice(properties, f"write.{kind}.isolation-level", ISOLATION_LEVELS),
        )


C = TypeVar("C", bound=str)


def _choice(properties: Mapping[str, str], key: str, choices: Sequence[C]) -> C:
    """One of several words, the first by default."""
    text = properties.get(key, choices[0]).lower()
    for choice in choices:
        if text == choice:
            return choice
    raise ConfigurationError(f"{key}: expected {' or '.join(choices)}, found {text!r}")


def _int_property(properties: Mapping[str, str], key: str, default: int, *, at_least: int | None = 1) -> int:
    text = properties.get(key)
    if text is None:
        return default
    try:
        value = int(text)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{key}: expected a whole number, found {text!r}") from None
    if at_least is not None and value < at_least:
        raise ConfigurationError(f"{key}: expected at least {at_least}, found {value}")
    return value


def _bool_property(properties: Mapping[str, str], key: str, default: bool) -> bool:
    text = properties.get(key)
    if text is None:
        return default
    if str(text).lower() not in ("true", "false"):
        raise ConfigurationError(f"{key}: expected true or false, found {text!r}")
    return str(text).lower() == "true"
