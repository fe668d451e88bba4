"""What a certificate says of its holder, in the way that the national certification centre of Kazakhstan writes it."""

import re

from cryptography import x509
from cryptography.x509.oid import NameOID

from ruqsat.signatures.cms_syntax import FailedError

_IIN = re.compile(r"IIN([0-9]{12})")
_BIN = re.compile(r"BIN([0-9]{12})")


def iin_of(certificate: x509.Certificate) -> str | None:
    """
    Return the person's number: ``serialNumber`` of the subject is ``IIN`` and it; None if it names nobody.

    Raises:
        FailedError: it names two.
    """
    return _single(certificate, NameOID.SERIAL_NUMBER, _IIN)


def bin_of(certificate: x509.Certificate) -> str | None:
    """
    Return the organisation's number: ``organizationalUnitName`` is ``BIN`` and it; None if it names none.

    Raises:
        FailedError: it names two; taken for none, it would be a person's own certificate.
    """
    return _single(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME, _BIN)


def _single(certificate: x509.Certificate, name: x509.ObjectIdentifier, form: re.Pattern[str]) -> str | None:
    found = {
        number[1]
        for each in certificate.subject.get_attributes_for_oid(name)
        if isinstance(each.value, str) and (number := form.fullmatch(each.value))
    }
    if len(found) > 1:
        raise FailedError("several_holders")  # whoever reads the other one would see another signer
    return next(iter(found), None)
