"""The audit trail: who did what, why, when and with what outcome; hash-chained, checked against the journal, exported with proof.

``records`` derives the records from commands and outcomes, ``chain`` says how they are hashed and stored, ``trail`` writes them behind
the journal, ``verify`` compares files and journal, ``past`` replays a range of a home's history, ``export`` writes an archive that
``verify_export`` checks with nothing but Python's standard library.
"""
