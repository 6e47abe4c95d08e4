"""Is the archive what its ledger says? Told from the bytes in the store alone.

report = verify(store)
report.damages          # empty: intact
"""

from archiver.verify.report import MEANINGS, Damage, VerifyReport, Word
from archiver.verify.run import Expected, parse_expected, verify

__all__ = ["MEANINGS", "Damage", "Expected", "VerifyReport", "Word", "parse_expected", "verify"]
