class Meshes:
    def __init__(self, verts, faces):
        self.verts, self.faces = verts, faces
