"""Expressions over the columns of outgoing alerts: parsed, typed, and computed with Arrow; no code is executed.

    reliability > 0.9 and kind == "new" and not flagged
    abs(psfFlux) > 10 * psfFluxErr and band in ("g", "r") and 3 <= nDiaSources < 20

Columns, numbers, "texts", True and False; and, or, not; == != < <= > >= (chains too); in and not in a list of
constants; + - * /; abs, sqrt, log10, isnan of a number; flag("DIPOLE") for a bit of `flags`.  That is all:
Python's own parser makes the tree (it executes nothing), every node that is not in this list is refused by name,
and each of those that are left is one kernel of pyarrow.compute.  So the cost of an expression is its length times
the rows: nothing in it can loop, allocate beyond the batch, or reach a file.  (DuckDB's WHERE reads files and
calls functions unless every node of its tree is checked too; numexpr evaluates Python source.)

A comparison with NaN is false, a number over zero infinite; whole numbers that overflow are the filter's error.
"""

import ast
import difflib
import io
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gpudiff.model.association import KINDS
from gpudiff.model.errors import BadFilter
from gpudiff.model.filters import TYPES
from gpudiff.model.tables import FLAGS, Table, flag

LONGEST = 1000
"""Characters of an expression."""
DEEPEST = 20
MOST_NODES = 150
LARGEST = 1e300
"""Constants beyond it are refused, as are whole numbers of more than 63 bits."""
NUMBER, TEXT, TRUTH = "number", "text", "yes-or-no"
ARITHMETIC: dict[type, str] = {
    ast.Add: "add_checked",
    ast.Sub: "subtract_checked",
    ast.Mult: "multiply_checked",
    ast.Div: "divide",
}
COMPARISON: dict[type, str] = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
FUNCTIONS = {
    "abs": ("abs", NUMBER),
    "sqrt": ("sqrt", NUMBER),
    "log10": ("log10", NUMBER),
    "isnan": ("is_nan", TRUTH),
}
REFUSED: dict[type, str] = {
    ast.Attribute: "attribute access",
    ast.Subscript: "indexing",
    ast.Lambda: "a lambda",
    ast.IfExp: "if ... else",
    ast.NamedExpr: "an assignment",
    ast.JoinedStr: "a formatted string",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.Starred: "a star",
    ast.Pow: "a power",
    ast.Dict: "a dictionary",
    ast.Await: "await",
}


@dataclass(frozen=True)
class Node:
    """One step: `what` is a column, a constant, or a kernel of pyarrow.compute applied to `parts`."""

    type: str
    what: str
    value: Any = None
    parts: tuple["Node", ...] = ()


ONE = Node(NUMBER, "constant", pa.scalar(1.0))
"""What makes a whole number one with a fraction, so that 1 / 2 is 0.5, and 1 / 0 infinite."""


class OutOfTime(Exception):
    """An expression took longer on a batch than it may."""


def compile_expression(text: str) -> Node:
    """The typed tree of an expression; raises BadFilter, which names what is refused and where."""
    if len(text) > LONGEST:
        raise BadFilter(f"expected at most {LONGEST} characters, got {len(text)}")
    tree = _parse(text)
    nodes = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
    if nodes > MOST_NODES:
        raise BadFilter(f"expected at most {MOST_NODES} terms, got {nodes}")
    made = _node(tree.body, 0)
    if made.type != TRUTH:
        raise BadFilter(f"expected an expression that is true or false, got a {made.type}: {text.strip()!r}")
    return made


def columns_of(rows: Table) -> dict[str, pa.Array]:
    """The rows as Arrow columns, for `matches`; `kind` as its word."""
    words = np.array(KINDS, dtype=object)
    return {n: pa.array(words[v] if n == "kind" else v) for n, v in rows.columns.items() if n in TYPES}


def matches(
    node: Node,
    columns: Mapping[str, pa.Array],
    limit_s: float = float("inf"),
    clock: Callable[[], float] = lambda: 0,
) -> np.ndarray:
    """(N,) bool: which rows fulfil the expression.

    The clock is looked at after every kernel, so no expression holds its caller for longer than the limit and one
    kernel over the batch.
    Raises OutOfTime; BadFilter where whole numbers overflow.
    """
    count, end = len(next(iter(columns.values()))), clock() + limit_s
    try:
        found = _value(node, columns, lambda: clock() > end)
    except pa.ArrowException as error:
        raise BadFilter(str(error)) from None
    if isinstance(found, pa.Scalar):
        return np.full(count, bool(found.as_py()))
    return pc.fill_null(found, False).to_numpy(zero_copy_only=False).astype(bool)


