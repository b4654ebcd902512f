"""The tokenizer: byte-level BPE over the captions, in CLIPTokenizer's form."""

# transformers annotates less than it takes and returns.
# pyright: reportArgumentType=false

import argparse
import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from .captions import caption
from .scenes import sample_scene

VOCABULARY = 640
CAPTIONS = 8000
TOKENS = 32
WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def learn_merges(captions: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """BPE vocabulary and merges, split into words as CLIP does."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=WORD_END, unk_token=END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def build_tokenizer() -> CLIPTokenizer:
    """The tokenizer for `TOKENS` tokens; the same on every run."""
    rng = random.Random(0)
    learned, merges = learn_merges([caption(sample_scene(rng), rng) for _ in range(CAPTIONS)])
    names = sorted(learned, key=lambda name: learned[name])
    # A byte that ends a word the captions lack ("!", "é") needs its own token, or it would be read
    # as the end of the text.
    endings = [byte + WORD_END for byte in sorted(pre_tokenizers.ByteLevel.alphabet())]
    names = list(dict.fromkeys([*names, *endings, START, END]))
    vocabulary = {name: index for index, name in enumerate(names)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder the model goes to")
    build_tokenizer().save_pretrained(parser.parse_args().out / "tokenizer")
