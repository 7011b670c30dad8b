"""`python -m adamx` prints the catalogue."""

from adamx.catalogue import table

if __name__ == "__main__":
    print(table())
