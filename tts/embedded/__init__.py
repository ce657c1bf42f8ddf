"""The voice that ships with mosgate: small, trained by ``training/`` on a free synthesizer."""
