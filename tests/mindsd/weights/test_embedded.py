"""The embedded models are told apart by what describes them."""

from mindsd.weights.embedded import embedded, embedded_language


def test_image_models_and_language_models(tmp_path, monkeypatch):
    monkeypatch.setattr("mindsd.weights.embedded.files", lambda _: tmp_path)
    assert embedded() == embedded_language() == {}
    for name, file in (
        ("tiny-b", "config.json"),
        ("tiny-a", "config.json"),
        ("tiny-sd", "model_index.json"),
        ("other", "config.json"),
        ("tiny-nothing", "readme.md"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    assert embedded() == {"tiny-sd": tmp_path / "tiny-sd"}
    assert list(embedded_language()) == ["tiny-a", "tiny-b"]


def test_those_that_ship():
    assert "tiny-sd" in embedded()
    assert not set(embedded()) & set(embedded_language())
