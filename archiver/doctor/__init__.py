"""Can an archive be kept here? Tried, each thing by itself, with what to do about it."""

from archiver.doctor.examine import DoctorReport, examine
from archiver.store.health import Check

__all__ = ["Check", "DoctorReport", "examine"]
