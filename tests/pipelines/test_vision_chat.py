"""Questions about pictures: the tokens of transformers' own `generate`, whatever runs beside."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import GenerationConfig

from mindsd.batching.coroutine import is_batchable
from mindsd.batching.tokens import Budget
from mindsd.engine import Engine
from mindsd.errors import Cancelled, EngineClosed, ModelError, RequestError
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.language_model import in_memory
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.messages import Message
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.prompt import read_prompt
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.pipelines.vision import Vision
from mindsd.pipelines.vision_chat import VisionChat, shown
from mindsd.request import Notice, Piece
from tests.zoo.cases import CASES
from tests.zoo.drawing import held, levels_apart, plain
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer
from tests.zoo.vision import VisionCase, colours, vision_case, vision_names

NEW = 8
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": NEW, "ignore_eos": True}
PLAIN = "paligemma"  # all of its prompt sees itself
PACKED = tuple(name for name in vision_names() if name != PLAIN)
WHAT = "What is it?"

Talk = Sequence[Message]
A, B = colours(1, 40, 32), colours(2, 24, 48)


@dataclass(frozen=True)
class Known:
    """A family, some talks, and what `generate` says to each alone."""

    case: VisionCase
    talks: list[Talk]
    expected: list[list[int]]


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def talks() -> list[Talk]:
    answer = said("assistant", "A red circle.")
    return [
        [shown(A, WHAT)],
        [shown(B, WHAT)],
        [shown([A, B], WHAT)],
        [shown(A, WHAT), answer, said("user", "Is the blue square left of it?")],
        [said("user", "Hello"), answer, shown(B, "And now?")],
        [said("user", "Is the blue square left of it?")],
    ]


@torch.no_grad()
def generated(case: VisionCase, talk: Talk, number: int = NEW) -> list[int]:
    """What transformers' own `generate` says, greedily, without image tokens."""
    pictures: list[Any] = []
    messages = []
    for message in talk:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        pictures += [part["image"] for part in parts if part["type"] == "image"]
        bare = [{k: v for k, v in part.items() if k != "image"} for part in parts]
        messages.append({"role": message["role"], "content": bare})
    text = case.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    if pictures:
        given = {"return_tensors": "pt", "add_special_tokens": False}
        inputs = case.processor(text=[text], images=pictures, **given)
    else:  # PaliGemma's processor takes no text alone
        ids = torch.tensor([case.tokenizer(text, add_special_tokens=False)["input_ids"]])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    wish: Any = GenerationConfig(
        do_sample=False,
        max_new_tokens=number,
        min_new_tokens=number,
        pad_token_id=0,
        suppress_tokens=[case.model.config.image_token_id],
    )
    wish.eos_token_id = None
    out = case.model.generate(**inputs, generation_config=wish)
    return out[0, inputs["input_ids"].shape[1] :].tolist()


@cache
def known_of(name: str) -> Known:
    case = vision_case(name)
    return Known(case, talks(), [generated(case, talk) for talk in talks()])


@pytest.fixture(scope="module", params=PACKED)
def known(request) -> Known:
    return known_of(request.param)


@pytest.fixture(scope="module")
def family() -> Known:
    """One for what is the same in all: with DeepStack and positions of four axes."""
    return known_of("qwen3_vl")


@pytest.fixture(scope="module")
def opened(family) -> Iterator[VisionChat]:
    """Shared by tests that leave it as it was, but for its cache; on a model of its own."""
    with loaded(replace(family.case, model=copy.deepcopy(family.case.model))) as own:
        yield own


def loaded(case: VisionCase, chunk: int = 512, engine: Engine | None = None, **cache) -> VisionChat:
    """With forwards of so many tokens, and blocks of four."""
    model = in_memory(
        case.model,
        case.tokenizer,
        case.processor,
        cache=CacheOptions(**{"block": 4, "memory": 4 * 2**20, **cache}),
        budget=Budget(chunk),
    )
    return VisionChat(model, engine)


def with_blocks(case: VisionCase, blocks: int) -> VisionChat:
    """With memory for so many blocks of four tokens."""
    with loaded(case) as own:
        assert own.model.packed is not None
        memory = blocks * 4 * own.model.packed.token_bytes["auto"]
    return loaded(case, 16, memory=memory)


def tokens(request: Any) -> list[int]:
    return list(request.result(60)[0].tokens)


def at_rest(own: VisionChat) -> None:
    """No block is held, none is lost."""
    assert own.engine.drain(10)
    for lane in own.model.runner.lanes:
        lane.pool.check()
        assert lane.pool.counts[1] == 0


