"""Tests of forwarding: readers, sending, intakes against stand-ins."""
