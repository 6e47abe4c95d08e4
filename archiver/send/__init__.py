"""Delivering as the vendor of the log streams does: signed, over HTTP, again when it fails."""

from archiver.send.inputs import Inputs, open_inputs
from archiver.send.keep import NotDelivered
from archiver.send.options import SendOptions
from archiver.send.report import SendReport
from archiver.send.run import send

__all__ = ["Inputs", "NotDelivered", "SendOptions", "SendReport", "open_inputs", "send"]
