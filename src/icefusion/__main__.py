"""``python -m icefusion``: the same as the command ``icefusion``."""

from icefusion.cli.app import main

if __name__ == "__main__":
    main()
