"""Rules that no linter has: determinism of the cores, no unfinished work, nothing of one machine in the repository.

A finding in a core that is right all the same carries ``# det-ok: reason`` on its line.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE_PACKAGES = ("protocol", "matcher", "risk")
CORE_FILES = ("sequencer/core.py", "sequencer/depth.py")
# The thin wrappers around cores: clocks, files and signals are their work.
WRAPPER_NAMES = frozenset({"process.py"})
SOURCE_PACKAGES = (*CORE_PACKAGES, "ringbuf", "sequencer", "persistence", "gateway", "cambist", "tests", "bench")

TIME_CURE = "take ts_ns from the command"
CHANCE_CURE = "derive it from the command (seq, ids), or let a producer put it into one"
WORLD_CURE = "do it in process.py and pass the result in as a command or an argument"
SET_CURE = "iterate a tuple, list or dict, or sorted(...): the order of a set is not the order of commands"
FLOAT_CURE = "use integers in ticks, lots or units, and // with the rounding that the rule names"
BANNED_MODULES = {
    "time": TIME_CURE,
    "datetime": TIME_CURE,
    "random": CHANCE_CURE,
    "secrets": CHANCE_CURE,
    "uuid": CHANCE_CURE,
    "numpy.random": CHANCE_CURE,
    "asyncio": WORLD_CURE,
    "multiprocessing": WORLD_CURE,
    "os": WORLD_CURE,
    "socket": WORLD_CURE,
    "threading": WORLD_CURE,
}
BANNED_CALLS = {
    "hash": "hash with a fixed function: str hashes differ between processes",
    "id": "number the thing: addresses differ between runs",
    "input": WORLD_CURE,
    "open": WORLD_CURE,
    "float": FLOAT_CURE,
}
MATH_OF_INTEGERS = frozenset({"isqrt", "gcd", "lcm", "comb", "perm", "factorial"})
FLOAT_ATTRIBUTES = frozenset(
    {
        *("float16", "float32", "float64", "double", "half", "single", "longdouble", "complex64", "complex128"),
        *("true_divide", "divide", "sqrt", "mean", "average", "median", "std", "exp", "log"),
    }
)
FLOAT_DTYPE = re.compile(r"[<>=|]?f[248]|float(16|32|64)?|double")
DET_OK = re.compile(r"#\s*det-ok:\s*\S")


def core_paths() -> list[Path]:
    paths = [path for package in CORE_PACKAGES for path in (ROOT / package).rglob("*.py")]
    paths += [ROOT / name for name in CORE_FILES]
    return sorted(path for path in paths if path.exists() and path.name not in WRAPPER_NAMES)


class CoreVisitor(ast.NodeVisitor):
    """Collects ``(line, what, cure)`` for everything that makes a core depend on more than its arguments."""

    def __init__(self) -> None:
        self.findings: list[tuple[int, str, str]] = []
        self._set_names: set[str] = set()

    def _add(self, node: ast.AST, what: str, cure: str) -> None:
        self.findings.append((getattr(node, "lineno", 0), what, cure))

    def _check_module(self, node: ast.AST, name: str) -> bool:
        for banned, cure in BANNED_MODULES.items():
            if name == banned or name.startswith(f"{banned}."):
                self._add(node, f"import of {name}", cure)
                return True
        return False

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check_module(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            return
        module = node.module or ""
        if self._check_module(node, module):
            return
        for alias in node.names:
            self._check_module(node, f"{module}.{alias.name}")
            if module == "math" and alias.name not in MATH_OF_INTEGERS:
                self._add(node, f"math.{alias.name}", FLOAT_CURE)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
            self._add(node, f"call of {node.func.id}()", BANNED_CALLS[node.func.id])
        if isinstance(node.func, ast.Name) and node.func.id in {"list", "tuple", "enumerate", "iter", "next", "zip"}:
            for argument in node.args:
                self._check_iteration(argument)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if owner in {"np", "numpy"} and node.attr == "random":
            self._add(node, f"{owner}.random", CHANCE_CURE)
        elif owner in {"np", "numpy"} and node.attr in FLOAT_ATTRIBUTES:
            self._add(node, f"{owner}.{node.attr}", FLOAT_CURE)
        elif owner == "math" and node.attr not in MATH_OF_INTEGERS:
            self._add(node, f"math.{node.attr}", FLOAT_CURE)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, (float, complex)):
            self._add(node, f"float {node.value!r}", FLOAT_CURE)
        elif isinstance(node.value, str) and FLOAT_DTYPE.fullmatch(node.value):
            self._add(node, f"float dtype {node.value!r}", FLOAT_CURE)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        # A string on either side makes it a path.
        if isinstance(node.op, ast.Div) and not any(_is_text(side) for side in (node.left, node.right)):
            self._add(node, "true division", FLOAT_CURE)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.op, ast.Div):
            self._add(node, "true division", FLOAT_CURE)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id == "float" and isinstance(node.ctx, ast.Load):
            self._add(node, "type float", FLOAT_CURE)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        self._set_names = self._set_names | names if self._is_set(node.value) else self._set_names - names
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and isinstance(node.target, ast.Name) and self._is_set(node.value):
            self._set_names = self._set_names | {node.target.id}
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._check_iteration(node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._check_iteration(node.iter)
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        self._check_iteration(node.value)
        self.generic_visit(node)

    def _check_iteration(self, node: ast.expr) -> None:
        if self._is_set(node):
            self._add(node, "iteration over a set", SET_CURE)

    def _is_set(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return node.func.id in {"set", "frozenset"}
        if isinstance(node, ast.BinOp):
            return self._is_set(node.left) or self._is_set(node.right)
        return isinstance(node, (ast.Set, ast.SetComp)) or (isinstance(node, ast.Name) and node.id in self._set_names)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def core_findings(source: str) -> list[str]:
    """Return ``line: what; cure`` for each finding in the source of a core, in order of lines, without excused ones."""
    visitor = CoreVisitor()
    visitor.visit(ast.parse(source))
    lines = source.splitlines()
    return [
        f"{line}: {what}; {cure}"
        for line, what, cure in sorted(set(visitor.findings))
        if not DET_OK.search(lines[line - 1])
    ]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import time", "import of time"),
        ("from time import monotonic_ns", "import of time"),
        ("import os.path", "import of os.path"),
        ("from numpy import random", "import of numpy.random"),
        ("x = np.random", "np.random"),
        ("import uuid", "import of uuid"),
        ("x = hash('a')", "call of hash()"),
        ("x = 0.5", "float 0.5"),
        ("x = a / b", "true division"),
        ("a /= b", "true division"),
        ("x = np.float64", "np.float64"),
        ("fields = [('price', '<f8')]", "float dtype '<f8'"),
        ("def f(x: float): pass", "type float"),
        ("x = math.sqrt(2)", "math.sqrt"),
        ("from math import floor", "math.floor"),
        ("for x in {1, 2}: pass", "iteration over a set"),
        ("live = set()\nfor x in live: pass", "iteration over a set"),
        ("x = [y for y in frozenset(z)]", "iteration over a set"),
        ("x = list({1, 2})", "iteration over a set"),
        ("a = {1}\nx = [*(a | b)]", "iteration over a set"),
    ],
)
def test_core_that_depends_on_more_than_its_arguments_is_found(source: str, what: str) -> None:
    assert [what] == [finding.split(": ", 1)[1].split(";")[0] for finding in core_findings(source)]


@pytest.mark.parametrize(
    "source",
    [
        "x = 1 // 2",
        "path = folder / 'commands.ring' / f'{name}.ring'",
        "from math import isqrt",
        "from . import time",
        "for x in sorted({1, 2}): pass",
        "x = 3 in {1, 2}",
        "names = {1}\nnames = [1]\nfor x in names: pass",
        "x = 0.5  # det-ok: printed only",
    ],
)
def test_core_that_depends_on_its_arguments_alone_is_not_found(source: str) -> None:
    assert [] == core_findings(source)


def test_exception_without_a_reason_does_not_count() -> None:
    assert 1 == len(core_findings("x = 0.5  # det-ok:"))


def test_cores_depend_on_their_arguments_alone() -> None:
    findings = [
        f"{path.relative_to(ROOT)}:{finding}" for path in core_paths() for finding in core_findings(path.read_text())
    ]
    assert [] == findings, "\n".join(findings)


def repository_paths() -> Iterator[Path]:
    """Yield the text files that are or would be committed, without a git checkout all files of the source folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and (ROOT / ".git").exists():
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for package in SOURCE_PACKAGES for path in (ROOT / package).rglob("*")]
        paths += [path for path in ROOT.iterdir() if path.is_file()]
    for path in paths:
        if path.is_file() and "__pycache__" not in path.parts and b"\0" not in path.read_bytes()[:4096]:
            yield path


