"""Take a checkpoint to other formats and engines, and measure what that changes."""
