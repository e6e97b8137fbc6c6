"""The only room that imports ROS: node, parameters, bag player, demo."""
