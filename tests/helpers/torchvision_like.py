"""torchvision's AlexNet and VGG as it defines them, with any number of channels."""

import torch
from torch import nn

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLOCKS = {"vgg11": (1, 1, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


class Net(nn.Module):
    """features, avgpool, classifier: torchvision's forward pass."""

    def __init__(self, features, side, classifier):
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((side, side))
        self.classifier = classifier

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def alexnet(classes=1000, channels=(64, 192, 384, 256, 256), hidden=4096, side=6):
    a, b, c, d, e = channels
    features = nn.Sequential(
        *(nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(True), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(True), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU(True)),
        *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU(True)),
        *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(3, 2)),
    )
    classifier = nn.Sequential(
        *(nn.Dropout(), nn.Linear(e * side * side, hidden), nn.ReLU(True)),
        *(nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(True), nn.Linear(hidden, classes)),
    )
    return Net(features, side, classifier)


def vgg(name="vgg16", classes=1000, width=64, hidden=4096, side=7, batch_norm=False):
    layers, inputs = [], 3
    for count, factor in zip(BLOCKS[name], (1, 2, 4, 8, 8), strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(inputs, factor * width, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(factor * width))
            layers.append(nn.ReLU(True))
            inputs = factor * width
        layers.append(nn.MaxPool2d(2, 2))
    classifier = nn.Sequential(
        *(nn.Linear(inputs * side * side, hidden), nn.ReLU(True), nn.Dropout()),
        *(nn.Linear(hidden, hidden), nn.ReLU(True), nn.Dropout(), nn.Linear(hidden, classes)),
    )
    return Net(nn.Sequential(*layers), side, classifier)


def random_weights(net, seed=0):
    """Weights and biases that preserve the signal's scale, so that every layer matters."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            std = (2 / module.weight[0].numel()) ** 0.5
            module.weight.data.normal_(0, std, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight.data, module.running_var):
                value.uniform_(0.5, 1.5, generator=generator)
            for value in (module.bias.data, module.running_mean):
                value.normal_(0, 0.3, generator=generator)
    return net.eval()


def timm_keys(state):
    """VGG's state dict as timm writes it: the dense layers as convolutions."""
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2"}
    names["classifier.6"] = "head.fc"
    found = {}
    for key, value in state.items():
        module, _, what = key.rpartition(".")
        if what == "weight" and module == "classifier.0":
            channels = state["features.0.weight"].shape[0] * 8
            side = round((value.shape[1] / channels) ** 0.5)
            value = value.reshape(len(value), channels, side, side)
        if what == "weight" and module == "classifier.3":
            value = value[:, :, None, None]
        found[f"{names.get(module, module)}.{what}"] = value
    return found


def inputs(images):
    """ToTensor and Normalize of uint8 photographs (N, H, W, 3)."""
    x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def scores(net, images):
    """Scores of uint8 photographs (N, H, W, 3) as large as the network's input."""
    with torch.no_grad():
        return net(inputs(images)).numpy()
