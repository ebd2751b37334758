"""Who someone is and what they may do: users, firms, accounts, keys, sessions, operators' roles, account states.

Pure files decide: ``records`` (rows), ``directory`` (rows with their indexes), ``rights`` (may this principal do this?), ``keys``,
``passwords``, ``totp``, ``recovery``, ``passkeys``, ``login`` (is this who it says?), ``changes``, ``operators`` and ``proposals`` (what an
act changes). ``store`` and ``cache`` keep the same directory in PostgreSQL and in each gateway. Money, fees and limits are not
here: they are sequenced commands, decided by risk.
"""
