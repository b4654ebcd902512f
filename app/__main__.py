"""`python -m mindsd.app` is `mindsd`."""

import sys

from .cli import main

sys.exit(main())
