"""One text encoder of a pipeline, read through compel: words with weights, texts of many windows.

compel hands the encoder a window at a time. The encoder is the pipeline's own, opened to the
engine, so windows of several requests still share forwards. Whatever is remembered here lives as
long as its request.
"""

from __future__ import annotations

from math import ceil
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.loaders import TextualInversionLoaderMixin

from mindsd.errors import RequestError
from mindsd.pipelines.prompt_syntax import Part

MOST_WINDOWS = 16  # that one prompt may fill: 1,200 tokens of CLIP
MOST_FORWARDS = 256  # that one prompt may take: compel computes a window anew for each lower weight


def compel() -> Any:
    """The library.

    Raises:
        RequestError: it is not installed.
    """
    try:
        import compel  # heavy and optional
    except ImportError as error:
        raise RequestError(
            "weighted prompts need compel, which is not installed: pip install 'mindsd[prompt]'"
        ) from error
    return compel


class Reader:
    """One encoder with its tokenizer.

    Args:
        pipe: the request's own copy of the pipeline.
        ending: of the encoder's name: "" or "_2" or "_3".
        layer: which hidden layer the pipeline reads, counted from the end; None for the last.
        normed: whether the final norm follows a layer that was chosen.
        room: tokens of its one window, for encoders that cut; None for windows without number.
    """

    def __init__(
        self, pipe: Any, ending: str, layer: int | None, normed: bool, room: int | None = None
    ):
        library = compel()
        self.name = f"text_encoder{ending}"
        self._pipe, self._cuts = pipe, room is not None
        self._tokenizer = getattr(pipe, f"tokenizer{ending}")
        encoder = getattr(pipe, self.name)
        self._device = pipe._execution_device  # an offloaded encoder's own device says nothing
        self._provider = library.EmbeddingsProvider(
            self._tokenizer,
            _Layer(encoder, self._device, layer, normed),
            truncate=self._cuts,
            split_long_text_mode=library.SplitLongTextMode.PHRASES,  # as A1111: after a comma
            model_max_length=room,
        )

    def windows(self, sections: list[list[Part]]) -> torch.Tensor:
        """[1, tokens, width]: a whole number of windows for each section, one after another.

        Raises:
            RequestError: the prompt fills too many windows, or has too many lowered words.
        """
        said = [self._said(section) for section in sections]
        self._check(said)
        return torch.cat(
            [
                self._provider.get_embeddings_for_weighted_prompt_fragments(
                    [[part.text for part in parts]],
                    [[part.weight for part in parts]],
                    device=self._device,
                )
                for parts in said
            ],
            dim=1,
        )

    def pooled(self, text: str) -> torch.Tensor:
        """[1, width]: one vector for the text, cut at the window, without weights."""
        found = self._provider.get_pooled_embeddings([self._converted(text)], device=self._device)
        assert found is not None
        return found

    @property
    def length(self) -> int:
        """Tokens of one window, with its marks of beginning and end."""
        return self._provider.max_token_count

    def empty(self) -> torch.Tensor:
        """[1, tokens, width] of an empty window."""
        return self._provider.empty_z.to(self._provider.text_encoder.dtype)

    def cut(self, sections: list[list[Part]]) -> str | None:
        """What is to be said of a prompt that does not fit an encoder of one window."""
        tokens = sum(
            self._tokens(part.text) for parts in map(self._said, sections) for part in parts
        )
        room = self.length - self._marks
        if not self._cuts or tokens <= room:
            return None
        return f"{self.name} reads only {room} of the prompt's {tokens} tokens"

    @property
    def _marks(self) -> int:
        return len(self._provider.bos_sequence) + len(self._provider.eos_sequence)

    def _said(self, parts: list[Part]) -> list[Part]:
        """The parts with tokens, as compel cannot lower nothing; one that is alone unchanged."""
        texts = [(self._converted(part.text), part.weight) for part in parts]
        if len(texts) > 1:
            texts = [(text.strip(), weight) for text, weight in texts]
        return [Part(*own) for own in texts if self._tokens(own[0])] or [Part("")]

    def _converted(self, text: str) -> str:
        """With all the tokens of learned words that have several."""
        if isinstance(self._pipe, TextualInversionLoaderMixin):
            return str(self._pipe.maybe_convert_prompt(text, self._tokenizer))
        return text

    def _tokens(self, text: str) -> int:
        (found,) = self._provider.get_token_ids(
            [text], include_start_and_end_markers=False, truncation_override=False
        )
        return len(found)

    def _check(self, said: list[list[Part]]) -> None:
        room = self.length - self._marks
        filled = [
            1 if self._cuts else max(1, ceil(sum(self._tokens(part.text) for part in parts) / room))
            for parts in said
        ]
        if sum(filled) > MOST_WINDOWS:
            raise RequestError(
                f"the prompt fills {sum(filled)} windows of {room} tokens; "
                f"{MOST_WINDOWS} are the most, make it shorter"
            )
        lowered = [sum(part.weight < 1 for part in parts) for parts in said]
        forwards = sum(n * (1 + low) for n, low in zip(filled, lowered, strict=True))
        if forwards > MOST_FORWARDS:
            raise RequestError(
                f"{sum(lowered)} parts of the prompt have weights below 1, which takes {forwards} "
                f"forwards of {self.name}; {MOST_FORWARDS} are the most, lower fewer"
            )


class _Layer:
    """The encoder as compel calls it; what it takes for the last layer is what the pipeline reads.

    compel would choose a layer itself, but knows only the last two.
    """

    def __init__(self, encoder: Any, device: torch.device, layer: int | None, normed: bool):
        self._encoder, self._layer, self._normed = encoder, layer, normed
        self._seen: dict[Any, SimpleNamespace] = {}
        self.device, self.dtype = device, encoder.dtype

    def __call__(
        self, tokens: torch.Tensor, mask: torch.Tensor | None = None, **form: Any
    ) -> SimpleNamespace:
        """One window, [1, tokens] each; computed once however often compel asks."""
        if mask is not None and bool(mask.all()):
            mask = None  # the call that the pipeline would make
        window = tuple(tokens[0].tolist()), None if mask is None else tuple(mask[0].tolist())
        if window not in self._seen:
            self._seen[window] = self._read(tokens.long(), mask)
        return self._seen[window]

    def _read(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> SimpleNamespace:
        masked = {} if mask is None else {"attention_mask": mask}
        said = self._encoder(tokens, output_hidden_states=self._layer is not None, **masked)
        hidden = said.last_hidden_state
        if self._layer is not None:
            hidden = said.hidden_states[-self._layer]
            if self._normed:
                inner = getattr(self._encoder, "text_model", self._encoder)
                hidden = inner.final_layer_norm(hidden)
        pooled = said.text_embeds if "text_embeds" in said else getattr(said, "pooler_output", None)
        # float: compel's factors for weights near 0 are beyond float16.
        return SimpleNamespace(last_hidden_state=hidden.float(), pooler_output=pooled)
