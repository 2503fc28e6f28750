"""Where a window may stand, and which pixels it sees."""


def output_size(size, window, stride, pads):
    """(P, Q): how many times the window fits into the padded image."""
    return tuple((size[i] + pads[i][0] + pads[i][1] - window[i]) // stride[i] + 1 for i in (0, 1))


def taps(p, q, size, window, stride, pads):
    """(r, s, h, w) for each pixel of the image under the window at (p, q), in scan order."""
    for r in range(window[0]):
        for s in range(window[1]):
            h = p * stride[0] + r - pads[0][0]
            w = q * stride[1] + s - pads[1][0]
            if 0 <= h < size[0] and 0 <= w < size[1]:
                yield r, s, h, w
