"""Data files to snapshots; the only home of manifests and of the catalog's swap."""
