"""Vision-language models load with the processor that their folder describes, by PIL alone."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer
from transformers.models.smolvlm import processing_smolvlm
from transformers.processing_utils import MODALITY_TO_BASE_CLASS_MAPPING, ProcessorMixin

from mindsd.errors import ModelError, RequestError
from mindsd.weights.language import LanguageFiles, find_language_model
from mindsd.weights.loading import generation_defaults, load_language_model
from mindsd.weights.processor import NoVideos, load_processor
from tests.zoo.vision import colours, vision_case, vision_names

PART = [{"type": "text", "text": "What is in "}, {"type": "image"}, {"type": "image"}]
CHAT = [{"role": "user", "content": PART}]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders as save_pretrained leaves them, each written when it is first asked for."""
    root = tmp_path_factory.mktemp("vision")

    def save(name):
        if not (root / name).exists():
            case = vision_case(name)
            case.model.save_pretrained(root / name)
            case.processor.save_pretrained(root / name)
        return root / name

    return save


@pytest.fixture
def copied(saved, tmp_path):
    """A folder of a family's, to change."""
    return lambda name: shutil.copytree(saved(name), tmp_path / name)


def load(folder) -> tuple[Any, Any]:
    files = find_language_model(folder)
    model, tokenizer = load_language_model(files, torch.float32)
    return model, load_processor(files, tokenizer)


def processor_of(folder) -> Any:
    """The same without the model's weights."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return load_processor(find_language_model(folder), tokenizer)


def inputs(processor):
    text = processor.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    pictures = [colours(0, 24, 16), colours(1, 40, 33)]
    return processor(text=[text], images=pictures, return_tensors="pt")


def same(ours, theirs):
    ours, theirs = inputs(ours), inputs(theirs)
    assert set(ours) == set(theirs)
    return all(torch.equal(ours[key], theirs[key]) for key in theirs)


def read(file):
    return json.loads(file.read_text())


def change(file, **entries):
    told = read(file) if file.is_file() else {}
    told = {key: value for key, value in (told | entries).items() if value is not None}
    file.write_text(json.dumps(told))


def split(folder):
    """Bring a folder to the layout of before 5.0: the pictures' settings in their own file."""
    file = folder / "processor_config.json"
    pictures = read(file).pop("image_processor")
    change(file, image_processor=None, video_processor=None)
    change(folder / "preprocessor_config.json", **pictures)
    return folder / "preprocessor_config.json"


def refused(folder, message):
    with pytest.raises(ModelError, match=message):
        processor_of(folder)


@pytest.mark.parametrize("name", vision_names())
def test_a_folder_gives_the_same_logits(saved, name, capfd):
    case, folder = vision_case(name), saved(name)
    capfd.readouterr()
    model, processor = load(folder)
    assert capfd.readouterr() == ("", "")
    assert type(model) is type(case.model) and not model.training
    assert type(processor) is type(case.processor)
    assert type(processor.image_processor) is type(case.processor.image_processor)
    assert same(processor, case.processor)
    given = inputs(processor)
    with torch.inference_mode():
        assert torch.equal(model(**given).logits, case.model(**given).logits)
    assert generation_defaults(model, processor.tokenizer).ends == (case.tokenizer.eos_token_id,)
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize("name", vision_names())
def test_the_layout_of_before(copied, name):
    folder = copied(name)
    split(folder)
    assert same(processor_of(folder), vision_case(name).processor)


@pytest.mark.parametrize("name", ["llava", "idefics3", "gemma3", "paligemma"])
def test_it_is_the_one_of_transformers(saved, name):
    """Which loads by itself in the families without videos."""
    ours, theirs = processor_of(saved(name)), AutoProcessor.from_pretrained(saved(name))
    assert ours.to_dict() == theirs.to_dict() and ours.chat_template == theirs.chat_template
    assert same(ours, theirs)


