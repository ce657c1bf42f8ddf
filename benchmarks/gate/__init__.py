"""How far the gate can be believed: the figures behind it, on real audio."""
