"""How the embedded voice and the embedded ear were made; never imported by the other rooms."""
