"""Iceberg, Arrow and SQL side by side: pure functions that translate between them and lose nothing."""
