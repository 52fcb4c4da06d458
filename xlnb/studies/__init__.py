"""Cells of the grid: what is made, what is committed, what is missing, and what a comparison shows."""
