"""The binaries: source, patches, build."""
