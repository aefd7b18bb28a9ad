"""explain/regions.py: the template of the face, and how much of a map lies on each of its parts."""

import keras
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("gradients are TensorFlow's", allow_module_level=True)

from explain import regions

# By eye on the mean face of the 28,709 training faces: (row, column), and what is there
LANDMARKS = {(17, 14): "eyes", (17, 33): "eyes", (12, 14): "brows", (12, 33): "brows", (28, 24): "nose",
             (31, 21): "nose", (38, 24): "mouth", (36, 15): "mouth", (26, 13): "cheeks", (26, 35): "cheeks",
             (45, 24): "chin", (5, 24): "forehead", (3, 3): "border", (45, 3): "border", (24, 46): "border"}


@pytest.mark.parametrize("size", [48, 96, 144])
def test_landmarks_of_the_mean_face_are_where_the_template_says(size):
    template, scale = regions.template(size, size), size // 48
    found = {point: template[scale * point[0] + scale // 2, scale * point[1] + scale // 2]
             for point in LANDMARKS}
    assert found == LANDMARKS
    assert (template == template[:, ::-1]).all()  # a face and its mirror image have the same shares


def test_shares_are_of_what_is_above_zero_and_add_up():
    maps = np.zeros((4, 48, 48), np.float32)
    maps[0] = 3  # everywhere
    maps[1, 17, 14], maps[1, 38, 24], maps[1, 3, 3] = 3, 1, -5
    maps[2] = np.random.default_rng(0).uniform(size=(48, 48))
    shares = regions.shares(maps)
    assert shares.loc[0].to_dict() == pytest.approx(regions.areas())
    assert shares.loc[1, ["eyes", "mouth", "border"]].tolist() == [0.75, 0.25, 0]
    np.testing.assert_allclose(shares.sum(axis=1)[:3], 1)
    assert shares.loc[3].isna().all()  # nothing is nowhere


def test_the_sentence_names_the_parts_by_density():
    shares = pd.DataFrame([dict.fromkeys(regions.REGIONS, share) | {"eyes": 0.5, "border": 0.01}
                           for share in (0, 0.1)])
    text = regions.describe(shares.add_prefix("on_"))
    assert text.startswith("The map is densest on the eyes (50 % of it on 5 % of the area), the chin (5 % of")
    assert text.endswith("thinnest on the border (1 % of it on 37 % of the area).")
    assert regions.describe(regions.shares(np.zeros((2, 48, 48))).add_prefix("on_")) == "All maps are blank."
