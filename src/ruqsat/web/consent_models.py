"""
A consent as it is handed in: the eleven items of order §9, the four of Law 94-V art. 8(4), and their companions.

Types and sizes are checked here; what is missing or contradicts the law is the
core's to find, so that such a document is kept, invalid, and not lost.
"""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ruqsat.core.identification import is_identification_number
from ruqsat.errors import RequestError
from ruqsat.web.problems import Refusal
from ruqsat.web.wire import refuse_repeated_members

_ID_DOCUMENT_IMAGES = frozenset({"image", "images", "copy", "scan", "photo", "attachment", "attachments"})


def _is_written_out(moment: Any) -> Any:
    """Refuse a number, as text or not: pydantic would read it as seconds since 1970, which nobody means to sign."""
    if not isinstance(moment, str) or moment[4:5] != "-":
        raise ValueError("no moment")
    return moment


def _is_in_range(moment: datetime) -> datetime:
    if not datetime(1800, 1, 1, tzinfo=UTC) <= moment < datetime(2300, 1, 1, tzinfo=UTC):
        raise ValueError("out of range")
    return moment


def _is_day_written_out(day: Any) -> Any:
    """Refuse a number as text, which pydantic would read as seconds since 1970 here as well."""
    if not isinstance(day, str) or len(day) != len("2026-11-24"):
        raise ValueError("no day")
    return _is_written_out(day)


def _is_day_in_range(day: date) -> date:
    if not date(1800, 1, 1) <= day < date(2300, 1, 1):
        raise ValueError("out of range")
    return day


def names_nobody(text: str) -> str:
    """Refuse an identification number in the place of an id."""
    if is_identification_number(text):
        raise ValueError("an identification number is no id")
    return text


Text = Annotated[str, Field(max_length=1000)]
Word = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-{}~]+$")]
"""An id or a code: printable ASCII without spaces, and without the bar that joins threads."""
Id = Annotated[Word, AfterValidator(names_nobody)]
Number = Annotated[str, Field(max_length=64)]
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_is_written_out), AfterValidator(_is_in_range)]
Day = Annotated[date, Field(strict=False), BeforeValidator(_is_day_written_out), AfterValidator(_is_day_in_range)]
Texts = Annotated[list[Text], Field(max_length=20)]
Words = Annotated[list[Word], Field(max_length=100)]
Ids = Annotated[list[Id], Field(max_length=100)]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Cms = Annotated[str, Field(max_length=66_000)]
"""A detached signature: CMS in base64 of DER, or in PEM."""
Document = Annotated[str, Field(max_length=131_072)]
"""The signed document in base64: it is looked at and not kept."""
Conf = Literal["U", "L", "M", "N", "R", "V"]


class Part(BaseModel):
    """A misspelt field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class IdDocument(Part):
    """Details of an identity document; never its image (Code art. 60(1-1))."""

    number: Text | None = None
    issued_on: Day | None = None
    issuer: Text | None = None


class Person(Part):
    """The owner (order §9(1))."""

    iin: Number | None = None
    surname: Text | None = None
    given: Text | None = None
    patronymic: Text | None = None
    address: Text | None = None
    id_doc: IdDocument | None = None


class Authority(Part):
    """The document that a representative acts by (order §9(2))."""

    kind: Literal["parent", "guardian", "adoptive", "poa"] | None = None
    number: Text | None = None
    issued_on: Day | None = None
    valid_to: Day | None = None
    issuer: Text | None = None


class Representative(Person):
    """The representative, with the authority (order §9(2))."""

    authority: Authority | None = None


class GivenBy(Part):
    """Who gives the document: a subject of the directory, and as what."""

    type: Literal["patient", "legal_rep"] | None = None
    id: Id | None = None
    kind: Literal["parent", "guardian", "adoptive", "poa"] | None = None


class Operator(Part):
    """Whom the consent is given to (order §9(3), Law 94-V art. 8(4)); ``org`` is its id in the directory."""

    org: Id | None = None
    kind: Literal["legal_entity", "individual"] | None = None
    name: Text | None = None
    bin: Number | None = None
    iin: Number | None = None
    surname: Text | None = None
    given: Text | None = None
    patronymic: Text | None = None
    address: Text | None = None
    phones: Texts = []
    postal: Texts = []
    is_state: bool = False


class Responsible(Part):
    """Who organises the processing and obtains the consent (order §9(4)); one or two persons."""

    iin: Number | None = None
    surname: Text | None = None
    given: Text | None = None
    patronymic: Text | None = None
    address: Text | None = None
    phones: Texts = []
    postal: Texts = []
    role: Literal["organizer", "collector"] | None = None


class SignatureIn(Part):
    """How it was signed (order §9(10))."""

    kind: Word | None = None
    at: Moment | None = None
    cert_serial: Text | None = None
    cert_iin: Number | None = None
    cert_valid_from: Moment | None = None
    cert_valid_to: Moment | None = None
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{32,128}$")] | None = None
    cms: Cms | None = None
    document: Document | None = None


class Database(Part):
    """Where the data are kept (order §9(11))."""

    id: Text | None = None
    country: Country | None = None
    address: Text | None = None


class GranteeIn(Part):
    """Whom a provision names; stated parts must all hold."""

    org: Id | None = None
    subject: Id | None = None
    role: Word | None = None
    group: Id | None = None


class NamedGrantee(GranteeIn):
    """Whom the document lets in, with what identifies a third person (order §12)."""

    iin: Number | None = None
    bin: Number | None = None
    name: Text | None = None
    relation: Text | None = None


class DataPeriodIn(Part):
    """Dates of the data, both inclusive."""

    start: Day | None = None
    end: Day | None = None


class DataReferenceIn(Part):
    """A record, author or encounter that a provision names."""

    meaning: Literal["instance", "related", "authoredby"]
    ref: Id


class _Provision(Part):
    """What a provision covers."""

    effect: Literal["permit", "deny"]
    start: Moment | None = None
    end: Moment | None = None
    purposes: Words = []
    categories: Words = []
    actions: Words = []
    labels: Words = []
    conf: Conf | None = None
    codes: Ids = []
    data: Annotated[list[DataReferenceIn], Field(max_length=100)] = []
    data_period: DataPeriodIn = DataPeriodIn()


class Leaf(_Provision):
    """An exception to an exception."""

    grantees: Annotated[list[GranteeIn], Field(max_length=50)] = []
    exceptions: Annotated[list[Any], Field(max_length=0)] = []


class Branch(_Provision):
    """An exception to the document."""

    grantees: Annotated[list[GranteeIn], Field(max_length=50)] = []
    exceptions: Annotated[list[Leaf], Field(max_length=20)] = []


class Checked(Part):
    """A check that somebody made: whether it held, how, and by which document."""

    ok: bool
    method: Text | None = None
    document_ref: Text | None = None


class SignatureChecked(Part):
    """A signature that the desk checked, or the signature itself; then ``ok`` may be left out."""

    ok: bool | None = None
    method: Text | None = None
    document_ref: Text | None = None
    cms: Cms | None = None
    document: Document | None = None


class Entry(Part):
    """A paper entered into the system under the organisation's signature (order §10)."""

    at: Moment | None = None
    eds_serial: Text | None = None
    bin: Number | None = None
    scan_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{32,128}$")] | None = None
    cms: Cms | None = None
    document: Document | None = None


