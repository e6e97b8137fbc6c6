"""Bag player, verdict recorder and demo: ROS 2 tools beside the node."""
