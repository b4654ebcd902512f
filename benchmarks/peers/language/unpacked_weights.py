"""SmolLM2-135M's GGUF file as a transformers folder, and what the model says after a real prompt.

python -m peers.language.unpacked_weights FOLDER

FOLDER/model holds float32 numbers, so nothing of the 4-bit file is lost; each engine rounds them to
the dtype it runs in. FOLDER/greedy.json, written last, has the prompt's tokens and the most likely
ones after it, by transformers in float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from mindsd.weights.language import find_language_model
from mindsd.weights.loading import load_language_model

QUESTION = "Explain why the sky is blue."
TOKENS = 16


def unpack(folder: Path) -> None:
    files = find_language_model("smollm2")
    loaded: Any = load_language_model(files, torch.float32)
    model, tokenizer = loaded
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    chat = [{"role": "user", "content": QUESTION}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    given = torch.tensor([ids])
    with torch.inference_mode():
        drawn = model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=TOKENS
        )
    said = {"gguf": str(files.path), "prompt": ids, "expected": drawn[0, len(ids) :].tolist()}
    (folder / "greedy.json").write_text(json.dumps(said))


if __name__ == "__main__":
    unpack(Path(sys.argv[1]))
