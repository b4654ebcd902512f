"""Guessing ahead changes no text: greedy, drawn, constrained, cut short or short of room."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
import torch

from mindsd.errors import Cancelled, ModelError, RequestError
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.drafting import Drafting
from mindsd.pipelines.language_model import in_memory
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.request import Piece
from mindsd.speculative.lookup import PromptLookup
from tests.zoo.decoders import decoder
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer

GREEDY = {"temperature": 0, "max_tokens": 40, "ignore_eos": True}
DRAWN = {"temperature": 1.0, "seed": 5, "n": 2, "max_tokens": 30, "ignore_eos": True}
SEEDS = 3000
PROMPTS = [[5, 6, 7, 8] * 5, [9, 10, 11], list(range(20, 60)), [5, 6, 7, 8] * 3]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def model(kind: str, words: int) -> Any:
    if kind == "llama":
        return tiny_llama(words, max_position_embeddings=128)
    return decoder("mistral", vocab_size=words, max_position_embeddings=128)


def near(model: Any, share: float = 0.1) -> Any:
    """A model that often, and not always, draws the same."""
    other = deepcopy(model)
    torch.manual_seed(7)
    with torch.no_grad():
        for weights in other.parameters():
            weights += share * weights.std() * torch.randn_like(weights)
    return other


def loaded(own: Any, tokenizer: Any, how: Any, blocks: int = 0, **options) -> TextGeneration:
    """With memory for so many blocks of four tokens."""
    cache = CacheOptions(block=4)
    if blocks:
        with TextGeneration.load(own, tokenizer, device="cpu") as probe:
            assert probe.model.packed is not None
            cache = CacheOptions(blocks * 4 * probe.model.packed.token_bytes["auto"], block=4)
    return TextGeneration.load(own, tokenizer, cache=cache, speculation=how, **options)


def at_rest(own: TextGeneration) -> None:
    assert own.engine.drain(10)
    for lane in own.model.runner.lanes:
        lane.pool.check()
        assert lane.pool.counts[1] == 0


def tokens(own: TextGeneration, options: Any) -> list[tuple[int, ...]]:
    found = [result.tokens for result in own(PROMPTS, chat=False, **options)]
    at_rest(own)
    return found


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("options", [GREEDY, DRAWN, DRAWN | {"top_p": 0.8, "logprobs": 2}])
def test_the_tokens_are_the_same_with_and_without(kind, options, tokenizer):
    own = model(kind, len(tokenizer))
    with loaded(own, tokenizer, "none") as plain:
        expected = tokens(plain, options)
    lookup = PromptLookup(length=6)
    draft = in_memory(near(own, 0.1 if options is GREEDY else 0.005), tokenizer)
    for how in (lookup, draft):
        with loaded(own, tokenizer, how) as guessing:
            assert tokens(guessing, options) == expected
            counts = guessing.model.runner.counts
            if how is draft:
                assert 0 < counts.accepted < counts.drafted
    assert draft._runner is None and draft.shared.users == 0


def test_lookup_saves_forwards_where_a_text_repeats(tokenizer):
    own = tiny_llama(len(tokenizer), max_position_embeddings=128)
    options: Any = {"logit_bias": {token: 100.0 for token in (40,)}, **GREEDY}
    found = []
    for how in ("none", "lookup"):
        with loaded(own, tokenizer, how) as llm:
            found.append((tokens(llm, options), llm.model.runner.counts))
    (plain, before), (guessed, counts) = found
    assert plain == guessed
    assert counts.forwards < before.forwards / 2 and counts.accepted > 0.9 * counts.drafted


@pytest.mark.parametrize("options", [GREEDY, DRAWN])
def test_a_copy_of_the_model_is_nearly_always_right(options, tokenizer):
    own = model("llama", len(tokenizer))
    draft = in_memory(deepcopy(own), tokenizer)
    with loaded(own, tokenizer, draft) as llm:
        tokens(llm, options)
        counts = llm.model.runner.counts
    assert counts.accepted > 0.8 * counts.drafted > 50


def test_the_law_of_what_is_drawn_is_the_models_own(tokenizer):
    """Chi-square of the second and third token, over the seeds, against the model's own."""
    own = model("llama", len(tokenizer))
    allowed = [30, 31, 32, 33]
    bias = {token: 60.0 for token in allowed}
    with torch.inference_mode():
        law = _law(own, allowed)
    draft = in_memory(near(own, 2.0), tokenizer)
    short: Any = {"max_tokens": 3, "ignore_eos": True}
    with loaded(own, tokenizer, draft) as llm:
        drawn = []
        for first in range(0, SEEDS, 500):
            requests = [
                llm.submit([5, 6], chat=False, logit_bias=bias, seed=seed, **short)
                for seed in range(first, first + 500)
            ]
            drawn += [request.result()[0].tokens for request in requests]
        counts = llm.model.runner.counts
    assert 0 < counts.accepted < counts.drafted
    for place in (1, 2):
        seen = Counter(text[place] for text in drawn)
        expected = {token: SEEDS * share for token, share in law[place].items()}
        chi = sum((seen[token] - wanted) ** 2 / wanted for token, wanted in expected.items())
        assert chi < 16.3, f"token {place} of the answers: {seen}, not {expected}"  # p = 0.001


