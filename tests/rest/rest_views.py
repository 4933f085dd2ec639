"""The views of the small REST catalog: metadata as the view specification has them, changed by updates."""

import copy
import importlib
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# The client of the Spark process lives with the tests of other engines.
INTEROP = Path(__file__).parents[1] / "interop"
if str(INTEROP) not in sys.path:
    sys.path.append(str(INTEROP))
if TYPE_CHECKING:
    from spark_client import Spark, SparkError, find_spark_python
else:
    _client = importlib.import_module("spark_client")
    Spark, SparkError, find_spark_python = _client.Spark, _client.SparkError, _client.find_spark_python

VIEW_ENDPOINTS = [
    "GET /v1/{prefix}/namespaces/{namespace}/views",
    "POST /v1/{prefix}/namespaces/{namespace}/views",
    "GET /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/views/rename",
]

LAST_ADDED = -1
HISTORY = "version.history.num-entries"
DROP_DIALECT = "replace.drop-dialect.allowed"

Identifier = tuple[str, ...]


class ViewError(Exception):
    """An answer that is none of the good ones."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class ViewStore:
    """Views by identifier, each with its metadata as JSON.

    Attributes:
        views: The metadata.
    """

    def __init__(self, folder: Path, is_table: Callable[[Identifier], bool]) -> None:
        self._folder = folder
        self._is_table = is_table
        self.views: dict[Identifier, dict] = {}

    def listed(self, namespace: Identifier) -> list[dict]:
        return [
            {"namespace": list(name[:-1]), "name": name[-1]} for name in sorted(self.views) if name[:-1] == namespace
        ]

    def load(self, identifier: Identifier) -> dict:
        if identifier not in self.views:
            raise ViewError(404, "NoSuchViewException", f"View does not exist: {'.'.join(identifier)}")
        metadata = self.views[identifier]
        return {"metadata-location": self._write(metadata), "metadata": metadata, "config": {}}

    def create(self, identifier: Identifier, body: dict) -> dict:
        self._require_free(identifier)
        metadata = {
            "view-uuid": str(uuid.uuid4()),
            "format-version": 1,
            "location": body.get("location") or (self._folder / "views" / "/".join(identifier)).as_uri(),
            "schemas": [],
            "current-version-id": 0,
            "versions": [],
            "version-log": [],
            "properties": body.get("properties", {}),
        }
        version = {**body["view-version"], "schema-id": LAST_ADDED}
        self._update(
            metadata,
            [
                {"action": "add-schema", "schema": body["schema"]},
                {"action": "add-view-version", "view-version": version},
                {"action": "set-current-view-version", "view-version-id": LAST_ADDED},
            ],
        )
        self.views[identifier] = metadata
        return self.load(identifier)

    def commit(self, identifier: Identifier, body: dict) -> dict:
        metadata = copy.deepcopy(self.load(identifier)["metadata"])
        for requirement in body["requirements"]:
            if requirement["type"] != "assert-view-uuid":
                raise ViewError(400, "BadRequestException", f"unknown requirement {requirement}")
            if requirement["uuid"] != metadata["view-uuid"]:
                raise ViewError(409, "CommitFailedException", "Requirement failed: view UUID does not match")
        before = dialects(metadata)
        self._update(metadata, body["updates"])
        lost = before - dialects(metadata)
        if lost and metadata["properties"].get(DROP_DIALECT) != "true":
            raise ViewError(400, "BadRequestException", f"Cannot replace view due to loss of view dialects {lost}")
        self.views[identifier] = metadata
        return self.load(identifier)

    def drop(self, identifier: Identifier) -> None:
        self.load(identifier)
        del self.views[identifier]

    def rename(self, source: Identifier, destination: Identifier) -> None:
        self.load(source)
        self._require_free(destination)
        self.views[destination] = self.views.pop(source)

    def _require_free(self, identifier: Identifier) -> None:
        for kind, there in (("View", identifier in self.views), ("Table", self._is_table(identifier))):
            if there:
                raise ViewError(409, "AlreadyExistsException", f"{kind} already exists: {'.'.join(identifier)}")

    def _update(self, metadata: dict, updates: list[dict]) -> None:
        added_schema = added_version = None
        for update in updates:
            match update["action"]:
                case "add-schema":
                    number = max((schema["schema-id"] for schema in metadata["schemas"]), default=-1) + 1
                    metadata["schemas"].append({**update["schema"], "schema-id": number})
                    added_schema = number
                case "add-view-version":
                    number = max((version["version-id"] for version in metadata["versions"]), default=0) + 1
                    version = {**update["view-version"], "version-id": number}
                    if version["schema-id"] == LAST_ADDED:
                        version["schema-id"] = added_schema
                    if version["schema-id"] not in {schema["schema-id"] for schema in metadata["schemas"]}:
                        raise ViewError(400, "BadRequestException", f"unknown schema {version['schema-id']}")
                    names = [each["dialect"].lower() for each in version["representations"]]
                    if len(set(names)) < len(names):
                        raise ViewError(400, "BadRequestException", "Cannot add multiple queries for a dialect")
                    metadata["versions"].append(version)
                    added_version = number
                case "set-current-view-version":
                    number = update["view-version-id"]
                    metadata["current-version-id"] = added_version if number == LAST_ADDED else number
                    entry = {"timestamp-ms": int(time.time() * 1000), "version-id": metadata["current-version-id"]}
                    metadata["version-log"].append(entry)
                case "set-properties":
                    metadata["properties"] = {**metadata["properties"], **update["updates"]}
                case "remove-properties":
                    for key in update["removals"]:
                        metadata["properties"].pop(key, None)
                case other:
                    raise ViewError(400, "BadRequestException", f"unknown update {other}")
        kept = int(metadata["properties"].get(HISTORY, "10"))
        current = metadata["current-version-id"]
        rest = [version for version in metadata["versions"] if version["version-id"] != current]
        last = [version for version in metadata["versions"] if version["version-id"] == current]
        metadata["versions"] = (rest[-(kept - 1) :] if kept > 1 else []) + last
        known = {version["version-id"] for version in metadata["versions"]}
        metadata["version-log"] = [entry for entry in metadata["version-log"] if entry["version-id"] in known]

    def _write(self, metadata: dict) -> str:
        folder = self._folder / "view-metadata"
        folder.mkdir(exist_ok=True)
        path = folder / f"{metadata['view-uuid']}-{metadata['current-version-id']}.metadata.json"
        path.write_text(json.dumps(metadata))
        return path.as_uri()


class JavaViewStore(ViewStore):
    """The same, carried out by Iceberg's Java library with a catalog in memory.

    Args:
        spark: The process that has the library.
        store: The name of the catalog.
    """

    def __init__(self, spark: Spark, store: str) -> None:
        self._spark = spark
        self._store = store
        self._names: set[Identifier] = set()
        self._lock = threading.Lock()

    @property
    def views(self) -> dict[Identifier, dict]:  # type: ignore[override]
        return {name: self.load(name)["metadata"] for name in sorted(self._names)}

    def listed(self, namespace: Identifier) -> list[dict]:
        return [{"namespace": list(n[:-1]), "name": n[-1]} for n in sorted(self._names) if n[:-1] == namespace]

    def load(self, identifier: Identifier) -> dict:
        return self._ask("load", identifier)

    def create(self, identifier: Identifier, body: dict) -> dict:
        answer = self._ask("create", identifier, json.dumps(body))
        self._names.add(identifier)
        return answer

    def commit(self, identifier: Identifier, body: dict) -> dict:
        return self._ask("commit", identifier, json.dumps(body))

    def drop(self, identifier: Identifier) -> None:
        self._ask("drop", identifier)
        self._names.discard(identifier)

    def rename(self, source: Identifier, destination: Identifier) -> None:
        self._ask("rename", destination, ".".join(source))
        self._names = (self._names - {source}) | {destination}

    def _ask(self, kind: str, identifier: Identifier, body: str = "") -> dict:
        with self._lock:  # the other process answers one after the other
            try:
                answer = self._spark.ask_view(self._store, kind, list(identifier), body)
            except SparkError as error:
                raise _answer_of_java(str(error)) from error
        found: dict = json.loads(answer) if answer else {}
        found.get("metadata", {}).setdefault("properties", {})
        return found


def _answer_of_java(text: str) -> ViewError:
    """What a REST server on Iceberg's Java library answers to its exceptions."""
    meanings = {
        "NoSuchViewException": 404,
        "AlreadyExistsException": 409,
        "CommitFailedException": 409,
        "IllegalArgumentException": 400,
        "ValidationException": 400,
    }
    kind = next((kind for kind in meanings if f".{kind}: " in text), "RuntimeException")
    return ViewError(meanings.get(kind, 500), kind, text[:500])


def dialects(metadata: dict) -> set[str]:
    """The dialects of the current version."""
    return {
        each["dialect"].lower()
        for version in metadata["versions"]
        if version["version-id"] == metadata["current-version-id"]
        for each in version["representations"]
    }
