"""Tiny tokenizers of vision-language models: bytes, a few merges, and the family's own tokens."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# Two line ends before a special token are one token, as in the real vocabularies: those around a
# picture's tokens merge with those of the text beside it.
TEXT = ["What is in the picture?\n\n", "A red circle.\n\n", "Is the blue square left of it?"] * 3
TEMPLATE = (
    "{%% for message in messages %%}<|im_start|>{{ message['role'] }}\n"
    "{%% if message['content'] is string %%}{{ message['content'] }}{%% else %%}"
    "{%% for part in message['content'] %%}{%% if part['type'] == 'image' %%}%s"
    "{%% elif part['type'] == 'text' %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}{%% endif %%}"
    "<|im_end|>\n{%% endfor %%}{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)
CHAT = ["<pad>", "<bos>", "<|im_start|>", "<|im_end|>"]  # their ids are 0 to 3


def vision_tokenizer(
    image: str, named: dict[str, str], more: tuple[str, ...] = ()
) -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 300 tokens.

    Args:
        image: what the chat template writes for an image.
        named: the family's special tokens by their names, say `image_token`.
        more: its special tokens without a name.
    """
    special = [*CHAT, *dict.fromkeys([*named.values(), *more])]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + 30 + len(special),
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<|im_end|>",
        padding_side="left",
        extra_special_tokens=["<|im_start|>", *more],
        model_specific_special_tokens=named,
    )
    tokenizer.chat_template = TEMPLATE % image
    return tokenizer
