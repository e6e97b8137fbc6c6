"""Recordings (bags, videos): find, open, index, read, recover, label."""
