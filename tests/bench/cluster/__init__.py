"""`make bench-cluster`: the store on RADOS beside radosgw, on one Ceph cluster, in one run."""
