"""The store on RADOS, proved on a real cluster of this machine."""
