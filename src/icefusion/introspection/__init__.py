"""SHOW and DESCRIBE: what there is, as tables of few rows."""
