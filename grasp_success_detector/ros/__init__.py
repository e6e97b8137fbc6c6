"""ROS 2: the detector node, and the bag player and the demo beside it."""
