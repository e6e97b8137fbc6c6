"""The detector node, which runs on the robot."""
