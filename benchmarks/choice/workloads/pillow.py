"""Scales and blurs images with Pillow, which releases the GIL."""

from PIL import Image, ImageFilter


def work(size: int) -> int:
    image = Image.linear_gradient("L").resize((size, size))
    return sum(image.filter(ImageFilter.GaussianBlur(5)).resize((64, 64)).tobytes())


def items(scale: float = 1.0) -> list[int]:
    return [int(1_200 * scale) + number + 64 for number in range(24)]
