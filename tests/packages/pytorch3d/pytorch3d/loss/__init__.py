from pytorch3d.ops import knn_points


def chamfer_distance(one, other):
    return knn_points(one, other).dists.mean() + knn_points(other, one).dists.mean(), None
