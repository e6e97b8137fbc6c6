"""What runs the network: a file for each engine, and the choice among them."""
