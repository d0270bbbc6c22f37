"""Prompts by meaning: finds those whose cached answers may answer a new one."""
