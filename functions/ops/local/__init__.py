"""What runs on this machine in place of the cloud."""
