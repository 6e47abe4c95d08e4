"""Upload before delete: rows of a database that the archive holds, member by member, are deleted there.

run.py       page by page: read, prove, delete in small transactions
proof.py     which rows of a page the archive holds, and what stays and why
verified.py  rows out of data files whose bytes have just been held against the ledger
report.py    what was deleted, what stayed
"""

from archiver.purge.report import PurgeReport
from archiver.purge.run import purge

__all__ = ["PurgeReport", "purge"]
