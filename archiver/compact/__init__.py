"""The same rows in fewer files: small files of a partition become one, sorted by time.

report = compact(archive)
report.files_before, report.files_after
"""

from archiver.compact.plan import Group, Policy
from archiver.compact.run import CompactReport, compact

__all__ = ["CompactReport", "Group", "Policy", "compact"]
