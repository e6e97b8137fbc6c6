"""One file per console script that needs no ROS: parse, call the core, print."""
