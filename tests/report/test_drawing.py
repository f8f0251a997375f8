import re
from xml.etree import ElementTree as ET

from jaxnas.report import drawing

SVG = "{http://www.w3.org/2000/svg}"
SKIPS = "C(8,3,1) - C(8,3,1)+batch-norm+skip2 - P(2,2) - SM()"
CELLS = "normal: add(sep3(h),avg3(h-1)) reduction: cat(max3(h),identity(h))"


def words(document):
    return [text.text for text in ET.fromstring(document).iter(f"{SVG}text")]


def test_layers_of_a_notation():
    found = drawing.layers(SKIPS)
    assert [layer.kind for layer in found] == ["convolution", "convolution", "pooling", "softmax"]
    assert [layer.skip for layer in found] == [0, 2, 0, 0]
    assert [layer.skip for layer in drawing.layers(SKIPS, 1)] == [1, 2, 0, 0]
    assert drawing.default_skip({"space": {"skip": [1, 0]}}) == 1
    assert drawing.default_skip({"space": {}}) == drawing.default_skip({}) == 0


def test_a_skip_is_an_arc_from_its_source_to_its_sum():
    """Boxes of 44 from 68 on, 24 apart, between 170 and 470: the image, then the layers."""
    document = drawing.draw(SKIPS, "title", "below it")
    (arc,) = re.findall(r'd="(M470 [^M]*)M', document)
    # From the image, four fifths down at 103.2, to the second layer's middle, 68 + 2 · 68 + 22.
    assert arc == "M470 103.2C528 103.2 528 226 478 226"
    assert words(document)[2:4] == ["image", "input"]
    assert "C528" not in drawing.draw(SKIPS.replace("+skip2", ""), "title", "below it")


def test_cells_are_drawn_as_graphs():
    document = drawing.draw(CELLS, "title", "below it")
    assert words(document)[2:] == [
        "normal cell", "h-1", "h", "b1 add", "avg3", "sep3", "concatenation",
        "reduction cell", "h-1", "h", "b1 cat", "max3", "identity", "concatenation",
    ]  # fmt: skip
