"""Pools of workers that operators create, resize, drain and remove at run time, on Kubernetes."""
