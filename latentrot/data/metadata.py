"""Metadata of images and animations: write and read the same names and values in every format.

| format | where |
|---|---|
| PNG | one text chunk per name, and XMP |
| JPEG, WebP | one JSON object in EXIF ImageDescription, and XMP |
| GIF | one JSON object in the comment |
| MP4 | one JSON object in the comment tag |
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from latentrot.errors import LatentrotError, one_line

__all__ = [
    "SOURCE_TYPE",
    "SYNTHETIC",
    "as_text",
    "encoder_options",
    "history_in",
    "history_of",
    "kept_exif",
    "kept_rights",
    "parse_metadata",
    "read_metadata",
]

#: IPTC's term for a photograph changed with a trained model, which platforms use to mark synthetic images
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
#: name of IPTC's digital source type; with it the metadata are also written as XMP
SOURCE_TYPE = "DigitalSourceType"
KEYS = ("Software", "Description", SOURCE_TYPE, "latentrot")
DESCRIPTION_TAG, ORIENTATION_TAG = 0x010E, 0x0112
#: EXIF blocks with tags of their own: exposure, GPS
BLOCKS = (0x8769, 0x8825)
#: tags that an edited version must not keep: orientation, size, description, and the maker note, which holds file
#: offsets and often a thumbnail of the unedited face
DROPPED_TAGS = (DESCRIPTION_TAG, ORIENTATION_TAG, 0x0100, 0x0101, 0xA002, 0xA003, 0xA005, 0x927C)
#: max size in a JPEG, bytes
MAX_EXIF_BYTES, MAX_RIGHTS_BYTES = 60_000, 30_000
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
XMP_TAG = 700
#: XMP properties about authorship and rights, by namespace; an empty tuple means all of the namespace
RIGHTS: dict[str, tuple[str, ...]] = {
    "http://purl.org/dc/elements/1.1/": ("rights", "creator", "title", "publisher"),
    "http://ns.adobe.com/xap/1.0/rights/": (),
    "http://creativecommons.org/ns#": (),
    "http://ns.useplus.org/ldf/xmp/1.0/": (),
    "http://ns.adobe.com/photoshop/1.0/": ("Credit", "Source", "AuthorsPosition"),
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": ("CreatorContactInfo",),
}
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:description>
{rights}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


# ---- writing ----------------------------------------------------------------------------------------------------


def as_text(metadata: Mapping[str, str]) -> str:
    """Metadata as one JSON object on one ASCII line, which EXIF requires."""
    return json.dumps(dict(metadata))


def kept_exif(image: Image.Image) -> bytes:
    """The part of a photograph's EXIF that edited versions keep: camera, exposure, date, place.

    Orientation, thumbnail and description are dropped, because the pixels are upright and edited and the description is new.

    Returns:
        An EXIF block; empty if the image has none or it is unreadable.
    """
    try:
        found, kept = image.getexif(), Image.Exif()
        kept.update({tag: v for tag, v in found.items() if tag not in (*DROPPED_TAGS, *BLOCKS)})
        for block in BLOCKS:
            tags = {tag: v for tag, v in found.get_ifd(block).items() if tag not in DROPPED_TAGS}
            if tags:
                kept.get_ifd(block).update(tags)
                kept[block] = kept.get_ifd(block)
        content = kept.tobytes() if len(kept) else b""
    except Exception:  # a broken block can raise anything, and the pixels are intact
        return b""
    return content if len(content) < MAX_EXIF_BYTES else b""


def kept_rights(image: Image.Image) -> str:
    """The part of a photograph's XMP that edited versions keep: authorship and rights.

    Returns:
        Elements of an rdf:Description, each with its namespaces; empty if the image has none or they are unreadable.
    """
    content = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    try:
        if not content and image.format == "TIFF":
            content = getattr(image, "tag_v2", {}).get(XMP_TAG) or b""
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return ""
        root = ElementTree.fromstring(text[text.index("<") :].strip("\0 \n"))
    except Exception:  # a broken packet can raise anything, and the pixels are intact
        return ""
    kept: list[str] = []
    for description in root.iter(f"{RDF}Description"):
        for name, value in description.attrib.items():
            if _is_right(name):
                element = ElementTree.Element(name)
                element.text = value
                kept.append(ElementTree.tostring(element, encoding="unicode"))
        kept += [ElementTree.tostring(e, encoding="unicode").strip() for e in description if _is_right(e.tag)]
    found = "".join(kept)
    return found if len(found.encode()) <= MAX_RIGHTS_BYTES else ""


def _is_right(name: str) -> bool:
    """Whether a property name in ElementTree's notation is one of `RIGHTS`."""
    space, _, local = name.removeprefix("{").partition("}")
    return local in RIGHTS[space] if RIGHTS.get(space) else space in RIGHTS


def history_in(image: Image.Image) -> str:
    """Record of latentrot's edits in the metadata of an image; empty for other images."""
    try:
        return history_of(_found_in(image))
    except Exception:  # see `read_metadata`
        return ""


