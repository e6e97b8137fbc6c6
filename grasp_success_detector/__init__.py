"""Says from camera frames, in time for a planner to act, whether an Allegro hand holds the object."""

__version__ = '0.1.0'
