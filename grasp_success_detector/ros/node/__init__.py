"""The detector node: what runs on the robot."""
