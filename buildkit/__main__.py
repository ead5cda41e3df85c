"""``python -m buildkit``: the same as the console script ``cudabuild``."""

from __future__ import annotations

import sys

from buildkit.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
