"""XML that clients send: a bounded parser without DTD or entities, and one parser per document.

expat builds a tiny tree; a document type declaration, too much depth or too many elements end the
parsing at once, so no bomb can unfold. Namespaces are dropped, since clients disagree about them.
Whatever a document must not be is MalformedXML, unless S3 has a name for it. Source: AWS, the API
pages of the operations; XML 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from xml.parsers import expat

from ..core.limits import DELETE_OBJECTS_KEYS_MAX, PART_NUMBER_MAX, XML_BYTES_MAX
from .acl import AccessControlPolicy, Grant, Permission
from .dates import parse_http_date
from .errors import S3Error

XML_DEPTH_MAX = 12
XML_ELEMENTS_MAX = 120_000
GRANTS_MAX = 100

_XSI_TYPE = "http://www.w3.org/2001/XMLSchema-instance}type"


@dataclass(slots=True)
class Element:
    """`type` is the xsi:type attribute; `text` the character data before any child."""

    name: str
    type: str = ""
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def find(self, name: str) -> Element | None:
        """The only child of that name. Raises: S3Error MalformedXML when there are several."""
        found = [child for child in self.children if child.name == name]
        if len(found) > 1:
            raise S3Error("MalformedXML", f"{self.name} has more than one {name}.")
        return found[0] if found else None

    def get(self, name: str) -> str | None:
        """The text of the only child of that name."""
        child = self.find(name)
        return None if child is None else child.text

    def need(self, name: str) -> str:
        """As `get`. Raises: S3Error MalformedXML when it is missing."""
        value = self.get(name)
        if value is None:
            raise S3Error("MalformedXML", f"{self.name} needs a {name}.")
        return value


def parse_document(body: bytes, root: str, *, bytes_max: int = XML_BYTES_MAX) -> Element:
    """Parse a whole document whose root element must be `root`.

    Raises: S3Error MalformedXML, MaxMessageLengthExceeded.
    """
    if len(body) > bytes_max:
        raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=bytes_max)
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = builder.doctype
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise S3Error("MalformedXML") from error
    if builder.root is None or builder.root.name != root:
        raise S3Error("MalformedXML", f"The document must be a {root}.")
    return builder.root


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= XML_DEPTH_MAX or self._count > XML_ELEMENTS_MAX:
            raise S3Error("MalformedXML", "The document is nested too deeply or too large.")
        element = Element(name.rpartition("}")[2], attributes.get(_XSI_TYPE, ""))
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _name: str) -> None:
        self._open.pop()

    def data(self, text: str) -> None:
        # No S3 document mixes text and elements; joining such text would cost quadratic time.
        if not self._open[-1].children:
            self._open[-1].text += text

    def doctype(self, *_: object) -> None:
        raise S3Error("MalformedXML", "A document type declaration is not allowed.")


# --- CompleteMultipartUpload ---


@dataclass(frozen=True, slots=True)
class NamedPart:
    """`etag` without quotes; `checksums` maps an algorithm (`CRC32`, …) to base64."""

    number: int
    etag: str
    checksums: dict[str, str]


def parse_complete_multipart_upload(body: bytes) -> list[NamedPart]:
    """The parts in the order given, which must be ascending.

    Raises: S3Error MalformedXML (also for none), InvalidPartOrder, InvalidArgument.
    """
    root = parse_document(body, "CompleteMultipartUpload")
    parts: list[NamedPart] = []
    for element in root.children:
        if element.name != "Part":
            raise S3Error("MalformedXML")
        number = element.need("PartNumber").strip()
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise S3Error("MalformedXML", "PartNumber is not a number.")
        if not 1 <= int(number) <= PART_NUMBER_MAX:
            raise S3Error(
                "InvalidArgument",
                f"PartNumber must be an integer between 1 and {PART_NUMBER_MAX}",
                ArgumentName="PartNumber",
                ArgumentValue=number,
            )
        checksums = {
            child.name.removeprefix("Checksum"): child.text.strip()
            for child in element.children
            if child.name.startswith("Checksum")
        }
        parts.append(NamedPart(int(number), unquote_etag(element.need("ETag")), checksums))
    if not parts:
        raise S3Error("MalformedXML", "At least one part must be given.")
    if any(before.number >= after.number for before, after in pairwise(parts)):
        raise S3Error("InvalidPartOrder")
    return parts


def unquote_etag(value: str) -> str:
    """An ETag without blanks and quotes around it."""
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


# --- Delete ---


@dataclass(frozen=True, slots=True)
class NamedObject:
    """`etag` (without quotes), `size` and `modified_s` are conditions, None where not given."""

    key: bytes
    version_id: str = ""
    etag: str | None = None
    size: int | None = None
    modified_s: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    objects: list[NamedObject]
    quiet: bool


def parse_delete(body: bytes) -> DeleteRequest:
    """Raises: S3Error MalformedXML, also for no object or more than DELETE_OBJECTS_KEYS_MAX."""
    root = parse_document(body, "Delete")
    objects = [_named_object(child) for child in root.children if child.name == "Object"]
    if not 1 <= len(objects) <= DELETE_OBJECTS_KEYS_MAX:
        raise S3Error(
            "MalformedXML", f"Between 1 and {DELETE_OBJECTS_KEYS_MAX} objects must be given."
        )
    return DeleteRequest(objects, _boolean(root.get("Quiet")))


def _named_object(element: Element) -> NamedObject:
    key = element.need("Key")
    if not key:
        raise S3Error("MalformedXML", "A key must not be empty.")
    etag = element.get("ETag")
    size = (element.get("Size") or "").strip()
    modified = element.get("LastModifiedTime")
    modified_s = None if modified is None else parse_http_date(modified.strip().encode())
    if (size and not (size.isascii() and size.isdigit() and len(size) <= 15)) or (
        modified is not None and modified_s is None
    ):
        raise S3Error("MalformedXML", "Size or LastModifiedTime is not well-formed.")
    return NamedObject(
        key.encode(),
        (element.get("VersionId") or "").strip(),
        None if etag is None else unquote_etag(etag),
        int(size) if size else None,
        modified_s,
    )


def _boolean(value: str | None) -> bool:
    text = "false" if value is None else value.strip().lower()
    if text not in ("true", "false", "1", "0"):
        raise S3Error("MalformedXML", "A Boolean must be true or false.")
    return text in ("true", "1")


# --- buckets ---


def parse_create_bucket(body: bytes) -> str:
    """The LocationConstraint, empty where there is none. Raises: S3Error MalformedXML."""
    if not body.strip():
        return ""
    root = parse_document(body, "CreateBucketConfiguration")
    return (root.get("LocationConstraint") or "").strip()


def parse_versioning(body: bytes) -> str:
    """`Enabled` or `Suspended`.

    Raises: S3Error MalformedXML, IllegalVersioningConfigurationException, NotImplemented.
    """
    root = parse_document(body, "VersioningConfiguration")
    status = (root.get("Status") or "").strip()
    mfa = (root.get("MfaDelete") or root.get("MFADelete") or "Disabled").strip()
    if mfa == "Enabled":
        raise S3Error("NotImplemented", "MFA delete is not implemented by this store.")
    if not status:
        raise S3Error("IllegalVersioningConfigurationException")
    if status not in ("Enabled", "Suspended") or mfa != "Disabled":
        raise S3Error("MalformedXML")
    return status


# --- AccessControlPolicy ---


def parse_access_control_policy(body: bytes) -> AccessControlPolicy:
    """Raises: S3Error MalformedACLError, InvalidArgument, NotImplemented (grants by e-mail)."""
    try:
        root = parse_document(body, "AccessControlPolicy")
        owner = root.find("Owner")
        grants = root.find("AccessControlList")
        if owner is None or grants is None or len(grants.children) > GRANTS_MAX:
            raise S3Error("MalformedACLError")
        return AccessControlPolicy(
            (owner.get("ID") or "").strip(), tuple(_grant(child) for child in grants.children)
        )
    except S3Error as error:
        if error.code != "MalformedXML":
            raise
        raise S3Error("MalformedACLError") from error


def _grant(element: Element) -> Grant:
    grantee = element.find("Grantee")
    if element.name != "Grant" or grantee is None:
        raise S3Error("MalformedACLError")
    try:
        permission = Permission(element.need("Permission").strip())
    except ValueError as error:
        raise S3Error("MalformedACLError") from error
    user, group = (grantee.get("ID") or "").strip(), (grantee.get("URI") or "").strip()
    if grantee.type == "AmazonCustomerByEmail" or grantee.get("EmailAddress") is not None:
        raise S3Error("NotImplemented", "Grants by e-mail address are not implemented.")
    if bool(user) == bool(group):
        raise S3Error("MalformedACLError")
    return Grant(permission, user, group)
