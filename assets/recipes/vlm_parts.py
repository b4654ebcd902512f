"""The parts of tiny-vlm: tokenizer, chat template, image processor and a small Qwen3-VL.

All are stock classes of transformers.
"""

# transformers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import json
import random

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    GenerationConfig,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from .questions import questions
from .scenes import RESOLUTION, sample_scene

VOCABULARY = 640
TEXT_SCENES = 2500
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
SPECIAL = (PAD, START, END, VISION_START, VISION_END, IMAGE, VIDEO)
SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You are a helpful vision assistant. Answer briefly.",
    "Answer the questions about the picture.",
)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' or part.type == 'image_url' -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part.type == 'text' -%}{{- part.text -}}"
    "{%- else -%}{{- raise_exception('content parts must be image or text, got ' + part.type) -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)

WIDTH, LAYERS, KEY_HEADS = 192, 4, 2
VISION_WIDTH = 192
HEAD_WIDTH, FEED_FORWARD = 32, 4
PATCH, MERGE = 16, 1
GRID = RESOLUTION // PATCH
IMAGE_TOKENS = (GRID // MERGE) ** 2
CONTEXT = 2048


def build_tokenizer() -> Qwen2Tokenizer:
    """Byte-level BPE over questions and answers; the same on every run."""
    rng = random.Random(0)
    texts = ["user\n", "assistant\n", "system\n"] * TEXT_SCENES + [*SYSTEM_MESSAGES] * 50
    for _ in range(TEXT_SCENES):
        for question in questions(sample_scene(rng), rng):
            texts += [question.text, question.answer]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    names = [*sorted(learned["vocab"], key=lambda name: learned["vocab"][name]), *SPECIAL]
    return Qwen2Tokenizer(
        vocab={name: index for index, name in enumerate(names)},
        merges=[tuple(merge) for merge in learned["merges"]],
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=list(SPECIAL),
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
    )


def build_image_processor() -> Qwen2VLImageProcessorPil:
    """Scales every picture to about 128x128 pixels in patches of 16."""
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=2,
        size={"shortest_edge": RESOLUTION**2, "longest_edge": RESOLUTION**2},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def build_model(
    tokenizer: Qwen2Tokenizer,
    width: int = WIDTH,
    vision_width: int = VISION_WIDTH,
    layers: int = LAYERS,
) -> Qwen3VLForConditionalGeneration:
    """A fresh model; widths are multiples of 64, each half has `layers` (at least 2)."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    text = dict(
        vocab_size=-(-len(tokenizer) // 32) * 32,
        hidden_size=width,
        intermediate_size=FEED_FORWARD * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        num_key_value_heads=KEY_HEADS,
        head_dim=HEAD_WIDTH,
        max_position_embeddings=CONTEXT,
        rope_parameters=dict(
            rope_type="default",
            rope_theta=10000.0,
            mrope_section=[6, 5, 5],
            mrope_interleaved=True,
        ),
        tie_word_embeddings=True,
        pad_token_id=ids[PAD],
    )
    vision = dict(
        depth=layers,
        hidden_size=vision_width,
        intermediate_size=FEED_FORWARD * vision_width,
        num_heads=vision_width // HEAD_WIDTH,
        patch_size=PATCH,
        spatial_merge_size=MERGE,
        temporal_patch_size=2,
        out_hidden_size=width,
        num_position_embeddings=GRID**2,
        deepstack_visual_indexes=[1],
    )
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=ids[END], pad_token_id=ids[PAD], do_sample=False, max_new_tokens=64
    )
    return model


def to_patches(pixels: Tensor) -> Tensor:
    """What the image processor makes of pictures.

    Float32 (batch, 3, 128, 128) in -1..1 becomes (batch * patches, 3 * 2 * patch * patch).
    """
    batch, side = len(pixels), GRID // MERGE
    frames = pixels.view(batch, 3, 1, side, MERGE, PATCH, side, MERGE, PATCH)
    frames = frames.expand(-1, -1, 2, -1, -1, -1, -1, -1, -1)
    return frames.permute(0, 3, 6, 4, 7, 1, 2, 5, 8).reshape(batch * GRID * GRID, -1)
