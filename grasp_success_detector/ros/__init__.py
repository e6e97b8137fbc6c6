"""What runs on ROS 2: the detector node and the tools beside it."""
