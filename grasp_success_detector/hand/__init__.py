"""The hand's joints: names of each driver, motion, and what they say about the grasp."""
