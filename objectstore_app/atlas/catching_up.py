"""The views of Atlas in a pod of its own: made from the kept bases and the logs, read-only there.

Theory of operation. Before each round the views are brought up to the ends of the logs; during the
round they stay as they are. What Atlas concludes from them stays true if the time it goes by is the
one from before that, too: no row comes to name an extent of a segment that was old then. The
directory is read last, for a bucket is entered there first and leaves it last.
"""

from __future__ import annotations

from pathlib import Path

from ..core.ids import ShardId
from ..media.errors import CorruptDataError
from ..media.opened import Media
from ..media.store import Store
from ..metadata_service.bases import restore_view
from ..metadata_service.follower import Follower
from ..metadata_service.kept_bases import fetch_base
from ..runtime.logging import event


def catch_up(store: Store, media: Media) -> None:
    """Bring all views up to the ends of their logs. Blocks. Raises MediaFailedError,
    CorruptDataError.
    """
    directory, *data = store.shards
    for shard in (*data, directory):
        try:
            _follow(store, media, shard)
        except CorruptDataError as error:
            # It may be the view that is damaged, and that can be made again.
            event("view_made_anew", shard=store.shard(shard).name, reason=str(error))
            for path in store.shard(shard).glob(f"{store.view(shard).name}*"):
                Path(path).unlink()
            _follow(store, media, shard)


def _follow(store: Store, media: Media, shard: ShardId) -> None:
    folder, view, kept = store.shard(shard), store.view(shard), media.kept_files(shard)
    if kept is not None:
        fetch_base(kept, folder, view)
    restore_view(folder, view)
    source = media.log_source(shard)
    follower = Follower(shard, view, source, data_shards=store.info.data_shards)
    try:
        follower.follow()
    finally:
        follower.close()
