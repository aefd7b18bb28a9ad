"""Drawn faces with FER2013's format and class imbalance: every script runs with nothing downloaded.

The expression is in brows, eyes, nose and mouth, at its own intensity and with a trace of another, while
identity, pose, light and camera vary freely. An accuracy on the sample says nothing about real faces.
"""

import functools

import numpy as np

SIZE = 48
CHUNK = 32  # faces drawn at once: one layer of a chunk (0.3 MB) stays in the cache
TRAINING_COUNTS = (3995, 436, 4097, 7215, 4830, 3171, 4965)  # FER2013's Training rows of each code

# What defines each expression at full intensity. Lengths are in half image widths (24 pixels), y grows down.
# brow_in > 0 lowers the inner ends of the brows, lid_up and lid_low open the eye above and below its centre,
# smile > 0 raises the corners of the mouth, gap opens it; wrinkle (above the nose) is 0-1 strong.
MOVES = ["brow_y", "brow_in", "lid_up", "lid_low", "mouth_w", "smile", "gap", "wrinkle"]
EXPRESSIONS = np.array([
    [-0.24,  0.095,  0.065,  0.035,  0.24, -0.055,  0.070,  0.50],  # 0 angry
    [-0.27,  0.050,  0.045,  0.015,  0.24, -0.050,  0.045,  1.00],  # 1 disgust
    [-0.41, -0.070,  0.130,  0.065,  0.31, -0.035,  0.110,  0.20],  # 2 fear
    [-0.35,  0.000,  0.065,  0.015,  0.38,  0.120,  0.120,  0.10],  # 3 happy
    [-0.34, -0.090,  0.055,  0.045,  0.23, -0.085,  0.000,  0.20],  # 4 sad
    [-0.46,  0.000,  0.140,  0.070,  0.18,  0.000,  0.200,  0.00],  # 5 surprise
    [-0.35,  0.010,  0.085,  0.045,  0.26,  0.000,  0.000,  0.00],  # 6 neutral
], np.float32)
# How far each move differs from person to person (standard deviation), and its least value.
PERSONAL = np.array([0.020, 0.018, 0.012, 0.008, 0.025, 0.018, 0.012, 0.10], np.float32)
LEAST = np.array([-1, -1, 0.01, 0.008, 0.1, -1, 0, 0], np.float32)


def _moves(rng, labels):
    """The moves of one face for each label: float32 (n, 8), columns as in `EXPRESSIONS`."""
    n, neutral = len(labels), EXPRESSIONS[6]
    intensity, trace = rng.uniform(0.2, 1.2, (n, 1)), rng.uniform(0.0, 0.4, (n, 1))  # few are pure
    moves = neutral + intensity * (EXPRESSIONS[labels] - neutral)
    moves += trace * (EXPRESSIONS[rng.integers(7, size=n)] - neutral)
    moves += PERSONAL * rng.standard_normal(moves.shape)
    return np.maximum(moves, LEAST).astype(np.float32)


def _paint(canvas, tone, distance, strength=1):
    """Lay a tone (0 black, 1 white) over the canvas in place where the signed distance to an edge is > 0."""
    canvas += strength * np.clip(distance * (SIZE / 2) + 0.5, 0, 1) * (tone - canvas)


def _lens(x, y, half_width, up, down):
    """Signed distance to an ellipse that reaches `up` above and `down` below y = 0; positive inside."""
    profile = np.sqrt(np.maximum(1 - (x / half_width) ** 2, 0))
    return np.minimum(np.minimum(y + up * profile, down * profile - y), half_width - np.abs(x))


def _bump(x, y):
    """Smooth hill of height 1 at the origin that ends on the unit circle."""
    return np.maximum(1 - x * x - y * y, 0) ** 2


