"""A simulated Allegro hand that tries to grasp, seen by a simulated camera."""

import os
import sys

if sys.platform == 'linux':
    # MuJoCo reads it once, when it is imported first. EGL renders without a display.
    os.environ.setdefault('MUJOCO_GL', 'egl')
