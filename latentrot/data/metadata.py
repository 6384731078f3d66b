"""Metadata in pictures and animations: the same names and values written into every format, and read back.

| format | where |
|---|---|
| PNG | one text chunk for each name, and XMP |
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
    "carried_exif",
    "carried_rights",
    "encoder_options",
    "history_in",
    "history_of",
    "parse_metadata",
    "read_metadata",
]

#: IPTC's term for a photograph changed with a trained model, which platforms look for when they mark synthetic pictures
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
#: the name of IPTC's digital source type; with it the metadata are written as XMP, too
SOURCE_TYPE = "DigitalSourceType"
KEYS = ("Software", "Description", SOURCE_TYPE, "latentrot")
DESCRIPTION_TAG, ORIENTATION_TAG = 0x010E, 0x0112
#: blocks of EXIF with tags of their own: the shot, the place
BLOCKS = (0x8769, 0x8825)
#: tags of a photograph that are not its edited version's: how it lay, its size, its description, and the maker's own notes,
#: which hold positions in the file and often a small copy of the face as it was
LEFT_BEHIND = (DESCRIPTION_TAG, ORIENTATION_TAG, 0x0100, 0x0101, 0xA002, 0xA003, 0xA005, 0x927C)
#: a JPEG has no room for more, bytes
MOST_EXIF, MOST_RIGHTS = 60_000, 30_000
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
XMP_TAG = 700
#: what of XMP is said of rights and of who made a photograph: properties by namespace, all of them where none are named
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
    """Metadata as one JSON object on one ASCII line, as EXIF demands and every other place can hold."""
    return json.dumps(dict(metadata))


def carried_exif(picture: Image.Image) -> bytes:
    """What of a photograph's EXIF its edited versions keep: camera, exposure, date, place; nothing of the picture itself.

    The pixels are written upright, the small copy of the unedited photograph goes, and the description is ours.

    Returns:
        An EXIF block; empty where there is none, or none that can be read.
    """
    try:
        found, kept = picture.getexif(), Image.Exif()
        kept.update({tag: v for tag, v in found.items() if tag not in (*LEFT_BEHIND, *BLOCKS)})
        for block in BLOCKS:
            tags = {tag: v for tag, v in found.get_ifd(block).items() if tag not in LEFT_BEHIND}
            if tags:
                kept.get_ifd(block).update(tags)
                kept[block] = kept.get_ifd(block)
        content = kept.tobytes() if len(kept) else b""
    except Exception:  # a broken block raises anything, and is no reason to refuse intact pixels
        return b""
    return content if len(content) < MOST_EXIF else b""


def carried_rights(picture: Image.Image) -> str:
    """What of a photograph's XMP its edited versions keep: who made it, and what may be done with it.

    Returns:
        Elements of an rdf:Description, each with its own namespaces; empty where there are none that can be read.
    """
    content = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    try:
        if not content and picture.format == "TIFF":
            content = getattr(picture, "tag_v2", {}).get(XMP_TAG) or b""
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return ""
        root = ElementTree.fromstring(text[text.index("<") :].strip("\0 \n"))
    except Exception:  # a broken packet raises anything, and is no reason to refuse intact pixels
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
    return found if len(found.encode()) <= MOST_RIGHTS else ""


def _is_right(name: str) -> bool:
    """Whether a property, as ElementTree names it, is one of `RIGHTS`."""
    space, _, local = name.removeprefix("{").partition("}")
    return local in RIGHTS[space] if RIGHTS.get(space) else space in RIGHTS


def history_in(picture: Image.Image) -> str:
    """What our last edit of a picture wrote into it, which tells of the edits before; empty where it is no edit of ours."""
    try:
        return history_of(_found_in(picture))
    except Exception:  # see `read_metadata`
        return ""


def history_of(metadata: Mapping[str, str]) -> str:
    """The details of the last edit, as JSON; empty where these are not the metadata of one."""
    return metadata.get("latentrot", "") if metadata.get("Software") == "latentrot" else ""


def encoder_options(kind: str, metadata: Mapping[str, str], exif: bytes = b"", rights: str = "") -> dict[str, Any]:
    """Pillow's options that write metadata into a file.

    Args:
        kind: Pillow's name of the format: PNG, JPEG, WEBP or GIF.
        metadata: names and values; nothing is written where there are none.
        exif: from `carried_exif`; GIF has no place for it.
        rights: from `carried_rights`; nor for these.

    Raises:
        ValueError: a name that PNG cannot hold.
    """
    if kind == "GIF":
        return {"comment": as_text(metadata).encode()} if metadata else {}
    carried = Image.Exif()
    if exif:
        carried.load(exif)
    if kind == "PNG":
        return {**({"pnginfo": _png_text(metadata, rights)} if metadata else {}), **({"exif": carried} if exif else {})}
    if metadata:
        carried[DESCRIPTION_TAG] = as_text(metadata)
    found = {"exif": carried} if metadata or exif else {}
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
    """The metadata in a file, whatever its suffix; printable, each on one line.

    Returns:
        Names and values, empty where the file holds none.

    Raises:
        LatentrotError: neither a picture nor an MP4.
    """
    try:
        with path.open("rb") as file:
            is_mp4 = file.read(12)[4:8] == b"ftyp"
        found = _mp4_metadata(path) if is_mp4 else _picture_metadata(path)
    except Exception as error:  # Pillow's readers leak struct.error, KeyError and others
        raise LatentrotError(
            f"{one_line(path)}: no artefact of ours, and not a picture or video we can read"
        ) from error
    return {one_line(k): one_line(v, 1000) for k, v in found.items()}


def _picture_metadata(path: Path) -> dict[str, str]:
    with Image.open(path, formats=("PNG", "JPEG", "WEBP", "GIF")) as picture:
        found = _found_in(picture)
        count = getattr(picture, "n_frames", 1)
    return {**found, "frames": str(count)} if found and count > 1 else found


def _found_in(picture: Image.Image) -> dict[str, str]:
    """Names and values in an open picture."""
    found = {k: str(v) for k, v in picture.info.items() if k in KEYS}
    if found:
        return found
    comment = picture.info.get("comment", b"")
    text = picture.getexif().get(DESCRIPTION_TAG) or (comment if picture.format == "GIF" else b"")
    return parse_metadata(text.decode(errors="replace") if isinstance(text, bytes) else str(text))


def _mp4_metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        index = next((body for kind, body in _boxes(mapped) if kind == b"moov"), b"")  # the pictures stay on the disk
    return parse_metadata(_mp4_comment(index))


def parse_metadata(text: str) -> dict[str, str]:
    """A JSON object of metadata; any other text is a description."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = text
    if isinstance(values, dict):
        return {str(k): str(v) for k, v in values.items()}
    return {"Description": text} if text else {}


def _mp4_comment(content: bytes) -> str:
    """The comment tag in the udta/meta/ilst of a moov box; empty where there is none."""
    for name in (b"udta", b"meta", b"ilst", b"\xa9cmt", b"data"):
        inside = next((body for kind, body in _boxes(content) if kind == name), b"")
        content = inside[4:] if name == b"meta" else inside  # meta begins with version and flags
    return content[8:].decode(errors="replace")  # data begins with type and locale


def _boxes(content: bytes | mmap.mmap) -> Iterator[tuple[bytes, bytes]]:
    """The boxes in an MP4 box: kind and content; the content of one that holds the pictures themselves is left out."""
    start = 0
    while start + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, start)
        head = 8
        if size == 1 and start + 16 <= len(content):
            size, head = struct.unpack_from(">Q", content, start + 8)[0], 16
        size = size or len(content) - start  # 0: up to the end
        if size < head:
            return
        yield kind, b"" if kind == b"mdat" else content[start + head : start + size]
        start += size
