"""How often somebody may: requests by weight, orders, logons, messages and sign-ins, counted by all gateway processes of a machine.

``rules`` is configuration, ``subjects`` who is counted, ``table`` the shared memory, ``kernels`` what is done to it, ``limiter``
the calls that gateways make.
"""
