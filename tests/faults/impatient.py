"""The command line, with a receiver that is less patient than it should be: tests cannot wait so long.

PATIENCE=… RECOVER_SECONDS=… python -m tests.faults.impatient receive …
"""

from __future__ import annotations

import os
import sys

from archiver.cli.main import main
from archiver.receiver import writer

if __name__ == "__main__":
    writer.PATIENCE_SECONDS = float(os.environ.get("PATIENCE", "1"))  # type: ignore[misc]
    writer._RECOVER_SECONDS = float(os.environ.get("RECOVER_SECONDS", "0.3"))  # type: ignore[misc]
    sys.argv[0] = "archiver"
    main()
