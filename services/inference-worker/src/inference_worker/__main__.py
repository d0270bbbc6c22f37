"""`python -m inference_worker`: serve, config."""

from inference_worker.main import main

if __name__ == "__main__":
    main()
