"""The Delta log: a view of the ledger that other engines read `events` by. Never a source of truth.

Version N says of `events` what commit N says, and nothing else says it. So the log can be
thrown away and made again at any time, byte for byte; `archiver verify` does not look at it.
"""