@pytest.mark.parametrize("name", vision_names())
def test_one_picture_alone_tells_its_text(name):
    """As whoever keeps encoded pictures apart needs it."""
    processor = vision_case(name).processor
    told = processor(
        text=[processor.image_token],
        images=[colours(0, 24, 16)],
        return_tensors="pt",
        return_text_replacement_offsets=True,
    )
    [[entry]] = told["text_replacement_offsets"]
    number = processor.tokenizer(entry["replacement"]).input_ids.count(image_id(name))
    assert 4 <= number <= 30 and number == told["input_ids"][0].tolist().count(image_id(name))


def image_id(name):
    config = vision_case(name).model.config
    return getattr(config, "image_token_id", None) or config.image_token_index


@pytest.mark.parametrize(
    "name", ["qwen2_5_vl", "qwen3_vl", "llava_onevision", "idefics3", "internvl"]
)
def test_larger_pictures_take_more_tokens(name):
    processor = vision_case(name).processor
    counts = [
        processor(text=[processor.image_token], images=[picture])["input_ids"][0]
        for picture in (colours(0, 40, 16), colours(0, 40, 40))
    ]
    assert len({len(ids) for ids in counts}) == 2


def test_settings_of_qwen_as_its_own_folders_have_them(copied):
    folder = copied("qwen2_5_vl")
    file = split(folder)
    (folder / "processor_config.json").unlink()
    change(
        file,
        size=None,
        min_pixels=64,
        max_pixels=512,
        image_processor_type="Qwen2VLImageProcessorFast",
        processor_class="Qwen2_5_VLProcessor",
    )
    ours = processor_of(folder)
    assert dict(ours.image_processor.size) == {"shortest_edge": 64, "longest_edge": 512}
    assert ours.image_processor.patch_size == 4
    given = ours(text=[ours.image_token], images=[colours(0, 48, 48)], return_tensors="pt")
    assert given["image_grid_thw"].tolist() == [[1, 4, 4]]  # 16 x 16 pixels of at most 512


def test_settings_are_honoured(copied):
    folder = copied("idefics3")
    pictures = read(folder / "processor_config.json")["image_processor"]
    pictures["do_image_splitting"] = False
    change(folder / "processor_config.json", image_processor=pictures, image_seq_len=7)
    ours = processor_of(folder)
    told = ours(text=["<image>"], images=[colours(0, 32, 32)])
    assert told["input_ids"][0].count(ours.image_token_id) == 7


@pytest.mark.parametrize("kind", [None, "LlavaFeatureExtractor", "LlavaImageProcessorPil"])
def test_an_image_processor_by_another_name_or_none(copied, kind):
    file = split(folder := copied("llava"))
    old = kind if kind and kind.endswith("Extractor") else None
    change(file, image_processor_type=None if old else kind, feature_extractor_type=old)
    assert same(processor_of(folder), vision_case("llava").processor)


def test_the_chat_template_of_each_place(copied):
    folder = copied("qwen3_vl")
    template = folder / "chat_template.jinja"
    assert processor_of(folder).chat_template == template.read_text()
    template.unlink()
    (folder / "chat_template.json").write_text('{"chat_template": "legacy"}')
    assert processor_of(folder).chat_template == "legacy"
    (folder / "chat_template.json").unlink()
    change(folder / "tokenizer_config.json", chat_template="tokenizer's")
    assert processor_of(folder).chat_template == "tokenizer's"


def test_nothing_says_how_it_reads_images(copied):
    folder = copied("gemma3")
    (folder / "processor_config.json").unlink()
    refused(folder, "has no preprocessor_config.json and no image_processor in processor_conf")
    (folder / "preprocessor_config.json").write_text("[")
    refused(folder, "preprocessor_config.json cannot be read as JSON")


def test_a_setting_that_is_missing(copied):
    folder = copied("llava")
    change(folder / "processor_config.json", patch_size=None)
    refused(folder, "has no patch_size in processor_config.json, .* which LlavaProcessor cannot")
    file = split(folder := copied("paligemma"))
    change(file, image_seq_length=None)
    refused(folder, "has no image_seq_length in .* PaliGemmaProcessor cannot count")


