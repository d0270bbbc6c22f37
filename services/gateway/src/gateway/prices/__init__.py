"""The price book, from metering."""
