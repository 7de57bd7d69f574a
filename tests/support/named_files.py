"""Small files of named tensors as other frameworks would write them, without these frameworks."""

import numpy as np
from safetensors.numpy import save_file


def write_tensors(path, shapes, seed=0):
    """Write a safetensors file of random tensors with these names and shapes, as torch would."""
    rng = np.random.default_rng(seed)
    save_file({n: rng.random(s, dtype=np.float32) + 0.1 for n, s in shapes.items()}, path, metadata={"format": "pt"})
    return path


def torch_resnet(depths=(2, 2, 2, 2), width=8, classes=10):
    """Return the names and shapes of a residual network of basic blocks, as torchvision calls them."""
    shapes = {}

    def conv(name, outputs, inputs, size):
        shapes[f"{name}.weight"] = (outputs, inputs, size, size)

    def norm(name, channels):
        shapes.update({f"{name}.{own}": (channels,) for own in ("weight", "bias", "running_mean", "running_var")})

    conv("conv1", width, 3, 7)
    norm("bn1", width)
    before = width
    for stage, count in enumerate(depths):
        channels = width << stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            conv(f"{name}.conv1", channels, before, 3)
            norm(f"{name}.bn1", channels)
            conv(f"{name}.conv2", channels, channels, 3)
            norm(f"{name}.bn2", channels)
            if before != channels:
                conv(f"{name}.downsample.0", channels, before, 1)
                norm(f"{name}.downsample.1", channels)
            before = channels
    shapes |= {"fc.weight": (classes, before), "fc.bias": (classes,)}
    return shapes
