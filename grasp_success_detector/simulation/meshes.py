"""Triangle meshes: out of compiled models, and with fewer triangles for speed."""

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Cells of a texture, along each side, in which a thing's vertices become one.
_TEXTURE_CELLS = 40

#: A mesh of fewer vertices stays as it is.
_FEWEST_VERTICES = 30


@dataclass(frozen=True)
class Mesh:
    """
    Triangles of a model.

    :ivar vertices: (n, 3) in metres.
    :ivar faces: indices of vertices (m, 3).
    :ivar coordinates: of the texture (k, 2), and indices of them (m, 3); None without a texture.
    """

    vertices: Floats
    faces: NDArray[np.int64]
    coordinates: tuple[Floats, NDArray[np.int64]] | None = None


def simplified(mesh: Mesh, cell: float) -> Mesh:
    """Return a mesh whose vertices in one cell of a grid have become one, for speed."""
    corners = mesh.vertices[mesh.faces].reshape(-1, 3)
    keys = np.round(corners / cell)
    if mesh.coordinates is not None:    # a seam of the texture divides vertices
        points, indices = mesh.coordinates
        places = points[indices].reshape(-1, 2)
        keys = np.hstack([keys, np.round(places * _TEXTURE_CELLS)])
    _, first, index = np.unique(keys.astype(np.int64), axis=0, return_index=True,
                                return_inverse=True)
    faces = index.reshape(-1, 3)
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (a != c)]
    if len(first) < _FEWEST_VERTICES:
        return mesh
    return Mesh(corners[first], faces,
                None if mesh.coordinates is None else (places[first], faces))


def mesh_of(model: mujoco.MjModel, number: int) -> Mesh:
    """Return the mesh of a compiled model with this number."""
    def rows(array: NDArray[Any], start: NDArray[Any], count: NDArray[Any]) -> NDArray[Any]:
        return np.array(array[start[number]:start[number] + count[number]])

    vertices = rows(model.mesh_vert, model.mesh_vertadr, model.mesh_vertnum).astype(np.float64)
    faces = rows(model.mesh_face, model.mesh_faceadr, model.mesh_facenum).astype(np.int64)
    if model.mesh_texcoordadr[number] < 0:
        return Mesh(vertices, faces)
    uv = rows(model.mesh_texcoord, model.mesh_texcoordadr, model.mesh_texcoordnum)
    indices = rows(model.mesh_facetexcoord, model.mesh_faceadr, model.mesh_facenum)
    return Mesh(vertices, faces, (uv.astype(np.float64), indices.astype(np.int64)))
