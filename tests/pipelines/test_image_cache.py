"""The pictures seen last: found by their key, counted in bytes, forgotten in order."""

from __future__ import annotations

import threading

import pytest
import torch

from mindsd.errors import RequestError
from mindsd.pipelines.image_cache import ImageCache, SeenImage

ROW = 16  # bytes of four float32


def seen(name: str, tokens: int = 2, deep: int = 0) -> SeenImage:
    features = tuple(torch.zeros(tokens, 4) for _ in range(1 + deep))
    return SeenImage(name.encode(), "<image>" * tokens, tokens, None, features)


def test_what_was_kept_is_found_and_counted():
    cache, one = ImageCache(1000), seen("a")
    assert cache.find(b"a") is None
    cache.keep(one)
    assert cache.find(b"a") is one and cache.find(b"b") is None
    assert cache.counts == {"images": 1, "bytes": 2 * ROW, "hits": 1, "misses": 2}


def test_a_picture_that_is_known_is_nobodys_question():
    cache = ImageCache(1000)
    cache.keep(seen("a"))
    assert cache.known(b"a") is not None and cache.known(b"b") is None
    assert (cache.hits, cache.misses) == (0, 0)


def test_those_unused_longest_give_way():
    cache = ImageCache(4 * ROW)
    for name in "ab":
        cache.keep(seen(name))
    cache.find(b"a")
    cache.keep(seen("c"))
    assert [cache.known(name) is not None for name in (b"a", b"b", b"c")] == [True, False, True]
    assert cache.counts["bytes"] == 4 * ROW
    cache.keep(seen("d", tokens=4))
    assert cache.counts["images"] == 1 and cache.known(b"d")


def test_deeper_layers_count():
    cache = ImageCache(5 * ROW)
    assert seen("a", deep=2).bytes == 6 * ROW
    cache.keep(seen("a", deep=2))
    assert cache.counts["images"] == 0


def test_what_is_too_large_drives_nobody_out():
    cache = ImageCache(2 * ROW)
    cache.keep(seen("a"))
    cache.keep(seen("b", tokens=3))
    assert cache.known(b"a") and cache.known(b"b") is None
    nothing = ImageCache(0)
    nothing.keep(seen("a", tokens=1))
    assert nothing.counts["images"] == 0


def test_the_first_of_two_alike_stays():
    cache, first = ImageCache(1000), seen("a")
    cache.keep(first)
    cache.keep(seen("a"))
    assert cache.known(b"a") is first and cache.counts["bytes"] == 2 * ROW


def test_all_of_them_are_forgotten():
    cache = ImageCache(1000)
    cache.keep(seen("a"))
    cache.find(b"a")
    cache.clear()
    assert cache.known(b"a") is None
    assert cache.counts == {"images": 0, "bytes": 0, "hits": 0, "misses": 0}
    cache.keep(seen("b"))
    assert cache.counts["bytes"] == 2 * ROW


def test_less_than_nothing_is_refused():
    with pytest.raises(RequestError, match="0 bytes or more, got -1"):
        ImageCache(-1)


def test_the_bytes_are_right_whoever_keeps_at_once():
    cache = ImageCache(20 * ROW)

    def work(number: int) -> None:
        for i in range(200):
            name = f"{(number * i) % 37}"
            if cache.find(name.encode()) is None:
                cache.keep(seen(name, 1 + i % 3))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [own.bytes for own in (cache.known(f"{i}".encode()) for i in range(37)) if own]
    assert cache.counts["bytes"] == sum(held) <= 20 * ROW
    assert cache.hits + cache.misses == 800


def test_merged_pictures_have_a_key_and_places_of_their_own():
    class Half:
        def apply(self, features: tuple[torch.Tensor, ...]) -> tuple:
            kept = torch.arange(0, len(features[0]), 2)
            return kept, tuple(own[kept] for own in features)

    one = seen("a", tokens=6, deep=1)
    fewer = one.merged(Half(), b"other")  # pyright: ignore[reportArgumentType]
    assert (fewer.key, fewer.tokens, fewer.text) == (b"other", 6, one.text)
    assert list(one.places) == list(range(6)) and list(fewer.places) == [0, 2, 4]
    assert [len(own) for own in fewer.features] == [3, 3] and fewer.bytes == one.bytes // 2
