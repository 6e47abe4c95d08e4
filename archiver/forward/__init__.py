"""Events on to other systems: live from the spool, commit by commit, or replayed from the archive.

    reader (deliveries, commits, replay) -> filter -> payload -> item -> request -> intake
                                                                      └─> dead letters

A destination's cursor moves when the receiver has said that it has an event, never before.
"""
