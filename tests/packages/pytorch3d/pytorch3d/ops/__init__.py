"""What the recipe's probe asks for, made of torch alone: the extension is what is looked at."""

from collections import namedtuple

import torch

from pytorch3d import _C  # noqa: F401

Neighbours = namedtuple("Neighbours", "dists idx")


def knn_points(one, other, K=1, version=-1):  # noqa: N803
    squared = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square()
    return Neighbours(*squared.topk(K, largest=False))


def mesh_face_areas_normals(vertices, faces):
    a, b, c = vertices[faces].unbind(1)
    normals = torch.linalg.cross(b - a, c - a)
    lengths = normals.norm(dim=1)
    return lengths / 2, normals / lengths[:, None]
