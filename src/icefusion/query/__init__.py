"""Statements to record batches; the only home of ``datafusion``."""
