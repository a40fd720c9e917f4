"""The import rule: which room may import which, and where the fenced-off libraries may be touched."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"model", "arrays", "science", "edges", "services", "cli"}
MAY_IMPORT = {
    "model": {"model"},
    "arrays": {"arrays", "model.errors"},
    "science": {"science", "arrays", "model"},
    "edges": {"edges", "model"},
    "services": {"services", "science", "edges", "model"},
    "cli": ROOMS,
    "__init__": {"edges", "model"},
    "__main__": {"cli", "model"},
}
FENCED = {
    "cupy": ("arrays/cubin.py", "arrays/device.py"),
    "cupyx": ("arrays/device.py",),
    "cupy_backends": ("arrays/device.py",),
    "pycuda": ("arrays/device.py",),
    "cucim": ("arrays/device.py",),
    "zmq": ("edges/transport.py",),
}
SLOW = ("numpy", "scipy", "astropy", "matplotlib", "zmq", "pyarrow", "fastavro", "rich", "jinja2", "cupy")


def imports(source: str, module: str) -> set[str]:
    """Dotted names that a module's source imports anywhere in it, by statement or by import_module("...").

    module : its dotted name, for relative imports; a package ends in ".__init__".
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            found |= {leading_text(node.args[0])}
    return found


def leading_text(node: ast.expr) -> str:
    """The constant start of a string or f-string, '' for anything else."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    return str(node.value) if isinstance(node, ast.Constant) else ""


def broken_rules(source: str, path: str) -> list[str]:
    """What the source of gpudiff/<path> imports against the rule, one line each."""
    room = path.split("/")[0].removesuffix(".py")
    module = "gpudiff." + path.removesuffix(".py").replace("/", ".")
    broken = []
    for name in sorted(imports(source, module)):
        parts = name.split(".")
        if parts[0] in FENCED and path not in FENCED[parts[0]]:
            broken.append(f"{path} imports {parts[0]}, allowed only in {' and '.join(FENCED[parts[0]])}")
        elif parts[0] == "gpudiff" and not allowed(room, parts[1:]):
            broken.append(f"{path} imports {name}; {room} may import {sorted(MAY_IMPORT[room])}")
    return broken


def allowed(room: str, target: list[str]) -> bool:
    """Whether a room may import gpudiff.<target>; the version is everybody's."""
    if target[:1] == ["__version__"]:
        return True
    return any(target[: len(rule.split("."))] == rule.split(".") for rule in MAY_IMPORT[room])


def test_every_module_keeps_the_import_rule():
    broken = []
    for path in sorted((ROOT / "gpudiff").rglob("*.py")):
        broken += broken_rules(path.read_text(), path.relative_to(ROOT / "gpudiff").as_posix())
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("arrays/convolve.py", "from gpudiff.science.match import match"),
        ("arrays/convolve.py", "from gpudiff.model import config"),
        ("edges/fits.py", "from gpudiff.science import calibrate"),
        ("science/match.py", "import gpudiff.edges.fits"),
        ("science/match.py", "def f():\n    from gpudiff.services import differencer"),
        ("science/match.py", "from ..edges import fits"),
        ("model/frame.py", "from gpudiff.arrays import stats"),
        ("services/differencer.py", "from gpudiff.cli import run"),
        ("services/differencer.py", "import zmq"),
        ("science/match.py", "import importlib\nimportlib.import_module('gpudiff.edges.fits')"),
        ("science/match.py", "import importlib\nimportlib.import_module(f'gpudiff.edges.{1}')"),
        ("arrays/convolve.py", "import cupy as cp"),
        ("edges/wire.py", "from zmq import Context"),
    ],
)
def test_a_forbidden_import_is_seen(path, source):
    assert broken_rules(source, path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("arrays/convolve.py", "from gpudiff.model.errors import WrongShape\nfrom gpudiff.arrays import device"),
        ("arrays/cubin.py", "def f():\n    from cupy.cuda import nvrtc"),
        ("arrays/device.py", "def f():\n    import cupy"),
        ("edges/transport.py", "import zmq"),
        ("services/run.py", "from gpudiff.science.subtract import subtract\nfrom gpudiff.edges import fits"),
        ("cli/subtract.py", "from gpudiff import __version__\nfrom gpudiff.edges import fits"),
        ("science/match.py", "from . import psf\nfrom ..model import frame"),
    ],
)
def test_an_allowed_import_passes(path, source):
    assert broken_rules(source, path) == []


def slow_imports(code: str) -> list[str]:
    """The slow libraries that a fresh interpreter has loaded after running the code."""
    report = f"import sys; {code}; print(*sorted({{m.split('.')[0] for m in sys.modules}} & set({SLOW!r})))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


def test_starting_up_imports_nothing_slow():
    assert slow_imports("import gpudiff") == []
    assert slow_imports("from gpudiff.__main__ import parser_for; parser_for(['--help'])") == []


def test_no_command_imports_more_than_numpy_to_explain_itself():
    explain = "from gpudiff.__main__ import COMMANDS, parser_for; [parser_for([name]) for name in COMMANDS]"
    assert set(slow_imports(explain)) <= {"numpy"}
