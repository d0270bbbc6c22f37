"""`python -m orchestrator`: serve, migrate, config, route, topics."""

from orchestrator.main import main

if __name__ == "__main__":
    main()
