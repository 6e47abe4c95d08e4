"""A batch archival and analytics toolkit for audit events."""

__version__ = "0.1.0"
