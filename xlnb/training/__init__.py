"""Fine-tuning of experts."""
