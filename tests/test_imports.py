"""Who imports whom, read from the code: one way, no circles, heavy libraries late, nothing unpickles or prints but cli.

Imports inside functions and under `TYPE_CHECKING` count as any other. A family's `__init__` and that of the package
offer names from below to users; nothing in the package imports from them.
"""

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "varcli"
FILES = sorted(PACKAGE.rglob("*.py"))
FAMILIES = ("pianoroll", "emitters")

HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "pydantic",
    "PIL",
    "imageio",
    "safetensors",
    "tifffile",
    "h5py",
    "numba",
    "yaml",
}

# From the top down; a module may import its own room and the rows below it, never another room of its row.
ROWS = (
    "__main__ __init__",
    "cli",
    "api",
    "train",
    "animation",
    "loading",
    "config",
    "pianoroll emitters",
    "checkpoint",
    "compiled",
    "registry files charts",
    "colours schema events",
    "errors version",
)
ROWS_WITHIN = {
    "emitters": (
        "__init__",
        "training",
        "results",
        "figures",
        "pipeline simulation post",
        "network fit tables evaluation",
        "psf",
        "camera stack",
        "table events config prior",
    ),
    "pianoroll": (
        "__init__",
        "training",
        "results",
        "figures notation sound",
        "evaluation",
        "generation",
        "inference",
        "sampling",
        "corpus model",
        "score",
        "events",
        "planes",
        "form metre",
        "constants",
        "harmony",
        "roll",
        "config",
        "train_config",
    ),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts)


def path_of(module: str) -> Path:
    return PACKAGE.parent / Path(*module.split(".")).with_suffix(".py")


def place(module: str, depth: int, rows: tuple[str, ...]) -> tuple[int, str]:
    """The row (0 at the top) and the room of a module; rooms are its part at `depth`."""
    room = module.split(".")[depth]
    found = [number for number, row in enumerate(rows) if room in row.split()]
    assert found, f"{module} stands in no row"
    return found[0], room


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Full names of all modules that a file imports, wherever the import stands."""
    return tuple(_imports(ast.walk(parsed(path)), path))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def top_level_imports(path: Path) -> Iterator[str]:
    """Modules that a file imports as soon as it is imported itself."""
    tree = parsed(path)
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            skipped |= {inner for statement in node.body for inner in ast.walk(statement)}
    yield from _imports((node for node in ast.walk(tree) if node not in skipped), path)


def _imports(nodes: Iterator[ast.AST], path: Path) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                below = PACKAGE.parent / Path(*str(node.module).split("."), alias.name)
                is_module = below.with_suffix(".py").exists() or below.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else str(node.module)


def inner_imports(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports; a folder stands for its `__init__`."""
    for name in imports(path):
        if name.split(".")[0] == "varcli":
            yield name if path_of(name).exists() else f"{name}.__init__"


@cache
def graph() -> Mapping[str, frozenset[str]]:
    return {module_of(path): frozenset(inner_imports(path)) - {module_of(path)} for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path: Path) -> None:
    module = module_of(path)
    for imported in inner_imports(path):
        upper, lower = (place(name, 1, ROWS) for name in (module, imported))
        assert upper == lower or upper[0] < lower[0], f"{module} imports {imported}"
        family = module.split(".")[1]
        if upper == lower and family in ROWS_WITHIN:
            upper, lower = (place(name, 2, ROWS_WITHIN[family]) for name in (module, imported))
            assert upper == lower or upper[0] < lower[0], f"{module} imports {imported}"


def test_no_circles() -> None:
    edges, index, low, stack, circles = graph(), {}, {}, [], []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(edges[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            part = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(part) > 1:
                circles.append(part)

    for module in edges:
        if module not in index:
            visit(module)
    assert not circles


def closure(module: str) -> set[str]:
    seen, waiting = {module}, [module]
    while waiting:
        found = graph()[waiting.pop()] - seen
        seen |= found
        waiting += found
    return seen


@pytest.mark.parametrize(
    ("module", "most"), [("varcli.pianoroll.generation.generate", 50), ("varcli.emitters.pipeline.localize", 40)]
)
def test_what_a_generator_stands_on_can_be_held_in_mind(module: str, most: int) -> None:
    stands_on = closure(module)
    assert len(stands_on) <= most, sorted(stands_on)


def test_no_class_name_stands_twice_in_a_family() -> None:
    places = defaultdict(list)
    for path in FILES:
        room = path.relative_to(PACKAGE).parts[0]
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef):
                places[room, node.name].append(module_of(path))
    assert not {name: found for (_, name), found in places.items() if len(found) > 1}


def test_sizes() -> None:
    """A file is read in one sitting, a function on one screen, a folder in one look."""
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno + 1 <= 60, f"{path}: {node.name}"
    folders = Counter(path.parent for path in FILES if path.name != "__init__.py")
    assert max(folders.values()) <= 14, folders.most_common(3)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_unpickles_and_no_private_typer(path: Path) -> None:
    forbidden = {"pickle", "shelve", "marshal", "dill", "joblib", "cloudpickle", "click"}
    for imported in imports(path):
        assert imported.split(".")[0] not in forbidden
        assert not (imported.startswith("typer.") and any(part.startswith("_") for part in imported.split(".")))
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"allow_pickle\s*=\s*True", text)
    assert not re.search(r"torch\.load\(|torch\.jit\.load|weights_only", text)
    for call in re.findall(r"np\.load\(.*", text):
        assert "allow_pickle=False" in call


@pytest.mark.parametrize(
    "path", [path for path in FILES if "cli" not in path.relative_to(PACKAGE).parts], ids=module_of
)
def test_only_the_command_line_prints(path: Path) -> None:
    assert not any(imported.split(".")[0] in {"rich", "typer"} for imported in imports(path))
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"print", "sys.stdout.write", "sys.stderr.write", "breakpoint"}
        assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.argv")


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").rglob("*.py")), ids=module_of)
def test_commands_load_nothing_heavy_before_they_run(path: Path) -> None:
    for imported in top_level_imports(path):
        assert imported.split(".")[0] not in HEAVY


@pytest.mark.parametrize(
    "command",
    [["--help"], ["sample", "--help"], ["inspect"], ["train", "--help"], ["super-resolve", "--help"], ["--version"]],
)
def test_help_never_imports_torch(command: list[str]) -> None:
    code = (
        "import sys, atexit\n"
        "heavy = {'torch', 'numpy', 'scipy', 'numba', 'PIL', 'safetensors'}\n"
        "atexit.register(lambda: print('HEAVY', sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "from varcli.cli.app import main\n"
        f"sys.argv = ['var', *{command!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "HEAVY []"
    assert done.stdout
