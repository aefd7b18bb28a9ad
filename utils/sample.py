"""Synthetic faces with FER2013's format and class imbalance: every script runs with nothing downloaded.

The expression of a 48x48 grey face is in its brows, eyes, nose and mouth, while identity, pose, light and
camera vary freely. Each face has its expression at its own intensity, with a trace of another, so weak ones
are ambiguous; no label is wrong on purpose. An accuracy on the sample says nothing about real faces.
"""

import functools

import numpy as np

SIZE = 48
CHUNK = 32  # faces drawn at once: one layer of a chunk (0.3 MB) stays in the cache
TRAINING_COUNTS = (3995, 436, 4097, 7215, 4830, 3171, 4965)  # FER2013's Training rows of each code

# What defines each expression at full intensity. Lengths are in half image widths (24 pixels), y grows down.
# brow_in > 0 lowers the inner ends of the brows, smile > 0 raises the corners of the mouth, lid_up and
# lid_low open the eye above and below its centre; wrinkle (nose), fold (cheek), knit (brows) are 0-1 strong.
MOVES = ["brow_y", "brow_in", "lid_up", "lid_low", "gaze_y",
         "mouth_w", "smile", "gap", "teeth", "sneer", "wrinkle", "fold", "knit"]
EXPRESSIONS = np.array([
    [-0.24,  0.095,  0.065, 0.035, 0.00,   0.24, -0.055, 0.070, 0.08, 0.00, 0.30, 0.3, 1.0],  # 0 angry
    [-0.27,  0.050,  0.045, 0.015, 0.00,   0.24, -0.050, 0.045, 0.04, 0.10, 1.00, 0.6, 0.4],  # 1 disgust
    [-0.41, -0.070,  0.130, 0.065, 0.00,   0.31, -0.035, 0.110, 0.06, 0.00, 0.00, 0.2, 0.5],  # 2 fear
    [-0.35,  0.000,  0.065, 0.015, 0.00,   0.38,  0.120, 0.120, 0.08, 0.00, 0.10, 0.6, 0.0],  # 3 happy
    [-0.34, -0.090,  0.055, 0.045, 0.02,   0.23, -0.085, 0.000, 0.00, 0.00, 0.00, 0.4, 0.4],  # 4 sad
    [-0.46,  0.000,  0.140, 0.070, 0.00,   0.18,  0.000, 0.200, 0.02, 0.00, 0.00, 0.0, 0.0],  # 5 surprise
    [-0.35,  0.010,  0.085, 0.045, 0.00,   0.26,  0.000, 0.000, 0.00, 0.00, 0.00, 0.1, 0.0],  # 6 neutral
], np.float32)
# How far each move differs from person to person, whatever the expression (standard deviation).
PERSONAL = np.array(
    [0.020,  0.018,  0.012, 0.008, 0.01,  0.025,  0.018, 0.012, 0.01, 0.01, 0.10, 0.15, 0.15], np.float32)
LEAST = np.array(  # an eye never closes inside out, a mouth keeps some width
    [-1.00, -1.000,  0.010, 0.008, -1.0,  0.100, -1.000, 0.000, 0.00, 0.00, 0.00, 0.00, 0.00], np.float32)


def _moves(rng, labels):
    """The moves of one face for each label: float32 (n, 13), columns as in `EXPRESSIONS`."""
    n, neutral = len(labels), EXPRESSIONS[6]
    intensity = rng.uniform(0.2, 1.2, (n, 1))
    trace = rng.uniform(0.0, 0.4, (n, 1))  # pure expressions are rare
    moves = neutral + intensity * (EXPRESSIONS[labels] - neutral)
    moves += trace * (EXPRESSIONS[rng.integers(7, size=n)] - neutral)
    moves += PERSONAL * rng.standard_normal(moves.shape)
    return np.maximum(moves, LEAST).astype(np.float32)


