"""Says from camera frames, in time to act, whether an Allegro hand holds the object."""

__version__ = '0.1.0'
