"""The one vocabulary of Cambist: records, enumerations, reasons, instruments, integer arithmetic. Imports nothing of ours.

Where to look: ``records`` (commands, verdicts, events, outcomes, one field list each), ``enums`` and ``reasons`` (numbers that are never
renumbered), ``fixed_point`` (exact integer arithmetic), ``instruments`` (listing rules and their overflow proofs), ``codec`` (journal layout),
``board`` (which line of the shared board holds which cursor).
"""