def _soft(distance, pixel):
    """Coverage 0-1 of a shape, antialiased, from its signed distance (positive inside) and a pixel's size."""
    return np.clip(distance / pixel + np.float32(0.5), 0, 1)


def _lens(x, y, half_width, up, down, blunt=False):
    """Signed distance to a lens on y = 0, `up` above and `down` below it; blunt ends make an ellipse."""
    profile = np.maximum(1 - (x / half_width) ** 2, 0)
    profile = np.sqrt(profile) if blunt else profile
    return np.minimum(np.minimum(y + up * profile, down * profile - y), half_width - np.abs(x))


def _bump(x, y):
    """Smooth hill of height 1 at the origin that ends on the unit circle."""
    return np.maximum(1 - x * x - y * y, 0) ** 2


def _paint(canvas, tone, cover):
    """Lay a tone (0 black, 1 white) over the canvas in place, as thick as its coverage 0-1."""
    canvas += cover * (tone - canvas)


def _draw(rng, labels):
    """Draw one face for each label, back to front; returns uint8 (n, 48, 48)."""
    n = len(labels)

    def uniform(low, high):
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    def sometimes(probability, low, high):
        return (rng.random((n, 1, 1)) < probability) * uniform(low, high)

    (brow_y, brow_in, lid_up, lid_low, gaze_y, mouth_w, smile, gap, teeth, sneer, wrinkle, fold,
     knit) = _moves(rng, labels).T[:, :, None, None]
    # Pose: image (x, y) to head (u, v). A turn of the head shifts the features, so they have an axis of their
    # own, f; pairs are drawn at once from the distance `a` to the nose.
    angle = uniform(-0.13, 0.13) + uniform(-0.13, 0.13)  # radians: up to 15 degrees, mostly less
    scale = uniform(0.98, 1.18)
    pixel = 2 / (SIZE * scale)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) * (2 / SIZE) - (1 - 1 / SIZE)
    x0, y0 = (x - uniform(-0.08, 0.08)) / scale, (y - uniform(-0.08, 0.08)) / scale
    u, v = x0 * np.cos(angle) + y0 * np.sin(angle), y0 * np.cos(angle) - x0 * np.sin(angle)
    f = u - uniform(-0.12, 0.12)
    a = np.abs(f)

    # Identity and light.
    width, height, jaw = uniform(0.66, 0.76), uniform(0.9, 1.0), uniform(0.1, 0.3)
    eye_x, eye_y, eye_w = uniform(0.27, 0.34), -0.12, uniform(0.13, 0.165)
    nose_w, nose_y = uniform(0.09, 0.14), uniform(0.2, 0.27)
    mouth_y, lip = uniform(0.46, 0.54), uniform(0.03, 0.055)
    skin = uniform(0.38, 0.85)
    hair = np.minimum(uniform(0.04, 0.55), skin * 0.85)
    light_x, light_y = uniform(-0.45, 0.45), uniform(-0.35, 0.1)

    # Background, long hair, neck, clothes, ears.
    canvas = uniform(0.1, 0.9) + uniform(-0.2, 0.2) * x + uniform(-0.2, 0.2) * y
    volume = uniform(0.04, 0.2)
    reach = np.sqrt((u / width) ** 2 + (np.minimum(v, 0) / height) ** 2)
    hair_length = sometimes(0.4, 0.6, 1.6)
    _paint(canvas, hair, _soft(np.minimum((1 + volume - reach) * width, hair_length - v - u * u), pixel)
           * (hair_length > 0))
    _paint(canvas, skin * 0.6, _soft(np.minimum(0.42 - np.abs(u), v - 0.5), pixel))
    _paint(canvas, uniform(0.1, 0.9), _soft(v - 1.15 + 0.15 * np.abs(u), pixel))
    ear = 0.1 - np.sqrt((np.abs(u) - width) ** 2 + ((v + 0.02) * 0.6) ** 2)
    _paint(canvas, skin * 0.75, _soft(ear, pixel))

    # Head: an egg lit as an ellipsoid, with the hills and hollows of a face.
    nx, ny = u / (width * (1 - jaw * np.maximum(v, 0) ** 2)), v / height
    radius = np.sqrt(nx * nx + ny * ny)
    head = _soft((1 - radius) * width, pixel)
    shade = 0.72 + 0.33 * np.sqrt(np.maximum(1 - radius * radius, 0)) + light_x * nx + light_y * ny
    shade -= uniform(0.05, 0.25) * _bump((a - eye_x + 0.03) / 0.24, (v - eye_y + 0.03) / 0.2)  # eye sockets
    shade += 0.16 * _bump((a - 0.36) / 0.22, (v - 0.16) / 0.2)  # cheekbones
    shade += (0.12 + light_x * f / nose_w) * _bump(f / (nose_w * 1.6), (v - nose_y + 0.2) / 0.32)  # nose
    shade -= 0.25 * _bump(f / (nose_w * 1.5), (v - nose_y - 0.05) / 0.09)  # below the nose
    shade -= 0.22 * _bump(f / 0.2, (v - mouth_y - 0.19) / 0.07)  # below the lower lip
    _paint(canvas, skin * shade, head)

    # Beard and hair.
    beard = sometimes(0.2, 0.3, 0.8) * np.clip((v - 0.36 + 0.6 * (a - 0.25)) * 6, 0, 1)
    _paint(canvas, hair, head * beard)
    hairline = uniform(-0.85, -0.55) + uniform(0.1, 0.9) * u * u + uniform(-0.15, 0.15) * u
    sheen = 1 + 0.5 * light_x * nx - 0.3 * ny
    crown = (1.01 + volume * np.clip(-1.5 * v - 0.3, 0, 1) - reach) * width  # thins out towards the temples
    _paint(canvas, hair * sheen, _soft(np.minimum(crown, hairline - v), pixel))

    # Folds: frown lines, nose wrinkles, the line from the nose to the corner of the mouth; then the nostrils.
    t = v - (nose_y + mouth_y) / 2
    crease = knit * _soft(_lens(v + 0.27, a - 0.05, 0.12, 0.02, 0.02), pixel)
    crease += wrinkle * (0.5 + 0.3 * np.sin((v + 0.4 * a) * 45)) * _bump(f / 0.17, (v - 0.02) / 0.17)
    crease += fold * _soft(_lens(t, a - nose_w - 0.14 - 0.55 * t, 0.16, 0.018, 0.018), pixel)
    canvas *= 1 - 0.4 * np.minimum(crease, 1)
    canvas *= 1 - 0.6 * _soft(_lens(a - nose_w * 0.6, v - nose_y, nose_w * 0.5, 0.025, 0.025), pixel)

    # Eyes: white, iris cut by the lids, lashes along the upper lid, a crease above it and one below the eye.
    ex, ey = a - eye_x, v - eye_y
    white = _soft(_lens(ex, ey, eye_w, lid_up, lid_low), pixel)
    _paint(canvas, 0.45 + 0.48 * skin, white)
    iris = 0.068 - np.sqrt((ex - uniform(-0.04, 0.04) * np.sign(f)) ** 2 + (ey - gaze_y + 0.015) ** 2)
    _paint(canvas, uniform(0.03, 0.25), white * _soft(iris, pixel))
    arc = 1 - (ex / eye_w) ** 2
    lash = ey + lid_up * np.maximum(arc, 0)
    canvas *= 1 - 0.75 * _soft(_lens(ex, lash, eye_w * 1.1, 0.03, 0.012), pixel)
    canvas *= 1 - 0.2 * _soft(_lens(ex, lash + 0.06, eye_w, 0.012, 0.012), pixel)
    canvas *= 1 - 0.25 * _soft(_lens(ex, ey - lid_low * arc - 0.015, eye_w, 0.012, 0.012), pixel)

    # Brows.
    t = ex / 0.2
    brow = v - brow_y + brow_in * t - uniform(0.0, 0.06) * (t * t - 0.5)
    thick = uniform(0.025, 0.05)
    cover = uniform(0.6, 0.95) * _soft(_lens(ex, brow, 0.2, thick, thick), pixel)
    _paint(canvas, np.minimum(hair, skin * 0.57), cover)

    # Mouth: lips, the dark inside with the upper teeth, and the line where closed lips meet.
    t = f / mouth_w
    sneer = sneer * rng.choice(np.float32([-1, 1]), (n, 1, 1))  # to either side
    bite = v - mouth_y + smile * (t * t - 0.5) + sneer * t
    gap_up = 0.35 * gap
    lips = _lens(f, bite, mouth_w, gap_up + lip, gap + 1.3 * lip, blunt=True)
    _paint(canvas, skin * uniform(0.48, 0.76), head * _soft(lips, pixel))
    inside = _soft(_lens(f, bite, mouth_w * 0.88, gap_up, gap, blunt=True), pixel) * np.clip(gap * 40, 0, 1)
    _paint(canvas, 0.07, inside)
    _paint(canvas, 0.55 + 0.38 * skin, inside * _soft(teeth - gap_up - bite, pixel) * (teeth > 0.02))
    canvas *= 1 - 0.6 * _soft(_lens(f, bite, mouth_w, 0.014, 0.014), pixel) * np.clip(1 - gap * 20, 0, 1)

    # Glasses.
    rim = np.abs(np.sqrt((ex / 0.21) ** 2 + ((ey - 0.02) / 0.17) ** 2) - 1) * 0.19
    bridge = np.where(a < eye_x - 0.2, np.abs(ey + 0.02), 1)
    _paint(canvas, 0.1, sometimes(0.12, 0.6, 1.0) * _soft(0.018 - np.minimum(rim, bridge), pixel))

    # Camera: blur, gamma, contrast, brightness, noise.
    blur, wide = uniform(0.0, 0.2), np.pad(canvas, ((0, 0), (1, 1), (1, 1)), mode="edge")
    wide = wide[:, 1:-1] + blur * (wide[:, :-2] + wide[:, 2:] - 2 * wide[:, 1:-1])
    canvas = wide[:, :, 1:-1] + blur * (wide[:, :, :-2] + wide[:, :, 2:] - 2 * wide[:, :, 1:-1])
    canvas = np.clip(canvas, 0, 1.2) ** uniform(0.75, 1.4)
    canvas = 0.5 + uniform(0.8, 1.3) * (canvas - 0.5) + uniform(-0.08, 0.08)
    canvas += uniform(0.005, 0.03) * rng.standard_normal(canvas.shape, np.float32)
    return (np.clip(canvas, 0, 1) * 255).astype(np.uint8)


@functools.lru_cache(maxsize=2)  # a process draws them once
def sample_faces(n=7000, seed=0):
    """n labelled faces; face i depends on the seed, not on n: a small sample is the head of a large one.

    Returns images, uint8 (n, 48, 48), 0-255, and labels, int64 (n,), the codes of `data.CLASSES` in FER2013's
    Training proportions. Every class occurs when n >= 7. 7000 faces take 2 to 3 s of one CPU core and 60 MB.
    """
    images, labels = np.empty((n, SIZE, SIZE), np.uint8), np.empty(n, np.int64)
    share = np.array(TRAINING_COUNTS) / sum(TRAINING_COUNTS)
    for start in range(0, n, CHUNK):
        rng = np.random.default_rng([seed, start])
        codes = rng.choice(7, CHUNK, p=share)
        if start == 0:
            codes[:7] = rng.permutation(7)  # the rare ones too, however few faces are asked for
        faces = _draw(rng, codes)  # always a whole chunk, so that n does not change what is drawn
        images[start:start + CHUNK], labels[start:start + CHUNK] = faces[:n - start], codes[:n - start]
    images.flags.writeable = labels.flags.writeable = False  # they are shared by all callers
    return images, labels
