"""The error tree as its drawing says it is."""

import inspect
import re

from gpudiff.model import errors


def drawn_tree() -> dict[str, str]:
    """Name -> parent, read from the indentation of the module's docstring."""
    parents, stack = {}, []
    for line in errors.__doc__.splitlines():
        if found := re.match(r"( *)([A-Z]\w+)(?:\s{2,}\S.*)?$", line):
            depth = len(found[1]) // 2
            del stack[depth:]
            if stack:
                parents[found[2]] = stack[-1]
            stack.append(found[2])
    return parents


def test_the_drawing_is_the_tree():
    classes = inspect.getmembers(errors, inspect.isclass)
    assert drawn_tree() == {name: c.__base__.__name__ for name, c in classes if c is not errors.GpudiffError}


def test_all_refused_input_ends_with_exit_status_three():
    refused = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.InputRejected)]
    assert {c.exit_status for c in refused} == {3}


def test_an_error_shows_its_own_name():
    assert errors.BadGain("x").name == "BadGain"
