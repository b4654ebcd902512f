"""Where each lesson of other servers' advisories is held: every test that is named here exists.

A: code that runs while a model is loaded. B: requests. C: files, the page, other machines.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FOLDERS, GUARD = "security/test_model_folders.py", "app/server/test_guard.py"
UPLOADS, PAGE = "app/server/test_uploads.py", "security/test_page.py"
FOLDER, WORDS = "mindsd/weights/test_folder.py", "security/test_forbidden_words.py"
BOUNDS, FORMS = "security/test_bounds.py", "app/server/test_text_bounds.py"
LESSONS: dict[str, list[str]] = {
    "A diffusers: code round trust_remote_code": [
        f"{FOLDERS}::test_code_beside_an_image_model",
        f"{FOLDERS}::test_an_index_of_an_image_model_that_names_code",
        f"{FOLDER}::test_components_of_other_libraries_are_remote_code",
    ],
    "A a sharded index leads out of the folder": [
        f"{FOLDER}::test_a_sharded_index_that_leads_out",
        "mindsd/weights/test_language.py::test_shards",
    ],
    "A transformers: fields of a configuration run code": [
        f"{FOLDERS}::test_a_configuration_of_a_language_model_that_names_code",
        "mindsd/weights/test_processor.py::test_classes_that_are_unknown_or_code",
    ],
    "A trust is written into the program": [f"{WORDS}::test_none_says_it"],
    "A pickles": [
        f"{FOLDERS}::test_a_pickle_by_whatever_name",
        f"{FOLDER}::test_a_pickle_anywhere",
        "mindsd/weights/test_image_lora.py::test_pickles_are_refused_unread",
        "mindsd/weights/test_lora.py::test_a_folder_with_a_pickle_is_refused",
    ],
    "A GGUF and safetensors whose sizes lie": [
        "mindsd/weights/test_gguf.py::test_a_lie_is_named",
        "mindsd/weights/test_gguf.py::test_flipped_and_missing_bytes_never_do_more_than_refuse",
        "mindsd/weights/test_image_lora.py::test_a_file_that_lies_is_refused",
    ],
    "B addresses of images": [
        "app/server/test_remote.py::test_where_any_host_is_allowed_none_leads_to_this_machine",
        "app/server/test_remote.py::test_every_redirect_is_a_new_request",
        "app/server/test_remote.py::test_proxies_of_the_environment_are_not_used",
        "app/server/test_addresses.py::test_not_public",
    ],
    "B texts of errors": [
        "security/test_error_texts.py::test_a_broken_body_is_refused_in_plain_words_on_every_route",
        f"{UPLOADS}::test_broken_pictures_are_refused_in_fixed_words",
    ],
    "B bombs": [
        f"{UPLOADS}::test_a_bomb_is_refused_before_it_is_decoded",
        f"{UPLOADS}::test_other_kinds_are_refused_though_pillow_writes_them",
        f"{GUARD}::test_a_body_over_its_bytes_is_refused_by_what_it_says_and_by_what_comes",
    ],
    "B another picture than the person sees": [
        f"{UPLOADS}::test_it_is_turned_upright",
        f"{UPLOADS}::test_transparent_parts_are_white",
        f"{UPLOADS}::test_of_an_animation_it_is_the_first_frame",
    ],
    "B tensors, code and templates in requests": [
        f"{BOUNDS}::test_every_body_is_strict",
        "security/test_error_texts.py::test_a_broken_body_is_refused_in_plain_words_on_every_route",
        f"{FORMS}::test_special_tokens_are_not_typed",
        f"{FORMS}::test_others_are_answered_while_a_long_prompt_is_read",
    ],
    "B grammars": [
        "mindsd/sampling/test_grammar.py::test_a_constraint_is_checked_when_made",
        f"{FORMS}::test_nasty_forms_are_refused_by_name",
        f"{FORMS}::test_others_are_answered_while_a_form_is_compiled",
    ],
    "B bounds": [
        f"{BOUNDS}::test_every_value_of_a_body_has_bounds",
        "security/test_listener.py::test_what_is_no_sound_request_is_refused_and_it_goes_on",
        f"{UPLOADS}::test_one_pixel_is_a_picture",
    ],
    "B who may ask": [
        "security/test_other_pages.py::test_every_route_but_health_asks_for_the_key",
        f"{GUARD}::test_the_host_header_opens_nothing",
        f"{GUARD}::test_elsewhere_a_key_or_insecure_is_asked_for",
    ],
    "B forms, and slow clients": [
        "security/test_floors.py::test_the_project_asks_for_it_wherever_it_is_named",
        f"{GUARD}::test_a_body_that_trickles_is_refused_in_time",
    ],
    "C names become paths": [
        "security/test_ids.py::test_an_id_of_a_route_is_no_path",
        "security/test_ids.py::test_an_id_in_a_body_is_no_path",
    ],
    "C Gradio's files": [
        f"{PAGE}::test_no_file_of_the_machine_and_no_address_is_fetched",
        f"{PAGE}::test_a_key_is_asked_for_everything_of_it",
        f"{PAGE}::test_what_is_sent_to_it_has_a_size",
    ],
    "C a web page attacks localhost": [
        "security/test_other_pages.py::test_every_route_refuses_another_host",
        f"{PAGE}::test_a_page_of_elsewhere_cannot_use_it",
        f"{GUARD}::test_websockets_of_other_origins_are_closed_unopened",
    ],
    "C installation by a request": [
        "security/test_other_pages.py::test_nothing_is_installed_or_run_by_a_request"
    ],
    "C pickles over sockets": [
        "security/test_listener.py::test_it_listens_on_the_asked_address_and_nowhere_else",
        f"{WORDS}::test_none_says_it",
    ],
    "C supply chain": ["security/test_floors.py::test_none_comes_from_another_index_or_an_address"],
}


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_is_held_by_tests_that_exist(lesson: str):
    for named in LESSONS[lesson]:
        file, test = named.split("::")
        made = ast.parse((TESTS / file).read_text("utf-8")).body
        assert test in {one.name for one in made if isinstance(one, ast.FunctionDef)}, named
