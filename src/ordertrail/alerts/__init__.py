"""Tells somebody: incidents, the messages about them, and the channels that carry these."""
