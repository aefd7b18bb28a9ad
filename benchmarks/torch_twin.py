"""The same network in PyTorch, as fast as PyTorch trains it on a CPU, for benchmarks.train."""

import os

import numpy as np
import torch
from keras import layers


class Twin(torch.nn.Module):
    """A PyTorch module that computes what a Keras classifier computes, with the same weights.

    model: functional keras.Model. Takes float32 (n, 1, 48, 48), 0-255, gives logits (n, 7). Raises TypeError
        for a layer that it has no counterpart for.
    """

    def __init__(self, model):
        super().__init__()
        self.order, self.parts = [], torch.nn.ModuleDict()
        for layer in model.layers:
            if isinstance(layer, (layers.InputLayer, layers.Softmax)):
                continue
            sources = layer._inbound_nodes[0].input_tensors
            self.order.append((layer.name, [source._keras_history.operation.name for source in sources]))
            self.parts[layer.name] = counterpart(layer)
        self.face = model.inputs[0]._keras_history.operation.name

    def forward(self, faces):
        values = {self.face: faces}
        for name, sources in self.order:
            values[name] = self.parts[name](*(values[source] for source in sources))
        return values[name]


class Function(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


def counterpart(layer):
    """The PyTorch module that does what a Keras layer does, with its weights."""
    weights = [torch.from_numpy(np.array(w)) for w in layer.get_weights()]
    if isinstance(layer, layers.Rescaling):
        return Function(lambda x: x * layer.scale + layer.offset)
    if isinstance(layer, layers.Cropping2D):
        (top, bottom), (left, right) = layer.cropping
        return Function(lambda x: x[:, :, top:x.shape[2] - bottom, left:x.shape[3] - right])
    if isinstance(layer, layers.Conv2D):
        part = torch.nn.Conv2d(layer.kernel.shape[2], layer.filters, layer.kernel_size, layer.strides,
                               padding=layer.padding, bias=layer.use_bias)
        return loaded(part, [weights[0].permute(3, 2, 0, 1), *weights[1:]])
    if isinstance(layer, layers.Dense):
        return loaded(torch.nn.Linear(*layer.kernel.shape), [weights[0].T, weights[1]])
    if isinstance(layer, layers.BatchNormalization):
        part = loaded(
            torch.nn.BatchNorm2d(layer.gamma.shape[0], layer.epsilon, 1 - layer.momentum), weights[:2]
        )
        part.running_mean.copy_(weights[2])
        part.running_var.copy_(weights[3])
        return part
    if isinstance(layer, layers.Flatten):  # Keras flattens rows, columns, channels
        return Function(lambda x: x.permute(0, 2, 3, 1).flatten(1))
    for kind, made in {
        layers.ReLU: torch.nn.ReLU, layers.MaxPooling2D: lambda: torch.nn.MaxPool2d(2),
        layers.Dropout: lambda: torch.nn.Dropout(layer.rate), layers.Add: lambda: Function(torch.add),
        layers.Concatenate: lambda: Function(lambda *x: torch.cat(x, 1)),
        layers.GlobalAveragePooling2D: lambda: Function(lambda x: x.mean((2, 3))),
        layers.GlobalMaxPooling2D: lambda: Function(lambda x: x.amax((2, 3))),
    }.items():
        if isinstance(layer, kind):
            return made()
    raise TypeError(f"no counterpart in PyTorch for {layer.name} ({type(layer).__name__})")


def loaded(part, weights):
    """`part` with its parameters set to `weights`, in order."""
    with torch.no_grad():
        for parameter, weight in zip(part.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return part


def trainer(model, images, labels, batch, bfloat16, compiled=False):
    """A function that trains one epoch of the twin of `model`: channels last, Adam in one kernel.

    images: uint8 (n, 48, 48); labels: int (n,); bfloat16: under autocast; compiled: with torch.compile.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    twin = Twin(model).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(twin) if compiled else twin
    x, y = torch.from_numpy(images[:, None].copy()), torch.from_numpy(labels.astype(np.int64))

    def epoch():
        for rows in torch.randperm(len(x))[:len(x) // batch * batch].split(batch):
            faces = x[rows].float().contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = forward(faces)
            loss = torch.nn.functional.cross_entropy(logits.float(), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch
