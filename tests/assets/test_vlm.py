"""tiny-vlm's recipe: tokens of the chat template, exact shortcuts, and a model that answers."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

import copy
import random

import numpy as np
import pytest
import torch
from PIL import Image

from mindsd.assets.recipes import vlm, vlm_parts
from mindsd.assets.recipes.questions import Question, choose_questions
from mindsd.assets.recipes.renderer import render
from mindsd.assets.recipes.scenes import COLORS, SHAPES, Scene, Thing, sample_scene
from mindsd.assets.recipes.training import TrainingOptions
from mindsd.assets.recipes.vae import to_model
from mindsd.assets.recipes.vlm_assemble import assemble, model_from_checkpoint
from mindsd.assets.recipes.vlm_batches import IGNORED, Packer
from mindsd.assets.recipes.vlm_evaluate import Answerer, as_markdown, detail, rendered, score
from mindsd.assets.recipes.vlm_parts import (
    GRID,
    IMAGE,
    IMAGE_TOKENS,
    VOCABULARY,
    build_image_processor,
    build_model,
    build_tokenizer,
    to_patches,
)
from mindsd.assets.recipes.vlm_pictures import disturb, patch_labels
from mindsd.assets.recipes.vlm_shortcuts import accelerate

SMALL = {"width": 64, "vision_width": 64, "layers": 2}
ASKED = [Question("count", "How many stars are there?", "two"), Question("color", "what?", "red")]


@pytest.fixture(scope="module", autouse=True)
def small_tokenizer():
    """Learn the vocabulary from fewer scenes: in less time, and nearly the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vlm_parts, "TEXT_SCENES", 300)
        yield


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def packer(tokenizer):
    return Packer(tokenizer)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return build_model(tokenizer, **SMALL).eval()


def pixels_of(seed: int, number: int = 2) -> torch.Tensor:
    rng = random.Random(seed)
    pictures = np.stack([render(sample_scene(rng), rng) for _ in range(number)])
    return to_model(torch.from_numpy(pictures).permute(0, 3, 1, 2))


def messages_of(system: str | None, text_first: bool) -> list[dict]:
    """The conversation of ASKED as messages, without its last answer."""
    image, text = {"type": "image"}, {"type": "text", "text": ASKED[0].text}
    messages: list[dict] = [{"role": "system", "content": system}] if system else []
    content = [text, image] if text_first else [image, text]
    messages += [
        {"role": "user", "content": content},
        {"role": "assistant", "content": ASKED[0].answer},
        {"role": "user", "content": ASKED[1].text},
    ]
    return messages


@pytest.mark.parametrize("system", [None, "You are a helpful assistant."])
@pytest.mark.parametrize("text_first", [False, True])
def test_training_tokens_are_those_of_the_chat_template(tokenizer, packer, system, text_first):
    text = tokenizer.apply_chat_template(
        messages_of(system, text_first), add_generation_prompt=True, tokenize=False
    )
    prompt = tokenizer(text.replace(IMAGE, IMAGE * IMAGE_TOKENS)).input_ids
    sample = packer.conversation(ASKED, system, text_first)
    assert sample.ids == prompt + packer.ids("red<|im_end|>")
    learned = [i for i in sample.labels if i != IGNORED]
    assert tokenizer.decode(learned) == "two<|im_end|>red<|im_end|>"


def test_independent_questions_have_the_tokens_of_a_first_turn(tokenizer, packer):
    sample, alone = packer.independent(ASKED), packer.independent(ASKED[1:])
    second = [i for i, segment in enumerate(sample.segments) if segment in (0, 2)]
    assert [sample.ids[i] for i in second] == alone.ids
    assert [sample.positions[i] for i in second] == alone.positions
    content = [{"type": "image"}, {"type": "text", "text": "what?"}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}, {"role": "assistant", "content": "red"}],
        tokenize=False,
    )
    wanted = tokenizer(text.replace(IMAGE, IMAGE * IMAGE_TOKENS)).input_ids
    assert [*alone.ids, *packer.ids("\n")] == wanted


def test_template_takes_any_number_of_images_and_refuses_other_parts(tokenizer):
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Compare."}]
    text = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert text == f"<|im_start|>user\n{image}{image}Compare.<|im_end|>\n"
    with pytest.raises(Exception, match="must be image or text, got audio"):
        tokenizer.apply_chat_template([{"role": "user", "content": [{"type": "audio"}]}])


def test_every_text_survives_the_tokenizer(tokenizer):
    assert len(tokenizer) <= VOCABULARY
    for text in ("How many stars are there?", "Ünïcode, 42 € & more\n\n  x", "ROT"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer("What color is the circle?").input_ids) == 6


@pytest.mark.parametrize("text_first", [False, True])
def test_positions_are_those_of_the_model(packer, model, text_first):
    sample = packer.conversation(ASKED, "Be brief.", text_first)
    ids = torch.tensor([sample.ids])
    grid = torch.tensor([[1, GRID, GRID]])
    expected, _ = model.model.get_rope_index(ids, (ids == packer.image).int(), grid)
    assert torch.equal(packer.batch([sample]).positions[:, :, : len(sample.ids)], expected)


