"""The command line: arguments in, session calls, tables out. `icefusion.cli.app` is its beginning."""
