"""Colours: reading the ways SVG writes them, and saying in English what a colour is called."""

from __future__ import annotations

import colorsys
import re

Colour = tuple[float, float, float]
"""Red, green, blue, each 0..1."""

WHITE: Colour = (1.0, 1.0, 1.0)

# The CSS colour keywords (CSS Color 4, "Named Colors").
_NAMED = dict(
    pair.split(":")
    for pair in [
        "aliceblue:f0f8ff",
        "antiquewhite:faebd7",
        "aqua:00ffff",
        "aquamarine:7fffd4",
        "azure:f0ffff",
        "beige:f5f5dc",
        "bisque:ffe4c4",
        "black:000000",
        "blanchedalmond:ffebcd",
        "blue:0000ff",
        "blueviolet:8a2be2",
        "brown:a52a2a",
        "burlywood:deb887",
        "cadetblue:5f9ea0",
        "chartreuse:7fff00",
        "chocolate:d2691e",
        "coral:ff7f50",
        "cornflowerblue:6495ed",
        "cornsilk:fff8dc",
        "crimson:dc143c",
        "cyan:00ffff",
        "darkblue:00008b",
        "darkcyan:008b8b",
        "darkgoldenrod:b8860b",
        "darkgray:a9a9a9",
        "darkgreen:006400",
        "darkgrey:a9a9a9",
        "darkkhaki:bdb76b",
        "darkmagenta:8b008b",
        "darkolivegreen:556b2f",
        "darkorange:ff8c00",
        "darkorchid:9932cc",
        "darkred:8b0000",
        "darksalmon:e9967a",
        "darkseagreen:8fbc8f",
        "darkslateblue:483d8b",
        "darkslategray:2f4f4f",
        "darkslategrey:2f4f4f",
        "darkturquoise:00ced1",
        "darkviolet:9400d3",
        "deeppink:ff1493",
        "deepskyblue:00bfff",
        "dimgray:696969",
        "dimgrey:696969",
        "dodgerblue:1e90ff",
        "firebrick:b22222",
        "floralwhite:fffaf0",
        "forestgreen:228b22",
        "fuchsia:ff00ff",
        "gainsboro:dcdcdc",
        "ghostwhite:f8f8ff",
        "gold:ffd700",
        "goldenrod:daa520",
        "gray:808080",
        "green:008000",
        "greenyellow:adff2f",
        "grey:808080",
        "honeydew:f0fff0",
        "hotpink:ff69b4",
        "indianred:cd5c5c",
        "indigo:4b0082",
        "ivory:fffff0",
        "khaki:f0e68c",
        "lavender:e6e6fa",
        "lavenderblush:fff0f5",
        "lawngreen:7cfc00",
        "lemonchiffon:fffacd",
        "lightblue:add8e6",
        "lightcoral:f08080",
        "lightcyan:e0ffff",
        "lightgoldenrodyellow:fafad2",
        "lightgray:d3d3d3",
        "lightgreen:90ee90",
        "lightgrey:d3d3d3",
        "lightpink:ffb6c1",
        "lightsalmon:ffa07a",
        "lightseagreen:20b2aa",
        "lightskyblue:87cefa",
        "lightslategray:778899",
        "lightslategrey:778899",
        "lightsteelblue:b0c4de",
        "lightyellow:ffffe0",
        "lime:00ff00",
        "limegreen:32cd32",
        "linen:faf0e6",
        "magenta:ff00ff",
        "maroon:800000",
        "mediumaquamarine:66cdaa",
        "mediumblue:0000cd",
        "mediumorchid:ba55d3",
        "mediumpurple:9370db",
        "mediumseagreen:3cb371",
        "mediumslateblue:7b68ee",
        "mediumspringgreen:00fa9a",
        "mediumturquoise:48d1cc",
        "mediumvioletred:c71585",
        "midnightblue:191970",
        "mintcream:f5fffa",
        "mistyrose:ffe4e1",
        "moccasin:ffe4b5",
        "navajowhite:ffdead",
        "navy:000080",
        "oldlace:fdf5e6",
        "olive:808000",
        "olivedrab:6b8e23",
        "orange:ffa500",
        "orangered:ff4500",
        "orchid:da70d6",
        "palegoldenrod:eee8aa",
        "palegreen:98fb98",
        "paleturquoise:afeeee",
        "palevioletred:db7093",
        "papayawhip:ffefd5",
        "peachpuff:ffdab9",
        "peru:cd853f",
        "pink:ffc0cb",
        "plum:dda0dd",
        "powderblue:b0e0e6",
        "purple:800080",
        "rebeccapurple:663399",
        "red:ff0000",
        "rosybrown:bc8f8f",
        "royalblue:4169e1",
        "saddlebrown:8b4513",
        "salmon:fa8072",
        "sandybrown:f4a460",
        "seagreen:2e8b57",
        "seashell:fff5ee",
        "sienna:a0522d",
        "silver:c0c0c0",
        "skyblue:87ceeb",
        "slateblue:6a5acd",
        "slategray:708090",
        "slategrey:708090",
        "snow:fffafa",
        "springgreen:00ff7f",
        "steelblue:4682b4",
        "tan:d2b48c",
        "teal:008080",
        "thistle:d8bfd8",
        "tomato:ff6347",
        "turquoise:40e0d0",
        "violet:ee82ee",
        "wheat:f5deb3",
        "white:ffffff",
        "whitesmoke:f5f5f5",
        "yellow:ffff00",
        "yellowgreen:9acd32",
    ]
)
_FUNCTION = re.compile(r"(rgba?|hsla?)\(([^()]*)\)")


