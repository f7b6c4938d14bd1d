"""Measurements, and the big feeds they run on. Not a part of the package."""
