"""A smaller language model that guesses ahead for a larger one, as long as that is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from mindsd.batching.runner import TokenRunner
from mindsd.engine import Engine
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.shared_engine import SharedEngine
from mindsd.speculative.draft_model import DraftModel

LENGTH = 4  # tokens of a draft


class Model(Protocol):
    """A `LanguageModel`, as far as drafts go."""

    name: str
    tokenizer: Any
    shared: SharedEngine

    @property
    def defaults(self) -> Any: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def runner(self) -> TokenRunner: ...
    def another_runner(self, tokens: int) -> TokenRunner: ...


@dataclass(eq=False)
class Drafting:
    """Belongs to the larger model.

    Attributes:
        draft: the smaller model, with the same tokens.
        length: the most tokens of one draft.
    """

    draft: Model
    length: int = LENGTH
    _proposer: DraftModel | None = field(default=None, init=False)

    def begin(self, target: Model, engine: Engine) -> DraftModel:
        """Open the smaller model on the target's engine.

        Raises:
            ModelError: its tokens are other ones, or it does not run packed.
            RequestError: it is the target itself, or runs on another engine.
        """
        _check(target, self.draft)
        self.draft.shared.join(engine)
        try:
            tokens = max(lane.pool.total * lane.pool.size for lane in target.runner.lanes)
            self._proposer = DraftModel(
                self.draft.another_runner(tokens),
                target.vocabulary,
                self.length,
                context=self.draft.defaults.context,
                ends=target.defaults.ends,
            )
        except BaseException:
            self.draft.shared.leave()
            raise
        return self._proposer

    def end(self) -> None:
        """Close what `begin` opened; doing it twice does nothing."""
        if self._proposer is not None:
            self._proposer.close()
            self._proposer = None
            self.draft.shared.leave()


def _check(target: Model, draft: Model) -> None:
    if draft is target:
        raise RequestError(f"{target.name} cannot draft for itself; load a smaller model for that")
    ours, theirs = _words(target), _words(draft)
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        found = f"it has {len(theirs)} tokens, {target.name} has {len(ours)}"
    else:
        word = next(word for word, token in ours.items() if theirs.get(word) != token)
        found = f"{word!r} is token {ours[word]} of {target.name} and {theirs.get(word)} of it"
    raise ModelError(
        f"{draft.name} cannot draft for {target.name}: {found}; take a smaller model of the same "
        "family"
    )


def _words(model: Model) -> dict[str, Any]:
    return model.tokenizer.get_vocab()
