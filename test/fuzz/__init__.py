"""
Fuzzing: damaged copies of good files are given to every parser of the package.

``targets`` says what is called and which errors are allowed, ``edits`` how inputs are damaged,
``corpus`` makes the good files, and ``python -m fuzz`` (``make fuzz``) runs as long as told.
"""
