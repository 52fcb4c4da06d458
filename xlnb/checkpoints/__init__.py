"""Merges straight from disk to disk: what is asked for, whether it fits, and the bytes."""
