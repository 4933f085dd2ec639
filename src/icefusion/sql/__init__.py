"""Text to statements. Nothing in here touches a catalog, a file or an engine."""
