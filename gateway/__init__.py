"""The edges of the exchange: what clients say becomes commands on an ingress ring, outcomes become answers.

``outcomes`` follows the live outcome ring for any gateway; ``control`` is the operators' Unix socket.
"""
