"""Which model a request runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindsd.app.server.model_choice import choose_model
from mindsd.app.server.refusal import Refusal
from mindsd.errors import UnknownModel
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.shelf import Shelf


def test_the_one_that_is_named_or_loaded_or_first(model: Path, language_model: Path):
    named = {"writes": language_model, "first": model, "second": model}
    with Hub(Shelf(named=named, shipped=False), HubOptions("cpu", "float32")) as hub:
        assert choose_model(hub, None, "image").id == "first"
        assert choose_model(hub, "second", "image").id == "second"
        with hub.lease("second"):
            assert choose_model(hub, None, "image").id == "second"
            assert choose_model(hub, None, "vision", "text").id == "writes"


def test_only_models_of_the_kind_are_named(model: Path, language_model: Path):
    named = {"writes": language_model, "draws": model}
    with Hub(Shelf(named=named, shipped=False), HubOptions("cpu", "float32")) as hub:
        for kind, id, said in (
            ("image", "zzz", "no model 'zzz'; what draws pictures: draws"),
            ("text", "zzz", "no model 'zzz'; what writes: writes"),
            ("image", "drws", "no model 'drws'; did you mean 'draws'?"),
            ("image", "writs", "no model 'writs'; what draws pictures: draws"),
            ("vision", "zzz", "no model 'zzz'; what sees and writes: none"),
        ):
            with pytest.raises(UnknownModel) as caught:
                choose_model(hub, id, kind)  # pyright: ignore[reportArgumentType]
            assert str(caught.value) == said


def test_another_kind_and_none_at_all_are_refused(language_model: Path):
    with Hub(Shelf(named={"writes": language_model}, shipped=False), HubOptions("cpu")) as hub:
        with pytest.raises(Refusal, match="writes writes; ask one that draws pictures") as caught:
            choose_model(hub, "writes", "image")
        assert (caught.value.status, caught.value.param) == (400, "model")
        with pytest.raises(Refusal, match="no model here draws pictures") as caught:
            choose_model(hub, None, "image")
        assert (caught.value.status, caught.value.param) == (404, "model")
        with pytest.raises(UnknownModel):
            choose_model(hub, "paints", "image")
