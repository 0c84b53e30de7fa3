"""``python -m mfvdm_fast`` is the command ``mfvdm-fast``."""

from __future__ import annotations

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
