"""llm-comply, which judges chat servers from outside, finds nothing to say."""

from __future__ import annotations

from pathlib import Path

import llm_comply
import pytest
from llm_comply.tests.openai_chat import OPENAI_CHAT_TESTS

from mindsd.pipelines import answering
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.shelf import Shelf
from tests.app.server.live_server import live_server
from tests.zoo.vision import vision_case

SPEC = Path(llm_comply.__file__).parent / "specs" / "openai_chat.json"


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that sees and comes to an end by itself, which is judged: control characters,
    which are in no JSON, end its texts.
    """
    folder, case = tmp_path_factory.mktemp("models") / "brief", vision_case("smolvlm")
    spaces = {chr(256 + ord(space)) for space in "\t\n\r"}  # as byte-level tokens are written
    controls = {chr(256 + byte) for byte in range(32)} - spaces
    vocabulary = case.processor.tokenizer.get_vocab().items()
    ends = sorted(id for written, id in vocabulary if written in controls)
    settings = case.model.generation_config
    before, settings.eos_token_id = settings.eos_token_id, ends
    case.model.save_pretrained(folder)
    settings.eos_token_id = before  # other tests share the model
    case.processor.save_pretrained(folder)
    return folder


def test_every_case_passes_without_a_warning(brief: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answering.secrets, "randbits", lambda bits: 1)  # no answer by chance
    shelf = Shelf(named={"brief": brief}, shipped=False)
    options = HubOptions(device="cpu", dtype="float32", keep_alive=None)
    with Hub(shelf, options) as hub, live_server(hub) as live:
        config = llm_comply.ComplianceConfig(live.api, "none", "brief")
        spec = llm_comply.SpecLoader(str(SPEC))
        told = llm_comply.TestRunner(config, OPENAI_CHAT_TESTS, spec).run_all().results
    wrong = {own.id: (own.status, own.errors, own.warnings) for own in told}
    skipped = wrong.pop("chat-reasoning-summary")  # asked only of models named like OpenAI's own
    assert skipped[0] == llm_comply.TestStatus.SKIPPED and len(wrong) >= 8
    assert all(own == (llm_comply.TestStatus.PASSED, [], []) for own in wrong.values()), wrong
