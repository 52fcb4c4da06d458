"""What the book's chapters draw and say: a module a chapter, and the figures and words that they share."""
