"""Small pictures inside HTML, for notebooks."""

import base64
import io

import numpy as np


def inline_image(pixels: np.ndarray, side: int) -> str:
    """An <img> of uint8 (H, W, 3) or (H, W), at most `side` pixels high, with the picture in it."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((4 * side, side))
    content = io.BytesIO()
    picture.convert("RGB").save(content, "JPEG", quality=85)
    data = base64.b64encode(content.getvalue()).decode()
    width, height = picture.size
    return f'<img alt="" width="{width}" height="{height}" src="data:image/jpeg;base64,{data}">'
