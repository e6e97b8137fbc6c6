"""Label recordings and pictures by hand: attempts, the label file, and the page in the browser."""

#: How the names of the threads of a session begin.
BACKGROUND = 'labelling: '