def _law(own: Any, allowed: list[int]) -> list[dict[int, float]]:
    """The chance of each token at each of three places, by summing over all texts."""
    laws, texts = [], {(5, 6): 1.0}
    for _ in range(3):
        following: dict[tuple[int, ...], float] = {}
        for text, chance in texts.items():
            logits = own(input_ids=torch.tensor([text])).logits[0, -1, allowed]
            for token, share in zip(allowed, logits.double().softmax(-1).tolist(), strict=True):
                following[(*text, token)] = chance * share
        texts = following
        law = dict.fromkeys(allowed, 0.0)
        for text, chance in texts.items():
            law[text[-1]] += chance
        laws.append(law)
    return laws


@pytest.mark.parametrize("how", ["lookup", "draft"])
def test_nothing_is_computed_beyond_the_end(how, tokenizer):
    """A text up to the context's last token, where GPT-2's learned positions end, too."""
    own = decoder("gpt2", vocab_size=len(tokenizer), n_positions=32, max_position_embeddings=32)
    draft = in_memory(deepcopy(own), tokenizer) if how == "draft" else how
    found = []
    for chosen in ("none", draft):
        with loaded(own, tokenizer, chosen) as llm:
            options: Any = {"temperature": 0, "ignore_eos": True, "logit_bias": {40: 100}}
            result = llm([7] * 5, chat=False, max_tokens=27, **options)
            found.append(result.tokens)
            assert len(result.tokens) == 27
            assert llm.model.runner.counts.drawn == 27
            at_rest(llm)
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_too_few_pages_for_all(kind, tokenizer):
    own = model(kind, len(tokenizer))
    found = []
    for how in ("none", "lookup", "draft"):
        chosen = in_memory(near(own), tokenizer) if how == "draft" else how
        with loaded(own, tokenizer, chosen, blocks=22) as llm:
            found.append(tokens(llm, GREEDY))
            if kind == "llama":
                assert llm.model.runner.counts.preempted > 0
    assert found[1] == found[0] and found[2] == found[0]


@pytest.mark.parametrize("how", ["lookup", "draft"])
def test_cancelled_in_the_middle(how, tokenizer):
    own = model("llama", len(tokenizer))
    chosen = in_memory(near(own), tokenizer) if how == "draft" else how
    with loaded(own, tokenizer, "none") as plain:
        expected = plain(PROMPTS[0], chat=False, **GREEDY).tokens
    with loaded(own, tokenizer, chosen) as llm:
        leaving = llm.submit(PROMPTS[2], chat=False, temperature=0, max_tokens=80, ignore_eos=True)
        staying = llm.submit(PROMPTS[0], chat=False, **GREEDY)
        for event in leaving.events():
            if isinstance(event, Piece):
                leaving.cancel()
        with pytest.raises(Cancelled):
            leaving.result()
        assert staying.result()[0].tokens == expected
        at_rest(llm)
        assert llm("a", max_tokens=1, chat=False).usage.completion == 1


@pytest.mark.parametrize("how", ["lookup", "draft"])
def test_constraints_hold_and_end(how, tokenizer):
    pytest.importorskip("llguidance")
    own = model("llama", len(tokenizer))
    asked: Any = {"regex": "(ab){6,9}", "max_tokens": 60, "seed": 2}
    chosen = (
        in_memory(deepcopy(own), tokenizer)
        if how == "draft"
        else PromptLookup(ends=(tokenizer.eos_token_id,))
    )
    with loaded(own, tokenizer, "none") as plain:
        expected = [plain("ab", chat=False, **(asked | {"seed": seed})) for seed in range(6)]
    with loaded(own, tokenizer, chosen) as llm:
        found = [llm("ab", chat=False, **(asked | {"seed": seed})) for seed in range(6)]
        assert [one.tokens for one in found] == [one.tokens for one in expected]
        assert llm.model.runner.counts.accepted > 0
        at_rest(llm)


def test_what_cannot_draft_is_refused_by_name(tokenizer):
    own = model("llama", len(tokenizer))
    other = tiny_tokenizer()
    other.add_tokens(["<more>"])
    with pytest.raises(ModelError, match="cannot draft for LlamaForCausalLM: it has 281 tokens"):
        loaded(own, tokenizer, in_memory(tiny_llama(281), other))
    with pytest.raises(RequestError, match="'lookup', 'none' or a draft model, got a int"):
        loaded(own, tokenizer, 3)
    mamba = in_memory(decoder("mamba", vocab_size=len(tokenizer)), tokenizer)
    with pytest.raises(ModelError, match="MambaForCausalLM cannot run packed"):
        loaded(own, tokenizer, mamba)
    with pytest.raises(ModelError, match="MambaForCausalLM cannot verify drafts"):
        loaded(mamba.model, tokenizer, in_memory(own, tokenizer))
    itself = in_memory(own, tokenizer)
    itself.drafting = Drafting(itself)
    with pytest.raises(RequestError, match="cannot draft for itself"):
        TextGeneration(itself)
    assert loaded(own, tokenizer, "lookup")([5, 6], max_tokens=2, chat=False)
