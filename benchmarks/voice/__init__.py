"""How good the embedded voice is."""
