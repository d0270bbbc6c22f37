"""`python -m gateway`: serve, migrate, config, mint-key, bootstrap."""

from gateway.main import main

if __name__ == "__main__":
    main()
