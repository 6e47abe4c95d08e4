"""The application's own database: how it is asked, and what its rows become.

Nothing here knows of the pipeline; `archiver.sources.database` brings both together.
"""
