"""The networks, where their pre-trained weights come from, and the checkpoint file."""
