"""``cambist demo tour``: kills the matcher of a demo exchange under load and looks up everything that was acknowledged."""
