"""The folders, the package list and the floors agree."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = ["mindsd", "attention", "pipelines", "app"]  # each may import those before it
MAPPED = [*FLOORS[1:], "assets"]  # never imported by these bare names
FACE = ROOT / "mindsd" / "__init__.py"  # hands out the pipelines, each loaded when first asked for
LONGEST = 250  # lines of a file


def imports(file):
    """Full names of the modules that a file imports, as `mindsd.attention.registry`."""
    folders = list(file.relative_to(ROOT).parts[:-1])
    here = folders if folders[0] == "mindsd" else ["mindsd", *folders]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= len(folders), f"{file}: a relative import leaves its floor"
            near = here[: len(here) - node.level + 1] if node.level else []
            base = [*near, node.module] if node.module else near
            yield from (".".join([*base, alias.name]) for alias in node.names)


def floor(module):
    inner = module.removeprefix("mindsd.").split(".")[0]
    return FLOORS.index(inner) if inner in FLOORS else 0


def sources():
    return [file for folder in [*FLOORS, "assets"] for file in (ROOT / folder).rglob("*.py")]


def test_imports_only_go_down():
    for file in sources():
        folder = file.relative_to(ROOT).parts[0]
        own = FLOORS.index(folder) if folder in FLOORS else 0
        for module in imports(file):
            assert module.split(".")[0] not in MAPPED, f"{file}: say mindsd.{module}"
            assert file == FACE or floor(module) <= own, f"{file} imports {module}"


def test_every_folder_is_packaged():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = pyproject["tool"]["setuptools"]["packages"]
    folders = {file.parent for file in sources()}
    names = [".".join(folder.relative_to(ROOT).parts) for folder in folders]
    assert sorted(listed) == sorted(n if n.startswith("mindsd") else f"mindsd.{n}" for n in names)
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_type_checkers_see_every_folder():
    links = {link.name: link.resolve() for link in (ROOT / ".types" / "mindsd").iterdir()}
    assert links == {name: ROOT / name for name in MAPPED} | {"__init__.py": FACE}


def test_files_stay_short():
    long = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in sources()}
    assert not {name: lines for name, lines in long.items() if lines > LONGEST}


def test_the_face_gives_what_it_names():
    import mindsd

    assert mindsd.__all__ == [
        "Acceleration",
        "ImageToImage",
        "Inpaint",
        "MindsdError",
        "TextGeneration",
        "TextToImage",
        "VisionChat",
        "accelerate",
    ]
    assert all(hasattr(mindsd, name) for name in mindsd.__all__)


def test_importing_mindsd_is_quick_and_loads_no_framework():
    code = (
        "import sys, time; start = time.perf_counter(); import mindsd;"
        "seconds = time.perf_counter() - start;"
        "print(seconds, [m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    runs = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(3)]
    assert all(run.strip().endswith("[]") for run in runs)
    assert min(float(run.split()[0]) for run in runs) < 0.3
