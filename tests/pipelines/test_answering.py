"""One sample: where it ends and why, what is shown by then, and what a prompt's samples share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mindsd.errors import Cancelled
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.table import Lane
from mindsd.pipelines import answering
from mindsd.pipelines.answering import SEED_STEP, Answer, Task, answer
from mindsd.pipelines.text_result import TokenLogprob, Usage
from mindsd.pipelines.tools import parse_tools
from mindsd.request import Need, Piece, Request
from mindsd.sampling.draw import Drawn
from mindsd.sampling.drawing import Drawing
from mindsd.sampling.parameters import Sampling
from tests.zoo.tiny_llama import tiny_tokenizer

END, SIZE = 1, 4
TOKENIZER = tiny_tokenizer()
TOOLS = parse_tools([{"type": "function", "function": {"name": "add", "parameters": {}}}])


class Held:
    """Stands for a sequence: counts how often its room is given back."""

    def __init__(self) -> None:
        self.draws = SimpleNamespace(finished=False)
        self.number, self.reused, self.released = 5, 2, 0

    def release(self) -> None:
        self.released += 1


class Told:
    """Stands for a request: keeps what it was told."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def emit(self, event: Any) -> None:
        self.pieces.append(event)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def ids(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def drawn(*tokens: int) -> list[Drawn]:
    return [Drawn(token, -0.5 * token, ((token, -0.5 * token),)) for token in tokens]


def task(prompt: int = 3, **options: Any) -> Task:
    own = {name: options.pop(name) for name in ("chat", "thinks", "tools") if name in options}
    sampling = Sampling(**{"max_tokens": 100, **options})
    return Task(list(range(5, 5 + prompt)), sampling, (END,), TOKENIZER.backend_tokenizer, **own)


def taken(own: Task, *turns: list[int]) -> tuple[Answer, Held, Told]:
    held, told = Held(), Told()
    made = Answer(own, cast(Any, held), sample=2)
    for tokens in turns:
        if made.reason is None:
            made.take(cast(Request, told), drawn(*tokens))
    return made, held, told


def test_the_models_end_is_counted_and_not_shown():
    made, held, told = taken(task(), ids("hello"), [END])
    result = made.result()
    assert (result.text, result.finish_reason, result.stopped_by) == ("hello", "stop", None)
    assert result.tokens == (*ids("hello"), END) and result.sample == 2
    assert result.usage == Usage(3, len(ids("hello")) + 1, 2)
    assert told.text == "hello" and held.released == 1
    assert [piece.tokens for piece in told.pieces] == [tuple(ids("hello")), (END,)]
    assert {piece.sample for piece in told.pieces} == {2}


def test_what_was_guessed_beyond_the_end_does_not_count():
    first = ids("hello")
    made, held, told = taken(task(), [*first, END, *ids("more")])
    assert made.result().tokens == (*first, END) and told.text == "hello"
    made, held, told = taken(task(max_tokens=2), ids("abcd"))
    assert made.reason == "length" and made.result().tokens == tuple(ids("abcd")[:2])
    assert made.result().usage.completion == 2 and told.pieces[0].tokens == made.result().tokens


def test_an_end_that_is_ignored_goes_on():
    made, held, told = taken(task(ignore_eos=True, max_tokens=3), [*ids("a"), END, *ids("b")])
    assert (made.reason, made.result().text) == ("length", "ab")
    made, held, _ = taken(task(ignore_eos=True), [END])
    assert made.reason is None and held.released == 0


def test_a_stop_token_is_named():
    stop = ids("b")[0]
    made, _, told = taken(task(stop_token_ids=[stop]), [*ids("a"), stop, *ids("c")])
    result = made.result()
    assert (result.text, result.finish_reason, result.stopped_by) == ("a", "stop", stop)
    assert result.tokens[-1] == stop and told.text == "a"
    made, _, _ = taken(task(stop_token_ids=[END]), [END])
    assert made.result().stopped_by is None  # by the model's own word first


def test_a_stop_string_is_held_back_until_it_is_certain():
    made, held, told = taken(task(stop="cd"), ids("a"), ids("c"))
    assert made.reason is None and told.text == "a" and held.released == 0
    made.take(cast(Request, told), drawn(*ids("d"), *ids("e")))
    result = made.result()
    assert (result.text, result.finish_reason, result.stopped_by) == ("a", "stop", "cd")
    assert told.text == "a" and result.tokens == (*ids("a"), *ids("c"), *ids("d"))
    made, _, told = taken(task(stop="cd"), ids("a"), ids("c"), [END])
    assert made.result().text == told.text == "ac"  # it was none after all


def test_a_stop_string_at_the_last_token_is_a_stop():
    made, _, _ = taken(task(stop="b", max_tokens=2), ids("ab"))
    assert (made.reason, made.stopped_by) == ("stop", "b")


def test_a_grammars_end_ends_a_text_without_an_end_of_its_own():
    held, told = Held(), Told()
    made = Answer(task(), cast(Any, held), 0)
    held.draws.finished = True
    made.take(cast(Request, told), drawn(*ids("a")))
    assert made.reason == "stop" and held.released == 1 and told.text == "a"
    made = Answer(task(max_tokens=1), cast(Any, held), 0)
    made.take(cast(Request, told), drawn(*ids("a")))
    assert made.reason == "length"  # which was met first


def test_nothing_is_told_where_nothing_came():
    made, held, told = taken(task(), [])
    assert made.reason is None and told.pieces == [] and held.released == 0


def test_logprobs_are_told_with_their_tokens_where_they_are_asked_for():
    first, second = ids("ab")
    expected = [TokenLogprob(own, -0.5 * own, ((own, -0.5 * own),)) for own in (first, second)]
    made, _, told = taken(task(logprobs=1), [first], [second])
    assert [piece.logprobs for piece in told.pieces] == [(expected[0],), (expected[1],)]
    assert made.reason is None
    made.take(cast(Request, told), drawn(END))
    assert made.result().logprobs == (*expected, TokenLogprob(END, -0.5, ((END, -0.5),)))
    made, _, told = taken(task(), [first, END])
    assert made.result().logprobs is None and told.pieces[0].logprobs is None


def test_thoughts_are_those_of_a_chat():
    text = "<think>hm</think>yes"
    made, _, told = taken(task(chat=True), [*ids(text), END])
    assert (made.result().reasoning, made.result().text) == ("hm", "yes") and told.text == text
    made, _, _ = taken(task(), [*ids(text), END])
    assert (made.result().reasoning, made.result().text) == (None, text)
    made, _, told = taken(task(chat=True, thinks=True), [*ids("hm</think>yes"), END])
    assert (made.result().reasoning, made.result().text) == ("hm", "yes")
    assert told.pieces[0].thinks


def test_calls_are_why_it_ended_unless_it_was_cut():
    text = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    [call] = taken(task(tools=TOOLS), [*ids(text), END])[0].result().tool_calls
    assert call.name == "add"
    ended = taken(task(tools=TOOLS), [*ids(text), END])[0].result()
    assert (ended.finish_reason, ended.text) == ("tool_calls", "")
    cut = taken(task(tools=TOOLS, max_tokens=len(ids(text))), ids(text))[0].result()
    assert cut.finish_reason == "length" and cut.tool_calls
    plain = taken(task(), [*ids(text), END])[0].result()
    assert (plain.finish_reason, plain.text, plain.tool_calls) == ("stop", text, ())


def test_the_seed_is_the_one_asked_for_or_one_by_chance():
    assert task(seed=-7).seed == -7 and task(seed=0).seed == 0
    assert len({task().seed for _ in range(3)}) == 3


class Machine:
    """Stands for an engine: computes what it is asked to, and draws an end at the second turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None):
        self.lanes = [Lane(BlockPool(16, SIZE))]
        self.asked: list[list[Any]] = []
        self.seeds: list[int] = []
        self.error = error
        monkeypatch.setattr(answering, "ask", self.ask)

    def ask(self, asked: Any) -> list[Any]:
        self.asked.append([own.draws for own in asked.sequences])
        outcome = []
        for own in asked.sequences:
            own.table.reserve(own.computed, own.target)
            own.computed = own.target
            own.table.computed(own.names, own.computed)
            if own.draws is not None:
                own.tokens.append(END if len(own.tokens) > own.prompt else ids("a")[0])
                self.seeds.append(own.draws.rows(own.tokens, [])[0].seed)
                outcome.append((own, drawn(own.tokens[-1])))
        if self.error is not None and outcome:
            raise self.error
        return outcome

    @property
    def used(self) -> int:
        self.lanes[0].pool.check()
        return self.lanes[0].pool.counts[1]


def test_samples_share_the_prompt_and_have_seeds_of_their_own(monkeypatch):
    machine = Machine(monkeypatch)
    request, own = Request(lambda request: None, Need()), task(prompt=9, seed=5, n=3)
    results = answer(request, cast(Any, machine), own)
    assert [(one.sample, one.text, one.finish_reason) for one in results] == [
        (at, "a", "stop") for at in range(3)
    ]
    assert machine.asked[0] == [None]  # first the prompt, without its last token
    assert [len(draws) for draws in machine.asked] == [1, 3, 3]
    assert sorted(set(machine.seeds)) == [5, 5 + SEED_STEP, 5 + 2 * SEED_STEP]
    assert all(isinstance(draws, Drawing) for draws in machine.asked[1])
    assert own.prompt == list(range(5, 14))  # whoever went on has tokens of their own
    assert machine.used == 0


def test_one_sample_is_asked_for_at_once(monkeypatch):
    machine = Machine(monkeypatch)
    [result] = answer(Request(lambda request: None, Need()), cast(Any, machine), task(seed=5))
    assert [len(draws) for draws in machine.asked] == [1, 1] and set(machine.seeds) == {5}
    assert None not in machine.asked[0] and result.usage == Usage(3, 2, 0)


@pytest.mark.parametrize("samples", [1, 3])
def test_all_room_is_given_back_where_it_fails(monkeypatch, samples):
    machine = Machine(monkeypatch, Cancelled("enough"))
    with pytest.raises(Cancelled):
        answer(Request(lambda request: None, Need()), cast(Any, machine), task(9, n=samples))
    assert machine.used == 0


@pytest.mark.parametrize(("other", "found"), [({}, True), ({"salt": "b"}, False)])
def test_a_prompt_is_found_again_by_who_may_share_it(monkeypatch, other, found):
    machine = Machine(monkeypatch)
    about: dict[str, Any] = {"tokenizer": TOKENIZER.backend_tokenizer, "ends": (END,)}
    for more in ({}, other, {"adapter": "style", **other}):
        own = Task(list(range(5, 14)), Sampling(), **about, **more)
        answer(Request(lambda request: None, Need()), cast(Any, machine), own)
    assert machine.lanes[0].pool.counts[2] == (4 if found else 6)  # two blocks, kept for each
