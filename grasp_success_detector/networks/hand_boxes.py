"""From the values of the hand finder's grid to the box of the hand."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.images.preprocessing import Edges, Preprocessing

#: Input of the hand finder: the whole picture, squeezed to this size whatever its shape.
FINDER_INPUT: Final = Preprocessing(144, 192)

#: Pixels of the input per cell of the grid, and values of each cell: how sure it is (a logit),
#: and the logarithms of the distances from its middle to the box's left, top, right and bottom
#: edge, as shares of the picture's width and height.
CELL: Final = 16
VALUES: Final = 5


class HandBox(NamedTuple):
    """
    Where the hand is: fractions of the picture's width and height, from its top left corner.

    :ivar confidence: probability that there is a hand, 0 to 1.
    """

    left: float
    top: float
    right: float
    bottom: float
    confidence: float = 1.

    @property
    def edges(self) -> Edges:
        """Return the four edges."""
        return self[:4]

    def in_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the four edges in a picture of this size."""
        return (round(self.left * width), round(self.top * height),
                round(self.right * width), round(self.bottom * height))


def grid_shape(size: Preprocessing) -> tuple[int, int]:
    """Return rows and columns of the grid."""
    return -(-size.height // CELL), -(-size.width // CELL)


def cell_centres(size: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the middles of the cells, x and y, float32 (rows, columns), as shares of a side."""
    rows, columns = grid_shape(size)
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    return (x + np.float32(.5)) * CELL / size.width, (y + np.float32(.5)) * CELL / size.height


def read_box(values: NDArray[np.float32], size: Preprocessing) -> HandBox:
    """
    Return the hand's box from the values of one picture.

    The box is the mean of those of the surest cell and its neighbours, weighted by how sure they
    are.

    :param values: float32 (VALUES * rows * columns,).
    """
    rows, columns = grid_shape(size)
    grid = values.reshape(VALUES, rows, columns).astype(np.float64)
    sure = 1 / (1 + np.exp(-np.clip(grid[0], -50, 50)))
    row, column = np.unravel_index(int(sure.argmax()), sure.shape)
    around = (slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
    weights = np.zeros_like(sure)
    weights[around] = sure[around]
    weights /= weights.sum()
    x, y = cell_centres(size)
    to_left, to_top, to_right, to_bottom = np.exp(np.clip(grid[1:], -8, 2))
    edges = np.clip([float((weights * edge).sum())
                     for edge in (x - to_left, y - to_top, x + to_right, y + to_bottom)], 0, 1)
    left, top, right, bottom = edges.tolist()
    return HandBox(left, top, right, bottom, float(sure.max()))
