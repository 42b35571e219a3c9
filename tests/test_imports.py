"""Who imports whom, read from the code: one way, heavy libraries late, nothing unpickles, nothing prints but cli."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "varcli"
FILES = sorted(PACKAGE.rglob("*.py"))

HEAVY = {"torch", "numpy", "scipy", "pydantic", "PIL", "imageio", "safetensors", "tifffile", "h5py", "numba", "yaml"}

# From the bottom up; a module may import its own row and those below it.
ROWS = (
    (
        "varcli.errors",
        "varcli.events",
        "varcli.files",
        "varcli.compiled",
        "varcli.colours",
        "varcli.threads",
        "varcli.schema",
        "varcli.version",
        "varcli.compiled",
        "varcli.charts",
    ),
    ("varcli.pianoroll", "varcli.emitters", "varcli.animation"),
    ("varcli.checkpoint", "varcli.config", "varcli.registry", "varcli.loading"),
    ("varcli.train",),
    ("varcli.api", "varcli.__init__"),
    ("varcli.cli", "varcli.__main__"),
)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts if len(parts) == 2 or parts[-1] != "__init__" else parts[:-1])


def row_of(module: str) -> int:
    """The row whose name is the longest beginning of `module`."""
    found = [
        (len(name), number)
        for number, names in enumerate(ROWS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    assert found, f"{module} stands in no row"
    return max(found)[1]


def typing_only(tree: ast.Module) -> set[ast.AST]:
    """Everything inside `if TYPE_CHECKING:`, which imports nothing when the program runs."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def imports(path: Path, top_level: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports when it runs; `top_level` leaves out those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = typing_only(tree)
    if top_level:
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
        skipped |= {inner for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                below = PACKAGE.parent / Path(*str(node.module).split("."), alias.name)
                is_module = below.with_suffix(".py").exists() or below.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else str(node.module)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path: Path) -> None:
    module = module_of(path)
    for imported in imports(path):
        if imported.startswith("varcli."):
            assert row_of(imported) <= row_of(module), f"{module} imports {imported}"
            families = {name.split(".")[1] for name in (module, imported)}
            assert families != {"pianoroll", "emitters"}, f"{module} imports {imported}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_unpickles_and_no_private_typer(path: Path) -> None:
    forbidden = {"pickle", "shelve", "marshal", "dill", "joblib", "cloudpickle", "click"}
    for imported in imports(path):
        # What is compiled can be kept in no other form; it is read from a folder that the user alone writes.
        assert imported.split(".")[0] not in forbidden or (module_of(path), imported) == ("varcli.compiled", "pickle")
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
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"print", "sys.stdout.write", "sys.stderr.write", "breakpoint"}
        assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.argv")


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").rglob("*.py")), ids=module_of)
def test_commands_load_nothing_heavy_before_they_run(path: Path) -> None:
    for imported in imports(path, top_level=True):
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
