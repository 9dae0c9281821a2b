"""`python -m instruct_fmt`: the command line."""

from instruct_fmt.cli import main

if __name__ == "__main__":
    main()
