"""What no file of ours may say, whatever it is for."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("app", "pipelines", "attention", "mindsd")
FORBIDDEN = {
    "code of a model's repository runs": r"trust_remote_code\s*=\s*True",
    "a pickle is read": r"torch\.load\s*\(|pickle\.loads?\b|joblib|allow_pickle\s*=\s*True",
    "pickles go over a socket": r"recv_pyobj|send_pyobj|\bzmq\b|multiprocessing\.connection",
    "a text runs": r"(?<![\w.])(?:eval|exec)\s*\(|os\.system|shell\s*=\s*True",
    "others reach it": r"share\s*=\s*True",
    "a page of files or of elsewhere": r"gr\.FileExplorer|gr\.load\b|allowed_paths\s*=\s*\[[^\]]",
    "YAML makes objects": r"yaml\.(?:unsafe_)?load\s*\(",
}


def code_of(file: Path) -> str:
    """A file without its comments and texts, which may well speak of such things."""
    words = tokenize.generate_tokens(io.StringIO(file.read_text("utf-8")).readline)
    kinds = (tokenize.COMMENT, tokenize.STRING)
    lines: dict[int, list[str]] = {}
    for word in words:
        if word.type not in kinds:
            lines.setdefault(word.start[0], []).append(word.string)
    return "\n".join("".join(line) for line in lines.values())


@pytest.fixture(scope="module")
def codes() -> dict[str, str]:
    """The code of every file by its name."""
    files = (file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")))
    return {str(file.relative_to(ROOT)): code_of(file) for file in files}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_none_says_it(what: str, codes: dict[str, str]):
    pattern = re.compile(FORBIDDEN[what])
    assert len(codes) > 200
    assert [name for name, code in codes.items() if pattern.search(code)] == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("load(x, trust_remote_code = True)", "code of a model's repository runs"),
        ("torch.load(path)", "a pickle is read"),
        ("socket.recv_pyobj()", "pickles go over a socket"),
        ("subprocess.run(x, shell=True)", "a text runs"),
        ("demo.launch(share=True)", "others reach it"),
        ("app(allowed_paths=[folder])", "a page of files or of elsewhere"),
    ],
)
def test_the_patterns_find_it(line: str, what: str, tmp_path: Path):
    file = tmp_path / "a.py"
    file.write_text(f"{line}\n")
    assert re.search(FORBIDDEN[what], code_of(file))
    file.write_text(f"# {line}\n'{line}'\n")
    assert not re.search(FORBIDDEN[what], code_of(file))
