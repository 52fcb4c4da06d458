"""Base models: finding, making and loading them, and the one engine that calls them."""