def history_of(metadata: Mapping[str, str]) -> str:
    """Details of the last edit as JSON; empty if latentrot did not write the metadata."""
    return metadata.get("latentrot", "") if metadata.get("Software") == "latentrot" else ""


def encoder_options(kind: str, metadata: Mapping[str, str], exif: bytes = b"", rights: str = "") -> dict[str, Any]:
    """Pillow's options for writing metadata into a file.

    Args:
        kind: Pillow's name of the format: PNG, JPEG, WEBP or GIF.
        metadata: names and values; may be empty.
        exif: from `kept_exif`; not supported by GIF.
        rights: from `kept_rights`; not supported by GIF.

    Raises:
        ValueError: PNG does not support one of the names.
    """
    if kind == "GIF":
        return {"comment": as_text(metadata).encode()} if metadata else {}
    kept = Image.Exif()
    if exif:
        kept.load(exif)
    if kind == "PNG":
        return {**({"pnginfo": _png_text(metadata, rights)} if metadata else {}), **({"exif": kept} if exif else {})}
    if metadata:
        kept[DESCRIPTION_TAG] = as_text(metadata)
    found = {"exif": kept} if metadata or exif else {}
    return found if SOURCE_TYPE not in metadata else {**found, "xmp": _xmp(metadata, rights).encode()}


def _png_text(metadata: Mapping[str, str], rights: str) -> PngInfo:
    chunks = PngInfo()
    for key, value in metadata.items():
        key.encode("latin-1")  # PNG keywords are Latin-1; a UnicodeEncodeError names the character
        if not 1 <= len(key) <= 79:
            raise ValueError(f"a metadata key of {len(key)} characters; PNG takes 1 to 79")
        chunks.add_text(key, value)
    if SOURCE_TYPE in metadata:
        chunks.add_itxt("XML:com.adobe.xmp", _xmp(metadata, rights))
    return chunks


def _xmp(metadata: Mapping[str, str], rights: str) -> str:
    return XMP.format(source=escape(metadata[SOURCE_TYPE]), text=escape(as_text(metadata)), rights=rights)


# ---- reading ----------------------------------------------------------------------------------------------------


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a file, whatever its suffix; printable, one line each.

    Returns:
        Names and values, empty if the file holds none.

    Raises:
        LatentrotError: the file is neither an image nor an MP4.
    """
    try:
        with path.open("rb") as file:
            is_mp4 = file.read(12)[4:8] == b"ftyp"
        found = _mp4_metadata(path) if is_mp4 else _image_metadata(path)
    except Exception as error:  # Pillow's readers also raise struct.error, KeyError and others
        raise LatentrotError(
            f"{one_line(path)}: not written by latentrot, and not an image or video that can be read"
        ) from error
    return {one_line(k): one_line(v, 1000) for k, v in found.items()}


def _image_metadata(path: Path) -> dict[str, str]:
    with Image.open(path, formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
        found = _found_in(image)
        count = getattr(image, "n_frames", 1)
    return {**found, "frames": str(count)} if found and count > 1 else found


def _found_in(image: Image.Image) -> dict[str, str]:
    """Names and values in an open image."""
    found = {k: str(v) for k, v in image.info.items() if k in KEYS}
    if found:
        return found
    comment = image.info.get("comment", b"")
    text = image.getexif().get(DESCRIPTION_TAG) or (comment if image.format == "GIF" else b"")
    return parse_metadata(text.decode(errors="replace") if isinstance(text, bytes) else str(text))


def _mp4_metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        index = next((body for kind, body in _boxes(mapped) if kind == b"moov"), b"")  # does not read the frames
    return parse_metadata(_mp4_comment(index))


def parse_metadata(text: str) -> dict[str, str]:
    """Parse a JSON object of metadata; any other text is taken as a description."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = text
    if isinstance(values, dict):
        return {str(k): str(v) for k, v in values.items()}
    return {"Description": text} if text else {}


def _mp4_comment(content: bytes) -> str:
    """The comment tag in the udta/meta/ilst of a moov box; empty if there is none."""
    for name in (b"udta", b"meta", b"ilst", b"\xa9cmt", b"data"):
        inside = next((body for kind, body in _boxes(content) if kind == name), b"")
        content = inside[4:] if name == b"meta" else inside  # meta starts with version and flags
    return content[8:].decode(errors="replace")  # data starts with type and locale


def _boxes(content: bytes | mmap.mmap) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes in an MP4 box; the content of mdat, which holds the frames, is not read."""
    start = 0
    while start + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, start)
        head = 8
        if size == 1 and start + 16 <= len(content):
            size, head = struct.unpack_from(">Q", content, start + 8)[0], 16
        size = size or len(content) - start  # 0: extends to the end
        if size < head:
            return
        yield kind, b"" if kind == b"mdat" else content[start + head : start + size]
        start += size
