"""DER written by hand, so that what is read can be wrong in every place."""


def tlv(tag: int, *parts: bytes) -> bytes:
    """Return one value: tag, length, content."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def seq(*parts: bytes) -> bytes:
    """Return a SEQUENCE."""
    return tlv(0x30, *parts)


def set_of(*parts: bytes) -> bytes:
    """Return a SET OF, sorted as DER asks for."""
    return tlv(0x31, *sorted(parts))


def integer(value: int) -> bytes:
    """Return an INTEGER."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(value: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(0x04, value)


def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    first, second, *rest = (int(each) for each in dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        content += bytes(reversed(groups))
    return tlv(0x06, bytes(content))


def explicit(number: int, *parts: bytes) -> bytes:
    """Return a constructed value under a context tag."""
    return tlv(0xA0 | number, *parts)


NULL = tlv(0x05)


def algorithm(dotted: str, parameters: bytes = NULL) -> bytes:
    """Return an AlgorithmIdentifier."""
    return seq(oid(dotted), parameters)
