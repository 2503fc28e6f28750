"""Detects a file's type from its name or first bytes, to say what a skipped file is."""

import functools
import os

HEAD = 64  # bytes that show the kind

_UNREAD = {
    "HEIC": ".heic .heif .hif",
    "camera raw": ".arw .cr2 .cr3 .dng .nef .orf .raf .raw .rw2 .srw",
    "JPEG XL": ".jxl",
    "AVIF": ".avif .avifs",
    "SVG": ".svg .svgz",
    "PDF": ".pdf",
    "archive": ".7z .bz2 .gz .rar .tar .tgz .xz .zip",
    "video": ".avi .m4v .mkv .mov .mp4 .mpg .webm",
}
_STARTS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"\0\0\0\x0cjP  ",  # JPEG 2000
)
PICTURES = {"HEIC", "camera raw", "JPEG XL", "AVIF", "SVG", "PDF"}  # of the above
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SYSTEM = {
    "@eadir",
    "__macosx",
    "#recycle",
    "@recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
}


# EPS starts Ghostscript, and for the others Pillow has no decoder.
_REFUSED_FORMATS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that are opened, whatever a file's suffix, tried in this order."""
    from PIL import Image

    Image.init()
    readable = [name for name in Image.ID if name not in _REFUSED_FORMATS]
    return tuple(sorted(readable, key=lambda name: name != "JPEG"))


@functools.cache
def suffixes() -> frozenset[str]:
    """Lower-case file name endings, with the dot, of the formats that are opened."""
    from PIL import Image

    known, readable = Image.registered_extensions(), set(formats())
    return frozenset(suffix.lower() for suffix, name in known.items() if name in readable)


def is_system(name: str) -> bool:
    """Whether a file or folder of this name belongs to the operating system or a tool.

    Hidden ones do: `._*` of macOS, `.DS_Store`, `.ipynb_checkpoints`, `.git`.
    """
    return name.startswith(".") or name.lower() in _SYSTEM


def is_image_name(name: str) -> bool:
    """Whether a file's suffix is that of a format that is read."""
    return os.path.splitext(name)[1].lower() in suffixes()


def unread(name: str) -> str | None:
    """The kind of an image file that is not supported, by its suffix."""
    return _by_suffix().get(os.path.splitext(name)[1].lower())


def is_image(head: bytes) -> bool:
    """Whether these are the first bytes of an image, for files without a telling suffix."""
    return (
        head.startswith(_STARTS)
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head.startswith(b"BM") and head[6:10] == bytes(4))
    )


def what_else(head: bytes) -> str | None:
    """The type of a non-image file from its first bytes, and what to do, as half a sentence."""
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: fetch the image with `git lfs pull`"
    if head.startswith((b"/annex/objects/", b"../.git/annex/")):
        return "it is a git-annex pointer: fetch the image with `git annex get`"
    if not head.strip(b"\0"):
        return "it starts with zeros, so the file is incomplete: download it again"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "it is a HEIC photograph: convert it to JPEG"
    if head.startswith(b"\0\x05\x16\x07"):
        return "it is a macOS AppleDouble file: remove it"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page: download the image again"
    return None


@functools.cache
def _by_suffix() -> dict[str, str]:
    known = suffixes()
    pairs = ((suffix, kind) for kind, all_of in _UNREAD.items() for suffix in all_of.split())
    return {suffix: kind for suffix, kind in pairs if suffix not in known}
