"""The models and the application of the server's own tests."""

from tests.app.conftest import language_model, mindsd, model, vision_model  # noqa: F401
from tests.app.server.conftest import hub, served, shelf  # noqa: F401
