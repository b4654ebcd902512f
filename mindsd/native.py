"""C files of this package, compiled once by this machine's own compiler and loaded by ctypes.

A kernel that needs instructions which torch does not use here (AMX tiles, 8-bit dot products) is a
C file with a plain C interface and no headers but the compiler's. It is built at its first use,
into a folder of the user's; later processes load what is there. Where there is no compiler, or no
such instructions, its caller does without: everything here says why and never stops a program.

Imported torch comes first: what is linked with OpenMP then shares torch's own threads, and two
crews do not fight for the cores.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch  # its OpenMP first
from torch import Tensor

from mindsd.device import cpu_facts

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fopenmp", "-ffp-contract=fast")
PATIENCE = 180.0  # seconds for the compiler
OFF = "MINDSD_NATIVE"  # =off in the environment: as if there were no compiler


@dataclass(frozen=True)
class Source:
    """A C file and what it takes.

    Attributes:
        file: the C file; headers beside it count as part of it.
        needs: names of `CPU_FEATURES` without which its instructions do not exist here.
        flags: for the compiler, beside the usual ones.
    """

    file: Path
    needs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@lru_cache
def load(source: Source) -> ctypes.CDLL | str:
    """The library of a C file, or why there is none; asked once, answered for good."""
    if reason := why_not(source):
        return reason
    try:
        return ctypes.CDLL(str(_built(source)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return _told(error)


def why_not(source: Source) -> str | None:
    """What is missing here for a C file, without building it; None where nothing is."""
    if os.environ.get(OFF, "").lower() in ("off", "0", "no"):
        return f"native kernels are off ({OFF}=off)"
    if missing := [name for name in source.needs if name not in cpu_facts()[1]]:
        return f"this processor has no {' and no '.join(missing)}"
    if _compiler() is None:
        return f"there is no C compiler here ({', '.join(COMPILERS)}, or the one that CC names)"
    return None


def why_absent(source: Source) -> str | None:
    """Why there is no library of a C file, or None; the first call that finds none builds it."""
    if reason := why_not(source):
        return reason
    found = load(source)
    return found if isinstance(found, str) else None


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's first element lies, for a pointer argument; None is a null pointer."""
    return None if tensor is None else tensor.data_ptr()


def threads() -> int:
    """How many threads a kernel may use now: as many as torch may."""
    return torch.get_num_threads()


def cache_folder() -> Path:
    """Where what was built is kept: MINDSD_CACHE, else ~/.cache/mindsd/native."""
    if own := os.environ.get("MINDSD_CACHE"):
        return Path(own) / "native"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mindsd" / "native"


def _built(source: Source) -> Path:
    """The library's file; it is compiled beside its place and moved there whole."""
    compiler = _compiler()
    assert compiler is not None
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_owner(folder)
    target = folder / f"{source.file.stem}-{_fingerprint(source, compiler)}.so"
    if target.exists():
        _check_owner(target)
        return target
    with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as room:
        made = Path(room) / target.name
        _ask(*compiler, *FLAGS, *source.flags, "-o", str(made), str(source.file), "-lm")
        made.chmod(0o700)  # whatever the umask: what others may write is not loaded
        os.replace(made, target)
    return target


def _fingerprint(source: Source, compiler: tuple[str, ...]) -> str:
    """Of all that decides what comes out: the texts, the flags, the compiler, the processor, and
    torch, whose headers some of it includes."""
    told = [source.file.read_bytes()]
    told += [header.read_bytes() for header in sorted(source.file.parent.glob("*.h"))]
    here = (FLAGS, source.flags, _version(compiler), torch.__version__, cpu_facts(), _cpu_flags())
    told += [repr(here).encode()]
    return hashlib.sha256(b"\0".join(told)).hexdigest()[:16]


def _check_owner(path: Path) -> None:
    """Nobody else may have put there what this process is about to run.

    Raises:
        OSError: somebody else could have.
    """
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"others may write to {path.name}; it is not loaded (set MINDSD_CACHE)")


@lru_cache(maxsize=1)
def _compiler() -> tuple[str, ...] | None:
    """The compiler's command, which may have words of its own, as in CC="ccache gcc"."""
    names = [os.environ["CC"]] if os.environ.get("CC") else COMPILERS
    for words in map(shlex.split, names):
        if words and (found := shutil.which(words[0])):
            return found, *words[1:]
    return None


@lru_cache
def _version(compiler: tuple[str, ...]) -> str:
    return _ask(*compiler, "--version").split("\n")[0]


def _ask(*command: str) -> str:
    """What a command prints."""
    how: Any = {"check": True, "capture_output": True, "text": True, "errors": "replace"}
    return subprocess.run(command, timeout=PATIENCE, **how).stdout


@lru_cache(maxsize=1)
def _cpu_flags() -> str:
    """All instruction sets, as the system names them: -march=native goes by all of them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _told(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or "").splitlines()
        why = next((line for line in lines if "error" in line.lower()), "it said nothing")
        return f"the compiler failed: {why.strip()}"
    return f"it could not be built: {str(error).splitlines()[0]}"
