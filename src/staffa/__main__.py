"""`python -m staffa` is `staffa`."""

from staffa.cli import main

if __name__ == "__main__":
    main()