def seen(own: VisionChat) -> int:
    """How many pictures the tower saw for requests."""
    return own.engine.counts.rows.get("image", 0)


def eyes(own: VisionChat) -> Vision:
    """Its model's."""
    assert own.model.vision is not None
    return own.model.vision


def prompt(own: VisionChat, talk: Talk) -> list[int]:
    """Its tokens."""
    return read_prompt(own.model.tokenizer, talk, vision=own.model.vision).ids


def image_places(own: VisionChat, talk: Talk) -> list[int]:
    """Where in its prompt pictures stand."""
    image = eyes(own).token_id
    return [place for place, id in enumerate(prompt(own, talk)) if id == image]


@pytest.mark.parametrize("chunk", [7, 512])
def test_greedy_tokens_are_those_of_generate(known, chunk):
    with loaded(known.case, chunk) as own:
        assert own.model.why_plain is None
        with held(own.engine):
            requests = [own.submit(talk, **GREEDY) for talk in known.talks]
        assert [tokens(one) for one in requests] == known.expected
        again = [own.submit(talk, **GREEDY) for talk in known.talks]
        assert [tokens(one) for one in again] == known.expected
        assert all(one.result()[0].usage.cached > 0 for one in again)
        at_rest(own)


def test_one_token_at_a_time(known):
    with loaded(known.case, 1) as own:
        assert tokens(own.submit(known.talks[2], **GREEDY)) == known.expected[2]
        at_rest(own)