def _value(node: Node, columns: Mapping[str, pa.Array], late: Callable[[], bool]) -> Any:
    if node.what == "column":
        return columns[node.value]
    if node.what == "constant":
        return node.value
    parts = _alike([_value(part, columns, late) for part in node.parts])
    options = pc.SetLookupOptions(node.value) if node.what == "is_in" else None
    made = pc.call_function(node.what, parts, options)
    if late():
        raise OutOfTime
    return made


def _alike(parts: list[Any]) -> list[Any]:
    """Whole constants beside fractions made fractions of 64 bits: Arrow refuses what 32 would round."""
    if not any(pa.types.is_floating(part.type) for part in parts):
        return parts
    whole = [isinstance(part, pa.Scalar) and pa.types.is_integer(part.type) for part in parts]
    return [pa.scalar(float(part.as_py())) if one else part for part, one in zip(parts, whole, strict=True)]


# ---------------------------------------------------------------- parsing
def _parse(text: str) -> ast.Expression:
    try:
        kinds = {token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)}
        if tokenize.COMMENT in kinds:
            raise BadFilter(f"a comment is not allowed: {text.strip()!r}")
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise BadFilter(f"expected one expression over the columns, got {text.strip()[:80]!r}: {reason}") from None


def _node(tree: ast.expr, depth: int) -> Node:
    if depth > DEEPEST:
        raise BadFilter(f"nested too deep: expected at most {DEEPEST} levels")
    make = MAKERS.get(type(tree))
    if make is None:
        raise _refused(tree)
    return make(tree, depth + 1)


def _refused(tree: ast.AST) -> BadFilter:
    what = REFUSED.get(type(tree), type(tree).__name__)
    place = f" at column {tree.col_offset + 1}" if isinstance(tree, ast.expr) else ""
    return BadFilter(f"{what} is not allowed{place}{': ' + ast.unparse(tree)[:60] if place else ''}")


def _column(tree: ast.Name, depth: int) -> Node:
    if tree.id not in TYPES:
        near = difflib.get_close_matches(tree.id, TYPES, 3, 0.6)
        folded = [name for name in TYPES if name.lower() == tree.id.lower()]
        hint = f"; did you mean {' or '.join(folded or near)}?" if folded or near else ""
        raise BadFilter(f"no column is named {tree.id!r}{hint}")
    return Node(TYPES[tree.id], "column", tree.id)


def _constant(tree: ast.Constant, depth: int) -> Node:
    value = tree.value
    if isinstance(value, bool):
        return Node(TRUTH, "constant", pa.scalar(value))
    if isinstance(value, str):
        return Node(TEXT, "constant", pa.scalar(value))
    if isinstance(value, int | float):
        if (isinstance(value, int) and abs(value) >= 1 << 63) or abs(value) > LARGEST:
            raise BadFilter(f"constant too large at column {tree.col_offset + 1}")
        return Node(NUMBER, "constant", pa.scalar(value))
    raise BadFilter(f"constant {value!r} is not allowed: expected a number, a text, True or False")


def _both(tree: ast.BoolOp, depth: int) -> Node:
    kernel = "and" if isinstance(tree.op, ast.And) else "or"
    parts = [_typed(part, depth, TRUTH, kernel) for part in tree.values]
    made = parts[0]
    for part in parts[1:]:
        made = Node(TRUTH, kernel, parts=(made, part))
    return made


def _unary(tree: ast.UnaryOp, depth: int) -> Node:
    if isinstance(tree.op, ast.Not):
        return Node(TRUTH, "invert", parts=(_typed(tree.operand, depth, TRUTH, "not"),))
    if isinstance(tree.op, ast.USub):
        part = _typed(tree.operand, depth, NUMBER, "-")
        if part.what == "constant":
            return Node(NUMBER, "constant", pa.scalar(-part.value.as_py()))
        return Node(NUMBER, "negate_checked", parts=(part,))
    raise BadFilter(f"operator {type(tree.op).__name__} is not allowed at column {tree.col_offset + 1}")


def _arithmetic(tree: ast.BinOp, depth: int) -> Node:
    if type(tree.op) not in ARITHMETIC:
        what = REFUSED.get(type(tree.op), f"operator {type(tree.op).__name__}")
        raise BadFilter(f"{what} is not allowed at column {tree.col_offset + 1}: {ast.unparse(tree)[:60]}")
    kernel = ARITHMETIC[type(tree.op)]
    parts = tuple(_typed(side, depth, NUMBER, kernel.removesuffix("_checked")) for side in (tree.left, tree.right))
    if kernel == "divide":
        parts = (Node(NUMBER, "multiply", parts=(parts[0], ONE)), parts[1])
    return Node(NUMBER, kernel, parts=parts)


