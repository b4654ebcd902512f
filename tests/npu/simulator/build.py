"""Compiles the stand-in CANN libraries for the installed torch_npu, once for each content."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = [Path(__file__).with_name(f"fake_acl{part}.c") for part in ("", "_streams")]
LIBRARIES = (
    "libascendcl.so",
    "libacl_op_compiler.so",
    "libhccl.so",
    "libge_runner.so",
    "libgraph.so",
    "libacl_tdt_channel.so",
    "libatb.so",
    "libnnopbase.so",
    "libopapi.so",
)
FULL = LIBRARIES[:2]  # torch_npu asks these for functions; the others are only there to be found
DEFINED = re.compile(r"^(?:aclError|const char \*|size_t|void) ?\*?(acl\w+)\(", re.MULTILINE)
# C names of CANN's runtime, log and collectives, and the C++ names of ATB and GE.
OF_CANN = re.compile(r"acl|rt[A-Z]|Msprof|Hccl|_ZN3atb|_ZNK?2ge")
NOT_SUPPORTED = 207000  # ACL_ERROR_RT_FEATURE_NOT_SUPPORT


def built(plugins: tuple[Path, ...] = ()) -> Path:
    """The folder of the libraries; compiled where that was not done yet.

    Args:
        plugins: other shared objects that link against CANN.

    Raises:
        RuntimeError: no torch_npu, C compiler or nm on this machine.
    """
    source = "".join(path.read_text() for path in SOURCES)
    missing = sorted(_undefined(plugins) - set(DEFINED.findall(source)))
    text = source + "".join(f"int {name}(void) {{ return {NOT_SUPPORTED}; }}\n" for name in missing)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = _cache() / f"fake-cann-{digest}"
    if not folder.is_dir():
        _compile(text, folder)
    return folder


def _cache() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mindsd-tests"
    root.mkdir(parents=True, exist_ok=True)
    return root


def _undefined(plugins: tuple[Path, ...]) -> set[str]:
    """CANN's symbols that torch_npu's shared objects want."""
    spec = importlib.util.find_spec("torch_npu")
    nm = shutil.which("nm")
    if spec is None or spec.origin is None or nm is None:
        raise RuntimeError("the simulator needs the torch_npu wheel and nm (binutils)")
    root = Path(spec.origin).parent
    objects = [*root.glob("_C.*.so"), *(root / "lib").glob("*.so"), *plugins]
    command = [nm, "-D", "--undefined-only", *map(str, objects)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names = {line.split()[-1].split("@")[0] for line in lines if " U " in f" {line} "}
    return {name for name in names if OF_CANN.match(name)}


def _compile(text: str, folder: Path) -> None:
    """Beside its place, then moved there: two processes may build at once."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("the simulator needs a C compiler")
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name) / "libraries"
        work.mkdir()
        for library in LIBRARIES:
            code = work / "code.c"
            code.write_text(text if library in FULL else "int fake_cann;\n")
            options = ["-shared", "-fPIC", "-O1", "-w", f"-Wl,-soname,{library}"]
            subprocess.run(
                [compiler, *options, "-o", str(work / library), str(code)],
                check=True,
            )
        try:
            work.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
