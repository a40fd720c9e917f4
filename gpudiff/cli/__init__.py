"""The command line: one file a command, each a `configure(parser)` and a `run(arguments) -> exit status`."""
