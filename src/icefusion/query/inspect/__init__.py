"""Metadata tables: what a table's metadata and manifests say, as rows."""
