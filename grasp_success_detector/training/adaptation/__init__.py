"""From few labelled frames of a rig to a checkpoint for it, in seconds."""
