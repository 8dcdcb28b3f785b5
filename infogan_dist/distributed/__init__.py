"""The only room that knows processes: it prepares, reduces, gathers, agrees, and says which part of a batch is ours."""

from infogan_dist.distributed.agreement import checksums
from infogan_dist.distributed.cluster import Cluster, resolve_precision, shares
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.trackers import Trackers, check_start, check_trackers

__all__ = ["Cluster", "Group", "Trackers", "check_start", "check_trackers", "checksums", "resolve_precision", "shares"]
