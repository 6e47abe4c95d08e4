"""What several tests of faults share: a small disk, and calls that fail."""

from tests.faults.calls import calls, failing_calls_library
from tests.faults.disks import disk

__all__ = ["calls", "disk", "failing_calls_library"]
