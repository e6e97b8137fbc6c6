"""Label recordings and pictures by hand: attempts, the label file, and the page in the browser."""
