"""Statements that change rows: which rows, their new values, and the files that hold them afterwards."""
