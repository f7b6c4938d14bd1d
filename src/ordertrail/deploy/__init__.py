"""What `ordertrail deploy` writes for a machine or a container: units, image, dashboard and alert rules."""
