"""The token-level screen: what real configurations and broken ones look like to it."""
