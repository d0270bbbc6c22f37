"""`python -m metering`: serve, migrate, config."""

from metering.main import main

if __name__ == "__main__":
    main()