def _draw(rng, labels):
    """Draw one face for each label, back to front; returns uint8 (n, 48, 48)."""
    def uniform(low, high):
        return rng.uniform(low, high, (len(labels), 1, 1)).astype(np.float32)

    brow_y, brow_in, lid_up, lid_low, mouth_w, smile, gap, wrinkle = _moves(rng, labels).T[:, :, None, None]
    # Pose: image (x, y) to head (u, v). Pairs are drawn at once from the distance `a` to the middle.
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) * (2 / SIZE) - (1 - 1 / SIZE)
    angle, scale = uniform(-0.2, 0.2), uniform(0.98, 1.18)
    x, y = (x - uniform(-0.1, 0.1)) / scale, (y - uniform(-0.08, 0.08)) / scale
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    a = np.abs(u)

    # Background, head lit from one side, shadows beside the nose root and below nose and mouth, hair.
    canvas = uniform(0.1, 0.9) + uniform(-0.2, 0.2) * x + uniform(-0.2, 0.2) * y
    skin, width, height = uniform(0.38, 0.85), uniform(0.64, 0.76), uniform(0.9, 1.0)
    hair = np.minimum(uniform(0.04, 0.55), skin * 0.85)
    eye_x, nose_y, mouth_y = uniform(0.27, 0.34), uniform(0.2, 0.27), uniform(0.46, 0.54)
    radius = np.sqrt((u / width) ** 2 + (v / height) ** 2)
    shade = 0.8 + 0.25 * np.sqrt(np.maximum(1 - radius ** 2, 0))
    shade += uniform(-0.5, 0.5) * u + uniform(-0.3, 0.1) * v
    shade -= 0.2 * _bump((a - eye_x) / 0.25, (v + 0.12) / 0.2) + 0.3 * _bump(u / 0.17, (v - nose_y) / 0.1)
    shade -= 0.2 * _bump(u / 0.2, (v - mouth_y - 0.19) / 0.07)
    shade -= 0.4 * wrinkle * _bump((a - 0.06) / 0.05, (v + 0.15) / 0.2)
    _paint(canvas, skin * shade, (1 - radius) * width)
    hairline = uniform(-0.8, -0.5) + uniform(0, 0.9) * u * u
    _paint(canvas, hair, np.minimum((1.1 - radius) * width, hairline - v))

    # Eyes: white, iris cut by the lids, upper lashes. Brows.
    x, y, eye_w = a - eye_x, v + 0.12, uniform(0.13, 0.165)
    white = _lens(x, y, eye_w, lid_up, lid_low)
    _paint(canvas, 0.45 + 0.48 * skin, white)
    _paint(canvas, uniform(0.03, 0.25), np.minimum(white, 0.068 - np.sqrt(x ** 2 + y ** 2)))
    lashes = y + lid_up * (1 - (x / eye_w) ** 2)
    _paint(canvas, 0.1, _lens(x, lashes, eye_w * 1.1, 0.03, 0.012), 0.75)
    brow, thick = v - brow_y + brow_in * x / 0.2, uniform(0.02, 0.045)
    _paint(canvas, np.minimum(hair, skin * 0.57), _lens(x, brow, 0.2, thick, thick), uniform(0.6, 0.95))

    # Mouth: lips, and the dark inside, which is a line where they are closed.
    bite, lip = v - mouth_y + smile * ((u / mouth_w) ** 2 - 0.5), uniform(0.03, 0.055)
    _paint(canvas, skin * uniform(0.48, 0.76), _lens(u, bite, mouth_w, 0.35 * gap + lip, gap + 1.3 * lip))
    _paint(canvas, 0.07, _lens(u, bite, mouth_w * 0.9, 0.35 * gap + 0.01, gap + 0.01))

    # Camera: contrast, brightness, noise.
    canvas = 0.5 + uniform(0.8, 1.3) * (canvas - 0.5) + uniform(-0.08, 0.08)
    canvas += uniform(0.005, 0.03) * rng.standard_normal(canvas.shape, np.float32)
    return (np.clip(canvas, 0, 1) * 255).astype(np.uint8)


@functools.lru_cache(maxsize=2)  # a process draws them once
def sample_faces(n=3500, seed=0):
    """n labelled faces, of which a smaller sample is the head: images, uint8 (n, 48, 48), 0-255, and labels,
    int64 (n,), the codes of `data.CLASSES` in FER2013's proportions, all of them when n >= 7."""
    images, labels = np.empty((n, SIZE, SIZE), np.uint8), np.empty(n, np.int64)
    share = np.array(TRAINING_COUNTS) / sum(TRAINING_COUNTS)
    for start in range(0, n, CHUNK):
        rng = np.random.default_rng([seed, start])
        codes = rng.choice(7, CHUNK, p=share)
        if start == 0:
            codes[:7] = rng.permutation(7)
        faces = _draw(rng, codes)  # always a whole chunk, so that n does not change what is drawn
        images[start:start + CHUNK], labels[start:start + CHUNK] = faces[:n - start], codes[:n - start]
    images.flags.writeable = labels.flags.writeable = False  # they are shared by all callers
    return images, labels
