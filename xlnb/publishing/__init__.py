"""Running the notebooks and rendering the book."""
