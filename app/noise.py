"""Libraries that talk on import and on load, told to be quiet. Only a face may decide that."""

from __future__ import annotations

import warnings


def silence_libraries() -> None:
    """No warnings, advice or bars from transformers and diffusers; our own warnings still show."""
    # Imported late: heavy.
    import diffusers.utils.logging
    import transformers.utils.logging

    for category in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.simplefilter("ignore", category)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
