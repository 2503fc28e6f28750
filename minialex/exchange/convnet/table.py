"""Any layer definition as a table, which `minialex summary FILE.cfg` prints."""

from minialex.exchange.convnet.graph import Node
from minialex.utils import table


def summary(name: str, nodes: dict[str, Node], trains: str) -> str:
    """A row per layer; `trains` is the last line: whether the network can be trained."""
    header = ("layer", "what", "inputs", "output", "parameters")
    rows = [
        (
            node.name,
            what(node),
            ", ".join(node.inputs),
            f"{node.size}x{node.size}x{node.channels}" if node.size else f"{node.channels}",
            f"{node.parameters:,}" if node.parameters else "",
        )
        for node in nodes.values()
    ]
    total = sum(node.parameters for node in nodes.values())
    rows.append(("total", "", "", "", f"{total:,}"))
    images = next(node for node in nodes.values() if node.kind == "data")
    title = f"{name}: {len(nodes)} layers, images of {images.size} x {images.size}"
    return "\n".join([title, "", table.plain(header, rows, "<<<>>"), "", trains])


def what(node: Node) -> str:
    """The layer in a few words."""
    value = node.values.get
    match node.kind:
        case "conv" | "local":
            kind = "conv" if node.kind == "conv" else "local, weights not shared"
            groups = node.integer("groups", 1)
            text = f"{kind} {value('filtersize')}/{value('stride')} pad {value('padding', '0')}"
            text += f", {groups} groups" if groups > 1 else ""
            text += ", sparse at random" if node.flag("randsparse", False) else ""
        case "pool":
            text = f"{value('pool')} pool {value('sizex')}/{value('stride')}"
        case "cmrnorm":
            text = f"LRN across {value('size') or value('sizex')} channels"
        case "rnorm":
            text = f"LRN in channel {value('size') or value('sizex')}"
        case "cnorm":
            text = f"contrast normalisation {value('size') or value('sizex')}"
        case "hs" | "dropout" | "dropout2":
            text = f"dropout, keep {value('keep', '0.5')}"
        case "blur":
            text = f"Gaussian blur {value('filtersize')}, deviation {value('stdev')}"
        case "nailbed":
            text = f"every {value('stride')}th pixel"
        case "treefc":
            text = "dense over a tree of classes (leaves counted)"
        case kind:
            text = {"fc": "dense", "href": "mirrored"}.get(kind, kind)
    return f"{text}, {node.neuron}" if node.neuron else text
