"""The autoscaler: lag to replicas."""
