"""How well the embedded ear hears, and how it stops hearing when speech is damaged."""