class Verification(Part):
    """What was verified: the signature (§9(10)), the representative's powers (§11), the entry of a paper (§10)."""

    signature: SignatureChecked | None = None
    representative: Checked | None = None
    entry: Entry | None = None


class ConsentIn(_Provision):
    """A consent, or a refusal, which needs no more than its patient and its effect (order §14)."""

    patient: Id
    kind: Literal[
        "processing", "dissent", "delegation", "research", "cross_border",
        "treatment", "advance_directive", "biometric", "marketing",
    ] = "processing"  # fmt: skip
    restriction: Id | None = None
    owner: Person | None = None
    given_by: GivenBy | None = None
    representative: Representative | None = None
    operator: Operator | None = None
    responsible: Annotated[list[Responsible], Field(max_length=10)] = []
    purpose_text: Text | None = None
    methods_text: Text | None = None
    withdrawal_methods: Texts = []
    form: Word | None = None
    state_service_ref: Text | None = None
    signature: SignatureIn | None = None
    databases: Annotated[list[Database], Field(max_length=20)] = []
    grantees: Annotated[list[NamedGrantee], Field(max_length=50)] = []
    exceptions: Annotated[list[Branch], Field(max_length=20)] = []
    delegations: Ids = []
    third_party_transfer: bool | None = None
    cross_border: Annotated[list[Country], Field(max_length=50)] | None = None
    public_dissemination: bool | None = None
    text_version: Text | None = None
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")] | None = None
    verification: Verification | None = None


def read_model(model: type[BaseModel], body: bytes) -> dict[str, Any]:
    """
    Return a body as plain data: every name there, moments and dates as text.

    Raises:
        Refusal: it is no JSON, or holds a member twice (400), or is not of the shape (422); places are named, values
            never repeated.
    """
    try:
        read = model.model_validate_json(body).model_dump(mode="json")
        refuse_repeated_members(body)
        return read
    except RequestError:
        raise Refusal(400, "malformed-json", "a member stands in the body twice: say each thing once") from None
    except ValidationError as error:
        found = [_field(dict(each)) for each in error.errors(include_input=False, include_url=False)]
    if found[0]["code"] == "json-invalid":
        raise Refusal(400, "malformed-json", "the body is no JSON")
    if any(each["code"] == "id-document-image" for each in found):
        detail = "details of an identity document are kept, never its image (Code art. 60(1-1)); nothing was stored"
        raise Refusal(422, "id-document-image", detail, errors=found[:50])
    raise Refusal(422, "malformed-document", "the document is not of the shape expected", errors=found[:50])


def _field(error: dict[str, Any]) -> dict[str, Any]:
    code, place = str(error["type"]).replace("_", "-"), list(error["loc"])
    if code == "extra-forbidden":
        name = str(place.pop())  # the caller's own word: not repeated
        image = "id_doc" in place and name in _ID_DOCUMENT_IMAGES
        code = "id-document-image" if image or name == "id_document_image" else "unknown-field"
    return {"path": "".join(f"/{part}" for part in place), "code": code}