def _compare(tree: ast.Compare, depth: int) -> Node:
    """A chain a < b < c is a < b and b < c."""
    made, left = None, tree.left
    for op, right in zip(tree.ops, tree.comparators, strict=True):
        one = _compared(left, op, right, depth)
        made = one if made is None else Node(TRUTH, "and", parts=(made, one))
        left = right
    assert made is not None
    return made


def _compared(left: ast.expr, op: ast.cmpop, right: ast.expr, depth: int) -> Node:
    first = _node(left, depth)
    if isinstance(op, ast.In | ast.NotIn):
        found = Node(TRUTH, "is_in", _set(right, first, depth), (first,))
        return found if isinstance(op, ast.In) else Node(TRUTH, "invert", parts=(found,))
    if type(op) not in COMPARISON:
        raise BadFilter(f"operator {type(op).__name__} is not allowed: expected == or !=")
    second = _node(right, depth)
    if first.type != second.type or (first.type == TRUTH and not isinstance(op, ast.Eq | ast.NotEq)):
        raise BadFilter(
            f"expected to compare like with like, got a {first.type} and a {second.type}: "
            f"{ast.unparse(left)[:40]} and {ast.unparse(right)[:40]}"
        )
    _known_kind(first, second)
    _known_kind(second, first)
    return Node(TRUTH, COMPARISON[type(op)], parts=(first, second))


def _known_kind(side: Node, other: Node) -> None:
    """`kind` is compared with its own words only: a misspelt one would silently match nothing."""
    of_kind = (other.what, other.value) == ("column", "kind")
    if of_kind and side.what == "constant" and side.value.as_py() not in KINDS:
        raise BadFilter(f"kind: expected one of {', '.join(KINDS)}; got {side.value.as_py()!r}")


def _set(tree: ast.expr, of: Node, depth: int) -> pa.Array:
    if not isinstance(tree, ast.Tuple | ast.List | ast.Set) or not tree.elts:
        raise BadFilter(f"in: expected a list of constants, got {ast.unparse(tree)[:60]}")
    members = [_typed(one, depth, of.type, "in") for one in tree.elts]
    if any(one.what != "constant" for one in members):
        raise BadFilter(f"in: expected constants only, got {ast.unparse(tree)[:60]}")
    for one in members:
        _known_kind(one, of)
    return pa.array([one.value.as_py() for one in members])


def _call(tree: ast.Call, depth: int) -> Node:
    name = tree.func.id if isinstance(tree.func, ast.Name) else ast.unparse(tree.func)[:40]
    if name == "flag":
        return _flag(tree)
    if name not in FUNCTIONS or len(tree.args) != 1 or tree.keywords:
        allowed = ", ".join([*FUNCTIONS, "flag"])
        raise BadFilter(f"function {name}({len(tree.args)} arguments) is not allowed: expected one of {allowed}")
    kernel, made = FUNCTIONS[name]
    return Node(made, kernel, parts=(_typed(tree.args[0], depth, NUMBER, name),))


def _flag(tree: ast.Call) -> Node:
    names = [one.value for one in tree.args if isinstance(one, ast.Constant)]
    if len(tree.args) != 1 or len(names) != 1 or names[0] not in FLAGS or tree.keywords:
        raise BadFilter(f"flag: expected one of {', '.join(FLAGS)}; got {ast.unparse(tree)[:60]}")
    bits = Node(NUMBER, "constant", pa.scalar(int(flag(str(names[0])))))
    anded = Node(NUMBER, "bit_wise_and", parts=(Node(NUMBER, "column", "flags"), bits))
    return Node(TRUTH, "not_equal", parts=(anded, Node(NUMBER, "constant", pa.scalar(0))))


def _typed(tree: ast.expr, depth: int, wanted: str, by: str) -> Node:
    made = _node(tree, depth)
    if made.type != wanted:
        raise BadFilter(f"{by}: expected a {wanted}, got a {made.type}: {ast.unparse(tree)[:60]}")
    return made


MAKERS: dict[type, Callable[[Any, int], Node]] = {
    ast.Name: _column,
    ast.Constant: _constant,
    ast.BoolOp: _both,
    ast.UnaryOp: _unary,
    ast.BinOp: _arithmetic,
    ast.Compare: _compare,
    ast.Call: _call,
}
