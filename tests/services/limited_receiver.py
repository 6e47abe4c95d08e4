"""The command line, with a receiver whose connections have other limits: tests cannot wait so long.

LIMITS='{"head_seconds": 1}' python -m tests.services.limited_receiver receive …
"""

from __future__ import annotations

import functools
import json
import os
import sys

from archiver import receiver
from archiver.cli.main import main
from archiver.receiver.guard import Limits
from archiver.receiver.server import serve

MODULE = "tests.services.limited_receiver"

if __name__ == "__main__":
    receiver.serve = functools.partial(serve, limits=Limits(**json.loads(os.environ["LIMITS"])))
    sys.argv[0] = "archiver"
    main()
