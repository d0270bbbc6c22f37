"""Why a provider refused a call: one table for each dialect of error bodies, one for words, one for statuses."""
