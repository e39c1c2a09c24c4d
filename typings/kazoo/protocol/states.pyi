class WatchedEvent: ...

class ZnodeStat:
    czxid: int
    version: int
    ephemeralOwner: int  # noqa: N815 - the library's own name
