"""Every bound of the application in one place; the relations between them are checked at import.

Sizes are bytes, times are seconds unless the name says otherwise. Where AWS publishes a limit, ours
is the same (docs.aws.amazon.com, "Amazon S3 quotas and restrictions" and the API pages).
"""

from __future__ import annotations

from .errors import invariant

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

# S3 objects
KEY_BYTES_MAX = 1024
USER_METADATA_BYTES_MAX = 2 * KIB
PUT_BYTES_MAX = 5 * GIB
OBJECT_BYTES_MAX = 5 * TIB
PART_NUMBER_MAX = 10_000
PART_BYTES_MIN = 5 * MIB
COPY_SOURCE_BYTES_MAX = 5 * GIB
PAGE_KEYS_MAX = 1000
LIST_ROWS_MAX = 5 * PAGE_KEYS_MAX
DELETE_OBJECTS_KEYS_MAX = 1000
BUCKET_NAME_BYTES_MIN = 3
BUCKET_NAME_BYTES_MAX = 63

# HTTP
HEADER_BYTES_MAX = 16 * KIB
HEADER_COUNT_MAX = 128
XML_BYTES_MAX = 2 * MIB
HEADER_TIMEOUT_S = 10.0
KEEP_ALIVE_TIMEOUT_S = 75.0
BODY_STALL_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 30.0
CONNECTIONS_MAX = 10_000
DESCRIPTORS_KEPT = 512
OPEN_SEGMENTS_MAX = 256
BODY_BUFFER_BYTES_MAX = 256 * KIB
DISCARD_BYTES_MAX = 256 * KIB
PIPELINED_BYTES_MAX = 64 * KIB
LINGER_TIMEOUT_S = 2.0
LISTEN_BACKLOG = 1024
AWS_CHUNK_HEADER_BYTES_MAX = 8 * KIB
AWS_CHUNK_BYTES_MIN = 8 * KIB

# Authentication
CLOCK_SKEW_S_MAX = 15 * 60
PRESIGN_EXPIRES_S_MAX = 7 * 24 * 3600

# Engine
INLINE_BYTES_MAX = 512
ROW_EXTENTS_BYTES_MAX = 16 * KIB
RECORD_BODY_BYTES_MAX = 128 * KIB
FRAME_BYTES = 128 * KIB
CODED_FRAME_BYTES_MORE = 20
CODED_CHUNK_BYTES_MIN = 512 * KIB
CODED_CHUNK_BYTES_MAX = 2 * MIB
CRYPT_INLINE_BYTES_MAX = 128 * KIB
COMPRESS_INLINE_BYTES_MAX = 32 * KIB
CHUNK_BYTES_MAX = 16 * MIB
UPLOAD_MEMORY_BYTES = 32 * MIB
UPLOAD_TURN_S = 1.0
UPLOAD_PIECE_BYTES_MIN = 128 * KIB
UPLOAD_PIECE_BYTES_MAX = 4 * MIB
READ_PIECE_BYTES = 1 * MIB
KEPT_PARTS_AT_ONCE = 64
SEND_WINDOW_BYTES_MIN = 128 * KIB
SEND_WINDOW_BYTES_MAX = 512 * KIB
LOOP_WINDOW_BYTES_MAX = 256 * KIB
SEND_ON_LOOP_BYTES_MAX = 1 * MIB
SEND_PATIENCE_S = 0.01
NEAR_RTT_US_MAX = 200
NEAR_SEND_BUFFER_BYTES = 256 * KIB
CHECKSUM_BLOCK_BYTES = 128 * KIB
SEGMENT_BYTES_MAX = 512 * MIB
CHUNK_SEGMENT_S_MAX = 3600
CHUNK_NAMED_S_MAX = 25 * 3600
CHUNKS_OLD_MARGIN_S = 3600
COMMIT_REQUESTS_MAX = 512
COMMIT_BYTES_MAX = 4 * MIB
LOG_SEGMENT_BYTES_MAX = 128 * MIB
LOG_SPARE_AFTER_BYTES = 1 * MIB
RPC_FRAME_BYTES_MAX = 16 * MIB
RPC_RECONNECT_S_MAX = 10.0
COMMIT_S_MAX = 20.0
GATHER_COMMIT_S_MIN = 0.002
GATHER_STEP_S = 0.001
CALL_S_MAX = 30.0
ROUTE_WAIT_S_MAX = 10.0
MUTATION_WAIT_S_MAX = 20.0
CONFIRM_S_MAX = 8.0
BODIES_KEPT_BYTES_MAX = 64 * MIB
COMPLETED_UPLOADS_KEPT = 1000
LOG_SPARE_FREE_BYTES_MIN = 2 * GIB
LOG_FREE_BYTES_MIN = 128 * MIB
LOG_RESERVE_BYTES_MIN = 64 * MIB
CHUNKS_FREE_BYTES_MIN = 256 * MIB
RADOS_SEGMENT_BYTES_MAX = 64 * MIB
RADOS_CHUNK_ALIGN_BYTES = 4 * KIB
RADOS_UNWRITTEN_BYTES_MAX = 16 * MIB
RADOS_READ_WINDOWS_MAX = 3
RADOS_READ_WINDOW_BYTES_MAX = 4 * MIB
RADOS_READ_AHEAD_BYTES_MAX = 32 * MIB
RADOS_ROOM_MARGIN_BYTES = 512 * MIB
RADOS_CONNECT_S_MAX = 10
RADOS_LOOK_S_MAX = 5
MIRROR_BYTES_MAX = 1 * GIB
MIRROR_FREE_BYTES_MIN = 2 * GIB
OPEN_MIRRORS_MAX = 64
HEAP_MAPPED_BYTES_MIN = 8 * MIB
HEAP_KEPT_BYTES_MAX = 32 * MIB
HEAP_CALM_S = 0.25
HEAP_TRIM_S_MAX = 2.0
HURRY_FREE_BYTES = 1 * GIB

