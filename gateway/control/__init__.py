"""The control gateway: operators and internal producers send sequenced commands over a Unix socket, as JSON lines.

``session`` (bytes in, requests and bytes out) and ``core`` (requests to command groups, outcomes to replies) touch no
socket, clock or file; ``server`` and ``process`` do nothing else. ``client`` is the other end.
"""
