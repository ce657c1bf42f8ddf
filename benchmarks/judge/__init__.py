"""What the judge's metrics cost, how steady they are, and whether its guards trip on speech."""
