"""A simulated Allegro hand that tries to grasp, seen by a simulated camera."""
