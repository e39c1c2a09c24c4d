"""What pods tell each other, proved on a real ZooKeeper ensemble of this machine."""
