"""Many models on one engine: who gets one, who waits, and what goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from mindsd.attention import int8_layers, layers
from mindsd.attention.npu_fused import Fused
from mindsd.errors import EngineClosed, ModelError, QueueFull, RequestError, UnknownModel
from mindsd.pipelines import model
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.model import LoadedModel
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.served_vaes import ServedVaes
from mindsd.pipelines.shelf import Entry, Shelf
from tests.zoo.autoencoders import tiny_autoencoder
from tests.zoo.stable_diffusion import stable_diffusion
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer


class Loads(Hub):
    """Loads things that only know whether they were closed, in a moment.

    Attributes:
        made: each of them, in order.
        most_open: at any time.
    """

    def __init__(self, shelf: Shelf, **options: Any) -> None:
        super().__init__(shelf, HubOptions(device="cpu", **options))
        self.made: list[Thing] = []
        self.most_open = 0

    def _load(self, entry: Entry) -> Any:
        time.sleep(0.02)
        if entry.id == "broken":
            raise ModelError("its weights are cut short")
        self.made.append(Thing(entry))
        self.most_open = max(self.most_open, sum(not own.closed for own in self.made))
        return self.made[-1]


class Thing:
    def __init__(self, entry: Entry) -> None:
        self.entry, self.users, self.idle_since = entry, 0, time.monotonic()
        self.closed = False

    def close(self) -> None:
        assert self.users == 0, "closed while it was in use"
        self.closed = True


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder: Path = tmp_path_factory.mktemp("models")
    for name in ("one", "two", "three", "broken"):
        (folder / f"{name}.gguf").touch()
    return Shelf(folder, shipped=False)


@pytest.fixture
def pair(shelf: Shelf) -> Iterator[Loads]:
    """A hub of two models at a time."""
    with Loads(shelf, most=2, keep_alive=None) as made:
        yield made


def test_a_model_that_many_ask_for_at_once_is_loaded_once(pair: Loads):
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(pair.enter, ["one"] * 10))
    assert len(pair.made) == 1 and set(map(id, found)) == {id(pair.made[0])}
    assert pair.loaded() == {"one": 10}
    for own in found:
        pair.leave(own)


def test_the_one_idle_for_longest_makes_room_and_none_that_is_used(pair: Loads):
    with pair.lease("one"):
        for id in ("two", "three"):
            with pair.lease(id):
                pass
        assert pair.loaded() == {"one": 1, "three": 0} and pair.most_open == 2
        with pair.lease("three"), pytest.raises(QueueFull, match="ask one of one, three"):
            pair.enter("two")
    assert pair.loaded() == {"one": 0, "three": 0}


def test_models_that_take_turns_are_never_there_together_nor_closed_in_use(shelf: Shelf):
    with Loads(shelf, most=1, keep_alive=0) as hub:

        def use(id: str) -> int:
            done = 0
            for _ in range(5):
                try:
                    with hub.lease(id) as thing:
                        time.sleep(0.001)
                        assert not thing.closed  # pyright: ignore
                        done += 1
                except QueueFull:
                    time.sleep(0.005)
            return done

        with ThreadPoolExecutor(8) as pool:
            uses = [pool.submit(use, id) for id in ("one", "two") * 3]
            sweeps = pool.submit(lambda: [hub.sweep() for _ in range(10)])
            assert all(own.result() for own in uses) and sweeps.result()
        assert all(own.users == 0 for own in hub.made)
    assert all(own.closed for own in hub.made)


def test_what_is_idle_for_too_long_goes_and_what_is_used_stays(shelf: Shelf):
    with Loads(shelf, keep_alive=0) as hub:
        with hub.lease("one"):
            hub.leave(hub.enter("two"))
            assert hub.sweep() == ["two"] and hub.loaded() == {"one": 1}
        assert hub.sweep() == ["one"] and hub.sweep() == []
        assert all(own.closed for own in hub.made)


def test_a_model_that_cannot_be_loaded_takes_no_place(pair: Loads):
    for _ in range(3):
        with pytest.raises(ModelError, match="cut short"):
            pair.enter("broken")
    with pytest.raises(UnknownModel, match="did you mean 'three'"):
        pair.enter("thre")
    assert pair.loaded() == {}


def test_nothing_is_unloaded_that_is_in_use(pair: Loads):
    with pair.lease("one"), pytest.raises(RequestError, match="in use by 1"):
        pair.unload("one")
    assert pair.unload("one") and not pair.unload("one") and pair.made[0].closed


def test_what_loads_while_the_hub_is_closed_is_closed_as_well(shelf: Shelf):
    hub = Loads(shelf)
    loading = threading.Thread(target=lambda: hub.leave(hub.enter("one")))
    loading.start()
    while not hub._loading.locked():
        time.sleep(0.001)
    hub.close()
    loading.join()
    assert [own.closed for own in hub.made] == [True]
    with pytest.raises(EngineClosed):
        hub.enter("one")


def test_an_unloaded_model_leaves_no_memory_behind(tmp_path: Path):
    stable_diffusion().save_pretrained(tmp_path)
    shelf = Shelf(named={"draws": tmp_path}, shipped=False)
    with Hub(shelf, HubOptions(device="cpu", dtype="float32")) as hub:
        with hub.lease("draws") as resident:
            asked = ImageParameters("a", steps=1, width=64, height=64)
            resident.text_to_image.submit(asked).result()
            weights = ref(resident.text_to_image.pipe.unet)
        del resident
        assert weights() is not None and hub.unload("draws")
        assert weights() is None


@pytest.fixture
def mixed(tmp_path: Path) -> Shelf:
    """A small model that draws and a small one that writes."""
    stable_diffusion().save_pretrained(tmp_path / "draws")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "writes")
    tiny_llama(len(tokenizer)).save_pretrained(tmp_path / "writes")
    return Shelf(tmp_path, shipped=False)


def on_cpu(**options: Any) -> HubOptions:
    return HubOptions("cpu", "float32", **options)


def test_a_word_that_no_model_can_have_here_is_refused_at_once(mixed: Shelf):
    with pytest.raises(RequestError, match="unknown layers 'int4'; choose auto, off, w8a8, int8"):
        Hub(mixed, on_cpu(layers="int4"))
    with pytest.raises(RequestError, match="w8a8 is computed by operators of Ascend NPUs only"):
        Hub(mixed, on_cpu(layers="w8a8"))


def test_a_word_for_those_that_draw_is_none_for_those_that_write(mixed: Shelf):
    with Hub(mixed, on_cpu(layers="compiled"), pytest.fail) as hub:
        with hub.lease("draws") as draws, hub.lease("writes") as writes:
            assert (draws.loaded.layers, writes.loaded.layers) == ("compiled", "auto")


def test_who_cannot_have_the_word_runs_without_and_that_is_told_once(
    mixed: Shelf, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(int8_layers, "cpu_facts", lambda: ("any", ("avx512_vnni",)))
    monkeypatch.setitem(layers.EIGHT_BITS, "int8", lambda kind, dtype: "no compiler is here")
    told: list[str] = []
    with Hub(mixed, on_cpu(layers="int8"), told.append) as hub:
        for _ in range(2):
            for id in ("draws", "writes"):
                with hub.lease(id) as own:
                    assert own.loaded.layers == "auto"
                hub.unload(id)
    assert len(told) == 2
    assert told[0].startswith("draws runs as with layers='auto': layers='int8': no layer of UNet2D")
    assert told[1] == "writes runs as with layers='auto': layers='int8': no compiler is here"


def test_who_can_have_the_word_has_it(mixed: Shelf, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(layers.IMAGE_EIGHT_BITS, "int8", lambda kind, dtype: None)
    rounded: list[Any] = []
    monkeypatch.setitem(model.EIGHT_BITS, "int8", lambda module: rounded.append(module) or Fused())
    with Hub(mixed, on_cpu(layers="int8"), pytest.fail) as hub, hub.lease("draws") as own:
        assert own.loaded.layers == "int8" and rounded == [own.text_to_image.pipe.unet]


def test_what_is_wrong_for_another_reason_is_told_as_it_is(
    mixed: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(int8_layers, "cpu_facts", lambda: ("any", ("avx512_vnni",)))
    (tmp_path / "draws" / "unet" / "config.json").unlink()
    with Hub(mixed, on_cpu(layers="int8"), pytest.fail) as hub:
        with pytest.raises(ModelError, match="unet has weights but no config.json"):
            hub.enter("draws")


def test_an_autoencoder_for_all_that_it_fits_and_for_one(mixed: Shelf, tmp_path: Path):
    fitting, wide = tmp_path / "loras" / "taesd", tmp_path / "loras" / "taef1"
    tiny_autoencoder().save_pretrained(fitting)
    tiny_autoencoder(latent_channels=16).save_pretrained(wide)
    told: list[str] = []

    def vae(*texts: str) -> str:
        options = on_cpu(vaes=ServedVaes.parse(texts))
        with Hub(mixed, options, told.append) as hub, hub.lease("draws") as own:
            with hub.lease("writes"):
                asked = ImageParameters("a", steps=1, width=32, height=32)
                assert own.text_to_image.submit(asked).result().size == (32, 32)
            assert isinstance(own.loaded, LoadedModel)
            return own.loaded.vae

    assert vae(str(fitting)) == vae(str(wide), f"draws={fitting}") == "taesd" and told == []
    assert vae(str(wide)) == ""
    [reason] = told
    assert reason.startswith("draws keeps its own autoencoder: the autoencoder taef1 has 16 latent")


@pytest.mark.parametrize(
    ("texts", "error", "said"),
    [
        (["draws={wide}"], ModelError, "taef1 has 16 latent channels, draws needs 4"),
        (["nobody={wide}"], UnknownModel, "no model 'nobody'"),
        (["writes={wide}"], RequestError, "writes writes: it has no autoencoder"),
        (["{wide}", "{wide}"], RequestError, "two autoencoders are said for all models"),
        (["draws={wide}", "draws={wide}"], RequestError, "are said for the model draws"),
        (["draws=nowhere"], ModelError, "nowhere is no folder"),
    ],
)
def test_an_autoencoder_that_cannot_be_is_refused_at_once(
    texts: list[str], error: type[Exception], said: str, mixed: Shelf, tmp_path: Path
):
    wide = tmp_path / "loras" / "taef1"
    tiny_autoencoder(latent_channels=16).save_pretrained(wide)
    with pytest.raises(error, match=said):
        Hub(mixed, on_cpu(vaes=ServedVaes.parse(text.format(wide=wide) for text in texts)))
