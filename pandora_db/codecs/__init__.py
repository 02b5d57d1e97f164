"""Stored form ↔ Python form, and the checks that guard the way in."""
