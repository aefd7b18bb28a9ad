"""Muon: gradient descent whose steps on convolutions have equal singular values."""

import keras
from keras import ops


class Muon(keras.optimizers.SGD):
    """Nesterov SGD whose steps on convolutions are orthogonal (Jordan et al. 2024).

    A kernel (h, w, c_in, c_out) of several input channels is a matrix with h w c_in rows and c_out columns,
    and of the step U S V' of SGD only U V' is taken (https://kellerjordan.github.io/posts/muon/), times
    sqrt(max(1, rows / columns)) and `RATE` times the learning rate. All other weights follow SGD.
    (keras.optimizers.Muon gives everything but matrices to AdamW.)
    """

    RATE = 0.3

    def update_step(self, gradient, variable, learning_rate):
        if len(variable.shape) != 4 or variable.shape[2] == 1:
            return super().update_step(gradient, variable, learning_rate)
        momentum = self.momentums[self._get_variable_index(variable)]
        self.assign(momentum, self.momentum * momentum + gradient)
        matrix = ops.reshape(gradient + self.momentum * momentum, (-1, variable.shape[-1]))
        rows, columns = matrix.shape
        rate = ops.cast(learning_rate, variable.dtype) * self.RATE * max(1, rows / columns) ** 0.5
        self.assign_sub(variable, rate * ops.reshape(orthogonal(matrix), variable.shape))


def orthogonal(matrix):
    """About U V' of the singular value decomposition U S V' of a float32 matrix (rows, columns), by five
    Newton-Schulz steps x <- x (a + b x'x + c (x'x)^2), after which singular values lie near 1 (0.7 to 1.2).

    Every step multiplies by a polynomial of x'x, so the steps are taken on that small matrix alone.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return ops.transpose(orthogonal(ops.transpose(matrix)))
    matrix = matrix / (ops.norm(matrix) + 1e-7)
    square, identity = ops.transpose(matrix) @ matrix, ops.eye(matrix.shape[1], dtype=matrix.dtype)
    product = identity
    for step in range(5):
        factor = 3.4445 * identity - 4.7750 * square + 2.0315 * square @ square
        product = product @ factor if step else factor
        square = factor @ square @ factor
    return matrix @ product
