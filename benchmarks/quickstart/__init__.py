"""The quickstart's sweep on several machines."""