def lines_that_match(pattern: re.Pattern[str], paths: Iterator[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


# The words have [] around a letter, so that neither the rules nor a search in a change find this file itself.
UNFINISHED = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X]|HAC[K])\b|raise NotImplemented[E]rror\s*(\(\s*\))?\s*(#|$)")
SWITCHED_OFF = re.compile(r"pytest\.mark\.(ski[p]|xfai[l])\b|^\s*assert Tru[e]\b")
MACHINE_PATH = re.compile(r"""(^|["'` (=:])/(wor[k]|far[m]|roo[t]|home/\w+)/""")
REGISTRY = re.compile(
    r"""https?://[^ "]+/(simpl[e]|package[s]|[-])/|"resolved": *"http|index-ur[l]|find-link[s]|trusted-hos[t]"""
)


@pytest.mark.parametrize("line", ["# TO" + "DO: later", "raise NotImplemented" + "Error", "x = 1  # FIX" + "ME"])
def test_unfinished_line_is_found(line: str) -> None:
    assert UNFINISHED.search(line)


@pytest.mark.parametrize("line", ['path = "/wo' + 'rk/main"', "see /ro" + "ot/.cache/x"])
def test_machine_path_is_found(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize(
    "line", ["--index" + "-url x", "https://host.example/sim" + "ple/numpy", "--find" + "-links ./wheels"]
)
def test_registry_address_is_found(line: str) -> None:
    assert REGISTRY.search(line)


@pytest.mark.parametrize("line", ["work/main", "the /api/v3/order path", "https://www.rfc-editor.org/rfc/rfc9110"])
def test_harmless_address_is_not_found(line: str) -> None:
    assert not MACHINE_PATH.search(line)
    assert not REGISTRY.search(line)


def test_sources_hold_no_unfinished_work() -> None:
    paths = (path for path in repository_paths() if path.suffix in {".py", ".sql", ".toml", ".xml"})
    found = lines_that_match(UNFINISHED, paths)
    assert [] == found, "finish it, or write an issue:\n" + "\n".join(found)


def test_no_test_is_switched_off_or_empty() -> None:
    found = lines_that_match(SWITCHED_OFF, (path for path in repository_paths() if path.suffix == ".py"))
    assert [] == found, "mend or remove the test; what a machine lacks is skipped in a fixture:\n" + "\n".join(found)


def test_repository_names_no_path_of_one_machine() -> None:
    found = lines_that_match(MACHINE_PATH, repository_paths())
    assert [] == found, "use a path relative to the repository or an option:\n" + "\n".join(found)


def test_repository_names_no_package_registry() -> None:
    found = lines_that_match(REGISTRY, repository_paths())
    assert [] == found, "pip's own configuration says where packages are:\n" + "\n".join(found)
