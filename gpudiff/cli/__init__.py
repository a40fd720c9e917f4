"""The command line: one file a command, each a `configure(parser)` and a `run(arguments) -> exit status`.

`run` raises GpudiffError, which `__main__` turns into one line and the error's own exit status.
"""
