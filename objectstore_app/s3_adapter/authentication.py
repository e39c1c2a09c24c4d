"""Who sends a request: read the claim, look up its key, prove the signature. Nothing else happens
before this: no body is read, no object looked up. The bucket is looked up along with the key, and
used once the signature is proved.
"""

from __future__ import annotations

from ..protocol import sigv4
from ..protocol.errors import S3Error
from ..protocol.routing import Location
from ..runtime.http import Request
from .call import Call
from .services import Services


async def authenticate(services: Services, request: Request, location: Location) -> Call:
    """Raises: S3Error with S3's code for each way in which credentials can be wrong."""
    headers = request.headers
    parts = sigv4.SignedParts(
        request.method, location.target, location.query, headers, request.repeated
    )
    claim = sigv4.parse(parts, region=services.region, now=services.clock())
    if isinstance(claim, sigv4.Anonymous):
        return Call(services, request, location, headers, claim)
    found, bucket = await services.metadata.user_and_bucket(claim.access_key, location.bucket)
    if found is None or not found[1].active:
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=claim.access_key)
    user, key = found
    signing_key = services.keyring.signing_key(
        key.access_key, key.sealed_secret, claim.date, claim.region
    )
    sigv4.verify(claim, signing_key)
    request.note["user"] = user.name
    return Call(services, request, location, headers, claim, user, signing_key, (bucket,))
