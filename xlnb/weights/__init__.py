"""Parameters: where they live, who owns them, how they are stored, what fine-tuning changed, and how changes are merged."""
