"""What retrieval decides; knows no transport, no database, no parser."""
