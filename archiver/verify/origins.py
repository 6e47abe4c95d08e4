"""Compaction kept every row: told from the new file and the ledger alone, when the old files are gone.

Each row names the file in which it was first archived, and the commit that added that file
holds a digest of its bodies. Compaction keeps the order of the rows of one file. So the rows
of one origin, in their order, must give exactly that digest again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from archiver.datafile import BodiesDigest
from archiver.ledger.entry import DataFile
from archiver.verify.report import Findings, Word


class Origins:
    """The rows of one data file by the files in which they were first archived, some rows at a time.

    Args:
        originals: The files of which a compacted one must have all rows, by stem; None if the
            commits do not tell.
        is_first: No compaction added the file: it is where its rows were first archived.
    """

    def __init__(
        self, key: str, originals: Mapping[str, DataFile] | None, findings: Findings, *, is_first: bool
    ) -> None:
        self._key = key
        self._originals = originals
        self._findings = findings
        self._is_first = is_first
        self._digests: dict[str, BodiesDigest] = {}
        self._rows: dict[str, int] = {}
        self._unnamed = 0

    def take(self, origins: pa.ChunkedArray, bodies: pa.ChunkedArray) -> None:
        """Take in the next rows of the file."""
        self._unnamed += origins.null_count
        if origins.null_count == len(origins) or self._originals is None:
            return
        encoded = origins.combine_chunks().dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        bodies = bodies.take(pa.array(order))
        starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
            if codes[start] < 0:
                continue
            name = encoded.dictionary[int(codes[start])].as_py()
            self._digests.setdefault(name, BodiesDigest()).take(bodies.slice(start, end - start))
            self._rows[name] = self._rows.get(name, 0) + end - start

    def finish(self) -> None:
        """Report what all rows together do not fit."""
        if self._is_first:
            if self._rows:
                found = f"{sum(self._rows.values())} rows of {next(iter(self._rows))!r:.100}"
                self._damage("altered", "rows that were first archived here", found)
            return
        if self._originals is None:
            return
        if self._unnamed:
            self._damage("altered", "the origin of every row", f"{self._unnamed} rows without")
        for name, file in sorted(self._originals.items()):
            expected = f"the {file.rows} rows of {file.key}, bodies {file.bodies}"
            if name not in self._rows:
                self._damage("missing", expected, "none of them")
            elif (self._rows[name], found := self._digests[name].digest()) != (file.rows, file.bodies):
                self._damage("altered", expected, f"{self._rows[name]} rows, bodies {found}")
        for name in sorted(self._rows.keys() - self._originals.keys()):
            found = f"{self._rows[name]} rows of {name!r:.100}"
            self._damage("inserted", "rows of the files that were compacted alone", found)

    def _damage(self, word: Word, expected: str, found: str) -> None:
        self._findings.damage(word, self._key, expected, found)
