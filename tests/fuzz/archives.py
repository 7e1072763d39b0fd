"""Recordings made by hand, header by header, so that each can be wrong in its own way."""

import gzip
import io
import random
import tarfile
from collections.abc import Callable, Mapping
from typing import Final

HEADER: Final = b"kgpuctl-recording\t1\ntime\t2026-01-02T03:04:05+00:00\n"
END: Final = bytes(1024)
MIB: Final = 2**20


def padded(content: bytes) -> bytes:
    """Fill up a content to whole blocks of 512 bytes."""
    return content + bytes(-len(content) % 512)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return the header block of a member."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, link
    return member.tobuf(tarfile.GNU_FORMAT)


def patched(block: bytes, place: int, value: bytes) -> bytes:
    """Put something else into a header block, with its checksum made right again."""
    raw = bytearray(block)
    raw[place : place + len(value)] = value
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def member(name: str, content: bytes = b"") -> bytes:
    """Return a regular file with its content."""
    return header(name, len(content)) + padded(content)


def extended(records: Mapping[str, str], kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return a pax header with these records."""
    lines = b""
    for key, value in records.items():
        record = f" {key}={value}\n".encode()
        size = len(record) + 1
        while len(str(size)) + len(record) != size:
            size += 1
        lines += str(size).encode() + record
    return header("pax", len(lines), kind) + padded(lines)


def sparse(name: str, real_size: int) -> bytes:
    """Return a GNU sparse member: a large file that takes no room in the archive."""
    return patched(header(name, 0, tarfile.GNUTYPE_SPARSE), 483, b"%011o " % real_size)


def recorded(*parts: bytes, lines: bytes = b"", head: bytes = HEADER, end: bytes = END) -> bytes:
    """Return a recording: the manifest, and then `parts`."""
    return gzip.compress(member("manifest", head + lines) + b"".join(parts) + end, 1, mtime=0)


def repeated(content: bytes, times: int) -> bytes:
    """Compress a content many times over: a gzip file may have many members."""
    return gzip.compress(content, 9, mtime=0) * times


def million_members() -> bytes:
    """Return an archive of a million empty members behind less than a megabyte."""
    block = b"".join(header(f"files/{number}", 0) for number in range(1000))
    return gzip.compress(member("manifest", HEADER)) + repeated(block, 1000) + gzip.compress(END)


def gigabyte(*before: bytes) -> bytes:
    """Return a gigabyte of zeros, behind a megabyte and whatever is said before."""
    return gzip.compress(b"".join(before)) + repeated(bytes(MIB), 1024)


def many_large_members() -> bytes:
    """Return forty members of 30 MiB each, none of them too large by itself."""
    large = repeated(bytes(MIB), 30)
    parts = [gzip.compress(header(f"files/{number}", 30 * MIB)) + large for number in range(40)]
    return gzip.compress(member("manifest", HEADER)) + b"".join(parts) + gzip.compress(END)


def long_records() -> bytes:
    """Return a pax header of 64 MiB of small records."""
    head = member("manifest", HEADER) + header("pax", 64 * MIB, tarfile.XHDTYPE)
    records = repeated((b"8 ab=cd\n" * (MIB // 8))[:MIB], 64)
    return gzip.compress(head) + records + gzip.compress(member("files/0") + END)


def odd_member(kind: bytes) -> Callable[[], bytes]:
    """Return a maker of a recording that holds something else than a file."""
    return lambda: recorded(header("files/0", 0, kind, "/etc/passwd"))


def plain_tar() -> bytes:
    """Return a tar that was never compressed."""
    return member("manifest", HEADER) + END


def foreign_tar() -> bytes:
    """Return a good tar.gz that has nothing to do with kgpuctl."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("hello.txt")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    return buffer.getvalue()


def noise(size: int) -> bytes:
    """Return bytes that are nothing in particular, and the same each time."""
    return random.Random(size).randbytes(size)  # noqa: S311  # it hides nothing


LINE: Final = b"read\t/x\ttext\tabc\n"
FILE_LINE: Final = b"read\t/x\tfile\t0\n"

# What a recording may be instead of one; each must be refused as unreadable (exit code 4).
ATTACKS: Final[Mapping[str, Callable[[], bytes]]] = {
    "an empty file": lambda: b"",
    "noise": lambda: noise(5000),
    "gzip of nothing": lambda: gzip.compress(b""),
    "gzip of no tar": lambda: gzip.compress(noise(50_000)),
    "gzip of text": lambda: gzip.compress(b"hello, world\n" * 1000),
    "a tar without gzip": plain_tar,
    "somebody else's tar.gz": foreign_tar,
    "a tar.gz without members": lambda: gzip.compress(END),
    "a million members": million_members,
    "a gigabyte of zeros": gigabyte,
    "a gigabyte in the manifest": lambda: gigabyte(header("manifest", 1024 * MIB)),
    "a gigabyte in one member": lambda: gigabyte(
        member("manifest", HEADER), header("files/0", 1024 * MIB)
    ),
    "a gigabyte of members": many_large_members,
    "a gigabyte after the end": lambda: gigabyte(member("manifest", HEADER + LINE), END),
    "a gigabyte in a pax header": lambda: gigabyte(header("pax", 1024 * MIB, tarfile.XHDTYPE)),
    "a gigabyte in a long name": lambda: gigabyte(
        member("manifest", HEADER), header("long", 1024 * MIB, tarfile.GNUTYPE_LONGNAME)
    ),
    "many pax records": long_records,
    "forty sparse members": lambda: recorded(
        *(sparse(f"files/{number}", 31 * MIB) for number in range(40)),
        lines=b"".join(b"read\t/%d\tfile\t%d\n" % (number, number) for number in range(40)),
    ),
    "a chain of pax headers": lambda: recorded(*[extended({"comment": "x"})] * 5000),
    "a chain of long names": lambda: recorded(
        *[header("long", 2, tarfile.GNUTYPE_LONGNAME) + padded(b"a\0")] * 5000
    ),
    "a sparse map of words": lambda: recorded(
        extended({"GNU.sparse.map": "a,b"}), member("files/0", b"abc"), lines=FILE_LINE
    ),
    "a sparse size of words": lambda: recorded(
        extended({"GNU.sparse.size": "x"}), member("files/0", b"abc"), lines=FILE_LINE
    ),
    "a sparse format without a map": lambda: recorded(
        extended({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
        member("files/0", b"abc\n"),
        lines=FILE_LINE,
    ),
    "an absolute name": lambda: recorded(member("/etc/passwd", b"x")),
    "an absolute name below files": lambda: recorded(member("/files/0", b"x")),
    "a name that climbs": lambda: recorded(member("files/../../etc/passwd", b"x")),
    "a name that climbs in a pax header": lambda: recorded(
        extended({"path": "files/../../../etc/passwd"}), member("files/0", b"x")
    ),
    "a symbolic link": odd_member(tarfile.SYMTYPE),
    "a hard link": odd_member(tarfile.LNKTYPE),
    "a character device": odd_member(tarfile.CHRTYPE),
    "a block device": odd_member(tarfile.BLKTYPE),
    "a FIFO": odd_member(tarfile.FIFOTYPE),
    "a directory": odd_member(tarfile.DIRTYPE),
    "a member of an unknown type": odd_member(b"Z"),
    "a link in place of the manifest": lambda: gzip.compress(
        header("manifest", 0, tarfile.SYMTYPE, "/etc/passwd") + END
    ),
    "two manifests": lambda: recorded(member("manifest", HEADER)),
    "two members of one name": lambda: recorded(
        member("files/0", b"abc"), member("files/0", b"abd"), lines=FILE_LINE
    ),
    "two answers to one question": lambda: recorded(lines=LINE + b"read\t/x\tabsent\t\n"),
    "a member that no line names": lambda: recorded(member("files/0", b"abc")),
    "a member of another name": lambda: recorded(member("other", b"abc")),
    "a manifest that is not the first": lambda: gzip.compress(
        member("files/0", b"abc") + member("manifest", HEADER + FILE_LINE) + END
    ),
    "a negative size": lambda: recorded(
        patched(header("files/0", 0), 124, b"\xff" * 11 + b"\xf0"), lines=FILE_LINE
    ),
    "a size that is no number": lambda: recorded(
        patched(header("files/0", 0), 124, b"zzzzzzzzzzz "), lines=FILE_LINE
    ),
    "a wrong checksum": lambda: gzip.compress(
        member("manifest", HEADER + FILE_LINE) + b"X" + member("files/0", b"abc")[1:] + END
    ),
    "a member that ends too early": lambda: recorded(
        header("files/0", 5000), padded(b"abc"), lines=FILE_LINE, end=b""
    ),
    "an archive without its end": lambda: recorded(lines=FILE_LINE, end=b""),
    "garbage after the gzip": lambda: recorded(lines=LINE) + noise(100),
    "an empty manifest": lambda: recorded(head=b""),
    "a manifest of noise": lambda: recorded(head=noise(3000)),
    "a manifest of another version": lambda: recorded(head=b"kgpuctl-recording\t2\ntime\tx\n"),
    "a line with too few words": lambda: recorded(lines=b"read\t/x\tabsent\n"),
    "a line with too many words": lambda: recorded(lines=b"read\t/x\ttext\ta\tb\n"),
    "a line with an unknown method": lambda: recorded(lines=b"write\t/x\ttext\ta\n"),
    "a line with an unknown verdict": lambda: recorded(lines=b"read\t/x\tperhaps\t\n"),
    "a line whose file is missing": lambda: recorded(lines=FILE_LINE),
    "a node without a mode": lambda: recorded(lines=b"node\t/x\tnode\tfile\n"),
    "a node whose mode is no number": lambda: recorded(lines=b"node\t/x\tnode\tfile rwx\n"),
    "a node whose mode is negative": lambda: recorded(lines=b"node\t/x\tnode\tfile -7\n"),
    "a line of bytes": lambda: recorded(lines=b"\xff\xfe\t\t\t\n"),
}
