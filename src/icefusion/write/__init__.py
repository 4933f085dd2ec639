"""Record batches to data files; the only home of ``pyarrow.parquet`` writers."""
