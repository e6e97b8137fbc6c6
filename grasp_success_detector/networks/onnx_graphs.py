"""
The architectures as ONNX graphs, made from a checkpoint's arrays by NumPy alone.

A robot's computer can so run any checkpoint of this package's own architectures with nothing but
OpenCV. BatchNorm is folded into the convolution before it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import CheckpointError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import HAND_FINDER
from grasp_success_detector.networks.hand_boxes import VALUES
from grasp_success_detector.networks.onnx_writer import OnnxGraph

Arrays = Mapping[str, NDArray[Any]]

#: Groups of blocks of EfficientNet-Lite0 after the first one: kernel, stride of the first block,
#: channels, blocks.
LITE0_GROUPS: Final = (
    (3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3), (5, 2, 192, 4), (3, 1, 320, 1))

#: Of these, the groups that the hand finder uses.
FINDER_GROUPS: Final = 4

#: Number of blocks in each of the four layers of ResNet34.
RESNET34_LAYERS: Final = (3, 4, 6, 3)

#: Rows of a map up to which :func:`_over_rows` makes a depthwise convolution faster in OpenCV 4.
MOST_ROWS: Final = 28

INPUT: Final = 'planes'
FEATURES: Final = 'features'
LOGITS: Final = 'logits'


def onnx_model(architecture: str, arrays: Arrays, size: Preprocessing,
               observed: Sequence[str] = (), most_rows: int = 0) -> bytes:
    """
    Return a network in the ONNX format.

    Its input ``planes`` is float32 (1, 3, H, W), normalised. Its output is ``logits``, float32
    (1, 2), index = Label; of the hand finder the values of its grid (:mod:`.hand_boxes`).

    :param arrays: tensors of the checkpoint; others than the architecture's are ignored.
    :param observed: parts whose output is one more: ``features``, float32 (1, C), the input of the
        last layer, or a block of EfficientNet-Lite0 that adds its input, such as ``blocks.3.2``,
        float32 (1, C, H, W).
    :param most_rows: rows of a map up to which :func:`_over_rows` computes its depthwise
        convolutions: ``MOST_ROWS`` for OpenCV 4, 0 for OpenCV 5, where this would be slower.
    :raises CheckpointError: there is no graph of this architecture, the arrays do not fit it, or
        it has no such part.
    """
    if architecture not in GRAPHS:
        raise CheckpointError(f'only {", ".join(GRAPHS)} can be run without torch, '
                              f'not {architecture}')
    network = _Network(arrays, size.height, size.width, most_rows)
    try:
        GRAPHS[architecture](network)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f'its tensors are not those of {architecture} ({error})') from error
    if missing := [name for name in observed if name not in network.shapes]:
        raise CheckpointError(f'{architecture} has no part {", ".join(missing)}')
    return network.graph.model(
        {INPUT: (1, 3, size.height, size.width)},
        {name: network.shapes[name] for name in (LOGITS, *observed)})


class _Network:
    """
    A graph under construction, and the arrays that its layers take their weights from.

    :ivar shapes: of what may be an output, by name.
    """

    def __init__(self, arrays: Arrays, height: int, width: int, most_rows: int) -> None:
        self.graph, self.arrays, self.height, self.width = OnnxGraph(), arrays, height, width
        self.most_rows = most_rows
        self.shapes: dict[str, tuple[int, ...]] = {LOGITS: (1, len(Label))}

    def conv(self, x: str, name: str, norm: str | None = None, *, stride: int = 1,
             padding: int | None = 0, eps: float = 1e-5, active: bool = False) -> str:
        """
        Add a convolution, with the BatchNorm after it folded in.

        :param padding: rows and columns at each side; None: as in TensorFlow, where an odd margin
            is larger at the bottom and at the right.
        :param active: whether a ReLU6 follows.
        """
        kernels = self.arrays[f'{name}.weight']     # (out, in / groups, K, K)
        size = kernels.shape[2]
        if norm is None:
            bias = self.arrays[f'{name}.bias']
        else:
            factor = self.arrays[f'{norm}.weight'] / np.sqrt(
                self.arrays[f'{norm}.running_var'] + np.float32(eps))
            bias = self.arrays[f'{norm}.bias'] - self.arrays[f'{norm}.running_mean'] * factor
            kernels = kernels * factor[:, None, None, None]
        if padding is None:
            (top, bottom), (left, right) = (
                _margins(length, size, stride) for length in (self.height, self.width))
        else:
            top = bottom = left = right = padding
        height, width = self.height, self.width
        self.height = (height + top + bottom - size) // stride + 1
        self.width = (width + left + right - size) // stride + 1
        # A convolution of one channel each is depthwise: as many groups as there are kernels.
        depthwise = kernels.shape[1] == 1
        channels = len(kernels)
        by_rows = depthwise and size > 3 and height <= self.most_rows
        if by_rows:
            kernels = _over_rows(kernels, stride, top, height, self.height)
            bias = np.repeat(bias, self.height)
            x = self.reshape(x, channels * height, 1, width)
            top = bottom = 0
        y = self.graph.add(
            'Conv', [x], [kernels, bias], kernel_shape=kernels.shape[2:],
            strides=[1 if by_rows else stride, stride], pads=[top, left, bottom, right],
            group=channels if depthwise else 1)
        if active:      # before the next layer, so that OpenCV computes both at once
            y = self.graph.add('Clip', [y], min=0., max=6.)
        return self.reshape(y, channels, self.height, self.width) if by_rows else y

    def reshape(self, x: str, *shape: int) -> str:
        """Give the output of a layer, whose order stays, another shape (1, ...)."""
        return self.graph.add('Reshape', [x], [np.array((1, *shape), np.int64)])

    def linear(self, x: str, name: str, output: str | None = None) -> str:
        """Add a linear layer."""
        return self.graph.add(
            'Gemm', [x], [self.arrays[f'{name}.weight'], self.arrays[f'{name}.bias']], output,
            transB=1)

    def relu(self, x: str, output: str | None = None) -> str:
        return self.graph.add('Relu', [x], output=output)

    def max_pool(self, x: str, size: int, stride: int, padding: int = 0) -> str:
        self.height, self.width = (
            (length + 2 * padding - size) // stride + 1 for length in (self.height, self.width))
        return self.graph.add('MaxPool', [x], kernel_shape=[size, size],
                              strides=[stride, stride], pads=[padding] * 4)

    def head(self, x: str, name: str) -> None:
        """Add the mean over each channel, and the last layer."""
        self.graph.add('Flatten', [self.graph.add('GlobalAveragePool', [x])], output=FEATURES,
                       axis=1)
        self.last(name)

    def last(self, name: str) -> None:
        """Add the last layer, from the features to the logits."""
        self.linear(FEATURES, name, LOGITS)
        self.shapes[FEATURES] = 1, self.arrays[f'{name}.weight'].shape[1]


def _margins(length: int, kernel: int, stride: int) -> tuple[int, int]:
    margin = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return margin // 2, margin - margin // 2


def _over_rows(kernels: NDArray[Any], stride: int, top: int, rows: int, rows_out: int
               ) -> NDArray[np.float32]:
    """
    Return a depthwise convolution's kernels for maps whose rows are channels.

    OpenCV 4 computes depthwise kernels larger than 3 x 3 one number after the other, and
    convolutions of several channels many at once: though most of these weights are 0, it is two
    to four times as fast.

    :param kernels: float32 (C, 1, K, K).
    :param top: rows of padding above.
    :returns: float32 (C * rows_out, rows, 1, K), for input (1, C * rows, 1, width) in C groups.
    """
    channels, _, size, _ = kernels.shape
    made = np.zeros((channels, rows_out, rows, 1, size), np.float32)
    for out in range(rows_out):
        first = out * stride - top
        for row in range(max(first, 0), min(first + size, rows)):
            made[:, out, row, 0] = kernels[:, 0, row - first]
    return made.reshape(channels * rows_out, rows, 1, size)


def _cifar_cnn(network: _Network) -> None:
    x = INPUT
    for name in ('conv1', 'conv2'):
        x = network.max_pool(network.relu(network.conv(x, name)), 2, 2)
    x = network.graph.add('Flatten', [x], axis=1)
    x = network.relu(network.linear(x, 'fc1'))
    network.relu(network.linear(x, 'fc2'), FEATURES)
    network.last('fc3')


def _resnet34(network: _Network) -> None:
    x = network.relu(network.conv(INPUT, 'conv1', 'bn1', stride=2, padding=3))
    x = network.max_pool(x, 3, 2, 1)
    for layer, count in enumerate(RESNET34_LAYERS, 1):
        for block in range(count):
            name = f'layer{layer}.{block}'
            stride = 2 if layer > 1 and block == 0 else 1
            before = network.height, network.width
            y = network.relu(network.conv(
                x, f'{name}.conv1', f'{name}.bn1', stride=stride, padding=1))
            y = network.conv(y, f'{name}.conv2', f'{name}.bn2', padding=1)
            if stride > 1:
                network.height, network.width = before
                x = network.conv(x, f'{name}.downsample.0', f'{name}.downsample.1', stride=2)
            x = network.relu(network.graph.add('Add', [y, x]))
    network.head(x, 'fc')


def _lite0_conv(network: _Network, x: str, name: str, norm: str, stride: int = 1,
                active: bool = True) -> str:
    return network.conv(x, name, norm, stride=stride, padding=None, eps=1e-3, active=active)


def _lite0_blocks(network: _Network, groups: int = len(LITE0_GROUPS)) -> str:
    """Add the stem, the first block and as many groups of blocks."""
    conv = partial(_lite0_conv, network)
    x = conv(INPUT, 'conv_stem', 'bn1', 2)
    x = conv(x, 'blocks.0.0.conv_dw', 'blocks.0.0.bn1')
    x = conv(x, 'blocks.0.0.conv_pw', 'blocks.0.0.bn2', active=False)
    for group, (_, first_stride, channels, count) in enumerate(LITE0_GROUPS[:groups], 1):
        for block in range(count):
            name = f'blocks.{group}.{block}'
            stride = first_stride if block == 0 else 1
            y = conv(x, f'{name}.conv_pw', f'{name}.bn1')
            y = conv(y, f'{name}.conv_dw', f'{name}.bn2', stride)
            y = conv(y, f'{name}.conv_pwl', f'{name}.bn3', active=False)
            x = network.graph.add('Add', [y, x], output=name) if block else y
            if block:
                network.shapes[name] = 1, channels, network.height, network.width
    return x


def _efficientnet_lite0(network: _Network) -> None:
    x = _lite0_conv(network, _lite0_blocks(network), 'conv_head', 'bn2')
    network.head(x, 'classifier')


def _hand_finder(network: _Network) -> None:
    x = _lite0_conv(network, _lite0_blocks(network, FINDER_GROUPS), 'conv_mix', 'bn2')
    x = network.conv(_lite0_conv(network, x, 'conv_near', 'bn3'), 'values')
    network.graph.add('Flatten', [x], output=LOGITS, axis=1)
    network.shapes[LOGITS] = 1, VALUES * network.height * network.width


#: What builds the graph of each architecture.
GRAPHS: Final[Mapping[str, Callable[[_Network], None]]] = {
    'cifar_cnn': _cifar_cnn, 'resnet34': _resnet34, 'efficientnet_lite0': _efficientnet_lite0,
    HAND_FINDER: _hand_finder}
