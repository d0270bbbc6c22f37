"""Routes, for operators: public model names, and the candidates that serve them. They live in the orchestrator."""
