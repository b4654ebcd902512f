"""Heavy libraries are quiet, and the garbage collector is always on again."""

import gc

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
