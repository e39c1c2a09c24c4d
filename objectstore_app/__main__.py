"""`python -m objectstore_app` is the `objectstore` command."""

from .cli.main import main

if __name__ == "__main__":
    main(prog_name="objectstore")
