"""Text generation: any decoder of transformers, many requests in one packed batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from mindsd.batching.adapters import Adapters
from mindsd.batching.tokens import Budget
from mindsd.engine import Engine
from mindsd.errors import EngineClosed, RequestError
from mindsd.pipelines.answering import Task, answer
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.language_model import LanguageModel, in_memory, load_language
from mindsd.pipelines.plain_text import answer_plainly
from mindsd.pipelines.prompt import Prompt, are_several, read_prompt
from mindsd.pipelines.speculation import Speculation, speculate
from mindsd.pipelines.tools import parse_tools
from mindsd.pipelines.wishes import constraint_of, fitted, merge_of, sampling_of
from mindsd.request import Need, Piece, Request
from mindsd.tokenmerge.visual import VisualMerge


class TextGeneration:
    """One loaded language model and the engine that runs it.

    Args:
        model: what `load_language` gives; several may share one.
        engine: one that already runs, for several models; whoever made it closes it.
    """

    def __init__(self, model: LanguageModel, engine: Engine | None = None):
        self.model = model
        self.engine = model.shared.join(engine)
        self._adapters = Adapters(model.model)
        self._closed = False

    @classmethod
    def load(
        cls,
        model: str | Path | Any = "smollm2",
        tokenizer: Any = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        cache: CacheOptions | None = None,
        budget: Budget | None = None,
        speculation: Speculation = "lookup",
        processor: Any = None,
        layers: str = "auto",
        generation_config: str = "auto",
    ) -> Self:
        """Load "smollm2", a transformers folder or a GGUF file, or take a model in memory.

        Args:
            tokenizer, processor: of a model in memory; a processor where it sees pictures.
            layers: "auto" (fused operators on an NPU, layers in C on a CPU), "off", "w8a8" (and 8
                bits, on an NPU) or "int8" (and weights of 8 bits, on a CPU).
            device: "auto" (the fastest this machine has), "npu", "cuda" or "cpu".
            dtype: "auto" (what is fast there), "float32", "float16" or "bfloat16".
            cache, budget: the KV cache, its dtype, and tokens of one forward.
            speculation: how it guesses ahead: "lookup" (where the text says again what it said),
                "none", or a smaller model of the same tokens that drafts. The text is the same.
            generation_config: "auto" (the model's fills what a request leaves out of how tokens
                are drawn) or "mindsd" (only `Sampling` does).

        Raises:
            ModelError: the model, or the draft model, is missing, incomplete or not safe to load.
            RequestError: the device, dtype or layers cannot be had.
        """
        options: dict[str, Any] = {"layers": layers, "generation_config": generation_config}
        options |= {"cache": cache, "budget": budget}
        if isinstance(model, str | Path):
            loaded = load_language(model, device, dtype, **options)
        else:
            loaded = in_memory(model, tokenizer, processor, **options)
        return cls(speculate(loaded, speculation, device, dtype))

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of those that are loaded."""
        return self._adapters.names

    def add_adapter(self, name: str, folder: str | Path) -> None:
        """Load a LoRA adapter that peft wrote, for requests with `adapter=name`.

        Raises:
            ModelError: it is not safe, not plain LoRA, or not for this model.
            RequestError: the model runs no adapters, or the name is taken.
        """
        self._check_adapters()
        self._adapters.add(name, folder)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; refused with a RequestError while requests run with it."""
        self._adapters.remove(name)

    def submit(
        self,
        prompt: Prompt,
        /,
        *,
        chat: bool | None = None,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        priority: int = 0,
        salt: str = "",
        adapter: str | None = None,
        image_merge: VisualMerge | float | None = None,
        untrusted: bool = False,
        unless_said: int | None = None,
        **options: Any,
    ) -> Request:
        """Ask for the answers to one prompt; its request's result is a list of `TextResult`.

        Args:
            prompt: a text, messages {"role", "content"}, or tokens. A model that sees takes
                pictures as parts of a content (`read_messages`).
            chat: whether a text is what a user says, or is to be gone on with; None says it where
                the model has a chat template.
            system: said before it, in a chat.
            tools: in the OpenAI form, told to the model by its template; what it calls is in the
                result's `tool_calls`.
            tool_choice: "auto", "none", "required" or one of them, as in the OpenAI API.
            priority: higher goes first.
            salt: requests of other salts share no cache with it.
            adapter: the name of one that was added; None for the model itself.
            image_merge: how many tokens of its pictures are merged before the model reads them,
                a share like 0.5 or a `VisualMerge`; None for none.
            untrusted: as of `read_prompt`, for messages from elsewhere.
            unless_said: `max_tokens` where none is said; fewer where there is no room for them.
            options: the fields of `Sampling` (max_tokens, temperature, n, seed, stop, ...; as
                the model says where left out), or json_schema, json_object, regex, choice, grammar.

        Raises:
            RequestError: what is wrong, in one sentence.
            QueueFull: the engine has too many requests waiting.
        """
        if self._closed:
            raise EngineClosed("this pipeline was closed; load it again")
        known = parse_tools(tools) if tools and tool_choice != "none" else ()
        constraint = constraint_of(options, known, tool_choice)
        sampling = sampling_of(options, self.model, unless_said)
        tokenizer = self.model.tokenizer
        words = self.model.model.get_input_embeddings().weight.shape[0]
        merge = merge_of(image_merge, self.model)
        how: dict[str, Any] = {"chat": chat, "system": system, "tools": tools if known else None}
        how |= {"vision": self.model.vision, "merge": merge, "salt": salt, "untrusted": untrusted}
        tokens = read_prompt(tokenizer, prompt, words=words, **how)
        task = Task(
            tokens.ids,
            fitted(sampling, len(tokens.ids), self.model, said=bool(options.get("max_tokens"))),
            self.model.defaults.ends,
            getattr(tokenizer, "backend_tokenizer", None),
            None if constraint is None else self.model.grammars.compile(constraint),
            salt=salt,
            priority=priority,
            chat=tokens.chat,
            thinks=tokens.thinks,
            tools=known,
            look=self.model.look(tokens, merge),
            own_inputs=self.model.own_inputs(tokens),
        )
        need = Need(rows=0, priority=priority, solo=self.model.packed is None)
        if adapter is None:
            return self._start(task, need)
        self._check_adapters()
        return self._adapters.start(
            adapter, lambda key: self._start(replace(task, adapter=key), need)
        )

    def _start(self, task: Task, need: Need) -> Request:
        model = self.model
        if model.packed is None:
            submitted = self.engine.submit(lambda own: answer_plainly(own, model, task), need)
        else:
            runner = model.runner  # now: when its turn comes the model may be closed
            submitted = self.engine.submit(lambda own: answer(own, runner, task), need)
        return model.shared.watch(submitted)

    def _check_adapters(self) -> None:
        if self._closed:
            raise EngineClosed("this pipeline was closed; load it again")
        if self.model.packed is None:
            raise RequestError(
                f"{self.model.name} runs no adapters, only packed models do: {self.model.why_plain}"
            )

    def __call__(self, prompts: Prompt | Sequence[Prompt], **options: Any) -> Any:
        """Answers to prompts: a list of `TextResult` for a list, one for one prompt.

        With n > 1 there are n results for each prompt, one after the other. A prompt that is
        itself a list (messages, tokens) counts as one.

        Raises:
            RequestError: what is wrong, in one sentence.
        """
        several = are_several(prompts)
        given: Sequence[Any] = prompts if several else [prompts]  # pyright: ignore
        requests: list[Request] = []
        try:
            for prompt in given:  # one by one: a later one may be refused
                requests.append(self.submit(prompt, **options))
            results = [one for request in requests for one in request.result()]
        finally:
            for request in requests:
                if not request.ended:
                    request.cancel()
        return results if several or len(results) > 1 else results[0]

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[str]:
        """The answer to one prompt, piece by piece as it is drawn.

        Whoever stops listening cancels it.
        """
        if options.get("n", 1) != 1:
            raise RequestError("a stream has one answer; submit() tells several apart")
        request = self.submit(prompt, **options)
        try:
            for event in request.events():
                if isinstance(event, Piece) and event.text:
                    yield event.text
            request.result()  # raises what went wrong
        finally:
            if not request.ended:
                request.cancel()

    def close(self) -> None:
        """Leave the model; the last to do so stops its engine and takes everything off it again.

        Requests that still run with an adapter are cancelled, for it goes.
        """
        if not self._closed:
            self._closed = True
            try:
                self._adapters.close()
            finally:
                self.model.shared.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
