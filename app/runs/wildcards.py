"""Prompts with choices: `{red|blue}`, `{2$$a|b|c}`, `__colour__`; dynamicprompts picks.

Braces without a choice of their own, as in JSON, and signs that the library would read as its
comments or variables, stay as they are. `\\{`, `\\}` and `\\|` are the signs themselves.
"""

from __future__ import annotations

import logging
import re
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from pathlib import Path
from random import Random

from dynamicprompts.commands import Command
from dynamicprompts.enums import SamplingMethod
from dynamicprompts.parser.parse import parse
from dynamicprompts.sampling_context import SamplingContext
from dynamicprompts.wildcards import WildcardManager

from mindsd.errors import RequestError

MOST = 10_000  # combinations of one prompt
LONGEST = 10_000  # characters of a prompt with choices
DEEPEST = 6  # braces in braces: the time to read them doubles with each
# Signs of the library's language as private characters, and back when it has chosen.
HIDDEN = {sign: chr(0xF0000 + place) for place, sign in enumerate("{}|#/$%_")}
SHOWN = str.maketrans({code: sign for sign, code in HIDDEN.items()})
NAME = re.compile(rf"__([\w.*{HIDDEN['/']}-]+?)__|_")
STRANGE = str.maketrans({sign: HIDDEN[sign] for sign in "#/%"})


class Wildcards:
    """How choices are made.

    Args:
        folder: of `NAME.txt` files, a choice a line; without one a `__NAME__` is refused.

    Raises:
        RequestError: there is no such folder.
    """

    def __init__(self, folder: Path | None = None):
        if folder is not None and not folder.is_dir():
            raise RequestError(f"--wildcards {folder} is not a folder")
        logging.getLogger("dynamicprompts").setLevel(logging.ERROR)
        self._folder = folder
        self._manager = WildcardManager(folder)

    def pick(self, template: str, seed: int) -> str:
        """The prompt with each choice made, the same for the same seed.

        Raises:
            RequestError: it cannot be read, or names what is not there.
        """
        return self._sample(template, SamplingMethod.RANDOM, 1, seed)[0]

    def all(self, template: str) -> list[str]:
        """The prompt with its choices made in every way.

        Raises:
            RequestError: as `pick`, or there are over 10000 ways.
        """
        found = self._sample(template, SamplingMethod.COMBINATORIAL, MOST + 1)
        if len(found) > MOST:
            raise RequestError(f"the prompt has over {MOST} combinations; make it fewer")
        return found

    def _sample(self, template: str, how: SamplingMethod, most: int, seed: int = 0) -> list[str]:
        hidden = self._hide(template)
        if "{" not in hidden and "__" not in hidden:
            return [hidden.translate(SHOWN)]
        if len(hidden) > LONGEST:
            raise RequestError(f"a prompt with choices has {LONGEST} characters at most")
        context = SamplingContext(
            wildcard_manager=self._manager, default_sampling_method=how, rand=Random(seed)
        )
        try:
            found = [str(one) for one in islice(context.sample_prompts(_read(hidden)), most)]
        except RequestError:
            raise
        except Exception as error:  # a parser's, of whatever kind
            raise RequestError(f"its choices cannot be read ({type(error).__name__})") from None
        if not found:
            raise RequestError("its choices leave nothing to draw")
        return [one.translate(SHOWN) for one in found]

    def _hide(self, template: str) -> str:
        """The prompt with every sign hidden that is no choice."""
        text = re.sub(r"\\([{}|])", lambda found: HIDDEN[found[1]], template)
        text = text.translate(STRANGE)
        signs, choices = list(text), _choices(text)
        for place, sign in enumerate(signs):
            if sign in "{}|" and place not in choices:
                signs[place] = HIDDEN[sign]
            elif sign == "$" and place not in choices:
                signs[place] = HIDDEN["$"]
        return NAME.sub(self._name, "".join(signs))

    def _name(self, found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0].replace("_", HIDDEN["_"])
        name = found[1].translate(SHOWN)
        if self._folder is None:
            said = f"__{name}__ is a choice from a file"
            raise RequestError(f"{said}; say --wildcards FOLDER, or --no-wildcards")
        if not len(self._manager.get_values(name)):
            names = sorted(self._manager.get_collection_names())
            near = get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}" if near else f"it has {', '.join(names[:9]) or 'none'}"
            raise RequestError(f"there is no wildcard {name} in {self._folder}; {hint}")
        return f"__{name}__"


@lru_cache(maxsize=1024)  # an image of each seed asks for the same again
def _read(hidden: str) -> Command:
    return parse(hidden)


def _choices(text: str) -> set[int]:
    """The places of the signs that make choices: of braces with a `|` or `$$` right in them."""
    found: set[int] = set()
    open_braces: list[list[int]] = []  # each with the signs right in it
    for place, sign in enumerate(text):
        if sign == "{":
            open_braces.append([place])
        elif not open_braces:
            continue
        elif sign == "|" or text[place : place + 2] == "$$" or text[place - 1 : place + 1] == "$$":
            open_braces[-1].append(place)
        elif sign == "}":
            own = open_braces.pop()
            if len(own) > 1:
                if len(open_braces) >= DEEPEST:
                    raise RequestError(f"choices lie {DEEPEST} deep in each other at most")
                found |= {*own, place}
    return found
