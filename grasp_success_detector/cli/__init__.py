"""Every console script, one file each: parse, call, print."""
