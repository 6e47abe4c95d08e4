"""Results as text for people. Everything here takes values and returns strings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archiver.cli.common import printable

if TYPE_CHECKING:
    from archiver.pipeline import RunReport


def bytes_text(count: int) -> str:
    """Write a size for people: `512 B`, `1.5 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Write `1 file`, `1,234 files`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def seconds_text(seconds: float) -> str:
    """Write a time for people, in its two largest units: `3 s`, `2 min 5 s`, `4 d 1 h`."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def run_text(report: RunReport) -> str:
    """Return the summary of a run; its counts add up before the reader's eyes."""
    counts = report.counts
    lines = []
    if not report.commits:
        is_of_spools = not report.acknowledged_only and not report.databases
        # Whoever could not look does not know whether there is anything.
        has_looked = not report.databases or all(one["went_well"] for one in report.databases.values())
        nothing = "nothing new" if has_looked else "nothing archived"
        lines.append("nothing new in the spool" if is_of_spools else nothing)
    else:
        rate = counts.read / report.seconds if report.seconds else 0.0
        lines += [
            f"read         {counts.read:>12,}   in {report.seconds:.1f} s, {rate:,.0f} events/s",
            f"= archived   {counts.archived:>12,}   {plural(report.files, 'file')}, "
            f"{bytes_text(report.bytes_written)}",
            f"+ supplements{counts.supplements:>12,}   tell more of an event that is archived",
            f"+ duplicates {counts.duplicates:>12,}   tell nothing new",
            f"+ quarantined{counts.quarantined:>12,}   "
            + (", ".join(f"{reason} {count:,}" for reason, count in _most(report.reasons)) or "none"),
        ]
    if report.acknowledged_only:
        lines.append(f"{plural(report.acknowledged_only, 'batch', 'batches')} of an earlier run acknowledged")
    if report.put_back:
        lines.append(
            f"{plural(report.put_back, 'batch', 'batches')} changed while read, left for the next run"
        )
    if report.compaction is not None:
        done = report.compaction
        lines.append(f"compacted {plural(done['files_before'], 'file')} into {done['files_after']:,}")
    for name, found in report.databases.items():
        lines += _database_lines(name, found)
    lines += [f"problem: {problem}" for problem in report.problems]
    if report.waiting:
        lines.append(
            f"{plural(report.waiting, 'file')} still waiting: not yet quiet for long enough (--settle), "
            "just delivered, or claimed by another run"
        )
    if report.ignored:
        lines.append(f"{plural(report.ignored, 'name')} in the spool ignored: archiver doctor tells why")
    if report.head >= 0:
        lines.append(f"head {report.head}  {report.head_digest}")
    if counts.quarantined:
        lines.append("see what was rejected and why: archiver quarantine list")
    return "\n".join(lines)


def _database_lines(name: str, found: dict[str, Any]) -> list[str]:
    """Return what a run did with one database, and what it left there."""
    if not found["went_well"] and not found["read"]:
        return [f"database {name}: not archived"]
    told = f"{plural(found['read'], 'row')} read, {found['archived']:,} archived"
    if found["position"]:
        told += f"; read up to {printable(found['position'])}"
    elif found["went_well"]:
        told += "; none yet may be read" if found["why"] else "; there is none"
    lines = [f"database {name}: {told}"]
    if found["why"] and (found["rows"] or not found["position"]):
        lines.append(f"  {plural(found['rows'], 'row waits', 'rows wait')}: {printable(found['why'])}")
    return lines


def _most(reasons: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: -item[1])