def parse(text: str) -> tuple[Colour, float] | None:
    """Colour and opacity of a CSS colour; None where the text is none (CSS then ignores the declaration)."""
    text = text.strip().lower()
    if text == "transparent":
        return (0.0, 0.0, 0.0), 0.0
    if text in _NAMED:
        text = "#" + _NAMED[text]
    if text.startswith("#"):
        return _hex(text[1:])
    match = _FUNCTION.fullmatch(text)
    values = re.split(r"[\s,/]+", match[2].strip()) if match else []
    if match is None or len(values) not in (3, 4):
        return None
    try:
        alpha = _share(values[3], 1.0) if len(values) == 4 else 1.0
        if match[1].startswith("rgb"):
            red, green, blue = (_share(v, 255.0) for v in values[:3])
            return (red, green, blue), alpha
        hue = float(values[0].removesuffix("deg")) / 360
        return colorsys.hls_to_rgb(hue % 1.0, _share(values[2], 100.0), _share(values[1], 100.0)), alpha
    except (ValueError, OverflowError):
        return None


def _share(text: str, whole: float) -> float:
    value = float(text[:-1]) / 100 if text.endswith("%") else float(text) / whole
    if value != value:
        raise ValueError(text)
    return min(1.0, max(0.0, value))


def _hex(digits: str) -> tuple[Colour, float] | None:
    if not re.fullmatch(r"[0-9a-f]+", digits) or len(digits) not in (3, 4, 6, 8):
        return None
    if len(digits) < 6:
        digits = "".join(2 * digit for digit in digits)
    values = [int(digits[i : i + 2], 16) / 255 for i in range(0, len(digits), 2)]
    return (values[0], values[1], values[2]), values[3] if len(values) == 4 else 1.0


def blend(below: Colour, above: Colour, opacity: float) -> Colour:
    """What is seen of a colour over another."""
    r, g, b = (old + (new - old) * opacity for old, new in zip(below, above, strict=True))
    return (r, g, b)


def alike(one: Colour, other: Colour) -> bool:
    """Whether nobody would tell them apart where they touch (largest difference of a channel at most 4 %)."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 0.04


def names(colour: Colour) -> tuple[str, ...]:
    """What the colour may be called: the commonest name first, another where people differ."""
    hue, light, saturation = colorsys.rgb_to_hls(*colour)
    hue, chroma = 360 * hue, max(colour) - min(colour)
    if light < 0.12 or (chroma < 0.1 and light < 0.2):
        return ("black",)
    if chroma < 0.1 or (saturation < 0.15 and light < 0.85):
        return ("white",) if light > 0.93 else ("gray",)
    if light > 0.96:
        return ("white",)
    return _hue_names(hue, light, saturation)


def _hue_names(hue: float, light: float, saturation: float) -> tuple[str, ...]:
    if hue < 16 or hue >= 345:
        if light > 0.74:
            return ("pink",)
        return ("brown", "red") if light < 0.42 and saturation < 0.62 else ("red",)
    if hue < 46:
        if light < 0.36 or (saturation < 0.6 and light < 0.6):
            return ("brown",)
        return ("orange", "red") if hue < 20 else ("orange", "yellow") if hue > 43 else ("orange",)
    if hue < 70:
        return ("yellow", "brown") if light < 0.3 else ("yellow",)
    if hue < 160:
        return ("green", "yellow") if hue < 80 else ("green",)
    if hue < 200:
        return ("cyan", "green") if hue < 172 else ("cyan", "blue")
    if hue < 258:
        return ("blue",)
    if hue < 295:
        return ("purple", "blue") if hue < 265 else ("purple",)
    if hue < 318:
        return ("purple", "pink") if light < 0.75 else ("pink", "purple")
    return ("pink", "red") if light < 0.55 and hue >= 335 else ("pink",)
