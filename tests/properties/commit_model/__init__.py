"""An explicit-state search of the commit protocol: every interleaving, late PUT, lost reply and death."""
