"""The identity index: which ids may lie in which data file. A cache, never trusted by `verify`."""