invariant(INLINE_BYTES_MAX <= RECORD_BODY_BYTES_MAX, "what fits a row fits a record")
invariant(
    RECORD_BODY_BYTES_MAX < COMMIT_BYTES_MAX < LOG_SEGMENT_BYTES_MAX,
    "a commit holds records, a segment holds commits",
)
invariant(RECORD_BODY_BYTES_MAX <= FRAME_BYTES, "a body in a record is one frame")
invariant(
    CODED_CHUNK_BYTES_MAX + CODED_CHUNK_BYTES_MAX // FRAME_BYTES * CODED_FRAME_BYTES_MORE
    <= CHUNK_BYTES_MAX,
    "what is cut off a body fits a chunk when it is encrypted",
)
invariant(
    CODED_CHUNK_BYTES_MIN % FRAME_BYTES == 0 and CODED_CHUNK_BYTES_MIN <= CODED_CHUNK_BYTES_MAX,
    "a coded chunk is some frames",
)
invariant(
    CHUNK_BYTES_MAX % CHECKSUM_BLOCK_BYTES == 0, "a chunk is a whole number of checksum blocks"
)
invariant(RECORD_BODY_BYTES_MAX < RPC_FRAME_BYTES_MAX, "a body in a record fits a frame")
invariant(CHUNK_BYTES_MAX < SEGMENT_BYTES_MAX, "a chunk fits a segment")
invariant(
    UPLOAD_PIECE_BYTES_MIN < UPLOAD_PIECE_BYTES_MAX <= UPLOAD_MEMORY_BYTES // 2,
    "one body alone may hold two of the largest pieces",
)
invariant(COMMIT_S_MAX < CALL_S_MAX, "a gateway learns first that its writer hangs")
invariant(CONFIRM_S_MAX < ROUTE_WAIT_S_MAX, "a router hears from a gateway what it waits for")
invariant(ROUTE_WAIT_S_MAX < MUTATION_WAIT_S_MAX, "nobody repeats a mutation in the client's place")
invariant(MUTATION_WAIT_S_MAX < CALL_S_MAX, "who looks for an owner has time left to ask it")
invariant(LOG_FREE_BYTES_MIN < CHUNKS_FREE_BYTES_MIN, "large bodies are refused before small ones")
invariant(LOG_RESERVE_BYTES_MIN < LOG_FREE_BYTES_MIN, "what frees room is refused last")
invariant(
    CHUNKS_FREE_BYTES_MIN + LOG_SEGMENT_BYTES_MAX < LOG_SPARE_FREE_BYTES_MIN,
    "a log's spare segment takes no room that writes need",
)
invariant(
    CHUNKS_FREE_BYTES_MIN < HURRY_FREE_BYTES < LOG_SPARE_FREE_BYTES_MIN,
    "room is looked for before writes are refused, and after the spare segments are given up",
)
invariant(
    CHUNK_SEGMENT_S_MAX < CHUNK_NAMED_S_MAX, "a body has time between its last byte and its commit"
)
invariant(
    SEND_WINDOW_BYTES_MIN % CHECKSUM_BLOCK_BYTES == 0
    and LOOP_WINDOW_BYTES_MAX % SEND_WINDOW_BYTES_MIN == 0
    and SEND_WINDOW_BYTES_MAX % LOOP_WINDOW_BYTES_MAX == 0,
    "a window of what is sent is a whole number of checksum blocks",
)
invariant(OPEN_SEGMENTS_MAX < DESCRIPTORS_KEPT, "reading objects fits what connections leave")
invariant(
    max(COMMIT_BYTES_MAX, CHUNK_BYTES_MAX) < RADOS_SEGMENT_BYTES_MAX <= 100 * MIB,
    "RADOS takes objects of at most 128 MiB and writes of at most 90 MiB",
)
invariant(
    RADOS_READ_WINDOWS_MAX * RADOS_READ_WINDOW_BYTES_MAX <= RADOS_READ_AHEAD_BYTES_MAX,
    "one download alone may have all its windows under way",
)
invariant(
    UPLOAD_PIECE_BYTES_MIN % RADOS_CHUNK_ALIGN_BYTES == 0
    and CHECKSUM_BLOCK_BYTES % RADOS_CHUNK_ALIGN_BYTES == 0,
    "pieces and blocks of a chunk on RADOS are whole blocks of the OSDs' disks",
)
invariant(
    RADOS_SEGMENT_BYTES_MAX < RADOS_ROOM_MARGIN_BYTES,
    "room is looked for once a chunk segment",
)
invariant(
    max(RADOS_READ_WINDOW_BYTES_MAX, UPLOAD_PIECE_BYTES_MAX)
    < HEAP_MAPPED_BYTES_MIN
    < HEAP_KEPT_BYTES_MAX,
    "pieces of large bodies come from the heap",
)
invariant(
    HURRY_FREE_BYTES < MIRROR_FREE_BYTES_MIN, "mirrors go before room is looked for in what lives"
)
invariant(PUT_BYTES_MAX < OBJECT_BYTES_MAX, "large objects come in parts")
