"""`python -m retrieval`: serve, migrate, config, indexes."""

from retrieval.main import main

if __name__ == "__main__":
    main()