def test_patches_are_those_of_the_image_processor():
    rng = random.Random(1)
    pictures = [render(sample_scene(rng), rng) for _ in range(2)]
    batch = build_image_processor()([Image.fromarray(p) for p in pictures], return_tensors="pt")
    pixels = to_model(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
    assert batch["image_grid_thw"].tolist() == [[1, GRID, GRID]] * 2
    torch.testing.assert_close(to_patches(pixels), batch["pixel_values"])


def test_accelerated_vision_is_the_stock_one(tokenizer, model):
    fast = build_model(tokenizer, **SMALL).eval()
    fast.load_state_dict(model.state_dict())
    accelerate(fast)
    patches, grid = to_patches(pixels_of(2)), torch.tensor([[1, GRID, GRID]] * 2)
    with torch.no_grad():
        slow_seen, fast_seen = (m.model.visual(patches, grid) for m in (model, fast))
    torch.testing.assert_close(fast_seen.pooler_output, slow_seen.pooler_output)
    torch.testing.assert_close(fast_seen.deepstack_features, slow_seen.deepstack_features)


def test_packed_questions_do_not_see_each_other(packer, model):
    learner, pixels = vlm.Learner(model), pixels_of(3, number=1)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        together, _, _ = learner(pixels, packer.batch([packer.independent(ASKED)]))
        alone, wanted, _ = learner(pixels, packer.batch([packer.independent(ASKED[1:])]))
    assert len(together) == 4 and len(alone) == 2
    torch.testing.assert_close(together[2:], alone, atol=1e-5, rtol=1e-4)
    assert wanted.tolist() == packer.ids("red<|im_end|>")


def test_padding_changes_nothing(packer, model):
    learner, pixels = vlm.Learner(model), pixels_of(4)
    model.set_attn_implementation("eager")
    samples = [packer.independent(ASKED[1:]), packer.conversation(ASKED)]
    with torch.no_grad():
        both, _, _ = learner(pixels, packer.batch(samples))
        first, _, _ = learner(pixels[:1], packer.batch(samples[:1]))
    torch.testing.assert_close(both[:2], first, atol=1e-5, rtol=1e-4)


def test_patch_labels_name_the_thing_over_each_patch():
    scene = Scene("single", "white", True, (Thing("heart", "blue", "small", 100, 20, 28),))
    colors, shapes = patch_labels([scene])
    assert len(colors) == GRID * GRID
    blue, heart = 1 + list(COLORS).index("blue"), 1 + SHAPES.index("heart")
    # The picture as patches: those under the heart differ from the corner's.
    picture = render(scene, random.Random(0))
    patches = to_patches(to_model(torch.from_numpy(picture).permute(2, 0, 1)[None]))
    touched = (patches - patches[-1]).abs().amax(1) > 0.1
    assert set(colors[touched].tolist()) <= {0, blue} and set(shapes.tolist()) == {0, heart}
    assert (colors[~touched] == 0).all() and (colors == blue).sum() >= 4


def test_disturbing_is_light_and_leaves_some_pictures_alone():
    torch.manual_seed(0)
    pixels = pixels_of(5, number=12)
    change = (disturb(pixels) - pixels).abs().mean((1, 2, 3))
    assert change.max() < 0.15 and (change == 0).any() and (change > 0.01).any()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a training run of two steps."""
    out = tmp_path_factory.mktemp("vlm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vlm, "BATCH", 2)
        patch.setattr(vlm, "REDRAWN", 3)
        patch.setattr(vlm, "EVALUATION_SECONDS", 0)
        patch.setattr(vlm, "EVALUATION_SCENES", 2)
        vlm.train(TrainingOptions(out, minutes=5, max_steps=2), **SMALL)
    return out


def test_trained_model_answers_through_stock_classes(trained, tmp_path):
    stock = vlm.Qwen3VLForConditionalGeneration.from_pretrained(trained / "vlm")
    assemble(stock, tmp_path)
    answerer = Answerer.load(tmp_path)
    assert answerer.model.generation_config.eos_token_id == answerer.tokenizer.eos_token_id
    assert '"right": {"caption"' in (trained / "vlm.log.json").read_text()
    right = score(answerer, rendered(2))
    assert len(right["caption"]) == 2 and "| everything |" in as_markdown(right)


def test_unfinished_model_is_the_average_of_the_checkpoint(trained):
    early = model_from_checkpoint(trained / "vlm.checkpoint", **SMALL)
    final = vlm.Qwen3VLForConditionalGeneration.from_pretrained(trained / "vlm")
    for name, weight in final.state_dict().items():
        torch.testing.assert_close(early.state_dict()[name], weight)


def test_questions_asked_together_are_answered_as_alone(model, tokenizer):
    left = copy.deepcopy(tokenizer)
    left.padding_side = "left"
    answerer = Answerer(model, left, build_image_processor())
    rng = random.Random(6)
    scene = sample_scene(rng)
    picture, texts = render(scene, rng), [q.text for q in choose_questions(scene, rng, 3)]
    together = answerer.answer(picture, texts)
    assert together == [answerer.answer(picture, [text])[0] for text in texts]


@pytest.mark.parametrize(
    ("question", "row"),
    [
        (Question("color", "What color is it?", "red"), "red"),
        (Question("shape", "What shape are they?", "crosses"), "cross"),
        (Question("count", "How many stars are there?", "zero"), "zero"),
        (Question("relation", "What is left of the red star?", "a blue ring"), "left of"),
        (Question("relation", "What is above the star?", "nothing"), "nothing"),
        (Question("relation", "Where is it relative to the star?", "below it"), "below"),
        (Question("caption", "Describe the image.", "a red star"), None),
    ],
)
def test_detail_of_a_question(question, row):
    assert detail(question) == row
