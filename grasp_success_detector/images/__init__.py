"""From camera messages, bytes and files to RGB pixels, and from pixels to a network's input."""
