import re
from xml.etree import ElementTree as ET

from jaxnas.report import drawing
from jaxnas.spaces.layers import Block, Cell, Conv, Pool, Softmax
from jaxnas.spaces.nasnet import INPUTS

SVG = "{http://www.w3.org/2000/svg}"
SKIPS = (Conv(8, 3), Conv(8, 3, norm="batch", skip=2), Pool(2, 2), Softmax())
STRAIGHT = (Conv(8, 3), Conv(8, 3, norm="batch"), Pool(2, 2), Softmax())
CELLS = (
    Cell("normal", INPUTS, (Block((0, 1), ("sep3", "avg3"), "add"),), "unused"),
    Cell("reduction", INPUTS, (Block((0, 0), ("max3", "identity"), "cat"),), "unused"),
)


def words(document):
    return [text.text for text in ET.fromstring(document).iter(f"{SVG}text")]


def test_a_box_a_layer():
    boxes = drawing.boxes(SKIPS, "")
    assert [box.kind for box in boxes] == ["input", "convolution", "convolution", "pooling", "softmax"]
    assert [box.skip for box in boxes] == [0, 0, 2, 0, 0]
    assert boxes[2].words == "C(8,3,1)+batch-norm+skip2"


def test_an_architecture_of_unknown_parts_is_written():
    assert [box.words for box in drawing.boxes((), "64-32")] == ["image", "64-32"]
    assert words(drawing.draw((), "64-32", "title", "below it"))[2:] == ["image", "input", "64-32", "layer"]


def test_a_skip_is_an_arc_from_its_source_to_its_sum():
    """Boxes of 44 from 68 on, 24 apart, between 170 and 470: the image, then the layers."""
    document = drawing.draw(SKIPS, "", "title", "below it")
    (arc,) = re.findall(r'd="(M470 [^M]*)M', document)
    # From the image, four fifths down at 103.2, to the second layer's middle, 68 + 2 · 68 + 22.
    assert arc == "M470 103.2C528 103.2 528 226 478 226"
    assert words(document)[2:4] == ["image", "input"]
    assert "C528" not in drawing.draw(STRAIGHT, "", "title", "below it")


def test_cells_are_drawn_as_graphs():
    document = drawing.draw(CELLS, "", "title", "below it")
    assert words(document)[2:] == [
        "normal cell", "h-1", "h", "b1 add", "avg3", "sep3", "concatenation",
        "reduction cell", "h-1", "h", "b1 cat", "max3", "identity", "concatenation",
    ]  # fmt: skip
