"""Heavy libraries are quiet, and the garbage collector is always on again."""

import gc
import warnings

import pytest
import transformers

from mindsd.app.libraries import heavy_imports


def test_the_collector_rests_while_they_are_imported():
    with heavy_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_is_on_again_after_an_error():
    with pytest.raises(KeyboardInterrupt), heavy_imports():
        raise KeyboardInterrupt
    assert gc.isenabled()


def test_they_are_quiet():
    transformers.logging.set_verbosity_info()
    with heavy_imports():
        assert transformers.logging.get_verbosity() == transformers.logging.ERROR


def test_a_warning_is_one_line():
    before = warnings.formatwarning
    try:
        with heavy_imports():
            pass
        said = warnings.formatwarning("a backend\nfailed", RuntimeWarning, "file.py", 1)
        assert said == "mindsd: warning: a backend failed\n"
    finally:
        warnings.formatwarning = before
