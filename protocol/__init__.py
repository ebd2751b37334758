"""The one vocabulary of Cambist: records, enumerations, reasons, instruments, integer arithmetic. Imports nothing of ours.

Where to look: ``records`` (commands, verdicts, events, outcomes, one field list each), ``enums`` and ``reasons``
(numbers that are never renumbered), ``fixed_point`` (exact integer arithmetic), ``instruments`` (listing rules and their
overflow proofs), ``build`` (what a producer fills), ``codec`` (journal layout), ``hashing`` (hashes of state and
streams), ``instance`` (what the processes of one instance agree on), ``readers`` (who reads which ring), ``board``
(which line of the shared board holds which cursor).
"""
