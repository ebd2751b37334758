"""The sequencer merges the producers' ingress rings into one total order: seq, ts_ns, and each (source, source_seq) once.

``core`` stamping, timers and the table of sources (kernels) · ``clock`` the time that is stamped · ``process`` the wrapper.
"""
