"""The networks, one file per family, and where their pre-trained weights come from."""

# Here, since it must come before torchvision and timm in every module of this room.
from grasp_success_detector import torchvision_ops  # noqa: F401
