class WatchedEvent: ...

class ZnodeStat:
    czxid: int
    version: int
    ephemeralOwner: int
