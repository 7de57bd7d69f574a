"""The operators of ONNX that multiply by a matrix or with a window, and what may bring their bias."""

from transferpipe.weights.formats.onnx.graph import GraphNode

PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "Einsum")
CONVOLUTIONS = ("Conv", "ConvTranspose", "ConvInteger", "FusedConv")
SHIFTS = ("Add", "Sub")
"""What may bring a bias behind a product."""


def is_product(node: GraphNode) -> bool:
    """Tell whether a node multiplies by a matrix, or with a window, so that an addition behind it is its bias."""
    return node.op in PRODUCTS or node.op in CONVOLUTIONS