def test_a_talk_preempted_comes_to_the_same_end(known):
    with loaded(known.case) as own:
        most = max(len(prompt(own, talk)) for talk in known.talks)
    with with_blocks(known.case, -(-(most + NEW) // 4) + 1) as own:
        with held(own.engine):
            requests = [own.submit(talk, **GREEDY) for talk in known.talks * 2]
        assert [tokens(one) for one in requests] == known.expected * 2
        assert own.model.runner.counts.preempted > 0
        at_rest(own)


def test_a_picture_that_was_seen_is_not_seen_again(known):
    other = [shown(A, "Is it a circle, or a square?")]
    expected = generated(known.case, other)
    with loaded(known.case) as own:
        assert tokens(own.submit(known.talks[0], **GREEDY)) == known.expected[0]
        assert seen(own) == 1
        places = image_places(own, other)
        before = eyes(own).cache.counts
        found = own.submit(other, **GREEDY)
        assert tokens(found) == expected
        assert found.result()[0].usage.cached > places[-1]
        assert seen(own) == 1
        after = eyes(own).cache.counts
        assert (after["hits"], after["misses"]) == (before["hits"] + 1, before["misses"])
        at_rest(own)


def test_two_pictures_share_nothing_but_what_stands_before_them(known):
    like_a = colours(3, *A.size)
    expected = generated(known.case, [shown(like_a, WHAT)])
    with loaded(known.case) as own:
        tokens(own.submit(known.talks[0], **GREEDY))
        places = image_places(own, [shown(like_a, WHAT)])
        found = own.submit([shown(like_a, WHAT)], **GREEDY)
        assert tokens(found) == expected
        assert found.result()[0].usage.cached <= places[0] and seen(own) == 2


def test_pictures_of_several_requests_are_seen_in_one_forward(known):
    asked = [[shown(colours(10 + i, 32, 32), WHAT)] for i in range(4)]
    expected = [generated(known.case, talk) for talk in asked]
    with loaded(known.case) as own:
        with held(own.engine):
            requests = [own.submit(talk, **GREEDY) for talk in asked]
        assert [tokens(one) for one in requests] == expected
        assert own.engine.counts.forwards["image"] == 1 and seen(own) == 4


def test_closing_takes_everything_off(known):
    model = known.case.model
    before = model.config.get_text_config()._attn_implementation
    own = loaded(known.case)
    tower = eyes(own).tower
    assert is_batchable(tower) and model.config.get_text_config()._attn_implementation != before
    tokens(own.submit(known.talks[0], **GREEDY))
    own.close()
    own.close()
    assert model.config.get_text_config()._attn_implementation == before
    assert not is_batchable(tower) and "forward" not in vars(tower)
    assert eyes(own).cache.counts["images"] == 0
    assert generated(known.case, known.talks[2]) == known.expected[2]
    with pytest.raises(EngineClosed, match="load it again"):
        own.ask(A)
    with loaded(known.case) as again:
        assert tokens(again.submit(known.talks[2], **GREEDY)) == known.expected[2]


def test_texts_pictures_and_drawing_in_one_engine(family):
    drawing, asked = CASES["sd"], CASES["sd"].asked()[0]
    reference = plain(drawing.pipe(), asked)
    words = tiny_tokenizer()
    with Engine() as engine:
        with (
            loaded(family.case, 16, engine) as own,
            TextToImage(load_model(drawing.pipe(), "cpu"), engine) as draw,
            TextGeneration(in_memory(tiny_llama(len(words)), words), engine) as text,
        ):
            with held(engine):
                image = draw.submit(
                    ImageParameters("a red circle", steps=2, seed=11, width=32, height=32)
                )
                requests = [own.submit(talk, **GREEDY) for talk in family.talks]
                other = text.submit([5, 6, 7], **GREEDY)
            assert [tokens(one) for one in requests] == family.expected
            assert levels_apart(image.result(60), reference) <= 1
            assert tokens(other) == list(text([5, 6, 7], **GREEDY).tokens)
            at_rest(own)
        assert engine.submit(lambda request: "still running").result(10) == "still running"


def test_drafts_change_nothing(family):
    model = family.case
    expected = [generated(model, talk, 40) for talk in family.talks[:3]]
    with VisionChat.load(
        model.model, model.tokenizer, processor=model.processor, speculation="lookup"
    ) as own:
        assert own.model.proposer is not None
        wish = {**GREEDY, "max_tokens": 40}
        with held(own.engine):
            requests = [own.submit(talk, **wish) for talk in family.talks[:3]]
        assert [tokens(one) for one in requests] == expected


@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma3"])
def test_samples_share_the_picture_and_differ(name):
    known = known_of(name)
    with loaded(known.case) as own:
        both = own.submit(known.talks[2], n=2, **GREEDY).result(60)
        assert [list(one.tokens) for one in both] == [known.expected[2]] * 2
        prompt = both[0].usage.prompt
        assert seen(own) == 2 and own.model.runner.counts.computed < prompt + 3 * NEW
        wish = {"temperature": 1.5, "seed": 3, "max_tokens": NEW, "ignore_eos": True}
        drawn = own.submit(known.talks[2], n=3, **wish).result(60)
        assert len({one.tokens for one in drawn}) == 3
        at_rest(own)


def test_an_image_token_cannot_be_said(opened, family):
    wish = {**GREEDY, "logit_bias": {eyes(opened).token_id: 100.0}}
    assert tokens(opened.submit(family.talks[0], **wish)) == family.expected[0]


def test_other_salts_share_neither_keys_nor_what_was_seen(opened):
    talk, before = [shown(colours(20, 40, 32), WHAT)], seen(opened)
    first, other, same = (
        opened.submit(talk, salt=salt, **GREEDY).result(60)[0] for salt in ("a", "b", "a")
    )
    assert first.tokens == other.tokens == same.tokens
    assert (first.usage.cached, other.usage.cached) == (0, 0) and same.usage.cached > 0
    assert seen(opened) == before + 2


def test_the_same_picture_in_any_form(opened, family, tmp_path):
    A.save(tmp_path / "a.png")
    forms = [A, tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()]
    forms.append(A.convert("RGBA"))
    before = seen(opened)
    for form in forms:
        assert list(opened.ask(form, WHAT, **GREEDY).tokens) == family.expected[0]
    assert seen(opened) <= before + 1


def test_the_same_picture_twice_in_a_prompt(opened, family):
    talk = [shown([A, B, A], WHAT)]
    assert tokens(opened.submit(talk, **GREEDY)) == generated(family.case, talk)


def test_a_cancelled_request_is_not_seen_and_others_are(opened, family):
    first, other = ([shown(colours(seed, 40, 32), WHAT)] for seed in (30, 31))
    before = seen(opened)
    with held(opened.engine):
        cancelled = opened.submit(first, **GREEDY)
        staying = opened.submit(other, **GREEDY)
        # It runs when both wait for the tower.
        opened.engine.submit(lambda request: cancelled.cancel())
    with pytest.raises(Cancelled):
        cancelled.result(60)
    assert tokens(staying) == generated(family.case, other)
    assert seen(opened) == before + 1
    at_rest(opened)
    assert tokens(opened.submit(first, **GREEDY)) == generated(family.case, first)


def test_closing_while_pictures_are_waited_for(family):
    own = loaded(family.case)
    with held(own.engine):
        requests = [own.submit([shown(colours(s, 40, 32), WHAT)], **GREEDY) for s in range(3)]
        closing = threading.Thread(target=own.close)
        closing.start()
    closing.join(20)
    assert not closing.is_alive()
    for request in requests:
        with pytest.raises(Cancelled):
            request.result(5)


def test_ask_tell_and_describe(opened, family):
    pieces = list(opened.tell(A, WHAT, max_tokens=NEW, ignore_eos=True))
    whole = opened.ask(A, WHAT, max_tokens=NEW, ignore_eos=True)
    assert "".join(pieces) == whole.text and list(whole.tokens) == family.expected[0]
    both = opened.describe([A, B], WHAT, max_tokens=NEW, ignore_eos=True)
    assert [list(one.tokens) for one in both] == family.expected[:2]
    assert opened.describe([]) == []
    history = family.talks[3][:2]
    later = [*history, shown(B, "And this?")]
    found = opened.ask(B, "And this?", history=history, max_tokens=NEW, ignore_eos=True)
    assert list(found.tokens) == generated(family.case, later)


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda own: own.ask([], WHAT), "at least one"),
        (lambda own: own.ask(A, " "), "a question is a text"),
        (lambda own: own.ask(b"no picture", WHAT), "cannot be read as a picture"),
        (lambda own: own.ask("/nowhere.png", WHAT), "there is no picture at"),
        (lambda own: own.describe([A, "/nowhere.png"]), "there is no picture at"),
        (lambda own: own.ask(A, WHAT, temprature=1), "temperature"),
        (lambda own: own.ask([A] * 200, WHAT), "room for"),
        (lambda own: own.ask(A, f"{eyes(own).token} this"), "cannot be said"),
        (lambda own: own(eyes(own).token, chat=False), "cannot be said"),
        (lambda own: own([5, eyes(own).token_id]), "cannot be said"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_and_the_engine_lives_on(opened, family, ask, match):
    with pytest.raises(RequestError, match=match) as error:
        ask(opened)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 400
    assert tokens(opened.submit(family.talks[0], **GREEDY)) == family.expected[0]
    at_rest(opened)


def test_a_tower_that_fails_for_one_picture_fails_its_request_alone(family, monkeypatch):
    model = family.case.model
    own_features = model.get_image_features

    def picky(pixel_values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if (pixel_values > 0.99).all(1).any():  # a patch that is all white
            raise ValueError("too bright")
        return own_features(pixel_values, *args, **kwargs)

    with loaded(family.case) as own:
        monkeypatch.setattr(model, "get_image_features", picky)
        with held(own.engine):
            good = [own.submit(talk, **GREEDY) for talk in family.talks[:2]]
            bad = own.submit([shown(Image.new("RGB", A.size, "white"), WHAT)], **GREEDY)
        with pytest.raises(ValueError, match="too bright"):
            bad.result(60)
        assert [tokens(one) for one in good] == family.expected[:2]
        at_rest(own)


def test_a_model_that_reads_text_alone_is_refused():
    words = tiny_tokenizer()
    with pytest.raises(ModelError, match="reads text alone"):
        VisionChat.load(tiny_llama(len(words)), words)


def test_what_cannot_run_packed_runs_plainly_and_says_so():
    known = known_of(PLAIN)
    implementation = known.case.model.config.get_text_config()._attn_implementation
    with loaded(known.case) as own:
        assert own.model.packed is None and "packed than alone" in (own.model.why_plain or "")
        assert not is_batchable(eyes(own).tower)
        requests = [own.submit(talk, **GREEDY) for talk in known.talks]
        assert [tokens(one) for one in requests] == known.expected
        [notice] = [event for event in requests[0].events() if isinstance(event, Notice)]
        assert "one request at a time" in notice.text
        both = own.submit(known.talks[0], n=2, **GREEDY).result(60)
        assert [list(one.tokens) for one in both] == [known.expected[0]] * 2
        # Its processor ends a prompt with a line end that the template does not have.
        assert both[0].usage.prompt == len(prompt(own, known.talks[0])) + 1
        wish = {**GREEDY, "logit_bias": {eyes(own).token_id: 100.0}}
        assert eyes(own).token_id not in tokens(own.submit(known.talks[0], **wish))
    assert known.case.model.config.get_text_config()._attn_implementation == implementation


def test_a_plain_request_is_cancelled():
    known = known_of(PLAIN)
    with loaded(known.case) as own:
        request = own.submit(known.talks[0], max_tokens=400, ignore_eos=True)
        next(event for event in request.events() if isinstance(event, Piece))
        request.cancel()
        with pytest.raises(Cancelled):
            request.result(60)
        assert tokens(own.submit(known.talks[1], **GREEDY)) == known.expected[1]
