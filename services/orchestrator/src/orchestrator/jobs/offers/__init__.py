"""Jobs that are on their way, offered to workers that ask."""
