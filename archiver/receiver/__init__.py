"""The spool's front door: signed deliveries over HTTP, acknowledged when they are durable."""

from archiver.receiver.server import check, serve

__all__ = ["check", "serve"]