def test_classes_that_are_unknown_or_code(copied):
    folder = copied("llava")
    file = folder / "processor_config.json"
    change(file, processor_class="OwnProcessor")
    refused(folder, "needs a newer transformers: transformers .* no processor 'OwnProcessor'")
    change(file, auto_map={"AutoProcessor": "own.OwnProcessor"})
    refused(folder, "needs its own code .auto_map., which is never run: .* 'OwnProcessor'")
    change(file, processor_class="LlavaProcessor")
    processor_of(folder)  # transformers' own class is there
    pictures = read(file)["image_processor"]
    change(file, image_processor=pictures | {"image_processor_type": "AutoModel"})
    refused(folder, "needs a newer transformers: .* no image processor 'AutoModel'")
    owner = {"AutoImageProcessor": "own.OwnImages"}
    own = {"image_processor_type": "OwnImages", "auto_map": owner}
    change(file, image_processor=pictures | own)
    refused(folder, "needs its own code .* no image processor 'OwnImages'")


@pytest.mark.parametrize(
    "name, message",
    [
        ("WhisperProcessor", "WhisperProcessor, which takes more than images and text .feature_ex"),
        ("InstructBlipProcessor", "takes more than images and text .qformer_tokenizer"),
    ],
)
def test_processors_of_more_than_images_and_text(copied, name, message):
    folder = copied("llava")
    change(folder / "processor_config.json", processor_class=name)
    refused(folder, message)


def test_an_image_processor_of_torchvision_alone(copied):
    folder = copied("llava")
    pictures = {"image_processor_type": "Llama4ImageProcessorFast"}
    change(folder / "processor_config.json", image_processor=pictures)
    refused(folder, "Llama4ImageProcessor, which transformers has for torchvision alone")


def test_settings_that_its_class_refuses(copied):
    folder = copied("gemma3")
    pictures = read(folder / "processor_config.json")["image_processor"]
    change(folder / "processor_config.json", image_processor=pictures | {"size": "large"})
    refused(folder, "the processor of .*gemma3 cannot be made: ")


def test_a_model_of_text_alone():
    files = LanguageFiles("tiny", Path("tiny"), None, "llama")
    with pytest.raises(ModelError, match="is a model of text alone: it has no processor"):
        load_processor(files, vision_case("llava").tokenizer)


def test_missing_weights_of_the_eyes_are_never_made_up(copied):
    file = copied("llava") / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "patch_embedding" in name)
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights, first .*patch_embedding"):
        load(file.parent)


@pytest.mark.parametrize("kind", ["clip", "llama"])
def test_a_model_type_that_does_not_write_after_images(copied, kind):
    folder = copied("llava")
    change(folder / "config.json", model_type=kind, text_config=None)
    with pytest.raises(ModelError, match=f"a model of type '{kind}', which does not write text"):
        load(folder)


def test_videos_are_refused():
    processor = vision_case("qwen3_vl").processor
    with pytest.raises(RequestError, match="videos are not read"):
        processor(text=[processor.video_token], videos=[[colours(0, 16, 16)] * 2])
    assert processor.video_processor.to_dict() == {}


def test_transformers_is_left_as_it_was():
    """What is changed while a processor is made is there to change, and is set back."""
    known = MODALITY_TO_BASE_CLASS_MAPPING["video_processor"]
    vision_case("smolvlm")
    assert known == MODALITY_TO_BASE_CLASS_MAPPING["video_processor"] == "VideoProcessorMixin"
    installed = importlib.util.find_spec("num2words") is not None
    assert (processing_smolvlm.num2words is not None) == installed
    proper = ProcessorMixin.get_possibly_dynamic_module("ImageProcessingMixin")
    assert isinstance(NoVideos(), proper)
