"""Where the time of one configuration goes, and what could be tried about it."""
